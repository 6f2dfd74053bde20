"""The ladder by which a shell's command is stopped, rung by rung, in a sandbox that only stands in.

`test_shell_ends.py` shows how real programs behave on each rung.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import CalledOffError, SandboxLostError
from sandkasten.local.sessions.command import ShellCommand
from sandkasten.local.sessions.shell import Shell
from tests.local.sessions.standin import StandIn, skipping

# Each rung: the seconds after the deadline, who, and which signal. All of it, where nothing helps.
LADDER = [
    (0.0, "shell", SIGINT),
    (0.0, "others", SIGINT),
    (0.2, "shell", SIGINT),
    (0.2, "shell", SIGTERM),
    (0.2, "others", SIGTERM),
    (0.4, "shell", SIGINT),
    (0.4, "others", SIGKILL),
    (0.6, "shell", SIGKILL),
]
NEXT_SHELL = "0123456789abcdef"


class Scene:
    """A shell that is ready, in a sandbox that stands in.

    Attributes:
        lost: how often the shell said that its sandbox is lost.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.inside = StandIn()
        self.shell = Shell(self.inside, self._on_lost)

    def _on_lost(self) -> None:
        self.lost += 1
        self.shell.close()

    async def run_until_stopped(self, timeout_ms: int = 1000, text: str = "sleep 60") -> ShellCommand:
        """Run a command into its deadline, and wait until it has ended."""
        command = self.shell.submit(text, timeout_ms)
        await ended(command)
        return command

    @property
    def rungs(self) -> list[tuple[float, str, int]]:
        """Return what was signalled, counted from a deadline after one second."""
        return [(round(seconds - 1, 3), to, number) for seconds, to, number in self.inside.signals]


async def ended(command: ShellCommand) -> bytes:
    """Wait for a command's end, and return what it printed."""
    output = b""
    while (parts := await command.next_output()) is not None:
        output += b"".join(data for _channel, data in parts)
    return output


def play(scene: Callable[[Scene], Awaitable[None]]) -> Scene:
    """Play a scene to its end."""

    async def main() -> Scene:
        played = Scene()
        played.inside.ready()
        await played.shell.wait_until_ready()
        try:
            await scene(played)
        finally:
            if not played.inside.is_killed:
                played.shell.close()
        return played

    return skipping(main())


def shell_dies(inside: StandIn, status: int = 137) -> Callable[[], None]:
    """Return a reaction: the shell ends, and another one follows."""

    def react() -> None:
        inside.shell_ends(status, NEXT_SHELL)
        inside.ready(NEXT_SHELL)

    return react


def test_a_command_within_its_time_is_left_in_peace() -> None:
    async def scene(played: Scene) -> None:
        command = played.shell.submit("echo hello", 1000)
        await asyncio.sleep(0.9)
        played.inside.print("hello\n")
        played.inside.result(3, "/workspace/there")
        assert await ended(command) == b"hello\n"
        assert command.outcome is not None
        assert (command.outcome.exit_code, command.outcome.cwd) == (3, "/workspace/there")
        assert command.outcome.end is JobEnd.FAILED
        await asyncio.sleep(100)

    assert play(scene).inside.signals == []


@pytest.mark.parametrize("signal_number", [SIGINT, SIGTERM])
def test_a_command_that_ends_at_a_signal_sees_no_harder_one(signal_number: int) -> None:
    async def scene(played: Scene) -> None:
        status = 128 + signal_number
        played.inside.reactions["others", signal_number] = lambda: played.inside.result(status)  # type: ignore[index]
        command = await played.run_until_stopped()
        assert command.outcome is not None
        assert (command.outcome.exit_code, command.outcome.end) == (status, JobEnd.TIMEOUT)
        assert not command.outcome.shell_restarted
        await asyncio.sleep(100)

    rungs = play(scene).rungs
    assert rungs == LADDER[: LADDER.index((rungs[-1][0], "others", signal_number)) + 1]


def test_what_ignores_everything_costs_the_shell_its_life_on_the_last_rung() -> None:
    async def scene(played: Scene) -> None:
        played.inside.reactions["shell", SIGKILL] = shell_dies(played.inside)
        command = await played.run_until_stopped()
        assert command.outcome is not None
        assert (command.outcome.exit_code, command.outcome.shell_restarted) == (137, True)

    played = play(scene)
    assert played.rungs[: len(LADDER)] == LADDER
    # The new shell is there; what the old one left is no part of it.
    assert played.rungs[len(LADDER) :] == [(0.6, "others", SIGKILL)]
    assert played.inside.admitted_shells == 1
    assert played.lost == 0


def test_a_shell_that_even_sigkill_does_not_end_is_given_up() -> None:
    async def scene(played: Scene) -> None:
        command = played.shell.submit("sleep 60", 1000)
        with pytest.raises(SandboxLostError):
            await ended(command)
        assert asyncio.get_running_loop().time() == pytest.approx(1 + 0.6 + 30, abs=0.01)

    played = play(scene)
    assert played.rungs == LADDER
    assert played.lost == 1


def test_what_a_command_leaves_running_is_ended_though_the_command_itself_has() -> None:
    async def scene(played: Scene) -> None:
        played.inside.remaining = 2
        played.inside.reactions["shell", SIGINT] = lambda: played.inside.result(130)
        command = await played.run_until_stopped()
        assert command.outcome is not None
        assert command.outcome.exit_code == 130

    # A shell that has ended its command gets no further interrupt; bash ignores SIGTERM.
    assert play(scene).rungs == [
        (0.0, "shell", SIGINT),
        (0.0, "others", SIGINT),
        (0.2, "shell", SIGTERM),
        (0.2, "others", SIGTERM),
        (0.4, "others", SIGKILL),
    ]


def test_an_interrupt_takes_the_same_ladder_without_a_deadline() -> None:
    async def scene(played: Scene) -> None:
        command = played.shell.submit("sleep 60", 1000000)
        await asyncio.sleep(1)
        assert played.shell.interrupt()
        assert played.shell.interrupt(), "a second one changes nothing"
        played.inside.reactions["shell", SIGKILL] = shell_dies(played.inside)
        await ended(command)
        assert command.outcome is not None
        assert command.outcome.end is JobEnd.INTERRUPTED
        assert not played.shell.interrupt()

    assert play(scene).rungs[: len(LADDER)] == LADDER


def test_a_command_that_an_interrupt_tore_ends_at_once_and_the_shell_lives() -> None:
    async def scene(played: Scene) -> None:
        inside = played.inside
        inside.is_deaf = True
        inside.reactions["shell", SIGINT] = lambda: setattr(inside, "is_deaf", False)
        command = await played.run_until_stopped()
        assert command.outcome is not None
        assert (command.outcome.exit_code, command.outcome.end) == (130, JobEnd.TIMEOUT)
        assert not command.outcome.shell_restarted
        assert inside.commands == []
        following = played.shell.submit("echo next", 10000)
        await asyncio.sleep(0.01)
        inside.result(0)
        await ended(following)

    assert play(scene).rungs == LADDER[:2]


def test_the_next_command_waits_for_the_probe_after_a_stop() -> None:
    async def scene(played: Scene) -> None:
        inside = played.inside
        inside.reactions["shell", SIGINT] = lambda: inside.result(130)
        await played.run_until_stopped()
        inside.is_deaf = True
        waiting = played.shell.submit("echo next", 10000)
        answered = inside.answered
        await asyncio.sleep(2)
        assert [text for _, text in inside.commands] == ["sleep 60"]
        inside.is_deaf = False
        await asyncio.sleep(0.2)  # a question is sent ten times a second
        assert inside.answered == answered + 1
        assert [text for _, text in inside.commands] == ["sleep 60", "echo next"]
        inside.result(0)
        await ended(waiting)

    play(scene)


def test_a_shell_that_answers_no_probe_is_given_up_after_five_seconds() -> None:
    async def scene(played: Scene) -> None:
        inside = played.inside
        inside.reactions["shell", SIGINT] = lambda: inside.result(130)
        await played.run_until_stopped()
        inside.is_deaf = True
        with pytest.raises(SandboxLostError):
            await ended(played.shell.submit("echo next", 10000))
        assert asyncio.get_running_loop().time() == pytest.approx(1 + 5, abs=0.01)

    assert play(scene).lost == 1


def test_a_late_answer_to_an_interrupt_is_nobodys_output() -> None:
    async def scene(played: Scene) -> None:
        inside = played.inside
        inside.reactions["shell", SIGINT] = lambda: inside.result(130)
        command = played.shell.submit("sleep 60", 1000)
        assert await ended(command) == b""
        inside.print("\n")  # before the answer to the probe is read
        following = played.shell.submit("echo next", 10000)
        await asyncio.sleep(0.01)
        inside.print("next\n")
        inside.result(0)
        assert await ended(following) == b"next\n"

    play(scene)


def test_the_echo_of_an_interrupt_is_dropped_and_only_that() -> None:
    async def scene(played: Scene) -> None:
        inside = played.inside

        def interrupted() -> None:
            inside.print("so far\n\n")
            inside.result(130)

        inside.reactions["shell", SIGINT] = interrupted
        command = played.shell.submit("sleep 60", 1000)
        assert await ended(command) == b"so far\n"

    play(scene)


def test_a_full_disk_stops_the_command_and_all_else_at_once() -> None:
    async def scene(played: Scene) -> None:
        inside = played.inside
        command = played.shell.submit("yes > file", 1000000)
        await asyncio.sleep(1)
        inside.reactions["shell", SIGINT] = lambda: inside.result(130)
        await played.shell.stop_all(with_shell=False)
        await ended(command)
        assert command.outcome is not None
        assert command.outcome.end is JobEnd.OVER_QUOTA

    assert play(scene).rungs == [(0.0, "others", SIGKILL), (0.0, "shell", SIGINT), (0.0, "others", SIGINT)]


def test_a_shell_that_itself_fills_the_disk_is_killed() -> None:
    async def scene(played: Scene) -> None:
        inside = played.inside
        inside.reactions["shell", SIGKILL] = shell_dies(inside)
        command = played.shell.submit("while :; do echo x >> file; done", 1000000)
        await asyncio.sleep(1)
        await played.shell.stop_all(with_shell=True)
        await ended(command)
        assert command.outcome is not None
        assert (command.outcome.end, command.outcome.shell_restarted) == (JobEnd.OVER_QUOTA, True)

    assert play(scene).rungs[:4] == [
        (0.0, "others", SIGKILL),
        (0.0, "shell", SIGINT),
        (0.0, "others", SIGINT),
        (0.0, "shell", SIGKILL),
    ]


def test_a_command_that_nobody_waits_for_is_stopped_if_it_runs_and_else_forgotten() -> None:
    async def scene(played: Scene) -> None:
        inside = played.inside
        inside.reactions["shell", SIGINT] = lambda: inside.result(130)
        running, waiting = (played.shell.submit(text, 1000000) for text in ("sleep 60", "echo never"))
        await asyncio.sleep(1)
        waiting.abandon()
        assert inside.signals == []
        with pytest.raises(CalledOffError):
            await ended(waiting)
        running.abandon()
        await asyncio.sleep(1)
        assert [text for _, text in inside.commands] == ["sleep 60"]
        assert running.outcome is not None

    assert play(scene).rungs == LADDER[:2]


def test_commands_run_one_after_another_and_a_deadline_counts_from_a_commands_turn() -> None:
    async def scene(played: Scene) -> None:
        inside = played.inside
        first, second = (played.shell.submit(text, 1000) for text in ("sleep 0.9", "sleep 0.8"))
        await asyncio.sleep(0.9)
        assert [text for _, text in inside.commands] == ["sleep 0.9"]
        inside.result(0)
        await ended(first)
        await asyncio.sleep(0.8)
        inside.result(0)
        await ended(second)
        assert second.outcome is not None
        assert second.outcome.end is JobEnd.OK

    assert play(scene).inside.signals == []


def test_a_shell_that_the_command_itself_ended_leaves_its_status_and_a_new_shell() -> None:
    async def scene(played: Scene) -> None:
        command = played.shell.submit("exit 3", 1000)
        await asyncio.sleep(0.1)
        shell_dies(played.inside, status=3)()
        await ended(command)
        assert command.outcome is not None
        assert (command.outcome.exit_code, command.outcome.shell_restarted) == (3, True)

    assert play(scene).inside.signals == []


def test_no_other_shell_within_thirty_seconds_is_the_end() -> None:
    async def scene(played: Scene) -> None:
        command = played.shell.submit("exit 3", 1000000)
        await asyncio.sleep(0.1)
        played.inside.shell_ends(3, NEXT_SHELL)
        with pytest.raises(SandboxLostError):
            await ended(command)
        assert asyncio.get_running_loop().time() == pytest.approx(0.1 + 30, abs=0.01)

    assert play(scene).lost == 1


def test_a_shell_that_never_comes_up_says_what_was_printed_instead() -> None:
    async def main() -> None:
        lost: list[bool] = []
        inside = StandIn()
        shell = Shell(inside, lambda: lost.append(True))
        inside.print("bwrap: No permissions\n")
        inside.ends()
        with pytest.raises(SandboxLostError, match="No permissions"):
            await shell.wait_until_ready()
        assert lost
        shell.close()
        assert inside.is_killed

    skipping(main())


def test_a_sandbox_that_ends_takes_all_commands_with_it() -> None:
    async def scene(played: Scene) -> None:
        commands = [played.shell.submit(text, 1000000) for text in ("sleep 60", "echo never")]
        await asyncio.sleep(0.1)
        played.inside.ends()
        for command in commands:
            with pytest.raises(SandboxLostError):
                await ended(command)
        with pytest.raises(SandboxLostError):
            played.shell.submit("echo too late", 1000)

    assert play(scene).lost == 1
