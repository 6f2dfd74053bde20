"""Interpreters that are started before anybody asks, and have run no code. All waiting is skipped."""

from __future__ import annotations

import asyncio
from errno import EAGAIN

from tests.local.contexts.played import ended, staged
from tests.local.sessions.standin import skipping


def test_an_interpreter_is_kept_spare_and_has_run_no_code() -> None:
    async def main() -> None:
        with staged() as stage:
            first = stage.run("a")
            await (await stage.sandbox.ready()).answer()
            await ended(first)
            spare = await stage.sandbox.ready(1)
            second = stage.run("b", "other")
            assert (await spare.answer())["code"] == "b"
            assert not (await ended(second))["restarted"]

    skipping(main())


def test_where_few_processes_are_allowed_there_is_no_spare() -> None:
    async def main() -> None:
        with staged(processes=20) as stage:
            first = stage.run("a")
            await (await stage.sandbox.ready()).answer()
            await ended(first)
            await asyncio.sleep(60)
            assert len(stage.sandbox.peers) == 1

    skipping(main())


def test_a_spare_that_cannot_be_started_is_done_without() -> None:
    async def main() -> None:
        with staged() as stage:
            first = stage.run("a")
            await (await stage.sandbox.ready()).answer()
            await ended(first)
            stage.sandbox.refusals = [OSError(EAGAIN, "no more processes")]
            await asyncio.sleep(60)  # the spare could not be started, and nobody minds
            second = stage.run("b", "other")
            await (await stage.sandbox.ready(1)).answer()
            await ended(second)

    skipping(main())


def test_an_interpreter_that_was_prepared_waits_for_the_first_code() -> None:
    async def main() -> None:
        with staged() as stage:
            stage.contexts.prepare()
            peer = await stage.sandbox.ready()
            await asyncio.sleep(1)
            assert stage.sandbox.idle_programs == 1
            run = stage.run("a")
            await peer.answer()
            await ended(run)
            assert stage.sandbox.idle_programs == 0

    skipping(main())


def test_a_spare_that_is_not_wanted_any_more_ends() -> None:
    async def main() -> None:
        with staged() as stage:
            stage.contexts.prepare()
            peer = await stage.sandbox.ready()
            await asyncio.sleep(1)
            stage.contexts.discard_spare()
            await asyncio.sleep(1)
            assert peer.has_ended
            assert stage.sandbox.idle_programs == 0
            run = stage.run("a")
            await (await stage.sandbox.ready(1)).answer()
            await ended(run)

    skipping(main())
