"""Trees that sandboxed code prepared are watched: bounded, and nothing outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandkasten.local.errors import ApiError
from sandkasten.local.files.verbs import watching
from sandkasten.local.files.verbs.watching import Change, Changes, Watcher
from tests.local.files.place import Place, Swapping


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.assert_host_is_untouched()


@pytest.fixture
def watcher(place: Place) -> Iterator[Watcher]:
    watcher = Watcher(place.tree, "/workspace", recursive=True)
    yield watcher
    watcher.close()


def changes_until(watcher: Watcher, last: Change) -> list[Change]:
    changes: list[Change] = []
    while last not in changes:
        changes += watcher.read()
    return changes


def test_lost_events_are_said_and_what_is_there_is_watched_again(place: Place, watcher: Watcher) -> None:
    bound = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(bound // 2 + 1):
        (place.inside / f"d{number % 2}").mkdir()
        (place.inside / f"d{number % 2}").rmdir()
    (place.inside / "kept").mkdir()
    assert Change("overflow") in changes_until(watcher, Change("overflow"))
    (place.inside / "kept/f").touch()
    assert Change("created", "kept/f") in changes_until(watcher, Change("created", "kept/f"))


def test_a_tree_with_too_many_directories_is_refused(
    place: Place, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MAX_DIRECTORIES", 3)
    for name in ("a", "b", "c"):
        (place.inside / name).mkdir()
    with pytest.raises(ApiError, match="more than 3 directories"):
        changes_until(watcher, Change("created", "c", is_dir=True))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ApiError, match="more than 3 directories"):
        Watcher(place.tree, "/workspace", recursive=True)
    assert len(os.listdir("/proc/self/fd")) == before
    Watcher(place.tree, "/workspace", recursive=False).close()


def test_a_directory_with_more_than_can_be_told_is_an_overflow(
    place: Place, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_MAX_FOUND", 3)
    (place.host / "d").mkdir()
    for number in range(5):
        (place.host / f"d/{number}").touch()
    (place.host / "d").rename(place.inside / "d")
    changes = changes_until(watcher, Change("overflow"))
    assert changes[0] == Change("created", "d", is_dir=True)
    assert [change.kind for change in changes[1:]] == ["created"] * 3 + ["overflow"]


def test_half_a_move_at_the_end_of_the_queue_is_a_name_that_went(place: Place, watcher: Watcher) -> None:
    (place.inside / "f").touch()
    changes_until(watcher, Change("created", "f"))
    (place.inside / "f").rename(place.root.parent / "f")
    assert watcher.read() == [Change("deleted", "f")]


@pytest.mark.parametrize("end", ["removed", "moved"])
def test_a_directory_that_is_gone_is_the_end(place: Place, end: str) -> None:
    (place.inside / "d").mkdir()
    watcher = Watcher(place.tree, "d", recursive=True)
    try:
        if end == "removed":
            (place.inside / "d").rmdir()
        else:
            (place.inside / "d").rename(place.inside / "e")
        assert watcher.read() == [Change("deleted", "", is_dir=True)]
        assert watcher.is_over
    finally:
        watcher.close()


def test_symlinks_are_not_followed(place: Place) -> None:
    (place.inside / "out").symlink_to(place.host)
    (place.inside / "up").symlink_to("..")
    (place.inside / "d").mkdir()
    (place.inside / "to-d").symlink_to("d")
    for path in ("out", "up", "/workspace/../x"):
        with pytest.raises(ApiError):
            Watcher(place.tree, path, recursive=True)
    watcher = Watcher(place.tree, "to-d", recursive=True)
    try:
        (place.inside / "d/l").symlink_to(place.host)
        (place.inside / "d/f").touch()
        changes = changes_until(watcher, Change("created", "f"))
        assert Change("created", "l") in changes
        assert set(watcher._paths.values()) == {""}
    finally:
        watcher.close()


def test_no_exchange_makes_the_outside_watched(place: Place) -> None:
    (place.inside / "a").mkdir()
    (place.inside / "b").symlink_to(place.host)
    (place.host / "sub").mkdir()
    try:
        with Swapping(place.inside / "a", place.inside / "b"):
            for _ in range(300):
                watcher = Watcher(place.tree, "/workspace", recursive=True)
                assert not any("sub" in path for path in watcher._paths.values())
                watcher.close()
    finally:
        (place.host / "sub").rmdir()


def test_repeated_modifications_are_one() -> None:
    changes = Changes()
    for kind in ("created", "modified", "modified", "deleted", "created", "modified"):
        changes.add(Change(kind, "f"))
    changes.add(Change("modified", "g"))
    changes.add(Change("modified", "g"))
    assert [change.kind + change.path for change in changes.all] == [
        "createdf", "deletedf", "createdf", "modifiedg",
    ]  # fmt: skip
