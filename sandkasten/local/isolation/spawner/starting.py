"""One program on its way: from the request to a spawner until the program runs."""

from __future__ import annotations

import asyncio
import os
from signal import SIGKILL

from sandkasten.local.isolation.programs import Program
from sandkasten.local.isolation.spawner.entering import REPORT
from sandkasten.local.isolation.spawner.process import SpawnedProcess

_REPORT_BYTES = 256


class Start:
    """See above. Lives in the event loop's thread.

    Attributes:
        program: what is to run.
        reads: its end of the pipe for reports, which is open until the program runs or its process has ended.
        timer: runs while it may still take time.
        process: its process, once there is one.
    """

    def __init__(self, program: Program, reads: int) -> None:
        """Own the descriptor, which does not block."""
        self.program = program
        self.reads = reads
        self.timer: asyncio.TimerHandle | None = None
        self.process: SpawnedProcess | None = None
        self._said = b""
        self._done: asyncio.Future[SpawnedProcess] = asyncio.get_running_loop().create_future()

    async def done(self) -> SpawnedProcess:
        """Wait until the program runs; it is killed if nobody waits for that any more.

        Raises:
            OSError: it could not be started.
            SandboxLostError: the sandbox is gone.
        """
        try:
            return await self._done
        except asyncio.CancelledError:
            if not self._done.cancelled() and self._done.exception() is None:
                self._done.result().signal_all(SIGKILL)
            raise

    def report(self) -> tuple[int, int] | None:
        """Read the last report, a stage and a value; None before the end of all reports."""
        try:
            while part := os.read(self.reads, _REPORT_BYTES):
                self._said += part
        except BlockingIOError:
            return None
        if not self._said:
            return 0, 0  # killed before it could say anything
        stage, value = REPORT.unpack(self._said[-REPORT.size :])
        return stage, value

    def succeed(self, process: SpawnedProcess) -> None:
        """Its program runs."""
        self._close()
        if self._done.done():
            process.signal_all(SIGKILL)
        else:
            self._done.set_result(process)

    def fail(self, error: Exception) -> None:
        """Its program does not run."""
        self._close()
        if not self._done.done():
            self._done.set_exception(error)

    def _close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        os.close(self.reads)
