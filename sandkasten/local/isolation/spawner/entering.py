"""The start of a spawner: a static program of ours, which enters one sandbox and then starts programs there.

It runs from a sealed file in memory, so that nothing inside ever sees or changes a file of the host's, and
gets its orders through one socket. `spawner.c` has the other side, and says why it does what it does.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import resources

from sandkasten.local.errors import SandboxLostError
from sandkasten.local.identity import Identity, popen_identity
from sandkasten.local.isolation import seccomp
from sandkasten.local.isolation.policy import INSIDE_UID
from sandkasten.local.isolation.programs import CannotSpawnError
from sandkasten.local.limits.limits import OOM_SCORE_SANDBOX, OOM_SCORE_SHELL, Rlimit
from sandkasten.local.records import dataclass

# In the order in which they are entered: those whose files the last one would hide come first.
_NAMESPACES = ("ipc", "uts", "net", "cgroup", "pid", "mnt")
# The structs of `spawner.c`: enter, limit, report.
_ENTER = struct.Struct(f"=3i{len(_NAMESPACES)}iIiiIII")
_LIMIT = struct.Struct("=3Q")
REPORT = struct.Struct("=2i")
_SLOT = struct.Struct("=i")
SLOTS = 8  # at most so many requests wait for an answer
# What failed, by the number of the stage; the first means that nothing did.
_STAGES = ("", "users", "namespaces", "root directory", "limits", "filter of system calls")

_NS_GET_USERNS = 0xB701  # from <linux/nsfs.h>
_MFD_EXEC, _F_SEAL_EXEC = 0x10, 0x20  # from <linux/memfd.h> and <linux/fcntl.h>, since Linux 6.3
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_TIMEOUT_SECONDS = 10.0
_CANNOT = "Processes beside the shell cannot be started"
_MACHINES = ("x86_64", "aarch64")


@dataclass(frozen=True)
class Kit:
    """The parts that all spawners of a daemon share.

    Attributes:
        program: the spawner itself, an executable file.
        base: the filter that holds for it, see `seccomp.base_program`.
        last: the rest, for each program.
        identity: whom sandboxes run as.
    """

    program: bytes
    base: bytes
    last: bytes
    identity: Identity


@dataclass
class Starting:
    """The way in which the sandboxes of a daemon start programs beside their shell.

    Attributes:
        kit: what it takes; None where there is none.
        refusal: the sentence that says why they do not; empty if they do.
    """

    kit: Kit | None
    refusal: str = ""

    def need(self) -> Kit:
        """Return what it takes.

        Raises:
            CannotSpawnError: they do not.
        """
        if self.kit is None or self.refusal:
            raise CannotSpawnError(self.refusal)
        return self.kit


def find_kit(identity: Identity, machine: str = "") -> Starting:
    """Return how programs are started on this machine."""
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        kinds = " and ".join(_MACHINES)
        return Starting(None, f"{_CANNOT} on this kind of machine ({machine}), only on {kinds}.")
    program = (resources.files("sandkasten.local.isolation.spawner") / f"spawner-{machine}").read_bytes()
    return Starting(Kit(program, seccomp.base_program(machine), seccomp.last_program(machine), identity))


@dataclass(frozen=True)
class Entered:
    """A sandbox that a spawner enters.

    Attributes:
        kit: see `Kit`.
        rlimits: the resource limits of its programs.
        init_pid: process 1 of the sandbox, in the host's numbers.
        init_pidfd: the same process, which cannot come to mean another.
        confine: puts a process into the sandbox's group; called before the spawner enters.
    """

    kit: Kit
    rlimits: Mapping[int, Rlimit]
    init_pid: int
    init_pidfd: int
    confine: Callable[[int], None]


class Link:
    """A spawner that is in its sandbox.

    Attributes:
        process: the spawner.
        channel: takes requests and gives answers, one after the other.
        root: a descriptor of the sandbox's root directory.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], channel: socket.socket, slots: mmap.mmap, root: int
    ) -> None:
        """Own all of it."""
        self.process = process
        self.channel = channel
        self.root = root
        self._slots = slots
        self._answered = 0

    def forget_child(self) -> None:
        """Know that the next request was answered: its child is known, or there is none."""
        _SLOT.pack_into(self._slots, self._answered % SLOTS * _SLOT.size, 0)
        self._answered += 1

    def take_children(self) -> list[int]:
        """Return the numbers of children that were started for requests without an answer, once."""
        numbers = [_SLOT.unpack_from(self._slots, index * _SLOT.size)[0] for index in range(SLOTS)]
        self._slots[:] = bytes(len(self._slots))
        return [number for number in numbers if number]

    def close(self) -> None:
        """End the spawner, by the end of its channel, and close what the sandbox has no more use for."""
        self.channel.close()
        os.close(self.root)
        self.process.kill()

    def reap(self) -> None:
        """Wait for it, and for children of which it could not report any more; blocks."""
        self.process.wait()
        for child in self.take_children():
            with suppress(OSError):
                pidfd = os.pidfd_open(child)
                try:
                    if has_ended(pidfd, _TIMEOUT_SECONDS):
                        os.waitpid(child, 0)
                finally:
                    os.close(pidfd)


def start(sandbox: Entered) -> Link:
    """Start a spawner and have it enter a sandbox; blocks.

    Raises:
        CannotSpawnError: this machine does not let it.
        SandboxLostError: the sandbox has ended.
        OSError: something is used up.
    """
    with ExitStack() as failed, ExitStack() as passed:
        owner, others = passed.enter_context(_namespaces(sandbox.init_pid, sandbox.init_pidfd))
        program = _sealed(sandbox.kit.program)
        passed.callback(os.close, program)
        shared = os.memfd_create("slots")
        passed.callback(os.close, shared)
        os.truncate(shared, mmap.PAGESIZE)
        slots = mmap.mmap(shared, mmap.PAGESIZE)
        channel, inside = socket.socketpair()
        failed.push(channel)
        passed.push(inside)
        descriptors = (program, shared, owner, *others)
        process = _popen(sandbox.kit, program, inside.fileno(), descriptors)
        failed.callback(_end, process)
        sandbox.confine(process.pid)
        channel.settimeout(_TIMEOUT_SECONDS)
        _send(channel, _order(sandbox, descriptors))
        root = _receive_root(channel)
        failed.callback(os.close, root)
        _check(channel.recv(REPORT.size, socket.MSG_WAITALL))
        channel.setblocking(False)
        failed.pop_all()
        return Link(process, channel, slots, root)


def _popen(kit: Kit, program: int, channel: int, descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["spawner", str(channel)],  # noqa: S607  (see the next line)
            executable=f"/proc/self/fd/{program}",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(channel, *(descriptor for descriptor in descriptors if descriptor >= 0)),
            cwd="/",
            env={},
            process_group=0,
            **popen_identity(kit.identity),
        )
    except PermissionError as error:
        raise CannotSpawnError(
            f"{_CANNOT}: this machine runs no program from memory "
            f"(vm.memfd_noexec, or a security module; {error.strerror})."
        ) from error


def _sealed(program: bytes) -> int:
    """Put a program into a file in memory that nobody changes any more."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create("spawner", flags | _MFD_EXEC)
        seals = _SEALS | _F_SEAL_EXEC
    except PermissionError as error:
        raise CannotSpawnError(
            f"{_CANNOT}: this machine runs no program from memory. Allow it: sysctl -w vm.memfd_noexec=1"
        ) from error
    except OSError:  # an older kernel
        descriptor, seals = os.memfd_create("spawner", flags), _SEALS
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(program)
        os.fchmod(descriptor, 0o555)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _namespaces(pid: int, pidfd: int) -> Generator[tuple[int, list[int]], None, None]:
    """Open the namespaces of a sandbox: the user namespace that owns the others, and these.

    The daemon opens them, as the sandboxes' user may not. A namespace that is the daemon's own is -1.
    """
    with ExitStack() as stack:

        def opened(name: str) -> int:
            descriptor = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return descriptor

        try:
            users = opened("user")
            others = [opened(name) for name in _NAMESPACES]
        except OSError as error:
            raise SandboxLostError("the sandbox has ended") from error
        if has_ended(pidfd):  # then the number may have come to mean another process
            raise SandboxLostError("the sandbox has ended")
        owner = fcntl.ioctl(others[_NAMESPACES.index("pid")], _NS_GET_USERNS)
        stack.callback(os.close, owner)
        if os.path.sameopenfile(owner, users):
            # Then the shell would have all rights over the programs' user namespaces.
            raise CannotSpawnError(
                f"{_CANNOT}: this bubblewrap makes sandboxes without a "
                "user namespace around that of the programs."
            )
        yield (
            owner,
            [-1 if _is_own(name, each) else each for name, each in zip(_NAMESPACES, others, strict=True)],
        )


def _is_own(name: str, descriptor: int) -> bool:
    own, other = os.stat(f"/proc/self/ns/{name}"), os.fstat(descriptor)
    return os.path.samestat(own, other)


def has_ended(pidfd: int, seconds: float = 0.0) -> bool:
    """Return whether a process has ended, after a wait for that."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _order(sandbox: Entered, descriptors: tuple[int, ...]) -> bytes:
    kit, rlimits = sandbox.kit, sandbox.rlimits
    head = _ENTER.pack(
        *descriptors,
        INSIDE_UID,
        OOM_SCORE_SANDBOX,
        OOM_SCORE_SHELL,
        len(rlimits),
        len(kit.base),
        len(kit.last),
    )
    limits = (_LIMIT.pack(which, limit.soft, limit.hard) for which, limit in rlimits.items())
    return b"".join((head, *limits, kit.base, kit.last))


def _send(channel: socket.socket, data: bytes) -> None:
    with suppress(BrokenPipeError):  # its report says why
        channel.sendall(data)


def _receive_root(channel: socket.socket) -> int:
    try:
        data, descriptors, _flags, _address = socket.recv_fds(channel, REPORT.size, 1)
    except TimeoutError:
        data, descriptors = b"", []
    try:
        _check(data)
        (root,) = descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    os.set_inheritable(root, False)
    return root


def _check(report: bytes) -> None:
    if len(report) != REPORT.size:
        raise CannotSpawnError(f"{_CANNOT}: their starter ended, or hung.")
    stage, error = REPORT.unpack(report)
    if stage:
        raise CannotSpawnError(
            f"{_CANNOT}: this machine does not let a second program into a "
            f"sandbox ({_STAGES[stage]}: {os.strerror(error)})."
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
