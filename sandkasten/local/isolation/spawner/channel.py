"""The channel to a sandbox's spawner, which is started with the first program.

Several programs may be on their way at once. Each request is answered with the number of a child, in the
order of the requests; from then on the child's own pipe says how its start goes, see `starting.py`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import struct
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from socket import MSG_NOSIGNAL, send_fds

from sandkasten.local.errors import SandboxLostError
from sandkasten.local.isolation.programs import Program
from sandkasten.local.isolation.spawner import entering
from sandkasten.local.isolation.spawner.entering import SLOTS, Entered, Link
from sandkasten.local.isolation.spawner.process import SpawnedProcess
from sandkasten.local.isolation.spawner.requests import UNKNOWN, body_of, failure, head_of, spawner_ended
from sandkasten.local.isolation.spawner.starting import Start
from sandkasten.local.linux import processes
from sandkasten.local.linux.readiness import Readiness

_ANSWER = struct.Struct("=i")
_ANSWERS_BYTES = _ANSWER.size * (SLOTS + 1)
# Of all that wait for an answer together: what a socket takes at once, whatever its settings are.
_MOST_SENT = 16 * 1024 // SLOTS
# Code in the sandbox may stop a process of this kind before the program runs in it.
_TIMEOUT_SECONDS = 10.0
# So many more user namespaces of programs that have ended, and it is looked which of them are empty.
_MOST_KEPT = 16
_STARTERS = ThreadPoolExecutor(4, "spawner")


class Spawner:
    """Starts programs in one sandbox. Lives in the event loop's thread.

    Attributes:
        live: the processes that have not ended, by their numbers.
    """

    def __init__(self, sandbox: Entered) -> None:
        """See `entering.start`; nothing is started before it is needed."""
        self.live: dict[int, SpawnedProcess] = {}
        self._sandbox = sandbox
        self._readiness = Readiness()
        self._entering = asyncio.Lock()
        self._link: Link | None = None
        self._starting: Future[Link] | None = None
        self._ending = set[Link]()
        self._room = asyncio.Semaphore(SLOTS)
        self._asked = deque[Start]()  # those that wait for an answer, in its order
        self._under_way = set[Start]()  # these, and those that were answered
        self._kept: list[SpawnedProcess] = []
        self._found_empty = set[SpawnedProcess]()
        self._is_sweeping = self._is_closed = False

    async def root(self) -> int:
        """Return a descriptor of the sandbox's root directory; see `backend.Sandbox`."""
        return (await self._entered()).root

    async def spawn(self, program: Program, stdin: int, stdout: int, stderr: int) -> SpawnedProcess:
        """Start a program; see `backend.Sandbox`."""
        body = body_of(program)
        await self._room.acquire()
        try:
            start = self._ask(await self._entered(), program, body, (stdin, stdout, stderr))
        except BaseException:
            self._room.release()
            raise
        return await start.done()

    async def _entered(self) -> Link:
        """Return the spawner, which is in the sandbox."""
        self._check()
        while self._link is None:
            async with self._entering:
                if self._link is None:
                    await self._enter()
            self._check()
        return self._link

    def _check(self) -> None:
        if self._is_closed or entering.has_ended(self._sandbox.init_pidfd):
            raise SandboxLostError("the sandbox has ended")

    async def _enter(self) -> None:
        if self._starting is None:
            self._starting = _STARTERS.submit(entering.start, self._sandbox)
        try:
            link = await asyncio.shield(asyncio.wrap_future(self._starting))
        except asyncio.CancelledError:
            raise  # and the next one goes on with it
        except BaseException:
            self._starting = None
            raise
        if self._is_closed:
            raise SandboxLostError("the sandbox has ended")
        self._readiness.add(link.channel.fileno(), select.EPOLLIN, partial(self._on_answers, link))
        self._starting, self._link = None, link

    def _ask(self, link: Link, program: Program, body: bytes, streams: tuple[int, int, int]) -> Start:
        reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            is_whole = self._send(link, program, body, [*streams, writes])
        except BaseException:
            os.close(reads)
            raise
        finally:
            os.close(writes)
        start = Start(program, reads)
        start.timer = asyncio.get_running_loop().call_later(_TIMEOUT_SECONDS, self._on_silence, start)
        self._asked.append(start)
        self._under_way.add(start)
        if not is_whole:  # the kernel has less room than it should: nothing starts
            self._on_spawner_ended(link)
        return start

    def _send(self, link: Link, program: Program, body: bytes, descriptors: list[int]) -> bool:
        """Send a request; return whether all of it went."""
        head = head_of(program, body)
        with ExitStack() as stack:
            if len(body) > _MOST_SENT:
                file = os.memfd_create("program")
                stack.callback(os.close, file)
                with os.fdopen(os.dup(file), "wb") as writer:
                    writer.write(body)
                os.lseek(file, 0, os.SEEK_SET)
                descriptors, body = [*descriptors, file], b""
            try:
                sent = send_fds(link.channel, [head, body], descriptors, MSG_NOSIGNAL)
            except (BrokenPipeError, ConnectionResetError, BlockingIOError) as error:
                self._on_spawner_ended(link)
                raise spawner_ended() from error
        return sent == len(head) + len(body)

    # --- what comes of it

    def _on_answers(self, link: Link) -> None:
        try:
            data = link.channel.recv(_ANSWERS_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        count, rest = divmod(len(data), _ANSWER.size)
        if not data or rest or count > len(self._asked):
            self._on_spawner_ended(link)
            return
        for (pid,) in _ANSWER.iter_unpack(data):
            link.forget_child()
            self._room.release()
            self._on_answer(self._asked.popleft(), pid)

    def _on_answer(self, start: Start, pid: int) -> None:
        try:
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
            start.process = self._adopted(pid)
            # Nothing before its end, so that there is one thing to see to.
            self._readiness.add(start.reads, 0, partial(self._on_report, start))
        except OSError as error:
            if start.process is not None:
                start.process.discard()
            self._fail(start, error)

    def _fail(self, start: Start, error: OSError) -> None:
        # While process 1 is ending, the kernel has "no memory" for another process.
        is_lost = processes.has_ended(self._sandbox.init_pid)
        self._under_way.discard(start)
        start.fail(SandboxLostError("the sandbox has ended") if is_lost else error)

    def _on_report(self, start: Start) -> None:
        report = start.report()
        if report is not None:
            self._on_started(start, *report)

    def _on_started(self, start: Start, stage: int, value: int) -> None:
        """Its program runs, or failed at a stage."""
        self._readiness.remove(start.reads)
        self._under_way.discard(start)
        process = start.process
        assert process is not None
        try:
            if stage:
                raise failure(start.program, stage, value)
            process.watch()
        except OSError as error:
            process.discard()
            start.fail(error)
        else:
            process.inside_pid = value or None
            start.succeed(process)

    def _on_silence(self, start: Start) -> None:
        if start.process is not None:
            self._on_started(start, UNKNOWN, errno.ETIMEDOUT)
        elif self._link is not None and start in self._asked:
            self._on_spawner_ended(self._link)

    def _adopted(self, pid: int) -> SpawnedProcess:
        process = SpawnedProcess(pid, self._sandbox.init_pid, self._readiness, self._on_reaped)
        self.live[pid] = process
        return process

    def _on_spawner_ended(self, link: Link) -> None:
        """Have the next program start another one. Programs that run go on: they are the daemon's own."""
        if self._link is not link:
            return
        self._link = None
        self._readiness.remove(link.channel.fileno())
        link.close()
        self._ending.add(link)
        asked, self._asked = self._asked, deque[Start]()
        waiting = asyncio.get_running_loop().run_in_executor(_STARTERS, link.process.wait)
        waiting.add_done_callback(lambda _: self._after_spawner(link, asked))

    def _after_spawner(self, link: Link, asked: Collection[Start]) -> None:
        """Find the children of which it could not report any more."""
        if self._is_closed:
            return
        self._ending.discard(link)
        for child in link.take_children():
            with suppress(OSError):
                self._adopted(child).discard()
        for start in asked:
            self._room.release()
            self._fail(start, spawner_ended())

    def _on_reaped(self, process: SpawnedProcess) -> None:
        self.live.pop(process.pid, None)
        if process.has_namespace:
            self._kept.append(process)
            if len(self._kept) - len(self._found_empty) > _MOST_KEPT and not self._is_sweeping:
                self._is_sweeping = True
                asyncio.get_running_loop().run_in_executor(
                    _STARTERS, processes.user_namespaces, self._sandbox.init_pid
                ).add_done_callback(self._on_swept)

    def _on_swept(self, found: asyncio.Future[set[str]]) -> None:
        """Forget the namespaces in which nothing is left.

        One that forks at the wrong moment is not seen; so a namespace must be found empty twice.
        """
        self._is_sweeping = False
        if found.cancelled() or found.exception():
            return
        empty = {process for process in self._kept if process.namespace not in found.result()}
        gone = empty & self._found_empty
        for process in gone:
            process.forget()
        self._kept = [process for process in self._kept if process not in gone]
        self._found_empty = empty - gone

    def close(self) -> Callable[[], None]:
        """End the spawner, after process 1 was killed and all with it.

        The result waits for them, in any thread. As long as nobody waited for a process, process 1 stays.
        """
        self._is_closed = True
        link, starting = self._link, self._starting
        self._link = None
        if link is not None:
            self._readiness.remove(link.channel.fileno())
            link.close()
        for start in self._under_way:
            self._readiness.remove(start.reads)
            if start.process is None:
                self._room.release()
            start.fail(SandboxLostError("the sandbox has ended"))
        for process in self._kept:
            process.forget()
        self._kept = []
        reaps = [process.release() for process in self.live.values()]
        self._readiness.close()
        ending = list(self._ending)

        def reap() -> None:
            late = None
            if starting is not None:
                with suppress(Exception):
                    late = starting.result()
                    late.close()
            for each in (link, late, *ending):
                if each is not None:
                    each.reap()
            for reap_one in reaps:
                reap_one()

        return reap
