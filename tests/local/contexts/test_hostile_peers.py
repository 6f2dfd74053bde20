"""Interpreters that do not keep to the protocol: each is bounded, and ends in one clear result."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sandkasten.local.sessions.interpreters.events import MAX_TYPES, MAX_VARIABLES, Event, event_of
from sandkasten.local.sessions.interpreters.frames import (
    MAX_FRAME_BYTES,
    FrameError,
    FrameReader,
    packed,
    unpacked,
)
from sandkasten.local.sessions.interpreters.run import MOST_BYTES, Collected, PythonRun, PythonTape
from sandkasten.local.sessions.job import Channel
from tests.local.contexts.played import Peer, Stage, ended, staged
from tests.local.sessions.standin import skipping

DEEP = b'{"event":"display","id":1,"data":{},"metadata":' + b'{"a":' * 100_000 + b"0" + b"}" * 100_000 + b"}"
BROKEN: dict[str, Callable[[Peer, int], None]] = {
    "a length beyond all": lambda peer, _number: peer.raw(b"\xff\xff\xff\xff{}"),
    "a length just beyond": lambda peer, _number: peer.raw(struct.pack(">I", MAX_FRAME_BYTES + 1)),
    "no JSON": lambda peer, _number: peer.send(b"hello"),
    "no UTF-8": lambda peer, _number: peer.send(b'{"event":"\xff"}'),
    "nothing at all": lambda peer, _number: peer.send(b""),
    "no object": lambda peer, _number: peer.send(b"[1]"),
    "no name": lambda peer, _number: peer.send(b"{}"),
    "a name that is a list": lambda peer, _number: peer.send(b'{"event":["done"]}'),
    "a number that is a text": lambda peer, _number: peer.say("done", "1"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "a number that is true": lambda peer, _number: peer.say("done", True),
    "data that is a list": lambda peer, number: peer.say("display", number, data=[]),
    "data of numbers": lambda peer, number: peer.say("display", number, data={"text/plain": 5}),
    "a traceback of numbers": lambda peer, number: peer.say("error", number, name="E", traceback=5),
    "variables of texts": lambda peer, number: peer.say("variables", number, variables=["x"]),
    "variables that are none": lambda peer, number: peer.say("variables", number),
    "its end of the channel is closed": lambda peer, _number: peer.control.close(),
}


async def asked(stage: Stage) -> tuple[PythonRun, Peer, int]:
    """Have code run, up to where the interpreter has it."""
    run = stage.run("x")
    peer = await stage.sandbox.ready()
    return run, peer, (await peer.asked())["id"]


@pytest.mark.parametrize("breaks", BROKEN.values(), ids=BROKEN)
def test_who_breaks_the_protocol_is_ended_and_the_next_call_works(
    breaks: Callable[[Peer, int], None],
) -> None:
    async def main() -> None:
        with staged() as stage:
            run, peer, number = await asked(stage)
            breaks(peer, number)
            result = await ended(run)
            assert (result["end"], result["context_lost"]) == ("lost", True)
            assert "channel" in result["error"]["message"]
            assert peer.has_ended
            again = stage.run("x")
            await (await stage.sandbox.ready(1)).answer("1")
            result = await ended(again)
            assert (result["restarted"], len(result["results"])) == (True, 1)

    skipping(main())


IGNORED: dict[str, Callable[[Peer, int], None]] = {
    "an unknown event": lambda peer, number: peer.say("format-disk", number, data=5),
    "the end of another run": lambda peer, number: peer.say("done", number + 1),
    "a result of the run before": lambda peer, number: peer.say(
        "result", number - 1, data={"text/plain": "f"}
    ),
    "a number beyond all": lambda peer, _number: peer.say("done", 10**400),
    "another version": lambda peer, _number: peer.say("ready", version="9.9"),
}


@pytest.mark.parametrize("says", IGNORED.values(), ids=IGNORED)
def test_what_is_not_for_this_run_is_ignored(says: Callable[[Peer, int], None]) -> None:
    async def main() -> None:
        with staged() as stage:
            run, peer, number = await asked(stage)
            says(peer, number)
            await asyncio.sleep(1)
            assert not run.is_finished
            peer.say("done", number)
            result = await ended(run)
            assert (result["end"], result["results"], result["error"]) == ("completed", [], None)
            context = stage.contexts.get("default")
            assert context is not None
            assert context.version == "3.12.1"

    skipping(main())


def test_who_sends_without_end_is_ended() -> None:
    async def main() -> None:
        with staged() as stage:
            run, peer, number = await asked(stage)
            frame = packed({"event": "display", "id": number, "data": {"text/plain": "x" * 60_000}})
            sent = 0
            loop = asyncio.get_running_loop()
            with suppress(OSError):  # the channel is closed by then
                while True:
                    await loop.sock_sendall(peer.control, frame)
                    sent += len(frame)
            assert sent < MOST_BYTES + 1024 * 1024
            result = await ended(run)
            assert (result["end"], result["truncated"]) == ("lost", True)
            assert sum(len(json.dumps(each)) for each in result["results"]) <= MOST_BYTES + 100_000

    skipping(main())


def test_who_sends_unasked_for_between_two_runs_is_ended() -> None:
    async def main() -> None:
        with staged() as stage:
            run, peer, number = await asked(stage)
            peer.say("done", number)
            await ended(run)
            frame = packed({"event": "display", "id": number, "data": {"text/plain": "x" * 60_000}})
            with suppress(OSError):
                for _ in range(1000):
                    await asyncio.get_running_loop().sock_sendall(peer.control, frame)
            await asyncio.sleep(1)
            assert peer.has_ended
            again = stage.run("x")
            await (await stage.sandbox.ready(1)).answer()
            assert (await ended(again))["restarted"]

    skipping(main())


def test_code_that_is_never_read_ends_at_its_deadline() -> None:
    async def main() -> None:
        with staged() as stage:
            run = stage.run("x" * 1_000_000, timeout_ms=500)
            peer = await stage.sandbox.ready()
            assert (await ended(run))["end"] == "timeout"
            assert peer.has_ended

    skipping(main())


def test_results_come_in_pieces_too() -> None:
    async def main() -> None:
        with staged() as stage:
            run, peer, number = await asked(stage)
            for piece in ("ab", "cd"):
                peer.say("data", number, mime="image/png", piece=piece)
            for kind in range(100):  # no more kinds than one result may have
                peer.say("data", number, mime=f"a/{kind}", piece="")
            peer.say("display", number, data={"text/plain": "p"}, metadata={})
            peer.say("display", number, data={"text/plain": "q"}, metadata={})
            peer.say("done", number)
            first, second = (await ended(run))["results"]
            assert (first["data"]["image/png"], first["data"]["text/plain"]) == ("abcd", "p")
            assert len(first["data"]) <= MAX_TYPES + 1
            assert second["data"] == {"text/plain": "q"}

    skipping(main())


def test_an_idle_interpreter_prints_and_prints_and_only_its_end_is_kept() -> None:
    async def main() -> None:
        with staged() as stage:
            run, peer, number = await asked(stage)
            peer.say("done", number)
            await ended(run)
            for _ in range(100):
                peer.print("y" * 60_000)
                await asyncio.sleep(0.01)
            again = stage.run("x")
            await peer.answer()
            await ended(again)
            assert isinstance(again.sink, Collected)
            assert 0 < len(again.sink.content(Channel.STDOUT)) <= 64 * 1024

    skipping(main())


def test_code_prints_more_than_its_reader_takes_and_waits_until_it_is_stopped() -> None:
    async def main() -> None:
        with staged() as stage:
            run = stage.contexts.run("default", "x", 1000, lambda run: PythonTape(run.output_taken))
            tape = run.sink
            assert isinstance(tape, PythonTape)
            reader = tape.read_from(0)  # and never reads
            peer = await stage.sandbox.ready()
            number = (await peer.asked())["id"]
            os.set_blocking(peer.out, False)
            printed = 0
            for _ in range(100):
                with suppress(BlockingIOError):
                    printed += os.write(peer.out, b"z" * 60_000)
                await asyncio.sleep(0.001)
            assert printed < 1_000_000
            peer.on_signal = lambda _signal: peer.say("done", number)
            while await run.next_output() is not None:
                pass
            assert run.outcome is not None
            assert (run.outcome.ending, run.outcome.context_lost) == ("timeout", False)
            reader.leave()

    skipping(main())


# --- what comes out of a frame can always be sent on


def sendable(event: Event | None) -> dict[str, Any]:
    """Return an event's content, which an answer can hold."""
    assert event is not None
    json.dumps(event.content, ensure_ascii=False, allow_nan=False).encode()
    return event.content


def test_halves_of_characters_and_numbers_that_are_none_are_not_sent_on() -> None:
    frame = rb'{"event":"display","id":1,"data":{"\ud800":"\udc00"},"metadata":{"a":[1e999]}}'
    content = sendable(event_of(unpacked(frame)))
    assert content == {"data": {"?": "?"}, "metadata": {}}
    frame = rb'{"event":"error","id":1,"name":"\ud800","message":"m","traceback":"t"}'
    assert sendable(event_of(unpacked(frame)))["name"] == "?"
    frame = rb'{"event":"display","id":1,"data":{},"metadata":{"\ud800":1}}'
    assert sendable(event_of(unpacked(frame)))["metadata"] == {}


def test_depth_and_number_of_values_are_bounded() -> None:
    with pytest.raises(FrameError):
        unpacked(DEEP)
    with pytest.raises(FrameError):
        unpacked(b'{"event":"display","id":1,"data":{},"metadata":{"a":[' + b"0," * 400_000 + b"0]}}")


def test_fields_are_cut_to_their_bounds() -> None:
    kinds = {f"a/{number}": "" for number in range(1000)} | {"b" * 10_000: ""}
    assert len(sendable(event_of({"event": "display", "id": 1, "data": kinds}))["data"]) == MAX_TYPES
    rows = [{"name": "n" * 5000, "type": "t", "size": -1, "repr": "r" * 5000}] * 5000
    variables = sendable(event_of({"event": "variables", "id": 1, "variables": rows}))["variables"]
    assert len(variables) == MAX_VARIABLES
    assert max(len(variables[0][name]) for name in ("name", "repr")) == 1000
    assert variables[0]["size"] == ""
    error = {"event": "error", "id": 1, "name": "n" * 10**6, "message": "m" * 10**6, "traceback": "t" * 10**6}
    assert sum(map(len, sendable(event_of(error)).values())) < 400_000
    metadata = {"event": "display", "id": 1, "data": {}, "metadata": {"a": "b" * 100_000}}
    assert sendable(event_of(metadata))["metadata"] == {}


def test_frames_are_put_together_however_they_come() -> None:
    stream = packed({"a": 1}) + packed({}) + packed({"b": "c" * 1000})
    for size in (1, 3, 5, len(stream)):
        reader = FrameReader()
        found = [
            frame
            for start in range(0, len(stream), size)
            for frame in reader.feed(stream[start : start + size])
        ]
        assert [unpacked(frame) for frame in found] == [{"a": 1}, {}, {"b": "c" * 1000}]
