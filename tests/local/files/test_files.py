"""Files seen from outside, in trees that sandboxed code prepared for whoever looks."""

# ruff: noqa: PT017  (in a race, both outcomes are right)

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandkasten.local.errors import ApiError
from sandkasten.local.files import tree
from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.resolving import inside_path
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.identity import Identity
from sandkasten.local.linux.scratch import remove_tree
from tests.local.box import content_of
from tests.local.files.place import Place, Swapping
from tests.soon import soon


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.assert_host_is_untouched()


# Each prepares the workspace, and names a path that leads to the secret, if it leads anywhere.
Attack = Callable[[Place], str]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.replace("_", " ")] = function
    return function


@attack
def absolute_link(place: Place) -> str:
    (place.inside / "x").symlink_to(place.secret)
    return "x"


@attack
def relative_link(place: Place) -> str:
    (place.inside / "x").symlink_to("../../host/secret")
    return "x"


@attack
def link_of_many_dots(place: Place) -> str:
    (place.inside / "x").symlink_to("../" * 60 + str(place.secret).lstrip("/"))
    return "x"


@attack
def chain_of_links(place: Place) -> str:
    (place.inside / "x").symlink_to("y")
    (place.inside / "y").symlink_to("z")
    (place.inside / "z").symlink_to(place.secret)
    return "x"


@attack
def link_to_a_directory(place: Place) -> str:
    (place.inside / "d").symlink_to(place.host)
    return "d/secret"


@attack
def relative_link_to_a_directory(place: Place) -> str:
    (place.inside / "d").symlink_to("../../host")
    return "d/secret"


@attack
def link_to_the_root_directory(place: Place) -> str:
    (place.inside / "d").symlink_to("/")
    return f"d{place.secret}"


@attack
def chain_of_directories(place: Place) -> str:
    (place.inside / "a").mkdir()
    (place.inside / "a" / "up").symlink_to("..")
    (place.inside / "a" / "upper").symlink_to("up/..")
    return "a/upper/../host/secret"


@attack
def link_above(place: Place) -> str:
    (place.inside / "up").symlink_to("..")
    return "up/../host/secret"


@attack
def link_to_cwd(place: Place) -> str:
    (place.inside / "x").symlink_to("/proc/self/cwd")
    return f"x{place.secret}"


@attack
def link_to_a_magic_root(place: Place) -> str:
    (place.inside / "x").symlink_to(f"/proc/{os.getpid()}/root")
    return f"x{place.secret}"


@attack
def link_to_a_descriptor(place: Place) -> str:
    (place.inside / "x").symlink_to("/proc/self/fd/0")
    return "x"


@attack
def link_to_itself(place: Place) -> str:
    (place.inside / "x").symlink_to("x")
    return "x"


@attack
def two_links_in_a_circle(place: Place) -> str:
    (place.inside / "x").symlink_to("y/z")
    (place.inside / "y").symlink_to("x")
    return "x/z"


@attack
def very_long_chain_of_links(place: Place) -> str:
    (place.inside / "x0").symlink_to(place.secret)
    for number in range(60):
        (place.inside / f"x{number + 1}").symlink_to(f"x{number}")
    return "x60"


@attack
def dots(place: Place) -> str:
    return "../../host/secret"


@attack
def absolute_path(place: Place) -> str:
    return str(place.secret)


@attack
def dots_after_the_prefix(place: Place) -> str:
    return "/workspace/../../host/secret"


@attack
def two_slashes(place: Place) -> str:
    return f"//{place.secret}"


@attack
def prefix_of_another_directory(place: Place) -> str:
    return "/workspace-other/secret"


@attack
def magic_path(place: Place) -> str:
    return f"/proc/self/root{place.secret}"


@pytest.mark.parametrize("name", ATTACKS)
def test_no_path_leads_a_read_to_the_host(place: Place, name: str) -> None:
    path = ATTACKS[name](place)
    with pytest.raises(ApiError) as caught:
        place.read(path)
    assert caught.value.status in {400, 403, 404}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("below", ["", "/new", "/new/newer"])
def test_no_path_leads_a_write_to_the_host(place: Place, name: str, below: str) -> None:
    path = f"{ATTACKS[name](place)}{below}"
    try:
        said = place.write(path)
    except ApiError as error:
        assert error.status in {400, 403, 404}
    else:  # then it was written inside, where the kernel says that this is
        assert said.startswith("/workspace/")
        assert place.read(said) == b"evil"


@pytest.mark.parametrize("name", ATTACKS)
def test_no_path_leads_a_listing_to_the_host(place: Place, name: str) -> None:
    path = ATTACKS[name](place)
    for part in (path, os.path.dirname(path) or "."):
        try:
            names = [entry.name for entry in place.tree.entries(part)]
        except ApiError as error:
            assert error.status in {400, 403, 404}
        else:
            assert "secret" not in names


@pytest.mark.parametrize("target", ["..", "/", "../..", "/..", "/workspace/..", "./../../../"])
@pytest.mark.parametrize("path", ["x/evil", "x/a/evil", "x/host/evil", "x/workspace2/evil"])
def test_a_link_to_the_root_directory_itself_lets_nothing_be_made_beside_the_workspace(
    place: Place, target: str, path: str
) -> None:
    (place.inside / "x").symlink_to(target)
    with pytest.raises(ApiError):
        place.write(path)
    assert os.listdir(place.root) == ["workspace"]


def test_a_link_to_the_root_directory_does_not_let_the_workspace_itself_be_replaced(place: Place) -> None:
    (place.inside / "x").symlink_to("..")
    (place.inside / "kept").write_text("kept")
    with pytest.raises(ApiError):
        place.write("x/workspace")
    assert (place.inside / "kept").read_text() == "kept"


def test_links_that_stay_inside_work_as_they_do_inside(place: Place) -> None:
    (place.inside / "d").mkdir()
    (place.inside / "absolute").symlink_to("/workspace/d")
    (place.inside / "relative").symlink_to("d")
    (place.inside / "round").symlink_to("../workspace/d/../d")
    for number, link in enumerate(("absolute", "relative", "round")):
        assert place.write(f"{link}/file", bytes([number])) == f"/workspace/{link}/file"
        assert (place.inside / "d" / "file").read_bytes() == bytes([number])
        assert place.read(f"{link}/file") == bytes([number])


@pytest.mark.parametrize("target", ["elsewhere", "/workspace/elsewhere", "../workspace/d/../elsewhere"])
def test_a_dangling_link_is_a_missing_file_and_a_write_makes_it(place: Place, target: str) -> None:
    (place.inside / "d").mkdir()
    (place.inside / "x").symlink_to(target)
    with pytest.raises(ApiError) as caught:
        place.read("x")
    assert caught.value.code == "FILE_NOT_FOUND"
    place.write("x", b"new")
    assert (place.inside / "x").is_symlink()
    assert (place.inside / "elsewhere").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/does/not/exist", "FILE_NOT_FOUND"),
        ("missing/file", "FILE_NOT_FOUND"),
        ("../beside", "INVALID_REQUEST"),
        ("/beside", "INVALID_REQUEST"),
        ("..", "IS_DIRECTORY"),
        ("d/", "IS_DIRECTORY"),
        ("x", "INVALID_REQUEST"),
    ],
)
def test_a_write_through_a_link_to_no_file_fails_and_keeps_the_link(
    place: Place, target: str, code: str
) -> None:
    (place.inside / "d").mkdir()
    (place.inside / "x").symlink_to(target)
    with pytest.raises(ApiError) as caught:
        place.write("x", b"new")
    assert caught.value.code == code
    assert os.readlink(place.inside / "x") == target
    place.tree.write("x", io.BytesIO(b"new"), follow_symlinks=False)
    assert not (place.inside / "x").is_symlink()


def test_a_dangling_link_as_a_parent_makes_no_directory_elsewhere(place: Place) -> None:
    (place.inside / "x").symlink_to("/elsewhere")
    (place.inside / "y").symlink_to("../elsewhere")
    for path in ("x/file", "y/file", "x/a/b/file"):
        with pytest.raises(ApiError):
            place.write(path)
    assert not Path("/elsewhere").exists()


def test_a_write_goes_through_links_unless_it_is_said_otherwise(place: Place) -> None:
    target = place.inside / "d/target"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o750)
    (place.inside / "y").symlink_to("/workspace/d/target")
    (place.inside / "d/x").symlink_to("../y")
    place.write("d/x", b"new")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert (place.inside / "d/x").is_symlink()
    assert (place.inside / "y").is_symlink()
    place.tree.write("d/x", io.BytesIO(b"own"), follow_symlinks=False)
    assert target.read_bytes() == b"new"
    assert not (place.inside / "d/x").is_symlink()
    assert (place.inside / "d/x").read_bytes() == b"own"


def test_a_hard_link_is_separated_and_not_written_through(place: Place) -> None:
    (place.inside / "a").write_text("kept")
    os.link(place.inside / "a", place.inside / "b")
    place.write("b", b"new")
    assert (place.inside / "a").read_text() == "kept"


# --- things that are not plain files


def make_device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{os.open(path.parent, os.O_PATH)}/{path.name}")


SPECIAL: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "directory": Path.mkdir,
    "socket": make_socket,
    "device": make_device,
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_not_a_plain_file_is_not_read_and_nothing_hangs(place: Place, kind: str) -> None:
    SPECIAL[kind](place.inside / "x")
    with soon(), pytest.raises(ApiError) as caught:
        place.read("x")
    assert caught.value.status in {400, 403}
    assert (caught.value.code == "IS_DIRECTORY") == (kind == "directory")


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_write_replaces_what_is_not_a_plain_file_except_a_directory(place: Place, kind: str) -> None:
    SPECIAL[kind](place.inside / "x")
    if kind == "directory":
        with pytest.raises(ApiError) as caught:
            place.write("x")
        assert caught.value.code == "IS_DIRECTORY"
        assert (place.inside / "x").is_dir()
    else:
        place.write("x", b"new")
        assert (place.inside / "x").read_bytes() == b"new"
    assert os.listdir(place.inside) == ["x"]


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device"])
def test_what_is_not_a_directory_is_not_listed_or_entered(place: Place, kind: str) -> None:
    SPECIAL[kind](place.inside / "x")
    for call in (lambda: place.tree.entries("x"), lambda: place.read("x/y"), lambda: place.write("x/y")):
        with pytest.raises(ApiError) as caught:
            call()
        assert caught.value.status in {400, 404}


# --- names

BAD_PATHS = {
    "empty": "",
    "NUL": "a\0b",
    "NUL at the end": "a\0",
    "name too long": "x" * 256,
    "name too long in bytes": "ä" * 128,
    "name too long on the way": f"{'x' * 256}/y",
    "path too long": "x/" * 3000 + "y",
    "component that is a file": "file/y",
    "deeply below a file": "file/y/z",
    "lone surrogate": "a\ud800b",
    "root": "/",
    "dot": ".",
    "dots": "..",
    "workspace": "/workspace",
    "workspace with dots": "a/..",
}


@pytest.mark.parametrize("name", BAD_PATHS)
@pytest.mark.parametrize("verb", ["read", "write", "list"])
def test_a_path_that_makes_no_sense_is_a_clear_error(place: Place, name: str, verb: str) -> None:
    place.write("file", b"plain")
    path = BAD_PATHS[name]
    if verb == "list" and name in {"dot", "workspace", "workspace with dots"}:
        assert [(entry.name, entry.kind) for entry in place.tree.entries(path)] == [("file", "file")]
        return
    with pytest.raises(ApiError) as caught:
        {"read": place.read, "write": place.write, "list": place.tree.entries}[verb](path)
    assert 400 <= caught.value.status < 500
    assert len(caught.value.message) < 500
    caught.value.message.encode()
    assert os.listdir(place.inside) == ["file"]


@pytest.mark.parametrize(
    "name",
    [
        "-rf",
        "a b",
        "a\nb",
        "ünïcode😀",
        "\u202e",
        "*",
        "$(touch x)",
        "'",
        "\\",
        "~",
        ".hidden",
        "x" * 255,
        "ä" * 127,
    ],
)
def test_odd_names_are_names(place: Place, name: str) -> None:
    place.write(name, b"odd")
    assert place.read(name) == b"odd"
    assert [(entry.name, entry.kind) for entry in place.tree.entries(".")] == [(name, "file")]


def test_a_path_as_said_becomes_the_path_inside() -> None:
    assert inside_path("a") == "workspace/a"
    assert inside_path("/workspace/a/../b//c/.") == "workspace/b/c"
    assert inside_path("./a/") == "workspace/a"


def test_names_that_are_not_utf_8_are_listed_so_that_they_can_be_sent(place: Place) -> None:
    for name in (b"a\xff", b"\xfe\xfe", "ä".encode()):
        os.close(os.open(os.fsencode(place.inside) + b"/" + name, os.O_CREAT | os.O_WRONLY))
    listed = {entry.name: entry.as_json for entry in place.tree.entries("/workspace")}
    assert set(listed) == {"a\udcff", "\xe4", "\udcfe\udcfe"}
    shown = {(row["name"], row.get("name_base64")) for row in listed.values()}
    assert shown == {("a\ufffd", "Yf8="), ("\ufffd\ufffd", "/v4="), ("ä", None)}
    assert json.dumps(list(listed.values()), ensure_ascii=False).encode()


def test_a_listing_tells_kinds_and_does_not_follow_links(place: Place) -> None:
    (place.inside / "d").mkdir()
    (place.inside / "f").write_bytes(b"1234")
    os.utime(place.inside / "f", (0, 1e9))
    (place.inside / "link").symlink_to("d")
    (place.inside / "out").symlink_to(place.host)
    os.mkfifo(place.inside / "fifo")
    entries = place.tree.entries(".")
    assert [(entry.name, entry.is_dir, entry.kind) for entry in entries] == [
        ("d", True, "directory"),
        ("f", False, "file"),
        ("fifo", False, "other"),
        ("link", False, "symlink"),
        ("out", False, "symlink"),
    ]
    assert (entries[1].size_bytes, entries[1].modified_at) == (4, "2001-09-09T01:46:40+00:00")


def test_a_listing_with_too_much_in_its_names_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MAX_NAMES_BYTES", 1000)
    for number in range(3):
        (place.inside / ("\x01" * 200 + str(number))).touch()
    with pytest.raises(ApiError, match="too many entries"):
        place.tree.entries(".")


def test_times_that_no_calendar_has_are_left_out_of_a_listing() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:  # where times have 64 bits
        place = Place(Path(directory))
        for name, seconds in (("old", -(10**12)), ("new", 7 * 10**16)):
            (place.inside / name).touch()
            os.utime(place.inside / name, (0, seconds))
        assert [(entry.name, entry.modified_at) for entry in place.tree.entries(".")] == [
            ("new", None),
            ("old", None),
        ]


# --- content


def test_an_empty_file_and_parents_are_made(place: Place) -> None:
    assert place.write("a/b/c/d", b"") == "/workspace/a/b/c/d"
    assert place.read("a/b/c/d") == b""
    assert stat.S_IMODE((place.inside / "a/b/c/d").stat().st_mode) == 0o644


@pytest.mark.parametrize("mode", [0o755, 0o600, 0o444, 0o777, 0o640])
def test_the_mode_of_a_replaced_file_is_kept(place: Place, mode: int) -> None:
    file = place.inside / "x"
    file.write_text("old")
    file.chmod(mode)
    place.write("x", b"new")
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_set_user_id_is_not_carried_over(place: Place) -> None:
    file = place.inside / "x"
    file.write_text("old")
    file.chmod(0o6755)
    place.write("x", b"new")
    assert stat.S_IMODE(file.stat().st_mode) == 0o755


def test_what_is_written_belongs_to_sandboxed_code(place: Place) -> None:
    identity = Identity.of_this_process()
    place.tree = Tree(place.root, StagingIn(place.staging), identity, durable=False)
    place.tree.create()
    place.write("a/b/file")
    (place.inside / "owned-by-root").write_text("x")
    place.write("owned-by-root")
    for path in (place.inside, *place.inside.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (identity.uid, identity.gid), path
    if os.geteuid() == 0:
        assert identity.uid != 0
        assert (place.root.stat().st_uid, stat.S_IMODE(place.root.stat().st_mode) & 0o022) == (0, 0)


class Broken(io.RawIOBase):
    """A source that fails after a while."""

    def __init__(self) -> None:
        self.left = 3

    def read(self, _size: int = -1) -> bytes:
        self.left -= 1
        if not self.left:
            raise OSError(5, "Input/output error")
        return b"part"


def test_a_write_that_fails_leaves_nothing_behind_and_the_old_file_whole(place: Place) -> None:
    place.write("x", b"old")
    with pytest.raises(OSError, match="Input/output"):
        place.tree.write("x", Broken())  # type: ignore[arg-type]
    assert os.listdir(place.inside) == ["x"]
    assert place.read("x") == b"old"


def test_a_durable_tree_writes_just_the_same(tmp_path: Path) -> None:
    place = Place(tmp_path, durable=True)
    place.write("a/b", b"content")
    assert place.read("a/b") == b"content"
    place.assert_host_is_untouched()


def test_a_reader_sees_the_old_content_or_the_new_and_never_a_mix(place: Place) -> None:
    size = 300_000
    place.write("x", b"0" * size)
    stop = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            content = place.read("x")
            assert len(content) == size
            seen.add(content[:1])
            assert content == content[:1] * size

    failures: list[BaseException] = []

    def watched() -> None:
        try:
            read()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=watched)
    thread.start()
    for number in range(200):
        place.write("x", b"%d" % (number % 10) * size)
    stop.set()
    thread.join()
    assert not failures
    assert len(seen) > 1
    assert os.listdir(place.inside) == ["x"]


def test_many_writers_of_one_new_deep_path_do_not_get_in_each_others_way(place: Place) -> None:
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(20):
                place.write(f"a/{turn}/b/c/file-{number}", b"x")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len([path for path in place.inside.rglob("*") if path.is_file()]) == 160


# --- races


@pytest.mark.parametrize("target", ["host", "above", "root"])
def test_a_directory_that_is_swapped_with_a_link_never_leads_to_the_host(place: Place, target: str) -> None:
    directory, link = place.inside / "d", place.inside / "link"
    directory.mkdir()
    (directory / "secret").write_bytes(b"harmless")
    link.symlink_to({"host": str(place.host), "above": "../../host", "root": ".."}[target])
    outcomes = {"read": 0, "written": 0, "refused": 0}
    with Swapping(directory, link):
        for number in range(500):
            try:
                assert place.read("d/secret") in {b"harmless", b"evil"}
                outcomes["read"] += 1
            except ApiError as error:
                assert error.status in {400, 404}
                outcomes["refused"] += 1
            try:
                place.write("d/secret" if number % 2 else f"d/new-{number}/file", b"evil")
                outcomes["written"] += 1
            except ApiError as error:
                assert error.status in {400, 404}
                outcomes["refused"] += 1
    assert all(outcomes.values()), f"the race was not one: {outcomes}"
    place.assert_host_is_untouched()


def test_a_file_that_is_swapped_with_a_link_is_never_read_or_written_through(place: Place) -> None:
    file, link = place.inside / "x", place.inside / "link"
    file.write_bytes(b"harmless")
    link.symlink_to(place.secret)
    with Swapping(file, link):
        for _ in range(500):
            try:
                assert place.read("x") in {b"harmless", b"evil"}
            except ApiError as error:
                assert error.status in {400, 404}
            try:
                place.write("x", b"evil")
            except ApiError as error:
                assert error.code == "FILE_NOT_FOUND"


def test_a_file_that_is_swapped_with_a_fifo_never_makes_a_read_hang(place: Place) -> None:
    file, fifo = place.inside / "x", place.inside / "fifo"
    file.write_bytes(b"harmless")
    os.mkfifo(fifo)
    with Swapping(file, fifo):
        for _ in range(500):
            try:
                assert place.read("x") == b"harmless"
            except ApiError as error:
                assert error.status == 400


def test_a_directory_that_is_moved_out_from_under_a_write_does_not_take_it_beside_the_workspace(
    place: Place,
) -> None:
    """Sandboxed code cannot reach beside the workspace, but within it everything may move."""
    (place.inside / "a/b").mkdir(parents=True)
    (place.inside / "other").mkdir()
    with Swapping(place.inside / "a", place.inside / "other"):
        for number in range(300):
            for path in (f"a/b/file-{number % 5}", f"a/new-{number}/file"):
                try:
                    place.write(path)
                except ApiError as error:  # what was just made is elsewhere already
                    assert error.code == "FILE_NOT_FOUND"


# --- the end of trees


def test_a_very_deep_tree_is_removed(place: Place) -> None:
    here = os.open(place.inside, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 50, dir_fd=here)
        deeper = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    remove_tree(place.inside)
    assert not place.inside.exists()
    place.inside.mkdir()


def test_closed_directories_are_removed_and_links_are_not_followed(place: Place) -> None:
    closed = place.inside / "a" / "closed"
    (closed / "deeper").mkdir(parents=True)
    (closed / "deeper" / "file").write_text("x")
    (place.inside / "link").symlink_to(place.host)
    (closed / "link").symlink_to(place.secret)
    for path in (closed / "deeper", closed, place.inside / "a"):
        path.chmod(0)
    mode = stat.S_IMODE(place.secret.stat().st_mode), stat.S_IMODE(place.host.stat().st_mode)
    remove_tree(place.inside)
    assert not place.inside.exists()
    assert mode == (stat.S_IMODE(place.secret.stat().st_mode), stat.S_IMODE(place.host.stat().st_mode))
    place.inside.mkdir()


def test_a_tree_that_is_a_link_or_missing_takes_nothing_with_it(place: Place) -> None:
    link = place.inside / "link"
    link.symlink_to(place.host)
    remove_tree(link)
    assert place.secret.exists()
    remove_tree(place.inside / "missing")


@pytest.mark.parametrize("more", [0, 200])
def test_odd_names_are_removed(place: Place, more: int) -> None:
    for name in (b"-rf", b"\xff\xfe", b"a\nb", b"...", *(b"%d" % number for number in range(more))):
        os.mkdir(os.fsencode(place.inside) + b"/" + name)
    remove_tree(place.inside)
    assert not place.inside.exists()
    place.inside.mkdir()


# --- workspaces


@pytest.mark.parametrize(
    "workspace_id",
    [
        "",
        "a",
        "-a",
        "a-",
        "A1",
        "a" * 65,
        "a/b",
        "..",
        "../x",
        "a.b",
        "a b",
        "a\n",
        "ab\n",
        "a\0b",
        "ä1",
        "ab ",
        ".deleted-ab",
    ],
)
def test_a_workspace_id_that_is_not_one_is_refused(tmp_path: Path, workspace_id: str) -> None:
    workspaces = Workspaces(tmp_path / "workspaces", Identity.of_this_process())
    for call in (workspaces.get, workspaces.get_or_create, workspaces.delete):
        with pytest.raises(ApiError) as caught:
            call(workspace_id)
        assert caught.value.code == "INVALID_WORKSPACE"
    assert list(tmp_path.iterdir()) == []


def test_workspaces_are_made_listed_and_deleted(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "workspaces", Identity.of_this_process())
    assert workspaces.list() == []
    for name in ("b2", "a1", "a" * 64):
        workspaces.get_or_create(name).write("file", io.BytesIO(b"x"))
    assert [name for name, _ in workspaces.list()] == ["a1", "a" * 64, "b2"]
    workspaces.delete("a1")
    assert [name for name, _ in workspaces.list()] == ["a" * 64, "b2"]
    with pytest.raises(ApiError) as caught:
        workspaces.get("a1")
    assert caught.value.code == "WORKSPACE_NOT_FOUND"
    workspaces.close()
    assert sorted(path.name for path in (tmp_path / "workspaces").iterdir()) == ["a" * 64, "b2"]


def test_what_a_killed_process_left_half_made_is_swept_and_nothing_else(tmp_path: Path) -> None:
    first, second = (Workspaces(tmp_path, Identity.of_this_process()) for _ in range(2))
    half_made = first.get_or_create("ab").new_file("file")
    half_made.write(b"x")
    (writing,) = tmp_path.glob(".writing-*")
    left, deleted = tmp_path / ".writing-0123abcd", tmp_path / ".deleted-0123456789abcdef"
    shutil.copytree(writing, left)  # as after a kill: nobody locks it
    deleted.mkdir()
    for name in (".writing-mine", ".writing-mine1234", ".deleted-mine"):
        (tmp_path / name).mkdir()
    second.sweep()
    assert not left.exists()
    assert not deleted.exists()
    half_made.commit()
    assert content_of(second.get("ab"), "file") == b"x"
    first.close()
    assert sorted(os.listdir(tmp_path)) == [".deleted-mine", ".writing-mine", ".writing-mine1234", "ab"]


def test_workspaces_whose_directory_was_deleted_go_on(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "workspaces", Identity.of_this_process())
    for content in (b"before", b"after"):
        workspaces.get_or_create("ab").write("file", io.BytesIO(content))
        assert content_of(workspaces.get("ab"), "file") == content
        shutil.rmtree(tmp_path / "workspaces")
    workspaces.close()


def test_a_workspaces_own_directory_cannot_be_entered_by_others_of_the_host(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "workspaces", Identity.of_this_process())
    tree = workspaces.get_or_create("shared")
    if os.geteuid() != 0:
        assert stat.S_IMODE((tmp_path / "workspaces").stat().st_mode) == 0o700
    assert not stat.S_IMODE(tree.workspace.stat().st_mode) & 0o002


def test_a_workspace_may_be_on_another_disk(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "workspaces", Identity.of_this_process())
    (tmp_path / "workspaces").mkdir()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        assert os.stat(other).st_dev != tmp_path.stat().st_dev
        (tmp_path / "workspaces" / "far").symlink_to(other)
        tree = workspaces.get_or_create("far")
        content = os.urandom(20_000_000)
        tree.write("d/file", io.BytesIO(b"old"))
        os.chmod(f"{other}/workspace/d/file", 0o640)
        assert tree.write("d/file", io.BytesIO(content)) == "/workspace/d/file"
        with tree.open("d/file") as file:
            assert file.read() == content
        assert stat.S_IMODE(os.stat(f"{other}/workspace/d/file").st_mode) == 0o640
        tree.make_symlink("d", ["link"], "file")
        assert os.readlink(f"{other}/workspace/d/link") == "file"
        (Path(other) / "workspace" / "full").mkdir()
        with pytest.raises(ApiError), tree.new_file("full/x") as file:
            os.rmdir(f"{other}/workspace/full")
            file.write(b"x")
            file.commit()
        assert sorted(os.listdir(f"{other}/workspace/d")) == ["file", "link"]
        assert list((tmp_path / "workspaces").glob(".writing-*/far/*")) == []
        workspaces.delete("far")
        assert os.listdir(other) == []
        assert workspaces.list() == []
    workspaces.close()


def test_where_nothing_can_be_locked_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _how: int) -> None:  # as some network file systems do
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    first, second = (Workspaces(tmp_path, Identity.of_this_process()) for _ in range(2))
    with first.get_or_create("ab").new_file("file") as file:
        second.sweep()
        file.write(b"x")
        file.commit()
    assert content_of(second.get("ab"), "file") == b"x"
    first.close()
    assert os.listdir(tmp_path) == ["ab"]


def test_a_quota_is_measured_without_making_anything(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path, Identity.of_this_process())
    tree = workspaces.get_or_create("ab")
    assert tree.usage().size_bytes < 100_000
    assert os.listdir(tmp_path) == ["ab"]
    with tree.new_file("file") as file:
        file.write(b"x" * 1_000_000)
        assert tree.usage().size_bytes >= 1_000_000  # though it is not there yet
        file.commit()
        assert 1_000_000 <= tree.usage().size_bytes < 1_100_000
    workspaces.close()
    with pytest.raises(ApiError) as caught:
        tree.new_file("late")
    assert caught.value.code == "SHUTTING_DOWN"
    assert os.listdir(tmp_path) == ["ab"]


def test_a_file_gets_the_group_of_its_directory_where_that_says_so(tmp_path: Path) -> None:
    others = [group for group in os.getgroups() if group != os.getegid()]
    if os.geteuid() != 0 and not others:
        pytest.skip("this user has one group only")
    tree = Tree(
        tmp_path / "root",
        StagingIn(tmp_path / "staging"),
        Identity(os.geteuid(), drops=False),
        durable=False,
    )
    tree.create()
    group = (others or [60777])[0]
    os.chown(tree.workspace, -1, group)
    tree.workspace.chmod(0o2700)
    tree.write("file", io.BytesIO(b"x"))
    assert (tree.workspace / "file").stat().st_gid == group


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    workspaces = Workspaces(tmp_path / "file" / "workspaces", Identity.of_this_process())
    workspaces.sweep()
    with pytest.raises(ApiError, match="cannot write to") as caught:
        workspaces.get_or_create("ab")
    assert caught.value.code == "INSUFFICIENT_STORAGE"


def test_a_list_of_workspaces_survives_a_link_to_nowhere(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path, Identity.of_this_process())
    workspaces.get_or_create("ab")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    assert [name for name, _ in workspaces.list()] == ["ab"]
