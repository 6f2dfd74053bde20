# Made from tests/_async/test_go_daemon.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""The Go daemon as a peer: every verb, against the stand-in and, where one is named, a real one.

`tests/go_peer.py` says how a real one is named.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandkasten.errors import (
    ExecTimeoutError,
    ExtensionMissingError,
    InvalidImageError,
    InvalidRequestError,
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandboxNotADirectoryError,
    SandboxPermissionError,
    SandboxReadOnlyError,
    SandkastenInputError,
    SessionExpiredError,
    SessionNotFoundError,
    WorkspaceNotFoundError,
    WorkspacesDisabledError,
)
from sandkasten.local.launch import LocalDaemon
from tests.go_daemon import GoDaemon
from tests.go_peer import GoPeer, new_workspace_id
from tests.go_rules import Config

from .seam import SandboxClient, Session, sleep

SIZES = [0, 1, 750_001, 1_560_001, 1_570_000, 20_000_000]


@pytest.fixture
def go_client(go_peer: GoPeer) -> Iterator[SandboxClient]:
    with SandboxClient(base_url=go_peer.url, api_key=go_peer.api_key) as client:
        yield client


@pytest.fixture
def workspace_id(go_client: SandboxClient) -> Iterator[str]:
    """The id of a workspace of its own."""
    yield (workspace_id := new_workspace_id())
    go_client.delete_workspace(workspace_id)


@pytest.fixture
def session(go_client: SandboxClient, workspace_id: str) -> Iterator[Session]:
    """A session that may write."""
    with go_client.create_session(image="base", workspace_id=workspace_id) as session:
        yield session


# --- files


@pytest.mark.parametrize("size_bytes", SIZES)
def test_random_bytes_come_back_as_they_went(session: Session, tmp_path: Path, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    (tmp_path / "up").write_bytes(content)
    assert session.upload(tmp_path / "up", dest_path="d") == ["/workspace/d/up"]
    checksum = session.exec("sha256sum d/up | cut -c1-64").output
    assert checksum == f"{hashlib.sha256(content).hexdigest()}\n"
    session.download("d/up", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == content
    if size_bytes < 2_000_000:  # the ways are the same, and each takes seconds
        session.write("d/up", content[::-1])
        assert session.read("d/up").content == content[::-1]
    assert session.exec("ls -1A . d").output == ".:\nd\n\nd:\nup\n"


def test_text_arrives_as_utf_8(session: Session) -> None:
    text = "ünï😀\r\n\0" * 300_000
    for size, part in ((8, text[:8]), (len(text), text)):
        session.write(f"t{size}", part)
        assert session.read(f"t{size}").text == part


def test_a_directory_comes_back_as_it_went(session: Session, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a b" / "empty").mkdir(parents=True)
    (tree / "binary").write_bytes(os.urandom(3_000_000))
    (tree / "a b" / "run").write_bytes(b"#!/bin/sh\necho ran\n")
    (tree / "a b" / "run").chmod(0o755)
    (tree / "a b" / "a..b").write_bytes(b"")
    (tree / "link").symlink_to("a b/run")
    assert session.upload(tree) == ["/workspace/tree"]
    assert session.exec("tree/link; ls -1A").output == "ran\ntree\n"
    back = session.download("tree", tmp_path / "back")
    for path in ("binary", "a b/run", "a b/a..b"):
        assert (back / path).read_bytes() == (tree / path).read_bytes()
    assert (back / "a b" / "empty").is_dir()
    assert os.readlink(back / "link") == "a b/run"
    whole = session.download(".", tmp_path)
    assert sorted(os.listdir(whole)) == ["tree"]


def test_the_root_and_what_is_below_are_listed(session: Session) -> None:
    assert session.list() == []
    session.exec("mkdir d; printf 12345 >f; ln -s / link; touch 'd/a\nb'")
    for path in (".", "/workspace", "/workspace/", "d/.."):
        found = [(entry.name, entry.kind, entry.size_bytes) for entry in session.list(path)]
        assert found[1:2] == [("f", "file", 5)]
        assert [(name, kind) for name, kind, _ in found] == [
            ("d", "directory"),
            ("f", "file"),
            ("link", "symlink"),
        ]
    assert [entry.name for entry in session.list("d")] == ["a\nb"]


def test_what_is_wrong_with_a_path_has_its_class(session: Session) -> None:
    session.exec("mkdir d; touch f")
    with pytest.raises(SandboxFileNotFoundError):
        session.read("missing")
    with pytest.raises(SandboxNotADirectoryError):
        session.read("f/x")
    for path in ("d", ".", "/workspace"):
        with pytest.raises(SandboxIsDirectoryError):
            session.read(path)
        with pytest.raises(SandboxIsDirectoryError):
            session.write(path, "x")
    with pytest.raises(SandboxIsDirectoryError):
        session.write("d", b"")
    for path in ("..", "/etc"):
        with pytest.raises(InvalidRequestError, match="under /workspace"):
            session.list(path)
    with pytest.raises(SandboxFileNotFoundError):
        session.list("missing")
    with pytest.raises(SandboxNotADirectoryError, match="not a directory"):
        session.list("f")


def test_without_a_workspace_the_files_are_read_only(go_client: SandboxClient, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    with go_client.create_session(image="base") as session:
        for refused in (
            lambda: session.write("x", "text"),
            lambda: session.write("d/x", b""),
            lambda: session.write("x", bytes(2_000_000)),
            lambda: session.upload(tmp_path / "f"),
            lambda: session.upload(tmp_path),
            lambda: session.exec(f"# {'x' * 20_000}"),
        ):
            with pytest.raises(SandboxReadOnlyError, match="Pass workspace_id= to create_session"):
                refused()
        assert session.list() == []


# --- workspaces


@pytest.mark.parametrize("size_bytes", [0, 1, 750_001, 2_000_000])
def test_a_workspaces_files_are_where_its_sessions_see_them(
    go_client: SandboxClient, session: Session, workspace_id: str, size_bytes: int
) -> None:
    workspace = go_client.workspace(workspace_id)
    content = os.urandom(size_bytes)
    for path in ("relative", "sub/relative", "/workspace/absolute", "workspace/below"):
        workspace.write(path, content)
    found = "./absolute\n./relative\n./sub/relative\n./workspace/below\n"
    assert session.exec("find . -type f | sort").output == found
    checksum = hashlib.sha256(content).hexdigest()
    assert session.exec("sha256sum relative | cut -c1-64").output == f"{checksum}\n"
    for path in ("/workspace/relative", "sub/../absolute"):
        result = workspace.read(path)
        assert (result.content, result.path) == (content, path)
    for path in (".", "/workspace", "/workspace/sub/.."):
        names = [(entry.name, entry.is_dir) for entry in workspace.list(path)]
        assert names == [("absolute", False), ("relative", False), ("sub", True), ("workspace", True)]


def test_a_directory_goes_to_a_workspace_and_back(
    go_client: SandboxClient, workspace_id: str, tmp_path: Path
) -> None:
    workspace = go_client.workspace(workspace_id)
    (tmp_path / "t" / "d").mkdir(parents=True)
    for name in ("binary", "d/empty", 'd/a"b'):
        (tmp_path / "t" / name).write_bytes(b"" if name == "d/empty" else os.urandom(2000))
    assert workspace.upload(tmp_path / "t") == ["/workspace/t"]
    for dest in (workspace.download("t", tmp_path / "back"), workspace.download(".", tmp_path)):
        place = dest / "t" if dest.name == "workspace" else dest
        for name in ("binary", "d/empty", 'd/a"b'):
            assert (place / name).read_bytes() == (tmp_path / "t" / name).read_bytes()


def test_what_is_wrong_in_a_workspace_has_its_class(
    go_client: SandboxClient, session: Session, workspace_id: str
) -> None:
    with pytest.raises(WorkspaceNotFoundError):
        go_client.workspace("go-test-missing").list()
    with pytest.raises(WorkspaceNotFoundError):
        go_client.workspace("go-test-missing").read("x")
    workspace = go_client.workspace(workspace_id)
    workspace.write("d/f", "root's")
    for path, kind in (("missing", SandboxFileNotFoundError), ("d/f/x", SandboxNotADirectoryError)):
        with pytest.raises(kind):
            workspace.read(path)
        with pytest.raises(kind):
            workspace.list(path)
    for path in ("d", "."):
        with pytest.raises(SandboxIsDirectoryError):
            workspace.read(path)
    with pytest.raises(SandboxPermissionError):
        session.write("d/f", "mine")
    # Two dots in a name would mean the root to that daemon.
    with pytest.raises(ExtensionMissingError, match="two dots"):
        workspace.list("a..b")
    with pytest.raises((InvalidRequestError, SandkastenInputError)):
        workspace.write("/etc/x", "text")
    assert [entry.name for entry in workspace.list()] == ["d"]


def test_workspaces_may_not_be_enabled(daemon: LocalDaemon) -> None:
    with GoDaemon(daemon, Config(workspaces=False)) as go:
        with SandboxClient(base_url=go.url, api_key=go.api_key) as client:
            for refused in (
                client.list_workspaces,
                lambda: client.workspace("ab").write("x", "text"),
                lambda: client.workspace("ab").list(),
                lambda: client.delete_workspace("ab"),
            ):
                with pytest.raises(WorkspacesDisabledError, match=r"workspace\.enabled"):
                    refused()


# --- commands


@pytest.mark.parametrize(
    ("cmd", "printed"),
    [
        ("true", ""),
        ("echo a; echo b", "a\nb\n"),
        ("printf x", "x"),
        ("printf '\\n\\n'", "\n\n"),
        ("echo '$ '; echo between; echo '$ '", "$ \nbetween\n$ \n"),
    ],
)
def test_prompts_are_taken_off(session: Session, cmd: str, printed: str) -> None:
    result = session.exec(cmd)
    assert (result.output, result.exit_code, result.cwd) == (printed, 0, "/workspace")
    chunks = [chunk for chunk in session.exec_stream(f"{cmd}\nexit 3")]
    assert "".join(chunk.output for chunk in chunks) == printed
    assert (chunks[-1].done, chunks[-1].exit_code) == (True, 3)


def test_only_raw_output_has_the_terminals_sequences(session: Session) -> None:
    cmd = r"printf '\033[31mred\n'"
    assert session.exec(cmd).output == "red\n"
    assert "\x1b[31mred\r\n" in session.exec(cmd, raw_output=True).output


def test_a_command_that_outruns_its_time_has_its_class_in_a_stream_too(session: Session) -> None:
    with pytest.raises(ExecTimeoutError, match="exceeded 100ms"):
        session.exec("sleep 0.5", timeout_ms=100)
    with pytest.raises(ExecTimeoutError, match="exceeded 100ms"):
        for _chunk in session.exec_stream("sleep 0.5", timeout_ms=100):
            pass


def test_a_command_of_many_lines_arrives_whole(session: Session) -> None:
    cmd = "\n".join(f": {number:060}" for number in range(1000))  # it goes through a file there
    assert session.exec(f"{cmd}\necho end").output == "end\n"


# --- sessions


def test_a_destroyed_session_is_one_no_more(go_client: SandboxClient) -> None:
    session = go_client.create_session(image="base")
    assert session.id in [info.id for info in go_client.list_sessions()]
    assert session.info().status == "running"
    assert session.stats().cpu_usage_usec >= 0
    session.destroy()
    assert session.id not in [info.id for info in go_client.list_sessions()]
    for refused in (
        session.info,
        session.stats,
        lambda: session.exec("true"),
        lambda: session.read("x"),
        lambda: session.write("x", "x"),
        session.list,
        lambda: go_client.get_session(session.id),
        lambda: go_client.get_session("12345678-abc"),
    ):
        with pytest.raises(SessionNotFoundError):
            refused()
    with pytest.raises(SessionNotFoundError):
        for _chunk in session.exec_stream("true"):
            pass
    with pytest.raises(SessionNotFoundError) as caught:
        session.info()
    assert caught.value.status_code == 404  # as any daemon should have answered, and this one does not
    session.destroy()  # that daemon does not say that it was destroyed before


def test_an_unknown_image_has_its_class(go_client: SandboxClient) -> None:
    for image in ("no-such-image", "../x"):
        with pytest.raises(InvalidImageError):
            go_client.create_session(image=image)


def test_a_session_expires(daemon: LocalDaemon) -> None:
    with GoDaemon(daemon) as go:
        with SandboxClient(base_url=go.url, api_key=go.api_key) as client:
            session = client.create_session(image="base", ttl_seconds=1)
            while client.list_sessions():
                sleep(0.05)
            for refused in (
                lambda: session.exec("true"),
                lambda: session.read("x"),
                session.info,
                lambda: client.get_session(session.id),
            ):
                with pytest.raises(SessionExpiredError):
                    refused()


def test_sessions_of_its_pool_are_nobodys(daemon: LocalDaemon) -> None:
    with GoDaemon(daemon, Config(pool_size=1)) as go:
        with SandboxClient(base_url=go.url, api_key=go.api_key) as client:
            assert client.list_sessions() == []
            with client.create_session(image="base") as session:
                assert [info.id for info in client.list_sessions()] == [session.id]
                assert session.exec("echo fine").output == "fine\n"
