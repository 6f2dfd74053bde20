"""One bubblewrap process, and the descriptors that lead into it.

* terminal: a pseudo-terminal's master; what programs print, and nobody types
* control: a socket; commands in, results out
* tokens: a socket; one line per command (see `inside/bashrc`)
* the gate: pipes through which process 1 is known and confined before it runs, and each shell is admitted
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

from sandkasten.local.errors import SandboxLostError
from sandkasten.local.identity import Identity, popen_identity
from sandkasten.local.isolation import bubblewrap, seccomp
from sandkasten.local.isolation.carrier import opened
from sandkasten.local.isolation.gate import Gate
from sandkasten.local.isolation.policy import SandboxPolicy
from sandkasten.local.isolation.programs import Program
from sandkasten.local.isolation.spawner.channel import Spawner
from sandkasten.local.isolation.spawner.entering import Entered, Starting
from sandkasten.local.isolation.spawner.process import SpawnedProcess
from sandkasten.local.limits.limits import OOM_SCORE_SANDBOX, OOM_SCORE_SHELL
from sandkasten.local.linux import processes
from sandkasten.local.linux.processes import Process

_SUPERVISOR = (resources.files("sandkasten.local.isolation") / "inside" / "supervisor").read_text("utf-8")
_FIRST_FREE_DESCRIPTOR = 32  # no higher: some may have 64 descriptors only
_IDLE_PROCESSES = 3
_REAP_TIMEOUT_MS = 10_000
# Threads of their own: those of the event loop may all be busy with files while a command must be stopped.
_STOPPERS = ThreadPoolExecutor(4, "stopper")
# struct ucred: pid, uid, gid.
_CREDENTIALS = struct.Struct("iII")
_CREDENTIALS_BYTES = socket.CMSG_LEN(_CREDENTIALS.size)
# As wide as a notebook and a terminal beside an editor are: what programs draw wider is broken there.
_ROWS_COLUMNS = struct.pack("HHHH", 50, 100, 0, 0)


class BubblewrapSandbox:
    """See `backend.Sandbox`; this also has `start`."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        terminal: int,
        control: socket.socket,
        tokens: socket.socket,
        gate: Gate,
        *,
        policy: SandboxPolicy,
        identity: Identity,
        starting: Starting,
    ) -> None:
        """Own the process and the descriptors; see `start`."""
        self._process = process
        self.terminal = terminal
        self.control = control
        self.tokens = tokens
        self._gate = gate
        self.init_pid: int | None = None
        self._init_pidfd: int | None = None
        self._oom_score: int | None = None
        self._namespace = ""
        self._users = ""
        self._identity = identity
        self._starting = starting
        self._rlimits = policy.rlimits
        self._spawner: Spawner | None = None
        self._confine_in_group: Callable[[int], None] | None = None
        self._signalling = threading.Lock()
        self.idle_programs = 0

    @classmethod
    def start(
        cls, bwrap: str, policy: SandboxPolicy, identity: Identity, starting: Starting
    ) -> BubblewrapSandbox:
        """Start building a sandbox; it waits at its gate before anything runs in it.

        Args:
            bwrap: bubblewrap's path.
            policy: the parts of the sandbox.
            identity: whom it runs as.
            starting: how programs are started beside its shell.

        Must run in a thread that lives as long as the daemon: the kernel ends the sandbox with the
        *thread* that made it.
        """
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            terminal, output = _open_terminal(identity)
            ours.callback(os.close, terminal)
            theirs.callback(os.close, output)
            control, control_inside = _socketpair(ours, theirs)
            control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            tokens, tokens_inside = _socketpair(ours, theirs)
            permits_inside, permits = _pipe(theirs, ours)
            permits_inside = _numbered_high(permits_inside, theirs)
            info, info_inside = _pipe(ours, theirs)
            block_inside, block = _pipe(theirs, ours)
            filter_inside = seccomp.descriptor(policy.seccomp)
            theirs.callback(os.close, filter_inside)
            beside = opened(policy.image.beside) if policy.by_descriptor else {}
            for descriptor in beside.values():
                theirs.callback(os.close, descriptor)
            passed = [tokens_inside, control_inside, permits_inside, filter_inside, info_inside, block_inside]
            process = subprocess.Popen(
                bubblewrap.arguments(
                    bwrap,
                    policy,
                    supervisor_command(policy, tokens_inside, control_inside, permits_inside),
                    bubblewrap.Descriptors(filter_inside, info_inside, block_inside, beside),
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(*passed, *beside.values()),
                cwd="/",
                env={},  # bubblewrap needs none, and what the loader makes of it would stand on the terminal
                process_group=0,  # Ctrl-C at the daemon's terminal is not for sandboxes
                **popen_identity(identity, drops_later=bool(policy.carrier)),
            )
            ours.pop_all()
        for descriptor in (control.fileno(), tokens.fileno(), permits, terminal, info):
            os.set_blocking(descriptor, False)
        gate = Gate(info, block, permits)
        sandbox = cls(
            process, terminal, control, tokens, gate, policy=policy, identity=identity, starting=starting
        )
        sandbox.end_input()
        return sandbox

    async def release(self, confine: Callable[[int], None]) -> None:
        """Take hold of process 1, confine it (in a thread), and only then let it run.

        From here on it is signalled through a descriptor, which cannot come to mean another process. If
        bubblewrap failed there is no process; its terminal says why.

        Raises:
            Exception: what `confine` raises, and then nothing runs.
        """
        pid = await self._gate.child_pid()
        if pid is None:
            return
        try:
            await self._confine(pid, confine)
            self.admit_shell()
            self._gate.open()
        except OSError:
            if not processes.has_ended(pid):
                raise

    async def _confine(self, pid: int, confine: Callable[[int], None]) -> None:
        self.init_pid = pid
        self._init_pidfd = os.pidfd_open(pid)
        self._namespace = processes.namespace(pid)
        self._confine_in_group = confine
        await asyncio.to_thread(confine, pid)
        self._oom_score = _open_oom_score(pid)

    def admit_shell(self) -> None:
        """Let process 1 start the next shell.

        With it, what it starts goes first when memory runs out: the shell inherits the score of process 1.
        """
        self._set_oom_score(OOM_SCORE_SHELL)
        with contextlib.suppress(OSError):  # it has ended
            self._gate.admit_shell()

    def spare_init(self) -> None:
        """Have process 1 go last, as there is a shell."""
        if not self._users and self.init_pid is not None:  # by now it has its last one
            with contextlib.suppress(OSError):
                self._users = os.readlink(f"/proc/{self.init_pid}/ns/user")
        self._set_oom_score(OOM_SCORE_SANDBOX)

    def _set_oom_score(self, score: int) -> None:
        if self._oom_score is not None:
            with contextlib.suppress(OSError):  # it has ended
                os.write(self._oom_score, b"%d" % score)

    def read_control(self, max_bytes: int) -> tuple[bytes, int]:
        """Read what one process wrote to the control channel, and which one that was.

        Descriptors that it may have sent along are not taken.

        Raises:
            OSError: the channel is broken, or BlockingIOError: there is nothing.
        """
        data, ancillary, _flags, _address = self.control.recvmsg(max_bytes, _CREDENTIALS_BYTES)
        return data, _CREDENTIALS.unpack(ancillary[0][2])[0] if ancillary else 0

    def end_input(self) -> None:
        """Let there be an end of input on the terminal, which a program may have taken away.

        Nobody can read it; but a program that waits for input before it reads finds that it cannot.
        """
        with contextlib.suppress(OSError):
            os.write(self.terminal, b"\x04")

    def others(self, shell: Process | None) -> Container[Process]:
        """Return every process besides process 1 and the shell, at the cost of two reads."""
        parents = (self.init_pid, shell.pid if shell else None)
        return processes.below_now(pid for pid in parents if pid is not None)

    def signal_shell(self, shell: Process | None, signal_number: signal.Signals) -> None:
        """Send a signal to the shell."""
        if shell is not None:
            processes.signal_one(shell, self._namespace, signal_number)

    def signal_others(
        self, shell: Process | None, spared: Container[Process], signal_number: int
    ) -> asyncio.Future[int]:
        """Send a signal to each process except process 1, the shell, the spared ones and what these started.

        Returns what `processes.signal_others` does. A session may have many processes, so a thread looks at
        them.
        """
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(_STOPPERS, self._signal_others, shell, spared, signal_number)

    def _signal_others(self, shell: Process | None, spared: Container[Process], signal_number: int) -> int:
        if self.init_pid is None or shell is None:
            return 1
        # One at a time: the end of the first would let process 1 go on under the second.
        with self._signalling:
            return processes.signal_others(
                self.init_pid, shell, spared, self._namespace, signal_number, user_namespace=self._users
            )

    async def spawn(self, program: Program, stdin: int, stdout: int, stderr: int) -> SpawnedProcess:
        """Start a program beside the shell; see `backend.Sandbox`."""
        spawner = self._made_spawner()
        if self._identity.drops:
            for descriptor in {stdin, stdout, stderr}:
                _give(descriptor, self._identity)
        return await spawner.spawn(program, stdin, stdout, stderr)

    async def root(self) -> int:
        """Return a descriptor of the directory `/`; see `backend.Sandbox`."""
        return await self._made_spawner().root()

    def _made_spawner(self) -> Spawner:
        kit = self._starting.need()
        if self._spawner is None:
            if self.init_pid is None or self._init_pidfd is None or self._confine_in_group is None:
                raise SandboxLostError("the sandbox has ended")
            self._spawner = Spawner(
                Entered(kit, self._rlimits, self.init_pid, self._init_pidfd, self._confine_in_group)
            )
        return self._spawner

    @property
    def has_jobs(self) -> bool:
        """True if there is more than bubblewrap, the supervisor and a shell, none of which has threads."""
        return len(self._spawned) > self.idle_programs or processes.has_more_threads(
            self._process.pid, _IDLE_PROCESSES
        )

    @property
    def members(self) -> list[int]:
        """All processes in it, process 1 first; none once it ended."""
        with contextlib.suppress(OSError):
            if self.init_pid is not None and processes.namespace(self.init_pid) == self._namespace:
                roots = (self.init_pid, *self._spawned)
                return [pid for root in roots for pid in processes.descendants(root)]
        return []

    @property
    def _spawned(self) -> list[int]:
        """The processes beside the shell, whose parent is the daemon; what they left is below process 1."""
        return [] if self._spawner is None else list(self._spawner.live)

    def kill(self) -> Callable[[], None]:
        """End every process of it and close the descriptors; call the result, in any thread, to reap."""
        init_pidfd, self._init_pidfd = self._init_pidfd, None
        if init_pidfd is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(init_pidfd, signal.SIGKILL)
        self._kill_builders()
        reap_spawned = None if self._spawner is None else self._spawner.close()
        self._gate.close()  # not before the kill: at the gate, an end is as good as a byte
        self.control.close()
        self.tokens.close()
        os.close(self.terminal)
        if self._oom_score is not None:
            os.close(self._oom_score)
            self._oom_score = None
        return lambda: self._reap(init_pidfd, reap_spawned)

    def _kill_builders(self) -> None:
        """Kill bubblewrap, and with it the process that is going to be process 1.

        Until it is, nothing else ends that: it would wait for ever for bubblewrap's word. The number of the
        group is theirs as long as nobody waited for its first process.
        """
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _reap(self, init_pidfd: int | None, reap_spawned: Callable[[], None] | None) -> None:
        if reap_spawned is not None:
            reap_spawned()  # first, as process 1 waits for those that nobody waited for
        self._process.wait()
        if init_pidfd is not None:
            # Process 1 ends only after all others in its namespace did.
            poller = select.poll()
            poller.register(init_pidfd, select.POLLIN)
            poller.poll(_REAP_TIMEOUT_MS)
            os.close(init_pidfd)


def supervisor_command(policy: SandboxPolicy, tokens: int, control: int, permits: int) -> list[str]:
    """Return the command of process 1; the numbers are those of its descriptors.

    It sets the limits first, which all others inherit; if one cannot be set, nothing runs.
    """
    words = [str(tokens), str(control), str(permits), policy.shell]
    text = f"{policy.ulimit} || exit\n{_SUPERVISOR}"
    return [policy.shell, "--noprofile", "--norc", "-c", text, "supervisor", *words]


def _give(descriptor: int, identity: Identity) -> None:
    """Give a pipe or a terminal to the sandbox's user, so that programs may open it by name."""
    status = os.fstat(descriptor)
    if stat.S_ISFIFO(status.st_mode) or os.isatty(descriptor):
        os.fchown(descriptor, identity.uid, identity.gid)


def _open_oom_score(pid: int) -> int | None:
    """Open what orders a process among those that the kernel ends for want of memory.

    Later it may be closed to us, as the bash that process 1 becomes is.
    """
    with contextlib.suppress(OSError):
        return os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    return None


def _socketpair(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[socket.socket, int]:
    here, there = socket.socketpair()
    ours.push(here)
    theirs.push(there)
    return here, _numbered_high(there.fileno(), theirs)


def _numbered_high(descriptor: int, theirs: contextlib.ExitStack) -> int:
    """Return a copy of the descriptor whose number has no meaning in the scripts inside."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_DESCRIPTOR)
    theirs.callback(os.close, copy)
    return copy


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    reader.callback(os.close, read_end)
    writer.callback(os.close, write_end)
    return read_end, write_end


def _open_terminal(identity: Identity) -> tuple[int, int]:
    """Open a pseudo-terminal; return its master, and its other end, which can only be written to.

    Programs see a terminal and write line by line. They cannot read from it: nobody types there, and a
    program that asks a question should fail at once rather than wait for its deadline.
    """
    master, slave = os.openpty()
    try:
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST  # output as it is: no CR is added
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, _ROWS_COLUMNS)
        os.fchmod(
            slave, 0o200
        )  # programs open /dev/stdout, and some open the terminal by its name to ask there
        if identity.drops:
            os.fchown(slave, identity.uid, identity.gid)
        return master, os.open(os.ttyname(slave), os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
