"""The stand-in of a sandbox starts programs as the Protocol has it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sandkasten.local.isolation.backend import Sandbox
from sandkasten.local.isolation.programs import Program, ProgramError
from tests.local.sessions.standin import StandIn


async def test_it_runs_and_its_end_is_reported(tmp_path: Path) -> None:
    sandbox = StandIn()
    as_known: Sandbox = sandbox
    reads, writes = os.pipe()
    try:
        program = Program((b"sh", b"-c", b"pwd; exit 3"), {b"PATH": b"/usr/bin:/bin"}, bytes(tmp_path))
        process = await as_known.spawn(program, 0, writes, writes)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        process.on_ended(ended.set_result)
        assert await ended == 3
        assert os.read(reads, 1000).decode() == f"{tmp_path}\n"
        assert not process.signal(15)
        with pytest.raises(ProgramError, match="nothing-like-this"):
            await as_known.spawn(Program((b"nothing-like-this",), {}, b"/"), 0, 1, 2)
    finally:
        os.close(reads)
        os.close(writes)
        sandbox.kill()


async def test_its_terminal_is_its_own() -> None:
    sandbox = StandIn()
    master, slave = os.openpty()
    try:
        words = (b"sh", b"-c", b"echo yes >/dev/tty; sleep 1000")
        program = Program(words, {b"PATH": b"/usr/bin:/bin"}, b"/", terminal=True)
        process = await sandbox.spawn(program, slave, slave, slave)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        process.on_ended(ended.set_result)
        assert os.read(master, 100) == b"yes\r\n"
        assert await process.signal_all(0) >= 1
        await process.signal_all(9)
        assert await ended == -9
    finally:
        os.close(slave)
        os.close(master)
        sandbox.kill()
