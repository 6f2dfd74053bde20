"""The fake daemon's sessions made to measure, renewals, and watches."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sandkasten import ExtensionMissingError, FileChange, Limits, NameTakenError, SandboxFileNotFoundError
from sandkasten import SandboxClient as AsyncClient
from sandkasten.testing import FakeDaemon
from sandkasten_sync import SandboxClient

EXTENSIONS = ("files", "session-options", "watch")


def test_a_session_has_what_was_asked_for() -> None:
    with FakeDaemon(extensions=EXTENSIONS) as daemon, SandboxClient(base_url=daemon.url) as client:
        session = client.create_session(
            name="first", labels={"job": "1"}, env={"A": "b"}, cwd="sub", limits=Limits(memory_bytes="1g")
        )
        info = session.info()
        assert (info.name, info.labels, info.cwd) == ("first", {"job": "1"}, "/workspace/sub")
        assert info.limits == Limits(memory_bytes=1024**3)
        fake = daemon.sessions[session.id]
        assert (fake.env, fake.limits) == ({"A": "b"}, {"memory_bytes": 1024**3})
        assert client.get_session("first").id == session.id
        with pytest.raises(NameTakenError, match="'first' already"):
            client.create_session(name="first")
        client.create_session(labels={"job": "2"})
        assert [each.id for each in client.list_sessions(labels={"job": "1"})] == [session.id]


def test_a_renewal_moves_the_end() -> None:
    with FakeDaemon(extensions=EXTENSIONS) as daemon, SandboxClient(base_url=daemon.url) as client:
        session = client.create_session()
        fake = daemon.sessions[session.id]
        fake.created_at -= timedelta(hours=1)
        before = session.info().expires_at
        after = session.renew(60).expires_at
        assert timedelta(minutes=30) < after - before < timedelta(minutes=32)
        assert fake.ttl_seconds == 60


def test_a_watch_sees_what_a_test_made_up() -> None:
    made_up = [FileChange("created", "a"), FileChange("moved", "b", old_path="a")]
    with FakeDaemon(extensions=EXTENSIONS) as daemon, SandboxClient(base_url=daemon.url) as client:
        daemon.on_watch(*made_up, path="src")
        session = client.create_session()
        with session.watch("/workspace/src") as changes:
            assert list(changes) == made_up
        with session.watch() as changes:
            assert list(changes) == []


async def test_both_twins_are_served() -> None:
    with FakeDaemon(extensions=EXTENSIONS) as daemon:
        daemon.on_watch(FileChange("deleted", "a"))
        async with (
            AsyncClient(base_url=daemon.url) as client,
            await client.create_session() as session,
            session.watch() as changes,
        ):
            assert [change.kind async for change in changes] == ["deleted"]


def test_without_the_extensions_there_is_none_of_it() -> None:
    with FakeDaemon() as daemon, SandboxClient(base_url=daemon.url) as client:
        session = client.create_session()
        for ask in (session.renew, session.watch().__enter__, lambda: client.create_session(name="x")):
            with pytest.raises(ExtensionMissingError):
                ask()
        with pytest.raises(SandboxFileNotFoundError):
            session.read("nothing")
