"""The time for looks at disks: one of a length at a time, a tenth of the time, short ones first."""

from __future__ import annotations

import asyncio
import time

import pytest

from sandkasten.local.files import budget as budget_module
from sandkasten.local.files.budget import SHARE, Budget, Pace, StoppedError, _Lane


def test_after_a_look_nobody_looks_until_it_is_paid() -> None:
    async def scenario() -> tuple[float, float]:
        budget = Budget()
        async with budget.turn(60) as pace:
            time.sleep(0.01)
        worked_seconds, ended_at = pace.worked_seconds, time.perf_counter()
        async with budget.turn(60):
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
            looks = [asyncio.create_task(look(seconds)) for seconds in (0.03, 0.01, 0.05, 0)]
            await asyncio.sleep(0)
            looks[1].cancel()
        await asyncio.wait(looks)
        return order

    assert asyncio.run(scenario()) == [0, 0.03, 0.05]


@pytest.mark.parametrize("long_seconds", [1, 60, 10_000])
def test_no_look_waits_behind_a_much_longer_one(long_seconds: float) -> None:
    """Otherwise code with millions of files would keep others from being looked at."""

    async def scenario() -> None:
        budget = Budget()
        async with budget.turn(long_seconds), asyncio.timeout(30):
            for seconds in (0, 0.02, long_seconds / 10):
                async with budget.turn(seconds):
                    pass
                await asyncio.sleep(0)  # what was owed is paid

    asyncio.run(scenario())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "_SHORT_SECONDS", 0.0005)


@pytest.mark.usefixtures("short")
def test_a_look_that_takes_longer_than_expected_does_not_hold_up_others() -> None:
    """Otherwise code that makes and deletes many files would keep others from being looked at."""

    async def scenario() -> None:
        budget = Budget()
        async with budget.turn(0), asyncio.timeout(30), budget.turn(0):
            pass

    asyncio.run(scenario())


@pytest.mark.usefixtures("short")
def test_few_looks_let_others_pass_at_a_time() -> None:
    """Each has a thread, and together they would take more than their share."""

    async def scenario() -> None:
        budget, entered = Budget(), asyncio.Queue[int]()

        async def look(number: int) -> None:
            async with budget.turn(0):
                entered.put_nowait(number)
                await ended.wait()

        ended = asyncio.Event()
        looks = [asyncio.create_task(look(number)) for number in range(7)]
        async with asyncio.timeout(50):
            assert [await entered.get() for _ in range(5)] == [0, 1, 2, 3, 4]
            while budget.late < 4:
                await asyncio.sleep(0.01)
            assert entered.empty()
            ended.set()
            assert [await entered.get() for _ in range(2)] == [5, 6]
            await asyncio.wait(looks)
            while budget.late:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_looks_as_long_as_each_other_wait_for_one_another() -> None:
    async def scenario() -> None:
        budget = Budget()
        async with budget.turn(60):
            waiting = asyncio.create_task(budget.turn(60).__aenter__())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()

    asyncio.run(scenario())


def test_a_turn_that_is_given_to_one_who_has_gone_passes_on() -> None:
    async def scenario() -> bool:
        lane = _Lane()
        await lane.take(0)
        gone, next_one = (asyncio.create_task(lane.take(rank)) for rank in (0, 1))
        await asyncio.sleep(0)
        lane.pass_on()  # and before `gone` has heard of it:
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
