# Made from tests/_async/test_packages.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Packages of sessions: from their beginning, and later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten._packages.calls import PackageInfo, install, with_packages
from sandkasten._wire import create_session, understood
from sandkasten.errors import ExtensionMissingError, PackageError, SandkastenInputError
from sandkasten.local.launch import LocalDaemon
from sandkasten.models import Health
from sandkasten.testing import FakeDaemon

from .seam import SandboxClient, Session


@pytest.fixture
def client(package_daemon: LocalDaemon) -> Iterator[SandboxClient]:
    target = package_daemon.target
    with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        yield client


def test_a_session_has_packages_from_its_beginning_and_is_given_more(client: SandboxClient) -> None:
    with client.create_session(packages=["base_part<2"]) as session:
        assert session.packages() == [PackageInfo("base_part", "1.0")]
        assert session.install("tool") == [PackageInfo("base_part", "1.0"), PackageInfo("tool", "1.0")]
        assert session.exec("tool x").output == "tool 1.0 x\n"
    with client.create_session() as session:
        assert session.packages() == []


def test_a_package_that_cannot_be_had_says_why(client: SandboxClient) -> None:
    with pytest.raises(PackageError, match="The package index has no package nosuch") as caught:
        client.create_session(packages=["nosuch"])
    assert caught.value.details == {"reason": "unknown", "package": "nosuch"}
    assert "the-key" not in str(caught.value)


def test_what_is_no_requirement_is_refused_before_anything_is_sent(client: SandboxClient) -> None:
    with client.create_session() as session:
        with pytest.raises(SandkastenInputError, match="nothing to install"):
            session.install()
        with pytest.raises(SandkastenInputError, match="URLs, paths and options are not taken"):
            session.install("tool", "git+https://example.com/tool")
    with pytest.raises(SandkastenInputError, match="must be a list of requirements"):
        client.create_session(packages="tool")


def test_a_daemon_without_packages_is_named() -> None:
    with FakeDaemon(extensions=()) as fake:
        with SandboxClient(base_url=fake.url) as client, client.create_session() as session:
            with pytest.raises(ExtensionMissingError, match="packages"):
                session.install("tool")
            with pytest.raises(ExtensionMissingError, match="packages"):
                session.packages()
            with pytest.raises(ExtensionMissingError, match="packages"):
                client.create_session(packages=["tool"])


def test_every_session_of_a_map_has_them(client: SandboxClient) -> None:
    def ask(session: Session, item: str) -> str:
        return session.exec(f"tool {item}").output

    assert client.map(ask, ["a", "b"], packages=["tool"]) == ["tool 2.0 a\n", "tool 2.0 b\n"]


def test_a_daemon_that_can_is_never_silent_while_it_fetches() -> None:
    for call in (install("s", ["tool"]), with_packages(create_session("python", None, None, None), ["tool"])):
        kept = understood(call, Health(status="ok", server="s", extensions=["keep-alive"]), 30.0)
        assert (kept.is_kept_alive, kept.wait_ms) == (True, 0)
        assert (kept.headers or {})["X-Keep-Alive-Ms"] == "10000"


def test_a_daemon_that_plays_it_has_any_package() -> None:
    with FakeDaemon(extensions=("packages",)) as fake:
        with SandboxClient(base_url=fake.url) as client:
            session = client.create_session(packages=["Base.Part<2"])
            assert session.packages() == [PackageInfo("base-part", "1.0")]
            assert session.install("base-part==1.5", "six") == [
                PackageInfo("base-part", "1.5"),
                PackageInfo("six", "1.0"),
            ]
            assert fake.sessions[session.id].packages == ("base-part==1.5", "six")
