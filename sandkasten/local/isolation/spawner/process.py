"""A process that a sandbox runs beside its shell; it is a child of the daemon's."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import cast

from sandkasten.local.isolation.spawner.entering import has_ended
from sandkasten.local.linux import processes
from sandkasten.local.linux.readiness import Readiness

# Threads of their own: those of the event loop may all be busy with files while a program must be stopped.
_REAP_SECONDS = 10.0
_STOPPERS = ThreadPoolExecutor(4, "stopper")


class SpawnedProcess:
    """See `programs.Spawned`. Until the daemon has waited for it, its number belongs to nothing else."""

    def __init__(
        self,
        pid: int,
        init_pid: int,
        readiness: Readiness,
        on_reaped: Callable[[SpawnedProcess], None],
    ) -> None:
        """Take hold of a child.

        Raises:
            OSError: too many descriptors are open; the child was killed, and nobody needs to wait for it.
        """
        self.pid = pid
        self.inside_pid: int | None = None
        self._init_pid = init_pid
        self._readiness = readiness
        self._loop = asyncio.get_running_loop()
        self._callbacks: list[Callable[[int], None]] = []
        self._on_reaped = on_reaped
        self._code: int | None = None
        self._namespace: int | None = None
        self._is_released = False
        try:
            self._pidfd: int | None = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            _STOPPERS.submit(os.waitpid, pid, 0)
            raise

    def watch(self) -> None:
        """Report its end from now on, as it is the program that was asked for.

        Raises:
            OSError: too many descriptors are open.
        """
        # Held, so that the number of the namespace cannot come to mean another one. A process that has ended
        # has it as well, for as long as nobody waited for it.
        if not self._is_released:
            self._namespace = os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            self._watch()

    def discard(self) -> None:
        """Kill it, since nobody is going to have it."""
        if not self._is_released:
            self.signal(signal.SIGKILL, group=False)
            self._watch()

    def _watch(self) -> None:
        if self._pidfd is not None:
            self._readiness.add(self._pidfd, select.EPOLLIN, self._reap)

    def on_ended(self, callback: Callable[[int], None]) -> None:
        """Have a function called once it has ended; see `programs.Spawned`."""
        if self._code is None:
            self._callbacks.append(callback)
        else:
            self._loop.call_soon(callback, self._code)

    def signal(self, number: int, *, group: bool = True) -> bool:
        """Signal it, and all of its process group; return False if it has ended."""
        if self._pidfd is None or has_ended(self._pidfd):
            return False
        with suppress(ProcessLookupError):
            if group:
                os.killpg(self.pid, number)
            else:
                signal.pidfd_send_signal(self._pidfd, number)
        return True

    def signal_all(self, number: int) -> asyncio.Future[int]:
        """Signal everything in its user namespace, which nobody can leave; see `programs.Spawned`."""
        name = self.namespace
        if name is None:
            nothing: asyncio.Future[int] = self._loop.create_future()
            nothing.set_result(0)
            return nothing
        # Held meanwhile, so that the name cannot come to mean another one.
        held = os.dup(cast("int", self._namespace))
        mains = [] if self._pidfd is None else [self.pid]
        found = self._loop.run_in_executor(
            _STOPPERS, processes.signal_inside, self._init_pid, mains, name, number
        )
        found.add_done_callback(lambda _: os.close(held))
        return found

    @property
    def has_namespace(self) -> bool:
        """True if something of it may be left."""
        return self._namespace is not None

    @property
    def namespace(self) -> str | None:
        """The user namespace of it and all that it started; None once there is nothing in it."""
        return None if self._namespace is None else os.readlink(f"/proc/self/fd/{self._namespace}")

    def forget(self) -> None:
        """Know that all that it started has ended."""
        namespace, self._namespace = self._namespace, None
        if namespace is not None:
            os.close(namespace)

    def _reap(self) -> None:
        """Take note of its end."""
        code = self._wait()
        if self._pidfd is not None and code is not None:
            self._readiness.remove(self._pidfd)
            self._ended(code)

    def _wait(self) -> int | None:
        """Return its status, once; None if it has not ended."""
        if self._pidfd is None or not (ended := os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)):
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _ended(self, code: int) -> None:
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)
        self._code = code
        self._on_reaped(self)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(code)

    def release(self) -> Callable[[], None]:
        """Kill it, and leave the wait for its end to a thread: the result, which does not wait for ever."""
        self._is_released = True
        self.forget()
        if self._pidfd is not None:
            self._readiness.remove(self._pidfd)
            self.signal(signal.SIGKILL, group=False)
        return self._reap_in_thread

    def _reap_in_thread(self) -> None:
        if self._pidfd is not None and has_ended(self._pidfd, _REAP_SECONDS):
            code = self._wait()
            assert code is not None
            with suppress(RuntimeError):  # the loop is closed: nobody is left to know
                self._loop.call_soon_threadsafe(self._ended, code)
