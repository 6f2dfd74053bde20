# Made from tests/_async/test_transfers.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Files and directories of any size, in and out: byte for byte, complete or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from sandkasten.errors import (
    ExtensionMissingError,
    InsufficientStorageError,
    InvalidRequestError,
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandboxNotADirectoryError,
    SandkastenConnectionError,
    SandkastenInputError,
    TooLargeError,
)
from sandkasten.local.launch import LocalDaemon, LocalOptions
from tests.cutting import Cutting
from tests.go_daemon import GoDaemon
from tests.local.box import workspace_of

from .seam import SandboxClient, Session

MIB = 1024 * 1024
NAMES = ["plain", "a b", "-rf", "it's", 'a"b', "a\nb", "ünï😀", "$(touch x)", "back\\slash", "%41", "..."]


@pytest.fixture
def go_client(go_daemon: GoDaemon) -> Iterator[SandboxClient]:
    with SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client:
        yield client


@pytest.fixture
def go_session(go_client: SandboxClient) -> Iterator[Session]:
    with go_client.create_session() as session:
        yield session


def content_of(size_bytes: int) -> bytes:
    """Bytes of all values, in which nothing repeats itself at the borders of pieces."""
    line = os.urandom(min(size_bytes, 1_000_003))
    return (line * (size_bytes // len(line) + 1))[:size_bytes] if line else b""


def round_trip(session: Session, path: Path, size_bytes: int) -> None:
    """Write and read, upload and download, and compare all of it."""
    content = content_of(size_bytes)
    session.write("d/written", content)
    result = session.read("d/written")
    assert result.content == content
    assert not result.truncated
    (path / "up").write_bytes(content)
    assert session.upload(path / "up", dest_path="d") == ["/workspace/d/up"]
    assert session.download("d/up", path / "down") == path / "down"
    assert (path / "down").read_bytes() == content
    checksum = hashlib.sha256(content).hexdigest()
    assert session.exec("sha256sum d/* | cut -c1-64 | sort -u").output == f"{checksum}\n"
    assert session.exec("ls -1A . d").output == ".:\nd\n\nd:\nup\nwritten\n"
    assert sorted(os.listdir(path)) == ["down", "up"]
    (path / "up").unlink()
    (path / "down").unlink()


@pytest.mark.parametrize("size_bytes", [0, 1, MIB - 1, 2 * MIB, 10 * MIB + 1, 100 * MIB])
def test_bytes_come_back_as_they_went(session: Session, tmp_path: Path, size_bytes: int) -> None:
    round_trip(session, tmp_path, size_bytes)


@pytest.mark.parametrize("size_bytes", [0, 1, MIB - 1, 2 * MIB, 10 * MIB + 1])
def test_bytes_come_back_as_they_went_without_the_extension(
    go_session: Session, tmp_path: Path, size_bytes: int
) -> None:
    round_trip(go_session, tmp_path, size_bytes)


def check_names(session: Session, path: Path) -> None:
    for name in NAMES:
        for size_bytes in (0, 800_000):
            content = content_of(size_bytes)
            session.write(f"d/{name}", content)
            assert session.read(f"d/{name}").content == content
        if os.sep not in name:
            place = session.download(f"d/{name}", path)
            assert place.name == name
            assert place.read_bytes() == content
            assert session.upload(place, dest_path="e") == [f"/workspace/e/{name}"]
    assert session.exec("ls -A d | wc -l; diff -r d e && ls -1A").output == "12\nd\ne\n"


def test_odd_names_are_names(session: Session, tmp_path: Path) -> None:
    check_names(session, tmp_path)


def test_odd_names_are_names_without_the_extension(go_session: Session, tmp_path: Path) -> None:
    check_names(go_session, tmp_path)


# --- reading a part


def check_limits(session: Session) -> None:
    content = content_of(5 * MIB)
    session.write("x", content)
    for max_bytes in (1, 300_000, 4 * MIB, 5 * MIB - 1, 5 * MIB, 6 * MIB):
        result = session.read("x", max_bytes=max_bytes)
        assert result.content == content[:max_bytes]
        assert result.truncated == (max_bytes < 5 * MIB)
    session.write("empty", b"")
    assert session.read("empty", max_bytes=1_000_000).content == b""
    with pytest.raises(SandboxFileNotFoundError):
        session.read("missing")
    with pytest.raises(SandboxFileNotFoundError):
        session.read("missing", max_bytes=MIB)
    session.exec("mkdir d")
    with pytest.raises(SandboxIsDirectoryError):
        session.read("d")


def test_a_part_is_read_and_the_rest_is_told(session: Session) -> None:
    check_limits(session)


def test_a_part_is_read_and_the_rest_is_told_without_the_extension(go_session: Session) -> None:
    check_limits(go_session)


def test_the_beginning_of_an_endless_file_costs_no_more_than_that(session: Session) -> None:
    session.exec("truncate -s 3G bomb")
    result = session.read("bomb", max_bytes=MIB)
    assert result.content == bytes(MIB)
    assert result.truncated


# --- directories


def make_tree(top: Path) -> Path:
    (top / "d" / "deep er" / ("long" * 40)).mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "run").write_bytes(b"#!/bin/sh\necho ran\n")
    (top / "run").chmod(0o755)
    (top / "d" / "deep er" / ("long" * 40) / ("name" * 50)).write_bytes(b"deep")
    (top / "d" / "large").write_bytes(content_of(3 * MIB))
    (top / "d" / "nothing").write_bytes(b"")
    (top / "d" / "link").symlink_to("../run")
    for name in NAMES:
        (top / name).write_bytes(name.encode())
    return top


def listing(top: Path) -> dict[str, tuple[str, int, bytes]]:
    """Return the entries of a directory: kinds, permissions of files, contents."""
    found: dict[str, tuple[str, int, bytes]] = {}
    for path in top.rglob("*"):
        mode = path.lstat().st_mode
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = ("link", 0, os.fsencode(os.readlink(path)))
        elif path.is_dir():
            found[name] = ("directory", 0, b"")
        else:
            found[name] = ("file", stat.S_IMODE(mode), path.read_bytes())
    return found


def tree_round_trip(session: Session, path: Path) -> None:
    tree = make_tree(path / "tree")
    told: list[tuple[int, int | None]] = []
    made = session.upload(tree, dest_path="trees", on_progress=lambda *each: told.append(each))
    assert made == ["/workspace/trees/tree"]
    size_bytes = sum(len(content) for kind, _, content in listing(tree).values() if kind == "file")
    assert told[-1] == (size_bytes, size_bytes)
    assert (session.exec("trees/tree/run; trees/tree/d/link; ls -1A trees")).output == "ran\nran\ntree\n"
    assert session.download("trees/tree", path / "back") == path / "back"
    assert listing(path / "back") == listing(tree)
    (path / "into").mkdir()
    assert session.download("trees/tree/", path / "into") == path / "into" / "tree"
    assert listing(path / "into" / "tree") == listing(tree)
    with pytest.raises(SandkastenInputError, match="is a directory"):
        session.download("trees/tree", path / "into")
    assert sorted(os.listdir(path)) == ["back", "into", "tree"]
    # Once more, merged into what is there, under another name.
    session.exec("mkdir -p trees/other; echo kept > trees/other/kept; echo old > trees/other/run")
    assert session.upload(tree, dest_path="trees", filename="other") == ["/workspace/trees/other"]
    assert session.exec("cat trees/other/kept; trees/other/run").output == "kept\nran\n"


def test_a_directory_comes_back_as_it_went(session: Session, tmp_path: Path) -> None:
    tree_round_trip(session, tmp_path)


def test_a_directory_comes_back_as_it_went_without_the_extension(go_session: Session, tmp_path: Path) -> None:
    tree_round_trip(go_session, tmp_path)


def test_a_whole_workspace_is_downloaded(session: Session, tmp_path: Path) -> None:
    session.exec("mkdir d; echo text > d/f")
    assert session.download(".", tmp_path) == tmp_path / "workspace"
    assert (tmp_path / "workspace" / "d" / "f").read_text() == "text\n"


HOSTILE = r"""
mkdir t && pushd t
echo secret-of-the-sandbox > plain; chmod 6777 plain
ln -s /etc/passwd absolute; ln -s ../../../../etc/passwd up; ln -s / root; ln -s . self; ln -s .. parent
mkdir -p d/e; ln -s ../.. d/e/top; ln -s d/e/top/.. out-by-another; ln -s ../plain d/fine; ln -s loop loop
mkfifo fifo; ln plain same; truncate -s 3M sparse
mkdir ..hidden "..." " .." "~" "C:"; echo 1 > "C:/x"; echo 2 > '..hidden/..\evil'; echo 3 > "-rf"
printf 4 > "$(printf 'bad\377\200')"; printf 5 > "$(printf 'new\nline')"
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
for i in 1 2 3 4 5 6 7 8 9 10; do echo x > $i; done; chmod 400 10; popd
"""


def check_hostile_tree(session: Session, path: Path) -> None:
    result = session.exec(HOSTILE)
    assert result.exit_code == 0, result
    place = session.download("t", path / "t")
    names = set(os.listdir(place))
    assert not names & {"absolute", "up", "root", "parent", "out-by-another", "fifo", "sock"}
    assert {"plain", "same", "self", "loop", "sparse", "..hidden", "...", " ..", "~", "C:", "-rf"} <= names
    assert os.listdir(os.fsencode(place)).count(b"bad\xff\x80") == 1
    assert stat.S_IMODE((place / "plain").stat().st_mode) == 0o777 & ~umask()
    assert stat.S_IMODE((place / "10").stat().st_mode) == 0o400
    assert not os.path.samefile(place / "plain", place / "same")
    assert (place / "same").read_bytes() == (place / "plain").read_bytes() == b"secret-of-the-sandbox\n"
    assert (place / "sparse").stat().st_size == 3 * MIB
    assert os.readlink(place / "d" / "e" / "top") == "../.."
    for link in place.rglob("*"):
        if link.is_symlink() and link.name != "loop":
            resolved = Path(os.path.realpath(link))
            assert resolved == place or place in resolved.parents, link
    assert os.listdir(path) == ["t"]


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_hostile_tree_stays_inside_its_destination(session: Session, tmp_path: Path) -> None:
    check_hostile_tree(session, tmp_path)


def test_a_hostile_tree_stays_inside_its_destination_without_the_extension(
    go_session: Session, tmp_path: Path
) -> None:
    check_hostile_tree(go_session, tmp_path)


def test_a_thousand_files_come_in_one_go(session: Session, tmp_path: Path) -> None:
    session.exec(
        "mkdir many && (cd many && for d in $(seq 10); do mkdir $d && touch $(seq -f $d/%g 100); done)"
    )
    place = session.download("many", tmp_path / "many")
    assert sum(len(files) for _, _, files in os.walk(place)) == 1_000
    assert session.upload(place, filename="again") == ["/workspace/again"]
    assert session.exec("find again -type f | wc -l; diff -r many again").output == "1000\n"


# --- limits of what comes


def test_what_is_larger_than_allowed_is_not_downloaded(session: Session, tmp_path: Path) -> None:
    session.exec("mkdir d; truncate -s 2M d/a d/b; truncate -s 3G bomb")
    for path in ("d/a", "d", "bomb"):
        with pytest.raises(TooLargeError, match="max_bytes=1000000"):
            session.download(path, tmp_path / "x", max_bytes=1_000_000)
    assert session.download("d", tmp_path / "d", max_bytes=4 * MIB) == tmp_path / "d"
    assert os.listdir(tmp_path) == ["d"]


def test_what_is_larger_than_allowed_is_not_downloaded_without_the_extension(
    go_session: Session, tmp_path: Path
) -> None:
    go_session.exec("mkdir d; truncate -s 2M d/a d/b; truncate -s 3G bomb")
    for path in ("d/a", "d", "bomb"):
        with pytest.raises(TooLargeError, match="max_bytes=1000000"):
            go_session.download(path, tmp_path / "x", max_bytes=1_000_000)
    assert os.listdir(tmp_path) == []
    assert go_session.exec("find /tmp . -type f | sort").output == "./bomb\n./d/a\n./d/b\n"


def test_a_place_that_cannot_be_is_refused_before_anything_is_asked(session: Session, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for path, dest in (("x", tmp_path), ("y", tmp_path / "missing" / "y"), ("y", ""), ("..", tmp_path)):
        with pytest.raises(SandkastenInputError):
            session.download(path, dest)
    with pytest.raises(SandboxFileNotFoundError):
        session.download("missing", tmp_path)
    assert os.listdir(tmp_path) == ["x"]


def test_a_destination_with_a_slash_is_a_directory_to_copy_into(session: Session, tmp_path: Path) -> None:
    session.exec("mkdir -p tree/sub; echo leaf >tree/sub/leaf")
    for dest in (f"{tmp_path}/new/", f"{tmp_path}/new/", f"{tmp_path}/a/b//"):
        copy = session.download("tree/sub/leaf", dest)
        assert copy == Path(dest) / "leaf"
        assert copy.read_text() == "leaf\n"
    assert session.download("tree", f"{tmp_path}/new/") == tmp_path / "new" / "tree"
    assert (tmp_path / "new/tree/sub/leaf").exists()
    assert session.download("tree", tmp_path / "name") == tmp_path / "name"


def test_a_directory_that_was_made_for_a_download_goes_with_its_failure(
    session: Session, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "file").touch()
    for dest in ("made/deep/", "kept/"):
        with pytest.raises(SandboxFileNotFoundError):
            session.download("nothing", f"{tmp_path}/{dest}")
    with pytest.raises(SandkastenInputError, match="cannot be made here"):
        session.download("nothing", f"{tmp_path}/file/")
    assert sorted(os.listdir(tmp_path)) == ["file", "kept"]


def test_a_download_replaces_a_file_and_no_directory(session: Session, tmp_path: Path) -> None:
    session.write("f", "new")
    session.exec("mkdir d")
    (tmp_path / "f").write_text("old")
    assert session.download("f", tmp_path) == tmp_path / "f"
    assert (tmp_path / "f").read_text() == "new"
    with pytest.raises(SandkastenInputError, match="exists"):
        session.download("d", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "new"


# --- progress, and what interrupts


def test_progress_is_told_to_the_end(session: Session, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content_of(5 * MIB))
    up: list[tuple[int, int | None]] = []
    down: list[tuple[int, int | None]] = []
    session.upload(tmp_path / "f", on_progress=lambda *each: up.append(each))
    session.download("f", tmp_path / "g", on_progress=lambda *each: down.append(each))
    for told in (up, down):
        assert told == sorted(told)
        assert told[-1] == (5 * MIB, 5 * MIB)
        assert len(told) >= 5
    (tmp_path / "f").write_bytes(b"")
    empty: list[tuple[int, int | None]] = []
    session.upload(tmp_path / "f", on_progress=lambda *each: empty.append(each))
    session.download("f", tmp_path / "g", on_progress=lambda *each: empty.append(each))
    assert empty == [(0, 0), (0, 0)]


class StopError(Exception):
    """Whoever watches has enough."""


def stop(done_bytes: int, _total_bytes: int | None) -> None:
    if done_bytes >= 3 * MIB:
        raise StopError


def check_interrupts(session: Session, path: Path) -> None:
    session.write("f", b"old")
    (path / "f").write_bytes(content_of(20 * MIB))
    with pytest.raises(StopError):
        session.upload(path / "f", on_progress=stop)
    for _ in range(100):  # the daemon notices a moment later
        if session.exec("ls -1A").output == "f\n":
            break
    assert session.exec("ls -1A; cat f").output == "f\nold"
    session.upload(path / "f")
    session.exec("mkdir d; mv f d")
    for name in ("d/f", "d"):
        with pytest.raises(StopError):
            session.download(name, path / "x", on_progress=stop)
    assert os.listdir(path) == ["f"]
    assert session.exec("ls -1A . /tmp").output == ".:\nd\n\n/tmp:\n"


def test_an_interrupted_transfer_leaves_nothing(session: Session, tmp_path: Path) -> None:
    check_interrupts(session, tmp_path)


def test_an_interrupted_transfer_leaves_nothing_without_the_extension(
    go_session: Session, tmp_path: Path
) -> None:
    check_interrupts(go_session, tmp_path)


# --- connections that break


def test_a_download_goes_on_where_its_connection_broke(
    daemon: LocalDaemon, session: Session, tmp_path: Path
) -> None:
    content = content_of(24 * MIB)
    session.write("f", content)
    with Cutting(daemon, down=[6 * MIB, 6 * MIB, 6 * MIB]) as proxy:
        with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key) as client:
            same = client.get_session(session.id)
            told: list[int] = []
            place = same.download("f", tmp_path, on_progress=lambda done, _: told.append(done))
            assert place.read_bytes() == content
            assert told == sorted(told)
        assert proxy.down_bytes < 30 * MIB
    assert os.listdir(tmp_path) == ["f"]


def test_a_read_goes_on_and_a_directory_begins_again(
    daemon: LocalDaemon, session: Session, tmp_path: Path
) -> None:
    content = content_of(8 * MIB)
    session.write("d/f", content)
    with Cutting(daemon, down=[3 * MIB, 3 * MIB]) as proxy:
        with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key) as client:
            same = client.get_session(session.id)
            assert same.read("d/f").content == content
    with Cutting(daemon, down=[3 * MIB, 3 * MIB]) as proxy:
        with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key) as client:
            same = client.get_session(session.id)
            place = same.download("d", tmp_path)
            assert (place / "f").read_bytes() == content
    assert os.listdir(tmp_path) == ["d"]


def test_a_file_that_changes_while_the_connection_is_broken_is_not_mixed(
    daemon: LocalDaemon, tmp_path: Path
) -> None:
    size_bytes = 24 * MIB
    with Cutting(daemon, down=[5 * MIB]) as proxy:
        with (
            SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key) as client,
            client.create_session() as session,
        ):
            session.exec(f"head -c {size_bytes} /dev/zero | tr '\\0' a > f")
            session.exec(f"head -c {size_bytes} /dev/zero | tr '\\0' b > g")
            workspace = workspace_of(daemon, session.id)
            told: list[int] = []

            def replace(done: int, _total: int | None) -> None:
                if not told:
                    (workspace / "g").rename(workspace / "f")
                told.append(done)

            content = session.download("f", tmp_path, on_progress=replace).read_bytes()
    assert content == b"b" * size_bytes
    assert told != sorted(told)  # it began again


def test_an_upload_begins_again_if_its_source_can(
    daemon: LocalDaemon, session: Session, tmp_path: Path
) -> None:
    content = content_of(8 * MIB)
    (tmp_path / "f").write_bytes(content)
    with Cutting(daemon, up=[3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB]) as proxy:
        with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key) as client:
            same = client.get_session(session.id)
            with pytest.raises(SandkastenConnectionError):
                same.upload(Unseekable(content), filename="f")  # type: ignore[arg-type]
            with pytest.raises(SandkastenConnectionError):
                same.upload(tmp_path / "f")  # three attempts, and all of them broke
            same.upload(tmp_path / "f")
    assert session.read("f").content == content
    assert session.exec("ls -1A").output == "f\n"


def test_without_retries_a_broken_transfer_is_an_error_and_leaves_nothing(
    daemon: LocalDaemon, session: Session, tmp_path: Path
) -> None:
    session.write("d/f", content_of(8 * MIB))
    with Cutting(daemon, down=[3 * MIB, 3 * MIB]) as proxy:
        with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key, max_retries=0) as client:
            same = client.get_session(session.id)
            for name in ("d/f", "d"):
                with pytest.raises(SandkastenConnectionError):
                    same.download(name, tmp_path)
    assert os.listdir(tmp_path) == []


# --- sources


class Unseekable(io.RawIOBase):
    """A stream that cannot be read twice, in parts of odd sizes."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._content.read(min(size, 70_001) if size >= 0 else size)


class Gives(io.RawIOBase):
    """A stream that gives what no file open for binary reading gives, after a first piece."""

    def __init__(self, then: object) -> None:
        self._given: list[object] = [then, b"first"]

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> Any:
        del size
        found = self._given.pop()
        if isinstance(found, Exception):
            raise found
        return found


def check_odd_files(session: Session, tmp_path: Path) -> None:
    content = Path("/proc/version").read_bytes()
    assert session.read(session.upload("/proc/version")[0]).content == content
    with open("/proc/version", "rb") as stream:
        assert session.upload(stream, filename="again") == ["/workspace/again"]
    assert session.read("again").content == content
    size = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    if not size.exists():
        size = Path("/sys/kernel/notes")
    assert session.read(session.upload(size)[0]).content == size.read_bytes()
    (tmp_path / "sparse").write_bytes(b"")
    os.truncate(tmp_path / "sparse", 2 * MIB)
    assert session.read(session.upload(tmp_path / "sparse")[0]).content == bytes(2 * MIB)


def test_a_file_whose_size_only_reading_tells_arrives_whole(session: Session, tmp_path: Path) -> None:
    check_odd_files(session, tmp_path)


def test_so_it_does_without_the_extension(go_session: Session, tmp_path: Path) -> None:
    check_odd_files(go_session, tmp_path)


def test_such_a_file_arrives_whole_as_part_of_a_directory(session: Session) -> None:
    directory = Path("/proc/sys/kernel/random")
    session.upload(directory, filename="d")
    boot_id = (directory / "boot_id").read_bytes()
    assert session.read("d/boot_id").content == boot_id


@pytest.mark.parametrize(
    ("then", "says"),
    [
        (None, "does not block"),
        ("text", "not bytes"),
        (5, "not bytes"),
        (OSError(5, "Input/output error"), "cannot be read: Input/output error"),
        (ValueError("I/O operation on closed file."), "cannot be read: I/O operation on closed file"),
        (RuntimeError(), "cannot be read: RuntimeError"),
    ],
)
def test_what_a_stream_cannot_give_is_one_clear_error(session: Session, then: object, says: str) -> None:
    session.write("x", b"old")
    with pytest.raises(SandkastenInputError, match=says):
        session.upload(Gives(then), filename="x")  # type: ignore[arg-type]
    assert session.read("x").content == b"old"


def test_files_that_nobody_can_read_are_one_clear_error(session: Session, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(reading, "rb", 0) as raw, pytest.raises(SandkastenInputError, match="does not block"):
        session.upload(raw, filename="x")
    os.close(writing)
    with open(tmp_path / "f", "w+b") as closed:
        pass
    with pytest.raises(SandkastenInputError, match="closed"):
        session.upload(closed, filename="x")
    with tempfile.NamedTemporaryFile("w+") as text, pytest.raises(SandkastenInputError, match="binary mode"):
        text.write("text")
        session.upload(text, filename="x")  # type: ignore[arg-type]
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SandkastenInputError, match="not a plain file"):
        session.upload(tmp_path / "fifo")
    with pytest.raises(SandkastenInputError, match="cannot be opened"):
        session.upload("a\0b")
    assert session.list() == []


@pytest.mark.parametrize("becomes", ["gone", "fifo", "symlink", "longer", "directory"])
def test_a_directory_that_changes_while_it_is_sent_is_one_clear_error(
    session: Session, tmp_path: Path, becomes: str
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(content_of(3 * MIB))
    (tree / "b").write_bytes(b"b")

    def change(_done: int, _total: int | None) -> None:
        if becomes == "longer":
            with open(tree / "a", "ab") as file:
                file.write(b"x")
            return
        if not (tree / "b").is_file() or (tree / "b").is_symlink():
            return
        (tree / "b").unlink()
        if becomes == "fifo":
            os.mkfifo(tree / "b")
        elif becomes == "symlink":
            (tree / "b").symlink_to("/etc/hostname")
        elif becomes == "directory":
            (tree / "b").mkdir()

    with pytest.raises(SandkastenInputError, match=r"changed while it was sent|cannot be read"):
        session.upload(tree, on_progress=change)


def check_streams(session: Session) -> None:
    for size_bytes in (0, 1, 3 * MIB):
        content = content_of(size_bytes)
        told: list[tuple[int, int | None]] = []
        session.upload(
            Unseekable(content),  # type: ignore[arg-type]
            filename="f",
            on_progress=lambda *each: told.append(each),  # noqa: B023
        )
        assert session.read("f").content == content
        assert told[-1] == (size_bytes, None)


def test_a_directory_is_listed_alike_with_the_extension_and_without(
    session: Session, go_session: Session
) -> None:
    names = [*NAMES, *"*?", ".hidden", "empty dir"]
    listings = []
    for each in (session, go_session):
        for name in names[:-1]:
            each.write(f"d/{name}", name)
        each.exec("mkdir 'd/empty dir' e; ln -s / d/top; touch -d @1000000000 d/*; touch -hd @7 d/top")
        listings.append(each.list("d"))
        assert each.list("e") == []
        with pytest.raises(SandboxFileNotFoundError):
            each.list("gone")
        with pytest.raises(SandboxNotADirectoryError):
            each.list("d/plain")
        with pytest.raises(InvalidRequestError):
            each.list("/proc")
    assert [entry.name for entry in listings[0]] == sorted([*names, "top"])
    assert [evolve(entry, modified_at=None) for entry in listings[1]] == [
        evolve(entry, modified_at=None, link_target=None) for entry in listings[0]
    ]
    plain, top = ({entry.name: entry for entry in listings[1]}[name] for name in ("plain", "top"))
    assert plain.modified_at == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert (top.kind, top.modified_at) == ("symlink", datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC))


def test_a_stream_without_a_size_is_sent_to_its_end(session: Session) -> None:
    check_streams(session)


def test_a_stream_without_a_size_is_sent_to_its_end_without_the_extension(go_session: Session) -> None:
    check_streams(go_session)


@pytest.mark.parametrize("change", [-1000, 1000])
def test_a_file_that_changes_while_it_is_sent_is_a_clear_error(
    session: Session, tmp_path: Path, change: int
) -> None:
    session.write("f", b"old")
    file = tmp_path / "f"
    file.write_bytes(content_of(6 * MIB))

    def grow_or_shrink(_done: int, _total: int | None) -> None:
        os.truncate(file, 6 * MIB + change)

    with pytest.raises(SandkastenInputError, match="changed while it was sent"):
        session.upload(file, on_progress=grow_or_shrink)
    assert session.read("f").content == b"old"


def test_an_upload_that_does_not_fit_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content_of(20 * MIB))
    limits = {"workspace_bytes": 8 * MIB}
    with SandboxClient(local=LocalOptions(limits=limits, pool_size=0)) as client:
        session = client.create_session()
        with pytest.raises(InsufficientStorageError, match="Delete files"):
            session.upload(tmp_path / "f")
        with pytest.raises(InsufficientStorageError, match="Delete files"):
            session.upload(tmp_path, filename="d")
        with pytest.raises(InsufficientStorageError, match="Delete files"):
            session.upload(Unseekable(content_of(20 * MIB)), filename="f")  # type: ignore[arg-type]
        assert session.exec("find . -type f").output == ""
        session.write("f", content_of(5 * MIB))


# --- workspaces


def test_a_workspace_takes_and_gives_files_of_any_size(client: SandboxClient, tmp_path: Path) -> None:
    workspace = client.workspace("any-size")
    content = content_of(12 * MIB)
    workspace.write("d/large", content)
    assert workspace.read("d/large").content == content
    tree = make_tree(tmp_path / "tree")
    assert workspace.upload(tree) == ["/workspace/tree"]
    workspace.download("tree", tmp_path / "back")
    assert listing(tmp_path / "back") == listing(tree)
    workspace.delete()


def test_a_workspace_without_the_extension_says_what_takes_a_session(
    go_client: SandboxClient, tmp_path: Path
) -> None:
    workspace = go_client.workspace("of-limited-size")
    content = content_of(9 * MIB)
    workspace.write("d/f", content)
    assert workspace.read("/workspace/d/f").content == content
    with go_client.create_session(workspace_id="of-limited-size") as session:
        assert session.read("d/f").content == content
    for refused in (
        lambda: workspace.write("large", content_of(12 * MIB)),
        lambda: workspace.write("a..b", content_of(3 * MIB)),
        lambda: workspace.list("a..b"),
        lambda: workspace.upload(make_tree(tmp_path / "tree")),
    ):
        with pytest.raises(ExtensionMissingError, match="Create a session with this workspace_id"):
            refused()
    assert os.listdir(tmp_path) == ["tree"]
    workspace.delete()


def test_a_workspace_without_the_extension_takes_and_gives_simple_directories(
    go_client: SandboxClient, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "d" / "e").mkdir(parents=True)
    for number in range(230):
        (tree / "d" / f"{number}").write_bytes(b"%d" % number)
    (tree / "d" / "e" / 'a"b').write_bytes(b"odd")
    (tree / "large").write_bytes(content_of(3 * MIB))
    workspace = go_client.workspace("simple-directories")
    told: list[tuple[int, int | None]] = []
    made = workspace.upload(tree, on_progress=lambda *each: told.append(each))
    assert made == ["/workspace/tree"]
    assert told[-1][0] == told[-1][1]
    assert workspace.download("tree", tmp_path / "back") == tmp_path / "back"
    assert listing(tmp_path / "back") == listing(tree)
    workspace.delete()
