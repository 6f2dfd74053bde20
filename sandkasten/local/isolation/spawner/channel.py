"""The channel to a sandbox's spawner, which is started with the first program."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from signal import SIGKILL
from socket import MSG_NOSIGNAL, send_fds

from sandkasten.local.errors import SandboxLostError
from sandkasten.local.isolation.programs import NoDirectoryError, Program, ProgramError
from sandkasten.local.isolation.spawner import entering
from sandkasten.local.isolation.spawner.entering import REPORT, Entered, Link
from sandkasten.local.isolation.spawner.process import SpawnedProcess
from sandkasten.local.linux import processes

# The structs of `spawner.c`: request, and the answer to it.
_REQUEST = struct.Struct("=4I")
_ANSWER = struct.Struct("=i")
_MOST_BYTES = 4 << 20
_SHOWN_BYTES = 1024
_DIRECTORY, _EXECUTION = 8, 9  # the stages at which a program fails for reasons of its own
_ITS_OWN = {
    errno.ENOENT: "not found",
    errno.EACCES: "not executable, or out of reach",
    errno.ENOEXEC: "neither a program nor a script that begins with #!",
    errno.E2BIG: "its arguments and environment are too long",
    **{
        number: os.strerror(number)
        for number in (
            *(errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EPERM, errno.EINVAL),
            *(errno.ETXTBSY, errno.ELIBBAD, errno.EIO),
        )
    },
}
# What a socket takes at once, whatever its settings are.
_MOST_SENT = 16 * 1024
# Code in the sandbox may stop a process of this kind before the program runs in it.
_TIMEOUT_SECONDS = 10.0
# User namespaces of programs that have ended, before it is looked which of them are empty.
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
        self._lock = asyncio.Lock()
        self._link: Link | None = None
        self._starting: Future[Link] | None = None
        self._ending = set[Link]()
        self._answer: asyncio.Future[SpawnedProcess] | None = None
        self._kept: list[SpawnedProcess] = []
        self._found_empty = set[SpawnedProcess]()
        self._is_sweeping = self._is_closed = False

    async def root(self) -> int:
        """Return a descriptor of the sandbox's root directory; see `backend.Sandbox`."""
        async with self._lock:
            return (await self._entered()).root

    async def spawn(self, program: Program, stdin: int, stdout: int, stderr: int) -> SpawnedProcess:
        """Start a program; see `backend.Sandbox`."""
        body = _packed(program)
        await self._lock.acquire()
        try:
            link = await self._entered()
            reads, writes = os.pipe()
            try:
                self._send(link, program, body, [stdin, stdout, stderr, writes])
            except BaseException:
                os.close(reads)
                raise
            finally:
                os.close(writes)
        except BaseException:
            self._lock.release()
            raise
        # From here on there may be a child, so this goes on even if nobody waits for it any more.
        finishing = asyncio.create_task(self._finish(program, reads))
        try:
            return await asyncio.shield(finishing)
        except asyncio.CancelledError:
            finishing.add_done_callback(_discard)
            raise

    async def _entered(self) -> Link:
        """Return the spawner, which is in the sandbox."""
        if self._is_closed or entering.has_ended(self._sandbox.init_pidfd):
            raise SandboxLostError("the sandbox has ended")
        if self._link is None:
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
            self._starting, self._link = None, link
            asyncio.get_running_loop().add_reader(link.channel.fileno(), self._on_answer, link)
        return self._link

    def _send(self, link: Link, program: Program, body: bytes, descriptors: list[int]) -> None:
        head = _REQUEST.pack(len(body), len(program.args), len(program.env), program.terminal)
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
                raise _spawner_ended() from error
        self._answer = asyncio.get_running_loop().create_future()
        if sent != len(head) + len(body):  # the kernel has less room than it should: nothing starts
            self._on_spawner_ended(link)

    async def _finish(self, program: Program, reads: int) -> SpawnedProcess:
        answer = self._answer
        assert answer is not None
        loop = asyncio.get_running_loop()
        try:
            timer = loop.call_later(_TIMEOUT_SECONDS, self._on_silence, answer)
            try:
                process = await answer
            except OSError:
                # While process 1 is ending, the kernel has "no memory" for another process.
                if processes.has_ended(self._sandbox.init_pid):
                    raise SandboxLostError("the sandbox has ended") from None
                raise
            finally:
                timer.cancel()
                self._lock.release()
            said = await _reports(reads)
        finally:
            os.close(reads)
        if self._is_closed:
            raise SandboxLostError("the sandbox has ended")
        stage, value = (0, errno.ETIMEDOUT) if said is None else said
        if said is None or stage:
            process.discard()
            raise _failure(program, stage, value)
        try:
            process.watch()
        except OSError:
            process.discard()
            raise
        process.inside_pid = value or None
        return process

    def _on_answer(self, link: Link) -> None:
        try:
            data = link.channel.recv(_ANSWER.size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) != _ANSWER.size or self._answer is None:
            self._on_spawner_ended(link)
            return
        answer, self._answer = self._answer, None
        link.take_child()
        (pid,) = _ANSWER.unpack(data)
        try:
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
            process = self._adopted(pid)
        except OSError as error:
            if not answer.done():
                answer.set_exception(error)
            return
        if answer.done():  # the event loop is ending, and nobody waits for anything any more
            process.discard()
        else:
            answer.set_result(process)

    def _adopted(self, pid: int) -> SpawnedProcess:
        process = SpawnedProcess(pid, self._sandbox.init_pid, self._on_reaped)
        self.live[pid] = process
        return process

    def _on_silence(self, answer: asyncio.Future[SpawnedProcess]) -> None:
        if self._answer is answer and self._link is not None:
            self._on_spawner_ended(self._link)

    def _on_spawner_ended(self, link: Link) -> None:
        """Have the next program start another one. Programs that run go on: they are the daemon's own."""
        if self._link is not link:
            return
        self._link = None
        loop = asyncio.get_running_loop()
        loop.remove_reader(link.channel.fileno())
        link.close()
        self._ending.add(link)
        waiting = loop.run_in_executor(_STARTERS, link.process.wait)
        waiting.add_done_callback(lambda _: self._after_spawner(link))

    def _after_spawner(self, link: Link) -> None:
        """Find the child of which it could not report any more."""
        if self._is_closed:
            return
        self._ending.discard(link)
        child = link.take_child()
        if child:
            with suppress(OSError):
                self._adopted(child).discard()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(_spawner_ended())

    def _on_reaped(self, process: SpawnedProcess) -> None:
        self.live.pop(process.pid, None)
        if process.namespace is not None:
            self._kept.append(process)
            if len(self._kept) > _MOST_KEPT and not self._is_sweeping:
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
        link, starting, answer = self._link, self._starting, self._answer
        self._link = self._answer = None
        if link is not None:
            asyncio.get_running_loop().remove_reader(link.channel.fileno())
            link.close()
        if answer is not None and not answer.done():
            answer.set_exception(SandboxLostError("the sandbox has ended"))
        for process in self._kept:
            process.forget()
        self._kept = []
        reaps = [process.release() for process in self.live.values()]
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


def _packed(program: Program) -> bytes:
    variables = (name + b"=" + value for name, value in program.env.items())
    body = b"".join(part + b"\0" for part in (program.cwd, *program.args, *variables))
    if len(body) > _MOST_BYTES:
        raise ProgramError(errno.E2BIG, f"{_name(program)}: {_ITS_OWN[errno.E2BIG]}")
    if body.count(b"\0") != 1 + len(program.args) + len(program.env) or not program.args:
        raise ProgramError(errno.EINVAL, "A program has at least one argument, and no NUL in any of them.")
    return body


async def _reports(reads: int) -> tuple[int, int] | None:
    """Read the last report of a child, until its program runs or it has ended; None if it hangs."""
    loop = asyncio.get_running_loop()
    os.set_blocking(reads, False)
    data = bytearray()
    ended: asyncio.Future[bool] = loop.create_future()

    def on_readable() -> None:
        with suppress(BlockingIOError):
            while part := os.read(reads, 256):
                data.extend(part)
            loop.remove_reader(reads)
            if not ended.done():
                ended.set_result(True)

    def on_timeout() -> None:
        if not ended.done():
            ended.set_result(False)

    loop.add_reader(reads, on_readable)
    timer = loop.call_later(_TIMEOUT_SECONDS, on_timeout)
    try:
        if not await ended:
            return None
    finally:
        timer.cancel()
        loop.remove_reader(reads)
    return REPORT.unpack(data[-REPORT.size :]) if data else (0, 0)  # killed before it could say anything


def _failure(program: Program, stage: int, error: int) -> OSError:
    if stage == _DIRECTORY:
        return NoDirectoryError(error, f"{_shown(program.cwd)}: {os.strerror(error)}")
    if stage == _EXECUTION and error in _ITS_OWN:
        where = " in PATH" if error == errno.ENOENT and b"/" not in program.args[0] else ""
        return ProgramError(error, f"{_name(program)}: {_ITS_OWN[error]}{where}")
    return OSError(error, os.strerror(error))


def _name(program: Program) -> str:
    return _shown(program.args[0]) if program.args else ""


def _shown(name: bytes) -> str:
    """Return a name for a sentence that is sent, whatever its bytes are; of a long one, the beginning."""
    return name[:_SHOWN_BYTES].decode("utf-8", "replace")


def _spawner_ended() -> OSError:
    return OSError(errno.ENOMEM, "the process that starts others was ended")


def _discard(finished: asyncio.Task[SpawnedProcess]) -> None:
    if not finished.cancelled() and finished.exception() is None:
        finished.result().signal_all(SIGKILL)
