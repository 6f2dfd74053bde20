"""Mounts that come along into sandboxes, by /proc/self/mountinfo."""

from __future__ import annotations

import pytest

from sandkasten.local.isolation import mounttable

START = "36 35 98:0 / / rw,noatime"
END = "- ext4 /dev/root rw,errors=continue"


@pytest.mark.parametrize(
    ("optional", "expected"),
    [
        ("", False),
        ("shared:1 ", True),
        ("master:1 ", True),
        ("shared:2 master:1 ", True),
        ("unbindable ", False),
    ],
)
def test_mounts_take_part_where_they_are_shared_or_follow_others(optional: str, expected: bool) -> None:
    private = f"{START} {END}\n"
    assert mounttable.takes_part(f"{private}{START} {optional}{END}\n{private}") is expected


def test_names_of_mounts_do_not_count() -> None:
    assert not mounttable.takes_part("36 35 98:0 /shared:1 /master:1 rw - ext4 shared:1 rw,shared:1\n")
