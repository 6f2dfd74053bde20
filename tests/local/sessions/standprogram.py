"""A process of the host that stands in for one that a sandbox started beside its shell."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from errno import EACCES, ENOENT, ENOTDIR
from pathlib import Path

from sandkasten.local.isolation.programs import Program, refusal


class HostProcess:
    """See `programs.Spawned`; what it started is what is in its session."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self.inside_pid: int | None = process.pid
        self._process = process
        self._callbacks: list[Callable[[int], None]] = []
        self._loop = asyncio.get_running_loop()
        self._pidfd: int | None = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    def on_ended(self, callback: Callable[[int], None]) -> None:
        if self._process.returncode is None:
            self._callbacks.append(callback)
        else:
            self._loop.call_soon(callback, self._process.returncode)

    def signal(self, number: int, *, group: bool = True) -> bool:
        if self._process.returncode is not None:
            return False
        (os.killpg if group else os.kill)(self.pid, number)
        return True

    def signal_all(self, number: int) -> asyncio.Future[int]:
        count = 0
        for pid in self._session():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                count += 1
        found: asyncio.Future[int] = self._loop.create_future()
        found.set_result(count)
        return found

    def end(self) -> None:
        """End all of it, as the end of a sandbox does; nobody is called back."""
        self._callbacks.clear()
        self.signal_all(signal.SIGKILL)
        self._process.wait()
        self._reap()

    def _session(self) -> list[int]:
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == self.pid and fields[0] not in {"Z", "X"}:
                    found.append(int(pid))
        return found

    def _reap(self) -> None:
        if self._pidfd is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = None
        code = self._process.wait()
        for callback in self._callbacks:
            callback(code)


def start_on_host(program: Program, stdin: int, stdout: int, stderr: int) -> HostProcess:
    """Start a program, with the errors that a sandbox would raise."""
    name = os.fsdecode(program.args[0])
    path = shutil.which(name, path=os.fsdecode(program.env.get(b"PATH", b"")))
    if not os.path.isdir(program.cwd):
        raise refusal(program, ENOENT if not os.path.exists(program.cwd) else ENOTDIR)
    if path is None:
        raise refusal(program, EACCES if "/" in name and os.path.exists(name) else ENOENT)
    # Of a terminal: util-linux's program makes it the controlling one, and becomes the other.
    words = [b"setsid", b"--ctty", os.fsencode(path), *program.args[1:]] if program.terminal else program.args
    return HostProcess(
        subprocess.Popen(
            words,
            executable="/usr/bin/setsid" if program.terminal else path,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=program.cwd,
            env=dict(program.env),
            start_new_session=not program.terminal,
        )
    )
