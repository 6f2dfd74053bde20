"""Several daemons on one data directory: none deletes a workspace that another one uses."""

# ruff: noqa: PT017  (in a race, both outcomes are right)

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sandkasten.local.errors import ApiError
from sandkasten.local.files import workspaces as module
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.identity import Identity
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from tests.local.box import Box, connect, content_of, until

MIB = 1024 * 1024


@pytest.fixture
def one(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path, Identity.of_this_process())


@pytest.fixture
def other(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path, Identity.of_this_process())


def code_of_deleting(workspaces: Workspaces, name: str = "ab") -> str:
    with pytest.raises(ApiError) as caught:
        workspaces.delete(name)
    return caught.value.code


def test_what_is_held_is_not_deleted(
    one: Workspaces, other: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)
    one.hold("ab", "first").write("file", io.BytesIO(b"kept"))
    other.hold("ab", "second")
    for workspaces in (one, other):
        assert code_of_deleting(workspaces) == "INVALID_REQUEST"
    one.release("first")
    assert code_of_deleting(one) == "INVALID_REQUEST"
    assert content_of(one.get("ab"), "file") == b"kept"
    other.release("second")
    other.release("second")
    one.delete("ab")
    assert code_of_deleting(other) == "WORKSPACE_NOT_FOUND"
    assert one.list() == []


def test_what_is_held_for_a_moment_only_is_deleted_after_that(
    one: Workspaces, other: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.hold("ab", "first")
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: one.release("first"))
    other.delete("ab")
    assert one.list() == []


def test_a_workspace_on_another_disk_is_held_as_well(
    one: Workspaces, other: Workspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)
    (tmp_path / ".far").mkdir()
    (tmp_path / "ab").symlink_to(tmp_path / ".far")
    one.hold("ab", "user").write("file", io.BytesIO(b"kept"))
    assert code_of_deleting(other) == "INVALID_REQUEST"
    one.release("user")
    other.delete("ab")
    assert os.listdir(tmp_path / ".far") == []


def test_who_holds_a_workspace_has_the_one_that_is_there(one: Workspaces, other: Workspaces) -> None:
    stop = threading.Event()

    def delete_again_and_again() -> None:
        while not stop.is_set():
            try:
                other.delete("ab")
            except ApiError as error:
                assert error.code in {"WORKSPACE_NOT_FOUND", "INVALID_REQUEST"}

    thread = threading.Thread(target=delete_again_and_again)
    thread.start()
    try:
        for number in range(100):
            content = b"%d" % number
            try:
                tree = one.hold("ab", "user")
            except ApiError as error:
                assert error.code == "CONFLICT"
                continue
            tree.write("file", io.BytesIO(content))
            assert content_of(tree, "file") == content
            one.release("user")
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def test_without_locks_there_is_what_there_was_before(
    one: Workspaces, other: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _how: int) -> None:  # as some network file systems do
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    one.hold("ab", "user")
    other.delete("ab")
    one.release("user")


# --- daemons


@contextmanager
def daemon_on(data_dir: Path) -> Iterator[tuple[LocalDaemon, httpx.Client]]:
    daemon = start_daemon(LocalOptions(data_dir=data_dir, pool_size=0))
    try:
        with connect(daemon) as client:
            yield daemon, client
    finally:
        daemon.stop()


def test_a_daemon_that_is_killed_leaves_nothing_locked(own_data_dir: Path, data_dir: Path) -> None:
    del data_dir
    with daemon_on(own_data_dir) as (_, client), daemon_on(own_data_dir) as (doomed, its_client):
        box = Box(doomed, its_client, workspace_id="in-use")
        box.run("sleep 1000 & echo kept > file")
        refused = client.delete("/v1/workspaces/in-use")
        assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_REQUEST")
        assert "another daemon" in refused.json()["message"]
        assert box.run("cat file") == "kept\n"
        os.kill(doomed.pid, signal.SIGKILL)
        until(lambda: client.delete("/v1/workspaces/in-use").is_success)
        assert client.get("/v1/workspaces").json()["workspaces"] == []


def test_a_write_without_a_session_holds_the_workspace_until_it_is_complete(own_data_dir: Path) -> None:
    with daemon_on(own_data_dir) as (_, one), daemon_on(own_data_dir) as (_, other):
        refused: list[httpx.Response] = []

        def content() -> Iterator[bytes]:
            yield b"x" * 2 * MIB
            until(lambda: list(own_data_dir.glob("workspaces/.writing-*/ab/*")))
            refused.append(other.delete("/v1/workspaces/ab"))
            yield b"y"

        assert one.put("/v1/workspaces/ab/fs/raw", params={"path": "f"}, content=content()).is_success
        assert refused[0].json()["error_code"] == "INVALID_REQUEST"
        assert len(one.get("/v1/workspaces/ab/fs/raw", params={"path": "f"}).content) == 2 * MIB + 1
        assert other.delete("/v1/workspaces/ab").is_success
