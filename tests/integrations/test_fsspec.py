"""Files of sandboxes by fsspec, with the real daemon."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback

import sandkasten
import sandkasten_sync
from sandkasten.errors import (
    SandboxDirectoryNotEmptyError,
    SandkastenConnectionError,
    SandkastenInputError,
    SessionNotFoundError,
)
from sandkasten.integrations.fsspec import SandkastenFileSystem
from sandkasten.local.launch import LocalDaemon


@pytest.fixture
def files(blocking_session: sandkasten_sync.Session) -> SandkastenFileSystem:
    """The file system of a session of its own."""
    return SandkastenFileSystem(blocking_session)


@pytest.fixture
def workspace(blocking_client: sandkasten_sync.SandboxClient) -> Iterator[sandkasten_sync.Workspace]:
    """A workspace that nobody has written to."""
    workspace = blocking_client.workspace("of-fsspec")
    yield workspace
    if workspace.exists("/workspace"):
        workspace.delete()


def test_fsspec_finds_the_protocol_by_itself(blocking_session: sandkasten_sync.Session) -> None:
    blocking_session.write("data/a.csv", "a,b\n1,2\n")
    with fsspec.open("sandkasten://data/a.csv", "r", session=blocking_session) as file:
        assert file.read() == "a,b\n1,2\n"
    files, path = fsspec.url_to_fs("sandkasten:///workspace/data/a.csv", session=blocking_session)
    assert (type(files), path) == (SandkastenFileSystem, "data/a.csv")
    assert files.unstrip_protocol(path) == "sandkasten://data/a.csv"


def test_a_default_session_makes_the_url_enough(
    blocking_session: sandkasten_sync.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "sandkasten", {"session": blocking_session})
    with fsspec.open("sandkasten://hello.txt", "w") as file:
        file.write("hello")
    assert blocking_session.read("hello.txt").content == b"hello"


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("sandkasten://a/b", "a/b"),
        ("/workspace/a/b/", "a/b"),
        ("./a", "a"),
        ("sandkasten://", ""),
        ("/workspace", ""),
        (".", ""),
        ("/workspaces/a", "/workspaces/a"),
        (["a/", "sandkasten:///workspace/b"], ["a", "b"]),
    ],
)
def test_paths_are_relative_to_workspace(path: Any, inside: Any) -> None:
    assert SandkastenFileSystem._strip_protocol(path) == inside


def test_what_is_there(files: SandkastenFileSystem) -> None:
    files.files.write("d/a.txt", b"12345", mode=0o640)
    files.files.write("d/e/b.txt", "")
    files.files.exec("ln -s d/e to-directory; ln -s nowhere broken; ln -s d/a.txt to-file")
    assert files.ls("", detail=False) == ["broken", "d", "to-directory", "to-file"]
    assert {info["name"]: info["type"] for info in files.ls("sandkasten://d")} == {
        "d/a.txt": "file",
        "d/e": "directory",
    }
    (listed,) = files.ls("d/a.txt")
    info = files.info("d/a.txt")
    assert listed == info
    assert (info["size"], info["type"], info["mode"]) == (5, "file", 0o100640)
    assert files.modified("d/a.txt") == info["mtime"] == files.files.stat("d/a.txt").modified_at
    assert [entry["type"] for entry in files.ls("")] == ["link", "directory", "link", "link"]
    assert files.ls("")[2]["destination"] == "d/e"
    assert files.info("to-file")["size"] == 5
    assert files.isdir("to-directory")
    assert files.isfile("to-file")
    assert [files.exists(path) for path in ("", "d", "to-file", "broken", "d/a.txt/x", "no")] == [
        *[True] * 3,
        *[False] * 3,
    ]
    with pytest.raises(FileNotFoundError):
        files.info("broken")
    with pytest.raises(FileNotFoundError):
        files.ls("no")
    with pytest.raises(NotImplementedError):
        files.created("d/a.txt")


def test_a_tree_is_searched_without_following_symlinks(files: SandkastenFileSystem) -> None:
    for path in ("a.csv", "d/b.csv", "d/e/c.csv", "d/e/c.txt"):
        files.pipe_file(path, b"1")
    files.files.exec("ln -s . d/circle; ln -s / d/host")
    assert files.glob("**/*.csv") == ["a.csv", "d/b.csv", "d/e/c.csv"]
    assert files.glob("sandkasten://d/*") == ["d/b.csv", "d/circle", "d/e", "d/host"]
    assert files.find("d") == ["d/b.csv", "d/circle", "d/e/c.csv", "d/e/c.txt", "d/host"]
    assert (files.isdir("d/circle"), files.isdir("d/host"), files.exists("d/host")) == (True, True, True)
    with files.open("d/host/etc/passwd") as file:  # of the sandbox
        assert file.read().decode() == files.files.exec("cat /etc/passwd").output


def test_reading_asks_only_for_the_bytes_that_are_wanted(
    files: SandkastenFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 40_000
    files.pipe_file("large", content)
    asked: list[tuple[int, int]] = []
    read = SandkastenFileSystem.cat_file

    def noted(self: SandkastenFileSystem, path: str, start: int, end: int) -> bytes:
        asked.append((start, end))
        return read(self, path, start, end)

    monkeypatch.setattr(SandkastenFileSystem, "cat_file", noted)
    with files.open("large", "rb", block_size=1000) as file:
        file.seek(5_000_000)
        assert file.read(10) == content[5_000_000:5_000_010]
        file.seek(-4, 2)
        assert file.read() == content[-4:]
        assert file.read(1) == b""
    assert asked == [(5_000_000, 5_001_010), (len(content) - 4, len(content))]


def test_parts_of_a_file(files: SandkastenFileSystem) -> None:
    files.pipe_file("f", b"0123456789")
    parts = [(None, None), (2, 5), (8, 20), (5, 5), (20, 30), (-3, None), (2, -2), (None, 3)]
    assert [files.cat_file("f", start, end) for start, end in parts] == [
        b"0123456789", b"234", b"89", b"", b"", b"789", b"234567", b"012",
    ]  # fmt: skip
    assert files.cat(["f", "f"]) == {"f": b"0123456789"}
    assert files.head("f", 2) == b"01"
    assert files.tail("f", 2) == b"89"
    with pytest.raises(IsADirectoryError):
        files.open("")
    with pytest.raises(FileNotFoundError):
        files.open("no")


def test_a_file_appears_when_it_is_closed_all_of_it_at_once(files: SandkastenFileSystem) -> None:
    with files.open("f", "wb", block_size=1000) as file:
        for _ in range(10):
            file.write(b"x" * 999)
        assert not files.exists("f")
    assert files.cat_file("f") == b"x" * 9990
    with files.open("f", "ab") as file:
        file.write(b"end")
    assert files.cat_file("f", 9988) == b"xxend"
    with files.open("f", "w", encoding="utf-8") as file:
        file.write("\N{EURO SIGN}")
    assert files.cat_file("f") == "\N{EURO SIGN}".encode()
    files.touch("f")
    assert files.cat_file("f") == b""


def test_an_exception_writes_nothing(files: SandkastenFileSystem) -> None:
    files.pipe_file("f", b"before")
    with pytest.raises(ZeroDivisionError), files.open("f", "wb", block_size=10) as file:
        file.write(b"x" * 100)
        _ = 1 / 0
    assert files.cat_file("f") == b"before"
    with pytest.raises(ZeroDivisionError), files.transaction:
        with files.open("g", "wb") as file:
            file.write(b"x")
        _ = 1 / 0
    assert files.ls("", detail=False) == ["f"]
    with files.transaction:
        with files.open("g", "wb") as file:
            file.write(b"x")
        assert not files.exists("g")
    assert files.cat_file("g") == b"x"


def test_a_new_file_replaces_nothing(files: SandkastenFileSystem) -> None:
    with files.open("f", "xb") as file:
        file.write(b"first")
    with pytest.raises(FileExistsError):
        files.open("f", "xb")
    with pytest.raises(FileExistsError), files.open("g", "xb") as file:
        file.write(b"mine")
        files.pipe_file("g", b"theirs")
    with pytest.raises(FileExistsError):
        files.pipe_file("g", b"", mode="create")
    assert files.cat_file("g") == b"theirs"
    assert files.ls("", detail=False) == ["f", "g"]


def test_directories(files: SandkastenFileSystem) -> None:
    files.mkdir("a/b")
    files.makedirs("a/b", exist_ok=True)
    with pytest.raises(FileExistsError):
        files.makedirs("a/b")
    with pytest.raises(FileNotFoundError):
        files.mkdir("x/y", create_parents=False)
    files.pipe_file("a/b/f", b"")
    with pytest.raises(NotADirectoryError):
        files.rmdir("a/b/f")
    with pytest.raises(SandboxDirectoryNotEmptyError):
        files.rmdir("a/b")
    files.rm("a/b/f")
    files.rmdir("a/b")
    assert files.ls("", detail=False) == ["a"]


def test_removing(files: SandkastenFileSystem) -> None:
    for path in ("a/1", "a/b/2", "c.txt", "d.txt", "e"):
        files.pipe_file(path, b"")
    with pytest.raises(SandboxDirectoryNotEmptyError):
        files.rm("a")
    files.rm("a", recursive=True)
    files.rm("*.txt")
    assert files.ls("", detail=False) == ["e"]
    files.rm(["e"])
    with pytest.raises(FileNotFoundError):
        files.rm("e")
    with pytest.raises(FileNotFoundError):
        files.rm_file("e")


def test_moving_and_copying(files: SandkastenFileSystem) -> None:
    files.pipe({"a/1": b"one", "a/b/2": b"two", "f": b"old"})
    files.mv("a/1", "f")
    assert files.cat_file("f") == b"one"
    files.mv("f", "a/b/")
    files.mv("a/b", "c")
    assert files.find("") == ["c/2", "c/f"]
    files.cp("c", "d", recursive=True)
    files.copy("c/f", "d/2")
    assert files.cat(["d/2", "d/f"]) == {"d/2": b"one", "d/f": b"one"}
    files.mv("d/*", "e/", recursive=False)
    assert files.find("") == ["c/2", "c/f", "e/2", "e/f"]
    with pytest.raises(FileNotFoundError):
        files.mv("no", "other")


def test_files_come_and_go(files: SandkastenFileSystem, tmp_path: Path) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/one").write_bytes(b"1" * 3_000_000)
    (tmp_path / "in/sub/two").write_bytes(b"2")
    files.put(str(tmp_path / "in"), "there", recursive=True)
    assert files.du("there", total=False) == {"there/one": 3_000_000, "there/sub/two": 1}
    files.get("there", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out/one").read_bytes() == b"1" * 3_000_000
    assert (tmp_path / "out/sub/two").read_bytes() == b"2"
    seen = Callback()
    files.get_file("there/one", str(tmp_path / "again"), callback=seen)
    assert (seen.value, seen.size) == (3_000_000, 3_000_000)
    seen = Callback()
    files.put_file(str(tmp_path / "again"), "third", callback=seen)
    assert (seen.value, seen.size) == (3_000_000, 3_000_000)
    buffer = io.BytesIO()
    files.get_file("there/sub/two", buffer)
    assert buffer.getvalue() == b"2"
    with pytest.raises(IsADirectoryError):
        files.get_file("third", str(tmp_path))
    with pytest.raises(FileExistsError):
        files.put_file(str(tmp_path / "again"), "third", mode="create")


def test_a_workspace_without_a_session(workspace: sandkasten_sync.Workspace) -> None:
    files = SandkastenFileSystem(workspace=workspace)
    for ask in (files.info, files.ls, files.cat_file, files.rm_file):
        with pytest.raises(FileNotFoundError):
            ask("a/b")
    assert not files.exists("a/b")
    files.pipe_file("a/b", b"1")
    assert files.find("") == ["a/b"]


def test_by_ids(daemon: LocalDaemon, blocking_session: sandkasten_sync.Session) -> None:
    target = daemon.target
    options: dict[str, Any] = {"base_url": f"unix://{target.socket_path}", "api_key": target.api_key}
    blocking_session.write("f", "1")
    with fsspec.open("sandkasten://f", session=blocking_session.id, **options) as file:
        assert file.read() == b"1"
    assert not SandkastenFileSystem(workspace="never-written-to", **options).exists("f")
    with pytest.raises(SessionNotFoundError):
        SandkastenFileSystem("0" * 12, **options)


def test_a_daemon_that_is_away_is_not_a_missing_file(tmp_path: Path) -> None:
    files = SandkastenFileSystem(workspace="somewhere", base_url=f"unix://{tmp_path}/none", api_key="k")
    with pytest.raises(SandkastenConnectionError):
        files.exists("f")


async def test_what_is_not_a_session_is_refused(
    session: sandkasten.Session, workspace: sandkasten_sync.Workspace
) -> None:
    with pytest.raises(SandkastenInputError, match="one session or of one workspace"):
        SandkastenFileSystem()
    with pytest.raises(SandkastenInputError, match="one session or of one workspace"):
        SandkastenFileSystem("a", "b")
    with pytest.raises(SandkastenInputError, match="Pass a Session of sandkasten_sync"):
        SandkastenFileSystem(session)
    with pytest.raises(SandkastenInputError, match="Pass a Session of"):
        SandkastenFileSystem(session=workspace)
    with pytest.raises(SandkastenInputError, match="knows its daemon"):
        SandkastenFileSystem(workspace=workspace, api_key="k")
