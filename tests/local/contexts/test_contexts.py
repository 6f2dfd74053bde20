"""Contexts whose interpreters are played: lines, deadlines, losses, spares. All waiting is skipped."""

from __future__ import annotations

import asyncio
import signal
from errno import ENOENT
from typing import Any

import pytest

from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import ApiError, CalledOffError, SandboxLostError
from sandkasten.local.isolation.programs import ProgramError
from sandkasten.local.sessions.interpreters.run import Collected
from sandkasten.local.sessions.interpreters.table import MAX_CONTEXTS
from sandkasten.local.sessions.job import Channel
from tests.local.contexts.played import Peer, ended, staged
from tests.local.sessions.standin import skipping


def interrupted_by(peer: Peer, number: int) -> None:
    """Have an interpreter heed an interrupt."""

    def heed(_signal: int) -> None:
        peer.say("error", number, name="KeyboardInterrupt", message="", traceback="")
        peer.say("done", number)

    peer.on_signal = heed


def test_code_of_one_context_runs_one_after_the_other() -> None:
    async def main() -> None:
        with staged() as stage:
            first, second = stage.run("a"), stage.run("b")
            peer = await stage.sandbox.ready()
            request = await peer.asked()
            assert (request["op"], request["code"]) == ("run", "a")
            assert not second.started_at
            peer.say("done", request["id"])
            assert (await ended(first))["execution_count"] == 1
            assert (await peer.answer("5"))["code"] == "b"
            result = await ended(second)
            assert (result["execution_count"], result["end"], result["restarted"]) == (2, "completed", False)
            assert result["results"] == [{"data": {"text/plain": "5"}, "metadata": {}, "is_value": True}]

    skipping(main())


def test_code_of_different_contexts_runs_at_the_same_time() -> None:
    async def main() -> None:
        with staged() as stage:
            first, second = stage.run("a"), stage.run("b", "other")
            one, other = await stage.sandbox.ready(), await stage.sandbox.ready(1)
            number = (await one.asked())["id"]
            await other.answer()
            await ended(second)
            assert not first.is_finished
            one.say("done", number)
            await ended(first)

    skipping(main())


def test_at_its_deadline_code_is_interrupted_and_the_variables_stay() -> None:
    async def main() -> None:
        with staged() as stage:
            run = stage.run("while True: pass", timeout_ms=1000)
            peer = await stage.sandbox.ready()
            number = (await peer.asked())["id"]
            interrupted_by(peer, number)
            result = await ended(run)
            assert (result["end"], result["context_lost"]) == ("timeout", False)
            assert peer.signals == [signal.SIGINT]
            assert await peer.asked() == {"op": "interrupt", "id": number}
            again = stage.run("x")
            await peer.answer()
            assert not (await ended(again))["restarted"]

    skipping(main())


def test_code_that_heeds_no_interrupt_ends_with_its_interpreter() -> None:
    async def main() -> None:
        with staged() as stage:
            run = stage.run("...", timeout_ms=1000)
            peer = await stage.sandbox.ready()
            await peer.asked()
            loop = asyncio.get_running_loop()
            begun = loop.time()
            result = await ended(run)
            assert (result["end"], result["context_lost"]) == ("timeout", True)
            assert peer.signals[:3] == [signal.SIGINT, signal.SIGINT, signal.SIGKILL]
            assert loop.time() - begun <= 2.1
            again = stage.run("x")
            new = await stage.sandbox.ready(1)
            await new.answer()
            assert (await ended(again))["restarted"]
            third = stage.run("x")
            await new.answer()
            assert not (await ended(third))["restarted"]

    skipping(main())


def test_an_interrupt_before_the_interpreter_is_ready_comes_when_it_is() -> None:
    async def main() -> None:
        with staged() as stage:
            run = stage.run("...")
            peer = await stage.sandbox.peer()
            number = (await peer.asked())["id"]
            interrupted_by(peer, number)
            context = stage.contexts.get("default")
            assert context is not None
            assert context.interrupt()
            assert peer.signals == []
            peer.say("ready", version="3.12.1")
            assert (await ended(run))["end"] == "interrupted"
            assert not context.interrupt()

    skipping(main())


def test_the_time_of_code_begins_when_its_interpreter_is_ready() -> None:
    async def main() -> None:
        with staged() as stage:
            run = stage.run("...", timeout_ms=100)
            peer = await stage.sandbox.peer()
            number = (await peer.asked())["id"]
            interrupted_by(peer, number)
            await asyncio.sleep(5)
            assert peer.signals == []
            peer.say("ready", version="3.12.1")
            result = await ended(run)
            assert (result["end"], result["context_lost"]) == ("timeout", False)
            assert (peer.signals, result["duration_ms"] < 5000) == ([signal.SIGINT], True)

    skipping(main())


def test_code_that_nobody_waits_for_leaves_an_interpreter_that_is_starting() -> None:
    async def main() -> None:
        with staged() as stage:
            run = stage.run("...")
            peer = await stage.sandbox.peer()
            number = (await peer.asked())["id"]
            interrupted_by(peer, number)
            stage.contexts.stop_all(JobEnd.INTERRUPTED, at_once=False)
            peer.say("ready", version="3.12.1")
            result = await ended(run)
            assert (result["end"], result["context_lost"]) == ("interrupted", False)
            assert peer.signals == [signal.SIGINT]

    skipping(main())


def test_code_that_was_interrupted_before_it_began_and_heeds_nothing_ends() -> None:
    async def main() -> None:
        with staged() as stage:
            run = stage.run("...")
            peer = await stage.sandbox.peer()
            await peer.asked()
            stage.contexts.stop_all(JobEnd.INTERRUPTED, at_once=False)
            peer.say("ready", version="3.12.1")
            result = await ended(run)
            assert (result["end"], result["context_lost"]) == ("interrupted", True)

    skipping(main())


def test_an_interpreter_that_never_is_ready_ends_and_nothing_is_lost() -> None:
    async def main() -> None:
        with staged() as stage:
            run = stage.run("...", timeout_ms=100)
            peer = await stage.sandbox.peer()
            assert (await ended(run))["end"] == "timeout"
            assert peer.signals[0] == signal.SIGKILL
            again = stage.run("x")
            await (await stage.sandbox.ready(1)).answer()
            assert not (await ended(again))["restarted"]

    skipping(main())


@pytest.mark.parametrize(
    ("code", "end", "says", "out_of_memory"),
    [
        (3, "exited", "exited with status 3", False),
        (0, "exited", "exited with status 0", False),
        (-signal.SIGSEGV, "signal", "ended by SIGSEGV", False),
        (-signal.SIGKILL, "signal", "ended by SIGKILL", False),
        (-signal.SIGKILL, "out_of_memory", "memory was used up", True),
    ],
)
def test_the_end_of_an_interpreter_is_a_result(code: int, end: str, says: str, out_of_memory: bool) -> None:
    async def main() -> None:
        with staged(out_of_memory=out_of_memory) as stage:
            run = stage.run("...")
            peer = await stage.sandbox.ready()
            number = (await peer.asked())["id"]
            peer.say("display", number, data={"text/plain": "seen"}, metadata={})
            peer.print("bye\n")
            peer.end(code)
            result = await ended(run)
            assert (result["end"], result["context_lost"]) == (end, True)
            assert says in result["error"]["message"]
            assert result["error"]["name"] == "InterpreterLost"
            assert [each["data"] for each in result["results"]] == [{"text/plain": "seen"}]
            assert isinstance(run.sink, Collected)
            assert run.sink.content(Channel.STDOUT) == b"bye\n"
            again = stage.run("x")
            await (await stage.sandbox.ready(1)).answer()
            assert (await ended(again))["restarted"]

    skipping(main())


def test_the_end_of_an_idle_interpreter_is_said_by_the_next_result() -> None:
    async def main() -> None:
        with staged(processes=1) as stage:
            first = stage.run("a")
            peer = await stage.sandbox.ready()
            await peer.answer()
            await ended(first)
            peer.end(1)
            await asyncio.sleep(1)
            again = stage.run("b")
            await (await stage.sandbox.ready(1)).answer()
            assert (await ended(again))["restarted"]

    skipping(main())


def test_what_is_printed_between_two_runs_comes_first_in_the_next() -> None:
    async def main() -> None:
        with staged() as stage:
            first = stage.run("a")
            peer = await stage.sandbox.ready()
            await peer.answer()
            await ended(first)
            peer.print("late")
            await asyncio.sleep(1)
            second = stage.run("b")
            await peer.answer()
            await ended(second)
            assert isinstance(second.sink, Collected)
            assert second.sink.content(Channel.STDOUT) == b"late"

    skipping(main())


def test_a_restart_is_no_loss_and_what_waits_goes_on() -> None:
    async def main() -> None:
        with staged(processes=1) as stage:
            first, second = stage.run("a"), stage.run("b")
            peer = await stage.sandbox.ready()
            await peer.asked()
            context = stage.contexts.get("default")
            assert context is not None
            await context.restart()
            result = await ended(first)
            assert (result["end"], result["context_lost"]) == ("interrupted", True)
            await (await stage.sandbox.ready(1)).answer()
            result = await ended(second)
            assert (result["restarted"], result["execution_count"]) == (False, 1)

    skipping(main())


def test_a_context_that_is_closed_ends_what_runs_and_what_waits() -> None:
    async def main() -> None:
        with staged(processes=1) as stage:
            first, second = stage.run("a"), stage.run("b")
            peer = await stage.sandbox.ready()
            await peer.asked()
            assert await stage.contexts.close_context("default")
            assert not await stage.contexts.close_context("default")
            assert (await ended(first))["end"] == "interrupted"
            assert isinstance(second.error, CalledOffError)
            assert peer.has_ended
            assert stage.contexts.list() == []

    skipping(main())


def test_a_run_that_nobody_waits_for_leaves_the_line_or_is_interrupted() -> None:
    async def main() -> None:
        with staged() as stage:
            first, second = stage.run("a"), stage.run("b")
            peer = await stage.sandbox.ready()
            number = (await peer.asked())["id"]
            second.abandon()
            assert isinstance(second.error, CalledOffError)
            interrupted_by(peer, number)
            first.abandon()
            assert (await ended(first))["end"] == "interrupted"

    skipping(main())


def test_the_end_of_the_session_ends_all() -> None:
    async def main() -> None:
        with staged() as stage:
            runs = [stage.run("a"), stage.run("b"), stage.run("c", "other")]
            await (await stage.sandbox.ready()).asked()
        assert all(isinstance(run.error, SandboxLostError) for run in runs)
        with pytest.raises(SandboxLostError):
            stage.run("d")

    skipping(main())


def test_an_image_without_python_says_so_and_one_with_python_only_will_do() -> None:
    def missing(name: str) -> ProgramError:
        return ProgramError(ENOENT, f"{name}: not found in PATH")

    async def main() -> None:
        with staged() as stage:
            stage.sandbox.refusals = [missing("python3"), missing("python"), missing("python3")]
            run = stage.run("a")
            with pytest.raises(ApiError, match="has no Python") as caught:
                await ended(run)
            assert (caught.value.status, caught.value.code) == (400, "CANNOT_START")
            again = stage.run("a")
            await (await stage.sandbox.ready()).answer()
            await ended(again)
            assert stage.sandbox.programs[-1].args[0] == b"python"

    skipping(main())


def test_there_are_only_so_many_contexts() -> None:
    async def main() -> None:
        with staged() as stage:
            for number in range(MAX_CONTEXTS):
                stage.run("a", f"c{number}")
            with pytest.raises(ApiError) as caught:
                stage.run("a", "one-more")
            assert caught.value.status == 429
            stage.run("b", "c1")

    skipping(main())


def test_variables_are_listed_and_not_while_code_runs() -> None:
    async def main() -> None:
        with staged() as stage:
            assert stage.contexts.ask_variables("default") is None
            run = stage.run("a")
            peer = await stage.sandbox.ready()
            number = (await peer.asked())["id"]
            with pytest.raises(ApiError) as caught:
                stage.contexts.ask_variables("default")
            assert caught.value.status == 409
            peer.say("done", number)
            await ended(run)
            asked = stage.contexts.ask_variables("default")
            assert asked is not None
            number = (await peer.asked())["id"]
            row: dict[str, Any] = {"name": "x", "type": "int", "size": 28, "repr": "42"}
            peer.say("variables", number, variables=[row])
            while await asked.next_output() is not None:
                pass
            assert asked.variables == [{**row, "size": "28"}]

    skipping(main())


def test_a_full_disk_interrupts_first_and_ends_the_interpreters_then() -> None:
    async def main() -> None:
        with staged(processes=1) as stage:
            run = stage.run("a")
            peer = await stage.sandbox.ready()
            interrupted_by(peer, (await peer.asked())["id"])
            await asyncio.sleep(0.1)  # the daemon knows that it is ready
            stage.contexts.stop_all(JobEnd.OVER_QUOTA, at_once=False)
            result = await ended(run)
            assert (result["end"], result["context_lost"]) == ("disk_full", False)
            stage.contexts.stop_all(JobEnd.OVER_QUOTA, at_once=True)
            await asyncio.sleep(1)
            assert peer.has_ended

    skipping(main())
