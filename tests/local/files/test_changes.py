"""Directories made, and things removed, moved and copied, in trees that sandboxed code prepared for that."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandkasten.local.errors import ApiError
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.verbs import changing, copying, removing
from sandkasten.local.files.verbs.copying import copy
from sandkasten.local.files.verbs.searcher import Glob
from tests.local.files.place import Place, Swapping


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.assert_host_is_untouched()


def nothing(_size_bytes: int) -> None:
    """Admit everything."""


def mkdir(tree: Tree, path: str) -> None:
    changing.make_directory(tree, path, parents=True, exist_ok=False)


def remove(tree: Tree, path: str) -> None:
    changing.remove(tree, path, recursive=True, missing_ok=False)


def move_to(tree: Tree, path: str) -> None:
    changing.move(tree, "own", path, overwrite=True)


def move_from(tree: Tree, path: str) -> None:
    changing.move(tree, path, "taken", overwrite=True)


def copy_to(tree: Tree, path: str) -> None:
    copy(tree, "own", path, overwrite=True, admit=nothing)


def copy_from(tree: Tree, path: str) -> None:
    copy(tree, path, "taken", overwrite=True, admit=nothing)


def chmod(tree: Tree, path: str) -> None:
    changing.change_mode(tree, path, 0o777)


VERBS: list[Callable[[Tree, str], None]] = [
    mkdir, remove, move_to, move_from, copy_to, copy_from, chmod
]  # fmt: skip
WAYS_OUT = {
    "absolute": "/",
    "of dots": "../..",
    "of many dots": "../" * 60,
    "to the root": "..",
    "round": "../../root",
}


def state_of(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in (directory, *directory.rglob("*"))
    }


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_link_leads_out(place: Place, verb: Callable[[Tree, str], None], way: str) -> None:
    before = state_of(place.host)
    (place.inside / "own").write_text("own")
    (place.inside / "out").symlink_to(WAYS_OUT[way] if way != "absolute" else place.host.parent)
    for path in ("out/host/secret", "out/host", "out/host/new", "out/new", "out/root/new"):
        with pytest.raises(ApiError):
            verb(place.tree, path)
    assert state_of(place.host) == before
    assert stat.S_IMODE(place.root.stat().st_mode) & 0o022 == 0
    assert (place.inside / "own").read_text() == "own"


@pytest.mark.parametrize("path", ["/etc/x", "..", "a/../..", "/workspace/../x", "", "a\0b", "\ud800"])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_no_path_leads_out(place: Place, verb: Callable[[Tree, str], None], path: str) -> None:
    (place.inside / "own").write_text("own")
    with pytest.raises(ApiError) as caught:
        verb(place.tree, path)
    assert caught.value.code == "INVALID_REQUEST"


@pytest.mark.parametrize("verb", [remove, move_to, move_from, copy_to], ids=lambda verb: verb.__name__)
def test_the_workspace_itself_is_never_replaced(place: Place, verb: Callable[[Tree, str], None]) -> None:
    (place.inside / "own").write_text("own")
    (place.inside / "d").mkdir()
    for path in (".", "/workspace", "d/.."):
        with pytest.raises(ApiError) as caught:
            verb(place.tree, path)
        assert caught.value.code == "INVALID_REQUEST"
    assert (place.inside / "own").exists()


def test_removing_a_link_keeps_what_it_leads_to(place: Place) -> None:
    (place.inside / "d/e").mkdir(parents=True)
    (place.inside / "d/e/host").symlink_to(place.host)
    (place.inside / "d/e/up").symlink_to("../..")
    (place.inside / "link").symlink_to(place.host)
    remove(place.tree, "link")
    remove(place.tree, "d")
    assert os.listdir(place.inside) == []


def test_a_tree_deeper_than_any_path_is_removed(place: Place) -> None:
    (place.inside / "top").mkdir()
    here = os.open(place.inside / "top", os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 50, dir_fd=here)
        os.close(os.open("f", os.O_CREAT, dir_fd=here))
        deeper = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    with pytest.raises(ApiError, match="deeper than 100 levels"):
        copy(place.tree, "top", "copy", overwrite=False, admit=nothing)
    remove(place.tree, "top")
    assert os.listdir(place.inside) == []


def test_many_files_are_removed(place: Place) -> None:
    (place.inside / "many").mkdir()
    here = os.open(place.inside / "many", os.O_RDONLY)
    for number in range(10_000):
        os.mknod(f"{number}", dir_fd=here)
    os.close(here)
    remove(place.tree, "many")
    assert os.listdir(place.inside) == []


def test_who_fills_a_directory_keeps_no_removal_for_ever(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.inside / "filled").mkdir()
    (place.inside / "filled/0").touch()
    steps = iter(range(1, 1_000_000))

    def fill() -> None:
        (place.inside / "filled" / f"{next(steps)}").touch()

    monkeypatch.setattr(removing, "_AGAIN_SECONDS", 0)
    with pytest.raises(ApiError) as refused:
        changing.remove(place.tree, "filled", recursive=True, missing_ok=False, go_on=fill)
    assert refused.value.code == "DIRECTORY_NOT_EMPTY"


def test_a_removal_ends_at_the_next_step_once_nobody_waits(place: Place) -> None:
    (place.inside / "d").mkdir()
    (place.inside / "d/f").touch()

    def leave() -> None:
        raise ApiError(499, "CANCELLED", "Nobody waits.")

    with pytest.raises(ApiError, match="Nobody waits"):
        changing.remove(place.tree, "d", recursive=True, missing_ok=True, go_on=leave)
    assert (place.inside / "d/f").exists()


def test_any_number_of_two_stars_is_tried_as_one() -> None:
    glob = Glob("**/" * 1300 + "x")
    assert len(glob._parts) == 2
    assert glob.matches(["a", "b", "x"])
    assert glob.matches(["x"])
    assert not glob.matches(["x", "y"])
    assert Glob("**/a/**/**/b/**").matches(["a", "b", "c"])


@pytest.mark.parametrize("verb", [remove, copy_from, chmod], ids=lambda verb: verb.__name__)
def test_directories_that_are_swapped_with_links_meanwhile_lead_nowhere(
    place: Place, verb: Callable[[Tree, str], None]
) -> None:
    before = state_of(place.host)
    (place.inside / "d/e").mkdir(parents=True)
    (place.inside / "d/link").symlink_to(place.host)
    with Swapping(place.inside / "d/e", place.inside / "d/link"):
        for _ in range(100):
            try:
                verb(place.tree, "d")
            except ApiError as error:
                assert error.code in {"NOT_A_DIRECTORY", "FILE_NOT_FOUND"}  # noqa: PT017
            (place.inside / "d/e").mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(place.inside / "d/link"):
                (place.inside / "d/link").symlink_to(place.host)
            if (place.inside / "taken").exists():
                remove(place.tree, "taken")
    assert state_of(place.host) == before


def test_a_copy_is_complete_or_not_there(place: Place) -> None:
    (place.inside / "d/e").mkdir(parents=True)
    (place.inside / "d/locked").mkdir()
    (place.inside / "d/locked/f").write_bytes(b"x" * 100)
    (place.inside / "d/e/f").write_bytes(b"x" * 100)
    (place.inside / "d/locked").chmod(0o555)
    admitted = 0

    def refuse(size_bytes: int) -> None:
        nonlocal admitted
        admitted += size_bytes
        if admitted == 200:
            raise ApiError(507, "INSUFFICIENT_STORAGE", "full")

    with pytest.raises(ApiError, match="full"):
        copy(place.tree, "d", "copy", overwrite=False, admit=refuse)
    assert sorted(os.listdir(place.inside)) == ["d"]
    copy(place.tree, "d", "copy", overwrite=False, admit=nothing)
    assert (
        state_of(place.inside / "d").values().__len__() == state_of(place.inside / "copy").values().__len__()
    )
    (place.inside / "d/locked").chmod(0o755)
    (place.inside / "copy/locked").chmod(0o755)


def test_what_is_not_a_plain_file_is_neither_opened_for_long_nor_copied(place: Place) -> None:
    (place.inside / "d").mkdir()
    os.mkfifo(place.inside / "d/pipe")
    copy(place.tree, "d", "copy", overwrite=False, admit=nothing)
    assert os.listdir(place.inside / "copy") == []
    with pytest.raises(ApiError, match="not a plain file"):
        copy(place.tree, "d/pipe", "copy", overwrite=True, admit=nothing)


def test_a_file_that_grows_is_copied_as_long_as_it_was(place: Place) -> None:
    (place.inside / "f").write_bytes(b"x" * 10)

    def grow(_size_bytes: int) -> None:
        with (place.inside / "f").open("ab") as file:
            file.write(b"y" * 10)

    copy(place.tree, "f", "copy", overwrite=False, admit=grow)
    assert (place.inside / "copy").stat().st_size <= 20


def test_no_setuid_bit_is_copied_or_set(place: Place) -> None:
    (place.inside / "f").write_text("x")
    (place.inside / "f").chmod(0o6755)
    copy(place.tree, "f", "copy", overwrite=False, admit=nothing)
    assert stat.S_IMODE((place.inside / "copy").stat().st_mode) == 0o755


def test_more_files_than_may_be_are_not_copied(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "MAX_ENTRIES", 3)
    (place.inside / "d").mkdir()
    for name in "abc":
        (place.inside / "d" / name).write_text("")
    with pytest.raises(ApiError, match="more than 3 files"):
        copy(place.tree, "d", "copy", overwrite=False, admit=nothing)
    assert os.listdir(place.inside) == ["d"]
