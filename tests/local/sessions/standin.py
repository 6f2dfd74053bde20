"""A sandbox in memory that stands in for the real one, and an event loop that skips all waiting.

With both, each step of a shell's ladder is seen in milliseconds and at its exact moment, without a process.
"""

from __future__ import annotations

import asyncio
import os
import re
import selectors
import socket
from collections import deque
from collections.abc import Callable, Container, Coroutine, Mapping
from signal import SIGKILL, Signals
from typing import Any, TypeVar

from sandkasten.local.isolation.programs import Program
from sandkasten.local.linux.processes import Process
from tests.local.sessions.standprogram import HostProcess, start_on_host

T = TypeVar("T")

INIT = 1
# Some process that exists: the shell looks up when it was started. Nothing is ever sent to it.
SHELL = os.getpid()
_FRAME = re.compile(
    rb"(?<![0-9a-f])(?P<shell>[0-9a-f]{8})(?P<id>[0-9a-f]{16})[0-9]{9}[^\n]*\n(?P<text>.*?)(?P=id) *\0",
    re.DOTALL,
)


class StandIn:
    """A sandbox as `Shell` knows it: a test says what happens inside, and reads what was done to it.

    Attributes:
        signals: the seconds since the start, `shell` or `others`, and the signal, in order.
        reactions: a function by who is signalled and how; called once, as if the process acted on it.
        remaining: how many processes besides process 1 and the shell there are.
        is_deaf: whether all that the shell reads at present is torn, even a question.
        commands: the id and text of each command that the shell read.
        answered: how many questions it answered.
        programs: all that were to be started beside the shell.
        processes: those that were: real processes of the host.
        spawn_raises: the error of the next `spawn`, once.
        root_directory: the directory that stands for the sandbox's `/`.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        # Packets, since each piece on the channel comes from one process.
        self.control, self._inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.tokens, self._tokens_inside = socket.socketpair()
        self.terminal, self._printing = os.pipe()
        for descriptor in (self.control.fileno(), self._inside.fileno(), self.terminal, self.tokens.fileno()):
            os.set_blocking(descriptor, False)
        self.init_pid: int | None = INIT
        self.has_jobs = False
        self.members = [INIT, SHELL]
        self.signals: list[tuple[float, str, Signals]] = []
        self.reactions: dict[tuple[str, Signals], Callable[[], None]] = {}
        self.remaining = 0
        self.is_deaf = False
        self.commands: list[tuple[str, str]] = []
        self.answered = 0
        self.counted = 0
        self.is_killed = False
        self.admitted_shells = 0
        self.programs: list[Program] = []
        self.processes: list[HostProcess] = []
        self.spawn_raises: Exception | None = None
        self.root_directory = "/"
        self._root: int | None = None
        self._senders: deque[int] = deque()
        self._started = loop.time()
        self._unread = b""
        self._runs = False
        loop.add_reader(self._inside.fileno(), self._read_frames)

    # --- what happens inside

    def ready(self, shell_id: str = "", cwd: str = "/workspace") -> None:
        """A shell waits for its first command."""
        self._say(SHELL, "ready", shell_id, "-", cwd)

    def result(self, status: int, cwd: str = "/workspace") -> None:
        """The shell ended the last command that it read, and reads on."""
        self._say(SHELL, "result", self.commands[-1][0], str(status), cwd)
        self._runs = False
        self._read_on()

    def shell_ends(self, status: int, next_shell_id: str) -> None:
        """Process 1 saw the shell end."""
        self._runs = False
        self._say(INIT, "ended", next_shell_id, str(status), "")

    def print(self, text: str) -> None:
        """Print on the terminal."""
        os.write(self._printing, text.encode())

    def ends(self) -> None:
        """Process 1 is gone, and with it everything."""
        asyncio.get_running_loop().remove_reader(self._inside.fileno())
        self._inside.close()

    # --- what the daemon does, as in `backend.Sandbox`

    async def release(self, confine: Callable[[int], None]) -> None:
        confine(INIT)

    def admit_shell(self) -> None:
        self.admitted_shells += 1

    def spare_init(self) -> None:
        pass

    def end_input(self) -> None:
        pass

    def read_control(self, max_bytes: int) -> tuple[bytes, int]:
        data = self.control.recv(max_bytes)
        return data, self._senders.popleft() if data else 0

    def others(self, shell: Process | None) -> Container[Process]:
        del shell
        return frozenset()

    def signal_shell(self, shell: Process | None, signal_number: Signals) -> None:
        assert shell is not None
        assert shell.pid == SHELL
        self._signal("shell", signal_number)

    def signal_others(
        self, shell: Process | None, spared: Container[Process], signal_number: int
    ) -> asyncio.Future[int]:
        assert shell is not None
        assert not spared
        if signal_number:
            self._signal("others", Signals(signal_number))
        else:
            self.counted += 1
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        found.set_result(self.remaining)
        if signal_number == SIGKILL:
            self.remaining = 0
        return found

    async def spawn(self, program: Program, stdin: int, stdout: int, stderr: int) -> HostProcess:
        self.programs.append(program)
        error, self.spawn_raises = self.spawn_raises, None
        if error is not None:
            raise error
        process = start_on_host(program, stdin, stdout, stderr)
        self.processes.append(process)
        return process

    async def root(self) -> int:
        if self._root is None:
            self._root = os.open(self.root_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._root

    def kill(self) -> Callable[[], None]:
        self.is_killed = True
        for process in self.processes:
            process.end()
        if self._root is not None:
            os.close(self._root)
            self._root = None
        if self._inside.fileno() >= 0:
            self.ends()
        for end in (self.control, self.tokens, self._tokens_inside):
            end.close()
        os.close(self.terminal)
        os.close(self._printing)
        return lambda: None

    def _signal(self, to: str, number: Signals) -> None:
        self.signals.append((round(asyncio.get_running_loop().time() - self._started, 3), to, number))
        react = self.reactions.pop((to, number), None)
        if react is not None:
            react()

    def _say(self, sender_pid: int, *fields: str) -> None:
        self._senders.append(sender_pid)
        self._inside.send(("\0" + "".join(f"{field}\0" for field in fields)).encode())

    def _read_frames(self) -> None:
        self._unread += self._inside.recv(65536)
        self._read_on()

    def _read_on(self) -> None:
        while not self._runs and (frame := _FRAME.search(self._unread)):
            self._unread = self._unread[frame.end() :]
            frame_id, text = frame["id"].decode(), frame["text"].decode()
            if self.is_deaf:
                continue
            if text:
                self.commands.append((frame_id, text))
                self._runs = True
            else:
                self.answered += 1
                self._say(SHELL, "result", frame_id, "0", "/workspace")


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves on to the next timer as soon as nothing else is left to do.

    Nothing that is called in it may use threads: the clock would not wait for them.
    """

    def __init__(self) -> None:
        self._skipped_seconds = 0.0
        super().__init__(_SkippingSelector(self._skip))

    def time(self) -> float:
        return self._skipped_seconds

    def _skip(self, seconds: float) -> None:
        self._skipped_seconds += seconds


class _SkippingSelector(selectors.BaseSelector):
    def __init__(self, skip: Callable[[float], None]) -> None:
        self._real = selectors.DefaultSelector()
        self._skip = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if not events and timeout is None:
            return self._real.select(None)
        if not events and timeout is not None and timeout > 0:
            self._skip(timeout)
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


def skipping(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in an event loop that skips all waiting."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(main)
