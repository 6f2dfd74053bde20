"""The way of files, as far as it is decided without waiting: the calls, the commands, the tar format."""

from __future__ import annotations

import base64
import io
import os
import random
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandkasten._plain import commands, plan
from sandkasten._plain.commands import Pieces, Slices
from sandkasten._plain.plan import Item, Way, items_of
from sandkasten._tar import END, Kind, Member, TarError, TarReader, header, note, padding
from sandkasten._transfer import places, trees
from sandkasten._transfer.places import place_for
from sandkasten._transfer.reading import Fetch, Tries
from sandkasten._transfer.sources import Source, open_source, source_of
from sandkasten._transfer.targets import FileTarget, MemoryTarget
from sandkasten._transfer.trees import TreeTarget
from sandkasten.errors import (
    ExtensionMissingError,
    LocalDaemonError,
    LocalFileError,
    SandkastenConnectionError,
    SandkastenError,
    SandkastenInputError,
    SandkastenResponseError,
    SandkastenTimeoutError,
    TooLargeError,
)

MIB = 1024 * 1024


# --- which way


@pytest.mark.parametrize(
    ("path", "size_bytes", "in_session", "in_workspace"),
    [
        ("a", 0, Way.UPLOAD, Way.UPLOAD),
        ("a", 1, Way.JSON, Way.JSON),
        ("a", 1_560_000, Way.JSON, Way.JSON),
        ("a", 1_560_001, Way.PIECES, Way.UPLOAD),
        ("d/a b", 10 * MIB - 64 * 1024, Way.PIECES, Way.UPLOAD),
        ("a", 10 * MIB - 64 * 1024 + 1, Way.PIECES, None),
        ("a", 1 << 40, Way.PIECES, None),
        ('a"b', 0, Way.PIECES, None),
        ('a"b', 1, Way.JSON, Way.JSON),
        ("a\nb", 2_000_000, Way.PIECES, None),
        ("a%22b", 2_000_000, Way.PIECES, None),
        ("back\\slash", 2_000_000, Way.PIECES, None),
        ("a..b", 0, Way.PIECES, None),
        ("ünï😀", 2_000_000, Way.PIECES, Way.UPLOAD),
    ],
)
def test_the_way_of_a_file_follows_from_its_size_and_name(
    path: str, size_bytes: int, in_session: Way, in_workspace: Way | None
) -> None:
    assert plan.way_to_session(path, size_bytes) is in_session
    if in_workspace is not None:
        assert plan.way_to_workspace(path, size_bytes) is in_workspace
        return
    with pytest.raises(ExtensionMissingError, match="Create a session with this workspace_id"):
        plan.way_to_workspace(path, size_bytes)


def test_what_goes_by_each_way_fits_into_the_go_daemons_limits() -> None:
    longest_path_bytes = 4 * 4096
    assert len(base64.b64encode(b"x" * plan.MAX_JSON_BYTES)) + longest_path_bytes + 100 < 2 * MIB
    assert len(base64.b64encode(b"x" * plan.MAX_SESSION_READ_BYTES)) + 64 * 1024 < 5 * MIB
    assert plan.MAX_WORKSPACE_READ_BYTES == 100 * MIB
    assert plan.MAX_UPLOAD_BYTES < 10 * MIB
    assert len(base64.encodebytes(b"x" * commands.FIRST_SLICE_BYTES)) + 1024 < MIB


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("x", "x"),
        ("/workspace/x", "x"),
        ("a/../b", "b"),
        ("workspace/x", "workspace/x"),
        (".", "."),
        ("/workspace/", "."),
        ("..", ".."),
        ("/etc/x", "../etc/x"),
        ("/workspace/../workspace/x/", "x"),
    ],
)
def test_a_path_in_a_workspace_is_sent_as_it_is_seen_from_its_root(path: str, sent: str) -> None:
    assert places.in_workspace(path) == sent


@pytest.mark.parametrize("path", ["a..b", "d../x", "..."])
def test_two_dots_in_a_name_of_a_workspace_take_a_session(path: str) -> None:
    with pytest.raises(ExtensionMissingError, match="two dots in a row"):
        plan.check_in_workspace(path)


def test_a_way_up_that_stays_inside_is_no_name_with_two_dots() -> None:
    plan.check_in_workspace("a/../b")
    with pytest.raises(SandkastenInputError, match="outside /workspace"):
        plan.check_in_workspace("../x")


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "../x", "a/../../x", "/workspacex", "/"])
def test_commands_reach_no_other_paths_than_the_file_verbs(path: str) -> None:
    with pytest.raises(SandkastenInputError, match="outside /workspace"):
        places.absolute(path)


def test_paths_are_seen_from_the_workspace() -> None:
    assert places.absolute("a/./b/../c") == "/workspace/a/c"
    assert places.absolute("/workspace") == "/workspace"


def test_many_files_are_grouped_by_directory_number_and_size() -> None:
    items = [Item(f"/workspace/{d}/{n}", 10, "") for n in range(150) for d in ("b", "a")]
    items += [Item(f"/workspace/large/{n}", 4 * MIB, "") for n in range(5)]
    groups = list(plan.grouped(items))
    assert sorted(item.path for group in groups for item in group) == sorted(item.path for item in items)
    assert [len(group) for group in groups] == [100, 50, 100, 50, 2, 2, 1]
    for group in groups:
        assert len({os.path.dirname(item.path) for item in group}) == 1
        assert sum(item.size_bytes for item in group) <= plan.MAX_UPLOAD_BYTES
    assert list(plan.grouped([])) == []


def test_resized_pieces_hold_the_same_bytes() -> None:
    parts = [b"abc", b"", b"defghij", b"k"]
    assert list(plan.resized(iter(parts), 4)) == [b"abcd", b"efgh", b"ijk"]
    assert list(plan.resized(iter([b"abcd"]), 4)) == [b"abcd"]
    assert list(plan.resized(iter([]), 4)) == []


# --- commands, run by a real shell


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("m::m", None),
        ("m:YQA=:41ed 4096 99999999999999:m", None),
        ("m:YQA=:41ed 4096:m", "cannot be listed"),
        ("m:YQA=:41ed 4096 1 1:m", "cannot be listed"),
        ("m:YQA=::m", "cannot be listed"),
        ("m:YQA=:-1 0 1:m", "cannot be listed"),
        ("m:YQA=:1ffffffffffffffffffff 0 1:m", "cannot be listed"),
        ("m:YQA=:81a4 -5 1:m", "cannot be listed"),
        (f"m:YQA=:81a4 {'9' * 4000} 1:m", "cannot be listed"),
        ("m:YQA=:x y z:m", "cannot be listed"),
        ("m:?:41ed 4096 1:m", "cannot be listed"),
        ("m::stat: not found:m", "cannot be listed"),
        ("bash: cd: no", "cannot be listed"),
    ],
)
def test_a_listing_that_makes_no_sense_is_an_error(output: str, message: str | None) -> None:
    if message is None:
        assert all(entry.modified_at is None for entry in commands.listed("d", output, "m", truncated=False))
        return
    with pytest.raises(SandkastenError, match=message):
        commands.listed("d", output, "m", truncated=False)


@pytest.mark.parametrize("name", ["", ".", "..", "/abs", "../../etc/passwd"])
def test_a_listing_gives_names_and_nothing_else(name: str) -> None:
    encoded = base64.b64encode(f"{name}\0".encode()).decode()
    with pytest.raises(SandkastenError, match="is not a name"):
        commands.listed("d", f"m:{encoded}:81a4 0 1:m", "m", truncated=False)


def test_output_full_of_marks_is_read_in_no_time() -> None:
    began = time.thread_time()
    assert commands.marked("m1: :m " * 200_000, "m1") is None
    assert time.thread_time() - began < 1


def test_a_listing_that_is_too_long_says_so() -> None:
    with pytest.raises(SandkastenError, match="too many"):
        commands.listed("d", "m:YQ", "m", truncated=True)


@pytest.mark.parametrize(
    "settings",
    [
        "GLOBIGNORE='*a'; set -euf; shopt -s failglob; CDPATH=/",
        "readonly n; declare -ai d t; IFS=0123456789abcdef",
        "set -x; trap 'echo trapped' DEBUG; set -T",
    ],
)
def test_a_shells_own_settings_do_not_change_a_listing(tmp_path: Path, settings: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    (tmp_path / "c").mkdir()
    for path, names in ((tmp_path, ["a", "b", "c"]), (tmp_path / "c", [])):
        done = bash(f"x=kept; {settings}; {commands.list_command(str(path), 'm')}; printf '%s\\n' \"$x\"")
        assert [entry.name for entry in commands.listed("d", done.stdout, "m", truncated=False)] == names
        assert done.stdout.endswith("kept\n")


def test_a_listing_that_a_shell_would_falsify_is_an_error(tmp_path: Path) -> None:
    done = bash(f"readonly GLOBIGNORE='*a'; {commands.list_command(str(tmp_path), 'm')}")
    with pytest.raises(SandkastenError, match="cannot be listed"):
        commands.listed("d", done.stdout, "m", truncated=False)


def bash(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=20)


@pytest.mark.parametrize("tools", ["coreutils", "bash only"])
def test_an_image_without_stat_still_tells_kinds(tmp_path: Path, tools: str) -> None:
    (tmp_path / "f").write_text("123")
    (tmp_path / "f").chmod(0o640)
    os.symlink("f", tmp_path / "l")
    os.mkfifo(tmp_path / "p")
    has_stat = tools == "coreutils"
    for name, follow_symlinks, kind in (
        ("f", True, "file"), ("f", False, "file"), ("l", True, "file"), ("l", False, "symlink"),
        ("p", True, "other"), (".", True, "directory"),
    ):  # fmt: skip
        question = commands.stat_question(f"/workspace/{name}", follow_symlinks=follow_symlinks)
        command = commands.stat_command(str(tmp_path / name), "m", follow_symlinks=follow_symlinks)
        done = bash(command if has_stat else f"PATH=/nowhere; {command}")
        text = commands.marked(done.stdout, "m")
        assert text is not None
        found = question.read(text)
        assert found is not None
        assert found.kind == kind
        assert (found.mode is not None, found.modified_at is not None) == (has_stat, has_stat)
        assert found.link_target == ("f" if has_stat and kind == "symlink" else None)


@pytest.mark.parametrize("text", ["", ":", "81a4 3:", "81a4 3 x:", "9000:", "81a4 3 4:="])
def test_an_answer_that_makes_no_sense_is_none(text: str) -> None:
    assert commands.stat_question("f", follow_symlinks=True).read(text) is None


ODD_NAMES = ["plain", "a b", "-rf", "a\nb", "it's", 'a"b', "$(touch x)", "*", "ünï", "\\", "%s"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_pieces_are_joined_into_their_place_and_nothing_else_is_left(tmp_path: Path, name: str) -> None:
    place, parts = tmp_path / name, [b"one\0", b"", b"three"]
    place.write_text("old")
    place.chmod(0o750)
    for number, part in enumerate(parts):
        (tmp_path / f".t.{number}").write_bytes(part)
    whole = b"".join(parts)
    checksum = (
        subprocess.run(["sha256sum"], input=whole, capture_output=True, check=True).stdout[:64].decode()
    )
    pieces = Pieces(str(tmp_path / ".t"), 3, len(whole), checksum)
    done = bash(commands.join_command(pieces, str(place), None))
    assert (done.returncode, done.stdout) == (0, ""), done
    assert place.read_bytes() == whole
    assert place.stat().st_mode & 0o777 == 0o750
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("wrong", ["size", "checksum", "directory", "missing piece"])
def test_pieces_that_do_not_fit_leave_the_old_file_and_none_of_themselves(tmp_path: Path, wrong: str) -> None:
    place = tmp_path / "x"
    if wrong == "directory":
        place.mkdir()
    else:
        place.write_text("old")
    for number in range(1 if wrong == "missing piece" else 2):
        (tmp_path / f".t.{number}").write_bytes(b"12")
    checksum = subprocess.run(["sha256sum"], input=b"1212", capture_output=True, check=True).stdout.decode()
    checksum = "0" * 64 if wrong == "checksum" else checksum[:64]
    pieces = Pieces(str(tmp_path / ".t"), 2, 5 if wrong == "size" else 4, checksum)
    done = bash(commands.join_command(pieces, str(place), 0o600))
    assert done.returncode == 1
    assert done.stdout
    assert os.listdir(tmp_path) == ["x"]
    assert wrong == "directory" or place.read_text() == "old"


def test_no_pieces_are_an_empty_file_and_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    done = bash(
        commands.join_command(Pieces(str(tmp_path / "d/.t"), 0, 0, empty), str(tmp_path / "d/x"), 0o755)
    )
    assert done.returncode == 0, done
    assert (tmp_path / "d/x").stat().st_mode & 0o777 == 0o755
    assert os.listdir(tmp_path / "d") == ["x"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_comes_back_in_slices(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    content = random.Random(1).randbytes(10_000)
    file.write_bytes(content)
    slices = Slices(str(file), size_bytes=3_000)
    parts = []
    while not slices.is_complete:
        done = bash(f"cd /tmp; echo noise; {slices.command('mark')}; echo more noise")
        parts.append(slices.take(done.stdout, "mark", truncated=False))
    assert b"".join(parts) == content
    assert [len(part) for part in parts] == [3_000, 3_000, 3_000, 1_000]
    printed = commands.marked(bash(commands.checksum_command(str(file), "mark")).stdout, "mark")
    expected = subprocess.run(["sha256sum"], input=content, capture_output=True, check=True).stdout[:64]
    assert printed == expected.decode()


def test_slices_end_where_they_shall(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    slices = Slices(str(tmp_path / "x"), offset=2, end=5)
    assert slices.take(bash(slices.command("m")).stdout, "m", truncated=False) == b"234"
    assert slices.is_complete


def test_slices_become_smaller_until_the_output_holds_them(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 5_000)
    slices = Slices(str(tmp_path / "x"), size_bytes=8_192)
    content = b""
    while not slices.is_complete:
        output = bash(slices.command("mark")).stdout
        content += slices.take(output[:2_500], "mark", truncated=len(output) > 2_500)
    assert content == b"x" * 5_000
    assert slices.size_bytes == 1_024


def test_output_that_never_comes_whole_is_an_error_and_no_endless_loop() -> None:
    slices = Slices("x")
    with pytest.raises(SandkastenError, match="head, tail and base64"):
        for _ in range(100):
            assert slices.take("cut", "mark", truncated=True) == b""
    with pytest.raises(SandkastenError, match="head, tail and base64"):
        Slices("x").take("nothing", "mark", truncated=False)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("m:QUJD:4:m", "changed while"),
        ("m:QUJD:2:m", "changed while"),
        ("m:!!!!:3:m", "cannot be read"),
        ("m:QUJD:three:m", "cannot be read"),
        ("m:bash: base64: command not found:3:m", "cannot be read"),
    ],
)
def test_slices_that_are_not_what_was_asked_for_are_errors(output: str, words: str) -> None:
    with pytest.raises(SandkastenError, match=words):
        Slices("/workspace/x").take(output, "m", truncated=False)


def test_a_file_that_grows_between_two_slices_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"x" * 10)
    slices = Slices(str(file), size_bytes=5)
    slices.take(bash(slices.command("m")).stdout, "m", truncated=False)
    file.write_bytes(b"x" * 11)
    with pytest.raises(SandkastenError, match="changed while it was read"):
        slices.take(bash(slices.command("m")).stdout, "m", truncated=False)


# --- reading on after a connection broke


def test_a_file_that_broke_off_is_asked_for_from_there_if_it_is_the_same() -> None:
    state = Fetch()
    assert state.headers == {}
    assert state.begin(200, {"content-length": "10", "etag": '"e"', "x-file-mode": "755"})
    state.take(4)
    assert (state.wanted_bytes, state.mode, state.is_complete) == (10, 0o755, False)
    assert state.headers == {"Range": "bytes=4-", "If-Range": '"e"'}
    assert not state.begin(206, {"content-length": "6", "content-range": "bytes 4-9/10", "etag": '"e"'})
    state.take(6)
    assert state.is_complete


def test_a_file_that_became_another_is_read_from_its_beginning() -> None:
    state = Fetch()
    state.begin(200, {"content-length": "10", "etag": '"e"'})
    state.take(4)
    assert state.begin(200, {"content-length": "3", "etag": '"f"'})
    assert (state.offset, state.wanted_bytes) == (0, 3)


def test_a_limited_read_knows_whether_there_is_more() -> None:
    state = Fetch(4)
    assert state.headers == {"Range": "bytes=0-3"}
    assert state.begin(206, {"content-length": "4", "content-range": "bytes 0-3/10"})
    assert (state.wanted_bytes, state.size_bytes) == (4, 10)
    empty = Fetch(4)
    assert empty.begin(200, {"content-length": "0"})
    assert empty.is_complete


@pytest.mark.parametrize(
    "headers", [{}, {"content-length": "-1"}, {"content-length": "x"}, {"content-range": "bytes 3-9/10"}]
)
def test_an_answer_that_does_not_say_what_it_is_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SandkastenResponseError, match="which part"):
        Fetch().begin(206, headers)


def test_more_than_was_announced_is_refused() -> None:
    state = Fetch()
    state.begin(200, {"content-length": "10"})
    with pytest.raises(SandkastenResponseError, match="more of the file"):
        state.take(11)


def test_a_transfer_goes_on_as_long_as_it_gets_on() -> None:
    lost = SandkastenConnectionError("lost")
    tries = Tries(2)
    assert [tries.allow(lost, reached) for reached in (1, 2, 3, 3, 3)] == [True, True, True, True, False]
    assert [Tries(0).allow(lost), Tries(1).allow(lost)] == [False, True]
    assert not Tries(2).allow(SandkastenTimeoutError("silent"))
    assert not Tries(2).allow(LocalDaemonError("ended"))


# --- symlinks


@pytest.mark.parametrize(
    ("path", "target", "stays"),
    [
        (("l",), "f", True),
        (("l",), "d/f", True),
        (("l",), ".", True),
        (("d", "l"), "../f", True),
        (("d", "l"), "..", True),
        (("d", "l"), "../../f", False),
        (("l",), "..", False),
        (("l",), "/etc/passwd", False),
        (("l",), "", False),
        (("d", "l"), "x/../../f", False),
        (("d", "e", "l"), "x/..", False),
        (("d", "l"), "./../../f", False),
        (("d", "l"), "..//../f", False),
    ],
)
def test_a_link_stays_inside_only_if_no_other_link_can_change_that(
    path: tuple[str, ...], target: str, stays: bool
) -> None:
    assert places.stays_inside(path, target) is stays


def test_no_chain_of_links_that_stay_leads_out(tmp_path: Path) -> None:
    """Try all the links of a small tree, in all combinations, with the real kernel."""
    root = tmp_path / "root"
    targets = ["..", "../..", "d", "d/e", "../l", "../m", "l/..", "m/..", "l", "m", "d/../..", "../d/e", "."]
    links = [("l",), ("m",), ("d", "l"), ("d", "e", "m")]
    generator = random.Random(7)
    for number in range(400):
        top = root / str(number)
        (top / "d" / "e").mkdir(parents=True)
        made = []
        for link in links:
            target = generator.choice(targets)
            if places.stays_inside(link, target):
                top.joinpath(*link).symlink_to(target)
                made.append(top.joinpath(*link))
        for link_path in made:
            resolved = Path(os.path.realpath(link_path))
            assert resolved == top or top in resolved.parents, (link_path, os.readlink(link_path))


# --- the tar format


class Collected:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.members: list[tuple[Member, bytes]] = []
        self._member: Member | None = None
        self._content = b""

    def begin(self, member: Member) -> None:
        assert self._member is None
        if member.kind is Kind.FILE:
            self._member, self._content = member, b""
        else:
            self.members.append((member, b""))

    def write(self, data: memoryview) -> None:
        self._content += data

    def end(self) -> None:
        assert self._member is not None
        self.members.append((self._member, self._content))
        self._member = None


def read(archive: bytes, step: int = 1000) -> list[tuple[Member, bytes]]:
    sink = Collected()
    reader = TarReader(sink)
    for start in range(0, len(archive), step):
        reader.feed(archive[start : start + step])
    reader.close()
    return sink.members


MEMBERS = [
    (Member((), Kind.DIRECTORY, mode=0o755), b""),
    (Member(("d",), Kind.DIRECTORY, mode=0o755), b""),
    (Member(("d", "empty"), Kind.FILE, 0, 0o600), b""),
    (Member(("d", "block"), Kind.FILE, 512, 0o755), b"b" * 512),
    (Member(("d", "more"), Kind.FILE, 513), b"m" * 513),
    (Member(("x" * 100,), Kind.FILE, 1), b"1"),
    (Member(("x" * 101,), Kind.FILE, 1), b"2"),
    (Member(("n" * 200, "ü" * 120, "f"), Kind.FILE, 1), b"3"),
    (Member(("bad\udcff\udc80",), Kind.FILE, 1), b"4"),
    (Member(("new\nline = 12 path=x\n",), Kind.FILE, 1), b"5"),
    (Member(("link",), Kind.SYMLINK, mode=0o777, target="d/block"), b""),
    (Member(("longlink",), Kind.SYMLINK, mode=0o777, target="t/" * 300 + "\udcff"), b""),
]
ARCHIVE = b"".join(header(member) + content + padding(len(content)) for member, content in MEMBERS) + END


@pytest.mark.parametrize("step", [1, 7, 512, 513, 100_000])
def test_what_is_written_is_read_in_pieces_of_any_size(step: int) -> None:
    assert read(ARCHIVE, step) == MEMBERS


def test_python_reads_what_is_written() -> None:
    with tarfile.open(fileobj=io.BytesIO(ARCHIVE), errors="surrogateescape") as tar:
        found = {member.name: member for member in tar}
        assert found["d"].isdir()
        assert found["d/block"].mode == 0o755
        assert found["bad\udcff\udc80"].isfile()
        assert found["longlink"].linkname == "t/" * 300 + "\udcff"
        more = tar.extractfile("d/more")
        assert more is not None
        assert more.read() == b"m" * 513


def test_gnu_tar_reads_what_is_written(tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", "-", "-C", tmp_path], input=ARCHIVE, check=True)
    assert (tmp_path / "d" / "more").read_bytes() == b"m" * 513
    assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff\x80")).read_bytes() == b"4"
    assert os.readlink(tmp_path / "link") == "d/block"


@pytest.mark.parametrize("form", ["gnu", "posix", "ustar"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, form: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ("n" * 90)).write_bytes(b"x" * 1000)
    (tmp_path / "a" / ("n" * 80) / ("m" * 80)).mkdir(parents=True)
    (tmp_path / "a" / ("n" * 80) / ("m" * 80) / "f").write_bytes(b"deep")
    (tmp_path / "link").symlink_to("d")
    os.link(tmp_path / "d" / ("n" * 90), tmp_path / "hard")
    argv = ["tar", "-cf", "-", f"--format={form}", "--sort=name", "-C", str(tmp_path), "."]
    archive = subprocess.run(argv, capture_output=True, check=True).stdout
    members = {"/".join(member.path): (member, content) for member, content in read(archive)}
    assert members[f"a/{'n' * 80}/{'m' * 80}/f"][1] == b"deep"
    assert members["d/" + "n" * 90][1] == b"x" * 1000
    assert members["link"][0].target == "d"
    assert members["hard"][0].kind is Kind.HARD_LINK
    assert members[""][0].kind is Kind.DIRECTORY


def test_a_file_of_more_than_8_gib_has_its_size_in_another_header() -> None:
    large = Member(("x",), Kind.FILE, 9 * 1024**3)
    found: list[Member] = []

    class Sink(Collected):
        def begin(self, member: Member) -> None:
            found.append(member)

    TarReader(Sink()).feed(header(large))
    assert found[0].size_bytes == 9 * 1024**3
    with tarfile.open(fileobj=io.BytesIO(header(large))) as tar:
        first = tar.next()
        assert first is not None
        assert first.size == 9 * 1024**3


def block(**changes: bytes | int | str) -> bytes:
    """A header of Python's making, with anything in it."""
    info = tarfile.TarInfo("x")
    for name, value in changes.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


HOSTILE: dict[str, Callable[[], bytes]] = {
    "name that leads out": lambda: block(name="../x"),
    "name that leads out later": lambda: block(name="a/../../x"),
    "absolute name": lambda: block(name="/etc/x"),
    "name of nothing": lambda: block(name="./."),
    "bad checksum": lambda: block()[:20] + b"1" + block()[21:],
    "negative size": lambda: block(size=-1),
    "sparse": lambda: block(type=b"S"),
    "unknown kind": lambda: block(type=b"Q"),
    "directory with content": lambda: block(type=b"5", size=512) + bytes(512),
    "symlink with content": lambda: block(type=b"2", size=512) + bytes(512),
    "long name without end": lambda: block(type=b"L", size=1 << 40),
    "empty long name": lambda: block(type=b"L", size=0),
    "NUL in a long name": lambda: block(type=b"L", size=512) + b"a\0b".ljust(512, b"\0") + block(),
    "headers for ever": lambda: note({"x": "y"}) * 20,
    "pax record that is no record": lambda: block(type=b"x", size=10) + b"0123456789".ljust(512, b"\0"),
    "pax record of length 0": lambda: block(type=b"x", size=10) + b"0 path=a\n\n".ljust(512, b"\0"),
    "pax record that is too long": lambda: block(type=b"x", size=10) + b"99 path=a\n".ljust(512, b"\0"),
    "pax size that is none": lambda: block(type=b"x", size=11) + b"11 size=-1\n".ljust(512, b"\0") + block(),
    "pax sparse": lambda: (
        block(type=b"x", size=23) + b"23 GNU.sparse.major=1\n\n".ljust(512, b"\0") + block()
    ),
    "member after the end": lambda: bytes(512) + block(),
    "end without end": lambda: bytes(2 * MIB),
    "noise": lambda: random.Random(3).randbytes(2048),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_that_nobody_should_unpack_is_refused(name: str) -> None:
    sink = Collected()
    with pytest.raises(TarError):
        TarReader(sink).feed(HOSTILE[name]() + END)
    assert [member.path for member, _ in sink.members] == []


@pytest.mark.parametrize("cut", [1, 511, 512, 1024, 1025, len(ARCHIVE) // 2])
def test_an_archive_that_was_cut_off_is_told_from_a_whole_one(cut: int) -> None:
    with pytest.raises(TarError, match="too early"):
        read(ARCHIVE[:-cut])


def test_an_archive_may_be_filled_up_to_what_a_tape_took() -> None:
    assert read(ARCHIVE + bytes(512 * 1024)) == read(ARCHIVE)


def test_a_header_of_many_records_takes_a_time_that_grows_with_its_length() -> None:
    """A record has 5 bytes at least, so that a header may have 13,000 of them."""
    records = b"5 a=\n" * 13_000
    header_of_many = block(type=b"x", size=len(records)) + records + bytes(-len(records) % 512)
    assert len(read(header_of_many + block() + END)) == 1
    with pytest.raises(TarError, match="bad size"):  # whose digits are not looked for to the end
        read(block(type=b"x", size=60_000) + b"1" * 60_416)


def test_what_an_archive_says_about_itself_is_kept() -> None:
    reader = TarReader(Collected())
    reader.feed(note({"SANDKASTEN.error": '{"message": "grüße"}'}) + END)
    assert reader.notes == {"SANDKASTEN.error": '{"message": "grüße"}'}


def test_damaged_archives_are_errors_and_nothing_else() -> None:
    generator = random.Random(11)
    for _ in range(500):
        damaged = bytearray(ARCHIVE)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        try:
            read(bytes(damaged), 10_000)
        except TarError:
            continue


# --- what is uploaded


def archive_of(source: Source) -> list[tuple[Member, bytes]]:
    return read(b"".join(source.pieces()))


def test_a_directory_is_packed_without_what_leads_out_or_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "run").write_bytes(b"#!")
    (tmp_path / "d" / "run").chmod(0o4755)
    (tmp_path / "in").symlink_to("d/run")
    (tmp_path / "out").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    os.link(tmp_path / "d" / "run", tmp_path / "same")
    source = open_source(tmp_path, "name")
    assert (source.name, source.size_bytes) == ("name", 4)
    found = {
        "/".join(member.path): (member.kind, member.mode, content) for member, content in archive_of(source)
    }
    assert found == {
        "d": (Kind.DIRECTORY, 0o755, b""),
        "d/run": (Kind.FILE, 0o755, b"#!"),
        "in": (Kind.SYMLINK, 0o777, b""),
        "same": (Kind.FILE, 0o755, b"#!"),
    }


@pytest.mark.parametrize("name", ["", "a"])
def test_progress_counts_contents_to_their_end(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(b"x" * (3 * MIB))
    (tmp_path / "b").write_bytes(b"")
    told: list[tuple[int, int]] = []
    source = open_source(tmp_path / name, "n", lambda done, total: told.append((done, total or 0)))
    list(source.pieces())
    source.close()
    assert told == sorted(told)
    assert told[-1] == (3 * MIB, 3 * MIB)
    assert len(told) >= 3


def test_a_stream_is_read_from_its_beginning_as_often_as_needed() -> None:
    stream = io.BytesIO(b"content")
    stream.seek(3)
    source = open_source(stream, "n")
    assert (b"".join(source.pieces()), b"".join(source.pieces())) == (b"content", b"content")
    source.close()
    assert not stream.closed


def test_a_pipe_has_no_size_and_is_read_once() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"content")
    os.close(writing)
    with open(reading, "rb") as stream:
        source = open_source(stream, "n")
        assert (source.size_bytes, source.can_repeat) == (None, False)
        assert b"".join(source.pieces()) == b"content"


@pytest.mark.parametrize("size_bytes", [0, 5, MIB + 1, 2 * MIB])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_changes_while_it_is_sent_is_an_error_before_its_last_piece(
    tmp_path: Path, size_bytes: int, change: int
) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x" * size_bytes)
    source = open_source(file, None)
    os.truncate(file, max(0, size_bytes + change))
    sent = 0
    if size_bytes == 0:
        assert list(source.pieces()) == []  # what it was when it was opened
    else:
        with pytest.raises(SandkastenInputError, match="changed while it was sent"):
            for piece in source.pieces():
                sent += len(piece)
        assert sent < size_bytes
        assert isinstance(source.failure, SandkastenInputError)
    source.close()


def test_what_cannot_be_uploaded_says_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SandkastenInputError, match="not a plain file"):
        open_source(tmp_path / "fifo", None)
    with pytest.raises(LocalFileError, match="does not exist"):
        open_source(tmp_path / "missing", None)
    with pytest.raises(SandkastenInputError):
        open_source("", None)


def test_what_a_workspace_of_another_daemon_cannot_hold_is_refused_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(ExtensionMissingError, match="empty directories"):
        items_of(tmp_path, "/workspace/x")
    (tmp_path / "d" / "f").write_bytes(b"123")
    assert items_of(tmp_path, "/workspace/x") == [Item("/workspace/x/d/f", 3, str(tmp_path / "d" / "f"))]
    (tmp_path / "l").symlink_to("d/f")
    with pytest.raises(ExtensionMissingError, match="symlinks"):
        items_of(tmp_path, "/workspace/x")


def test_memory_is_a_source_too() -> None:
    source = source_of("grüße", "x")
    assert (source.size_bytes, b"".join(source.pieces())) == (7, "grüße".encode())


# --- what is downloaded


@pytest.fixture
def target(tmp_path: Path) -> Iterator[TreeTarget]:
    target = TreeTarget(tmp_path / "tree", None, None)
    target.restart()
    yield target
    target.discard()
    assert sorted(os.listdir(tmp_path)) in ([], ["tree"])


def unpack(target: TreeTarget, *members: Member, content: bytes = b"") -> Path:
    reader = TarReader(target)
    for member in members:
        data = content[: member.size_bytes]
        reader.feed(header(member) + data + padding(len(data)))
    reader.feed(END)
    reader.close()
    return target.commit()


def test_a_tree_comes_as_it_was(target: TreeTarget) -> None:
    place = unpack(
        target,
        Member(("d", "run"), Kind.FILE, 2, 0o4755),
        Member(("d", "l"), Kind.SYMLINK, target="../d/run"),
        Member(("e",), Kind.DIRECTORY),
        content=b"#!",
    )
    assert (place / "d" / "l").read_bytes() == b"#!"
    assert (place / "d" / "run").stat().st_mode & 0o7777 == 0o755
    assert (place / "e").is_dir()
    assert target.allowance.done_bytes == 2


@pytest.mark.parametrize("link", ["/etc", "..", "../..", "d/../..", "/"])
def test_nothing_is_written_through_a_symlink(tmp_path: Path, target: TreeTarget, link: str) -> None:
    with pytest.raises(SandkastenError):
        unpack(
            target,
            Member(("d",), Kind.SYMLINK, target=link),
            Member(("d",), Kind.SYMLINK, target="."),
            Member(("d", "evil"), Kind.FILE, 4),
            content=b"evil",
        )
    assert not any(path.name == "evil" for path in tmp_path.parent.rglob("evil") if path.parent == tmp_path)


def test_a_symlink_does_not_take_the_place_of_a_file_or_directory(target: TreeTarget) -> None:
    with pytest.raises(SandkastenError, match="names in it are one"):
        unpack(target, Member(("d", "f"), Kind.FILE), Member(("d",), Kind.SYMLINK, target="."))


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.SYMLINK])
def test_a_name_that_comes_twice_is_refused(target: TreeTarget, kind: Kind) -> None:
    with pytest.raises(SandkastenError):
        unpack(target, Member(("x",), kind, target="y"), Member(("x",), kind, target="z"))


def test_links_that_lead_out_and_special_files_are_left_out(target: TreeTarget) -> None:
    place = unpack(
        target,
        Member(("out",), Kind.SYMLINK, target="/etc/passwd"),
        Member(("up",), Kind.SYMLINK, target=".."),
        Member(("fifo",), Kind.SPECIAL),
        Member(("in",), Kind.SYMLINK, target="nowhere"),
    )
    assert os.listdir(place) == ["in"]


def test_hard_links_become_copies_of_files_in_the_archive_alone(target: TreeTarget, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    for name in ("../../secret", "../secret", "missing", "d", str(tmp_path / "secret")):
        with pytest.raises((SandkastenError, TarError)):
            unpack(target, Member(("d",), Kind.DIRECTORY), Member(("h",), Kind.HARD_LINK, target=name))
        target.restart()
    place = unpack(
        target,
        Member(("d", "f"), Kind.FILE, 2, 0o755),
        Member(("h",), Kind.HARD_LINK, target="./d/f"),
        content=b"#!",
    )
    assert (place / "h").read_bytes() == b"#!"
    assert not os.path.samefile(place / "h", place / "d" / "f")
    (tmp_path / "secret").unlink()


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK])
def test_directories_that_are_made_on_the_way_count(
    target: TreeTarget, tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MAX_MEMBERS", 4)
    unpack(target, Member(("a", "b", "c", "d"), kind, target="x"))
    target = TreeTarget(tmp_path / "other", None, None)
    target.restart()
    with pytest.raises(SandkastenError, match="more than 4 files"):
        unpack(target, Member(("a", "b", "c", "d", "e"), kind, target="x"))
    target.discard()


def test_a_directory_that_comes_for_ever_is_refused(
    target: TreeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MAX_MEMBERS", 4)
    with pytest.raises(SandkastenError, match="more than 4 files"):
        unpack(target, *[Member(("d",), Kind.DIRECTORY)] * 5)


def test_symlinks_that_wait_for_the_end_are_bounded(
    target: TreeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MAX_LINK_CHARS", 100)
    with pytest.raises(TooLargeError, match="too many symlinks"):
        unpack(target, *(Member(("d", f"{n}"), Kind.SYMLINK, target="x" * 20) for n in range(6)))


def test_a_tree_that_is_too_deep_for_recursion_is_removed(tmp_path: Path) -> None:
    target = TreeTarget(tmp_path / "tree", None, None)
    target.restart()
    target.begin(Member(("d",) * 1500, Kind.DIRECTORY))
    target.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["fifo", "link to a fifo", "socket"])
def test_a_download_does_not_replace_what_is_no_plain_file(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
    else:
        os.mkfifo(tmp_path / "fifo")
        place.symlink_to("fifo") if kind.startswith("link") else os.mkfifo(place)
    with pytest.raises(SandkastenInputError, match="a device, a FIFO or a socket"):
        place_for(place, "x")
    with pytest.raises(SandkastenInputError, match="a device, a FIFO or a socket"):
        place_for("/dev/null", "x")


def test_sizes_are_refused_before_anything_of_them_is_written(tmp_path: Path) -> None:
    target = TreeTarget(tmp_path / "tree", 10, None)
    target.restart()
    target.begin(Member(("a",), Kind.FILE, 6))
    target.write(b"123456")
    target.end()
    with pytest.raises(TooLargeError, match="max_bytes=10"):
        target.begin(Member(("b",), Kind.FILE, 5))
    bomb = TreeTarget(tmp_path / "bomb", None, None)
    bomb.restart()
    with pytest.raises(TooLargeError, match="no room"):
        bomb.begin(Member(("b",), Kind.FILE, 1 << 60))
    for each in (target, bomb):
        each.discard()
    assert os.listdir(tmp_path) == []


def test_a_hard_link_counts_as_what_it_links(tmp_path: Path) -> None:
    target = TreeTarget(tmp_path / "tree", 10, None)
    target.restart()
    with pytest.raises(TooLargeError, match="max_bytes=10"):
        unpack(
            target,
            Member(("a",), Kind.FILE, 6),
            Member(("b",), Kind.HARD_LINK, target="a"),
            content=b"123456",
        )
    target.discard()


def test_a_file_that_is_too_large_is_refused_before_it_is_made(tmp_path: Path) -> None:
    target = FileTarget(tmp_path / "x", 10, None)
    with pytest.raises(TooLargeError, match="max_bytes=10"):
        target.begin(11, 0o644)
    target.discard()
    assert os.listdir(tmp_path) == []
    with pytest.raises(SandkastenError, match="download"):
        MemoryTarget().begin(1 << 50, 0o644)


def test_a_new_try_begins_from_nothing(tmp_path: Path) -> None:
    target = FileTarget(tmp_path / "x", None, None)
    target.begin(None, 0o600)
    target.write(b"half")
    target.begin(5, 0o640)
    target.write(b"whole")
    assert target.commit().read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["x"]


def test_a_download_goes_into_a_directory_or_becomes_what_is_named(tmp_path: Path) -> None:
    assert place_for(tmp_path, "a/b.txt") == tmp_path / "b.txt"
    assert place_for(str(tmp_path / "new"), "a/b.txt") == tmp_path / "new"
    assert place_for(tmp_path, "/workspace") == tmp_path / "workspace"
    assert place_for(tmp_path, "a/..") == tmp_path / "workspace"
    assert place_for(tmp_path, "/tmp/x.txt") == tmp_path / "x.txt"
    (tmp_path / "b.txt").mkdir()
    for dest, path, words in (
        (tmp_path, "a/b.txt", "is a directory"),
        (tmp_path / "missing" / "x", "a", "Make it first"),
        (tmp_path, "..", "/ as a whole"),
        ("", "a", "dest is"),
        (None, "a", "dest is"),
    ):
        with pytest.raises(SandkastenInputError, match=words):
            place_for(dest, path)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a:b", "a\\b", "con", "NUL.txt", "x.", "x ", "a<b", "com1"])
def test_names_that_mean_something_else_on_windows_are_refused_there(
    target: TreeTarget, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandkasten._transfer.places._IS_WINDOWS", True)
    with pytest.raises(SandkastenError, match="means something else"):
        target.begin(Member((name,), Kind.FILE))
