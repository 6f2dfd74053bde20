"""The gate at which a new sandbox waits until the daemon knows it and has confined it."""

from __future__ import annotations

import asyncio
import json
import os


class Gate:
    """The gate at which a new sandbox waits, and each new shell in it.

    Bubblewrap reports the id of process 1, and holds it until a byte comes. Process 1 reads a line before
    each shell, from a pipe that no other program inside can read.
    """

    def __init__(self, info: int, block: int, permits: int) -> None:
        """Own the three pipes' ends."""
        self._info = info
        self._block = block
        self._permits = permits
        self._is_closed = False

    async def child_pid(self) -> int | None:
        """Wait for bubblewrap's word; None if it failed."""
        data = b""
        while b"}" not in data:
            await _readable(self._info)
            part = os.read(self._info, 4096)
            if not part:
                return None
            data += part
        return int(json.loads(data)["child-pid"])

    def open(self) -> None:
        """Let process 1 run."""
        self._write(self._block)

    def admit_shell(self) -> None:
        """Let process 1 start the next shell."""
        self._write(self._permits)

    def _write(self, descriptor: int) -> None:
        if not self._is_closed:  # else the number may be that of something else by now
            os.write(descriptor, b"\n")

    def close(self) -> None:
        """Close the pipes."""
        self._is_closed = True
        for descriptor in (self._info, self._block, self._permits):
            os.close(descriptor)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
