"""The facts about processes that were there at a moment."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sandkasten.local.linux import processes
from sandkasten.local.linux.processes import Earlier, Process


@contextmanager
def sleepers(count: int) -> Iterator[frozenset[Process]]:
    with ExitStack() as stack:
        started = [subprocess.Popen(["sleep", "1000"]) for _ in range(count)]
        for one in started:
            stack.callback(one.wait)
            stack.callback(one.kill)
        yield processes.identified(one.pid for one in started)


def test_what_was_there_is_told_from_what_came_later_in_the_same_instant() -> None:
    with sleepers(20) as before:
        earlier = processes.below_now([os.getpid()])
        with sleepers(20) as after:
            assert len(before) == len(after) == 20
            assert all(one in earlier for one in before)
            assert not any(one in earlier for one in after)


def test_however_many_there_are_none_of_them_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_at(pid: int) -> list[str]:
        raise AssertionError(pid)

    with sleepers(20) as before:
        monkeypatch.setattr(processes, "_stat", looked_at)
        earlier = processes.below_now([os.getpid()])
        monkeypatch.undo()
        assert all(one in earlier for one in before)


def test_of_the_moments_own_tick_only_those_count_that_were_listed() -> None:
    earlier = Earlier(frozenset({7}), tick=100)
    assert Process(7, 100) in earlier
    assert Process(8, 100) not in earlier
    assert Process(8, 99) in earlier
    assert Process(7, 101) not in earlier  # its number came back
    assert 7 not in earlier


def test_processes_themselves_are_spared_whatever_they_are_below() -> None:
    with sleepers(2) as below:
        namespace = processes.namespace(os.getpid())
        one, other = (process.pid for process in below)

        def counted(*parents: int) -> int:
            return processes._signal_below(parents, Earlier(), namespace, 0, deadline=0.0)

        assert counted(os.getpid(), one) >= 1
        assert counted(os.getpid(), one, other) == counted(os.getpid()) - 2


def test_threads_are_counted_no_further_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    listed = os.listdir

    def children_of(pid: int) -> list[int]:
        looked_at.append(pid)
        return [one.pid for one in below] if pid == os.getpid() else []

    with sleepers(20) as below:
        threads = len(listed("/proc/self/task"))  # of the tests before, too
        monkeypatch.setattr(processes, "children_of_all_threads", children_of)
        assert processes.has_more_threads(os.getpid(), threads + 9)
        assert len(looked_at) <= 11
        assert processes.has_more_threads(os.getpid(), threads + 19)
        assert not processes.has_more_threads(os.getpid(), threads + 20)


class Storm:
    """Stands for processes that fork into every place that is free, as long as one of them runs."""

    def __init__(self) -> None:
        self.running, self.stopped = 40, 0

    def look(
        self, _parents: object, _spared: object, _namespace: str, number: int, *_: object, **__: object
    ) -> int:
        found = self.running + self.stopped
        if number == signal.SIGSTOP:
            self.running, self.stopped = 0, found
        elif number == signal.SIGKILL:
            self.running, self.stopped = (40, 0) if self.running else (0, 0)
        return found


def test_who_forks_into_each_place_that_is_free_is_stopped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    storm = Storm()
    monkeypatch.setattr(processes, "_signal_below", storm.look)
    assert processes.signal_inside(1, (), "user:[1]", signal.SIGKILL) == 40
    assert (storm.running, storm.stopped) == (0, 0)


def test_a_look_at_what_grows_faster_than_it_is_looked_at_comes_to_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def grows(_pid: int) -> list[int]:
        return [os.getpid()] * 2

    monkeypatch.setattr(processes, "children_of_all_threads", grows)
    monkeypatch.setattr(processes, "_LOOK_SECONDS", 0.01)
    name = os.readlink("/proc/self/ns/user")
    assert processes.signal_inside(1, (), name, 0) > 0
