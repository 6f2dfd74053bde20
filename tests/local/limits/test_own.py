"""A session's own limits, within those of its daemon and its machine."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from sandkasten.local.limits.limits import ALL_RESOURCES, Limits, Resource
from sandkasten.local.limits.own import as_numbers, own_limits
from sandkasten.local.limits.values import LimitsError

MOST = Limits.for_machine(8 * 1024**3, 4)
OLD, NEW = (5, 10), (6, 1)
WHY = "no cgroups: for a reason"


def chosen(
    asked: dict[str, object], bounded: Collection[Resource] = ALL_RESOURCES, kernel: tuple[int, int] = NEW
) -> Limits:
    return own_limits(asked, MOST, bounded, kernel, WHY)


def numbers(limits: Limits, bounded: Collection[Resource] = ALL_RESOURCES) -> dict[str, object]:
    return as_numbers(limits, bounded, OLD)


def test_what_the_machine_does_not_keep_is_shown_as_no_limit() -> None:
    assert numbers(MOST, ()) == numbers(MOST) | {"cpus": None, "processes": None}


def test_what_is_not_asked_for_is_as_the_daemon_has_it() -> None:
    assert chosen({}) == MOST
    assert chosen({"cpus": 0.5, "processes": 20}) == chosen({"processes": 20, "cpus": 0.5})
    limits = chosen({"cpus": 0.5, "file_bytes": "1m"})
    assert numbers(limits) == numbers(MOST) | {"cpus": 0.5, "file_bytes": 1024**2}


def test_files_in_memory_leave_room_for_programs() -> None:
    assert chosen({"memory_bytes": "64m"}).tmp_bytes == 16 * 1024**2
    assert chosen({"memory_bytes": "64m", "tmp_bytes": "60m"}).tmp_bytes == 60 * 1024**2


@pytest.mark.parametrize(
    "asked", [{"cpus": 5}, {"memory_bytes": "1t"}, {"processes": "unlimited"}, {"output_bytes": 2 * 1024**2}]
)
def test_more_than_the_daemons_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(LimitsError, match=f"{next(iter(asked))} is .*: .* may have at most"):
        chosen(asked)


def test_what_the_machine_cannot_keep_is_refused_with_its_reason() -> None:
    for kernel in (OLD, NEW):
        with pytest.raises(LimitsError, match=f"cpus cannot be bounded on this machine: .*; {WHY}"):
            chosen({"cpus": 1}, (), kernel)
        assert chosen({"memory_bytes": "64m"}, (), kernel).memory_bytes == 64 * 1024**2
    with pytest.raises(LimitsError, match=r"processes cannot be bounded on this machine: .*5\.14"):
        chosen({"processes": 20}, (), OLD)
    assert chosen({"processes": 20}, (), NEW).processes == 20


@pytest.mark.parametrize("asked", [{"memory_bytes": 1}, {"colour": 1}, {"cpus": "all"}, {"processes": None}])
def test_what_makes_no_sense_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(LimitsError):
        chosen(asked)
