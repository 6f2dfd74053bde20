"""The time for looks at disks: one at a time, a tenth of the time, short ones first."""

from __future__ import annotations

import asyncio
import time

import pytest

from sandkasten.local.files.budget import SHARE, Budget, Pace, StoppedError


def test_after_a_look_nobody_looks_until_it_is_paid() -> None:
    async def scenario() -> tuple[float, float]:
        budget = Budget()
        async with budget.turn(0) as pace:
            time.sleep(0.01)
        worked_seconds, ended_at = pace.worked_seconds, time.perf_counter()
        async with budget.turn(0):
            return worked_seconds, time.perf_counter() - ended_at

    worked_seconds, waited_seconds = asyncio.run(scenario())
    assert waited_seconds >= worked_seconds * (1 / SHARE - 2)  # the clocks of both may differ a little


def test_short_looks_go_before_long_ones_and_none_is_forgotten() -> None:
    async def scenario() -> list[float]:
        budget, order = Budget(), list[float]()

        async def look(expected_seconds: float) -> None:
            async with budget.turn(expected_seconds):
                order.append(expected_seconds)

        async with budget.turn(0):
            looks = [asyncio.create_task(look(seconds)) for seconds in (50, 10, 90, 0)]
            await asyncio.sleep(0)
            looks[1].cancel()
        await asyncio.wait(looks)
        return order

    assert asyncio.run(scenario()) == [0, 50, 90]


def test_a_turn_that_is_given_to_one_who_has_gone_passes_on() -> None:
    async def scenario() -> bool:
        budget = Budget()
        await budget._take(0)
        gone, next_one = (asyncio.create_task(budget._take(seconds)) for seconds in (0, 1))
        await asyncio.sleep(0)
        budget._pass_on()  # and before `gone` has heard of it:
        gone.cancel()
        async with asyncio.timeout(30):
            await next_one
        return gone.cancelled()

    assert asyncio.run(scenario())


def test_a_look_rests_most_of_its_time_unless_somebody_waits_for_it() -> None:
    pace = Pace()
    while not pace.rested_seconds:
        pace.step()
    assert pace.rested_seconds > pace.worked_seconds
    pace.hurry()
    rested_seconds = pace.rested_seconds
    assert len([*pace.paced(range(100_000))]) == 100_000
    assert pace.rested_seconds == rested_seconds


def test_a_look_that_nobody_waits_for_ends() -> None:
    pace = Pace()
    pace.stop()
    with pytest.raises(StoppedError):
        while True:
            pace.step()
