"""A sandbox built by hand, so that single protections can be taken away.

`Attempt` is a small program, run inside; it prints "succeeded", or "stopped: " and why. An attempt counts
only if it is shown to be real: with `layers` gone, or on the bare host, the same program succeeds.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.tree import Tree
from sandkasten.local.identity import ROOT_DROPS_TO, Identity, popen_identity
from sandkasten.local.images.built_in import find_images
from sandkasten.local.images.prefixes import read_prefixes
from sandkasten.local.isolation import bubblewrap, bwrap_binary, seccomp
from sandkasten.local.isolation.etc import Etc
from sandkasten.local.isolation.policy import ENVIRONMENT, Launcher, SandboxPolicy
from sandkasten.local.isolation.programs import Program
from sandkasten.local.isolation.spawner.channel import Spawner
from sandkasten.local.isolation.spawner.entering import Entered, find_kit
from tests.local.isolation.arena.targets import Targets, targets

PYTHON = "/usr/bin/python3"  # of the host and of the sandbox
TMP_BYTES = 1024 * 1024
AS_ROOT = os.geteuid() == 0


@dataclass
class Build:
    """A command line that is about to be run, for layers to change."""

    argv: list[str]
    targets: Targets
    environment: dict[str, str]
    pass_fds: list[int]
    ours: list[socket.socket] = field(default_factory=list)
    root: bool = False  # whether bubblewrap itself is run by root

    def drop(self, *words: str) -> None:
        """Take words away that follow one another."""
        at = next(i for i in range(len(self.argv)) if tuple(self.argv[i : i + len(words)]) == words)
        del self.argv[at : at + len(words)]

    def drop_with_value(self, option: str) -> None:
        """Take an option and its one value away, wherever it stands."""
        while option in self.argv:
            at = self.argv.index(option)
            del self.argv[at : at + 2]

    def add(self, *words: str) -> None:
        """Add options behind all mounts, before the root becomes read-only."""
        at = len(self.argv) - self.argv[::-1].index("--remount-ro") - 1
        self.argv[at:at] = words

    def close(self) -> None:
        """Close what was opened for the one run."""
        for descriptor in self.pass_fds:
            os.close(descriptor)
        for end in self.ours:
            end.close()

    def swap(self, old: Sequence[str], new: Sequence[str]) -> None:
        """Put words in the place of others."""
        at = next(i for i in range(len(self.argv)) if self.argv[i : i + len(old)] == list(old))
        self.argv[at : at + len(old)] = new


@dataclass(frozen=True)
class Layer:
    """A protection, and how to build a sandbox without it."""

    name: str
    remove: Callable[[Build], None]


@dataclass(frozen=True)
class Attempt:
    """One attempt to get out, or at what is not one's own.

    Attributes:
        name: `promise/what`; the promise is one of docs/security.md.
        program: Python that raises OSError (or Stopped) where it is stopped.
        stopped_by: a pattern of the reasons that may stop it; an error of any other kind is a bug here.
        layers: what stops it; each alone is enough, and without all of them it succeeds.
        on_host: shown to be real as a plain process of the sandboxes' user.
        as_root: shown to be real as a plain process of root, where the tests are root's.
        unproven: why it is not shown to be real.
        unproven_as_user: why not, where the tests are not root's.
        proof_says: the pattern of what it prints once nothing stops it.
        beside: a pattern of what stops a program beside the shell, if that is something else.
        kernel_may_refuse: a pattern of what it prints on machines where nobody could do this anyway.
    """

    name: str
    program: str
    stopped_by: str
    layers: tuple[Layer, ...] = ()
    on_host: bool = False
    as_root: bool = False
    unproven: str = ""
    unproven_as_user: str = ""
    proof_says: str = "^succeeded"
    kernel_may_refuse: str = "$^"
    beside: str = ""


# To import all of them takes longer than most programs: each gets those that it names.
MODULES = ("fcntl", "json", "mmap", "re", "signal", "socket", "stat", "struct", "termios", "time")
PRELUDE = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Stopped(Exception): pass
class Facts:
    def __init__(self, values): self.__dict__.update(values)
facts = Facts(eval(sys.argv[2]))
def word(argument):
    return ctypes.c_long(argument) if isinstance(argument, int) else argument
def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def syscall(name, *arguments):
    return checked(libc.syscall(ctypes.c_long(facts.numbers[name]), *map(word, arguments)))
def call(name, *arguments):
    return checked(getattr(libc, name)(*map(word, arguments)))
def read(path):
    with open(path, "rb") as file:
        if facts.secret.encode() not in file.read():
            raise Stopped("it is another file")
def put(path, text):
    descriptor = os.open(path, os.O_WRONLY)
    try: os.write(descriptor, text.encode())
    finally: os.close(descriptor)
def child_that_waits():
    child = os.fork()
    if child == 0:
        libc.pause()
    return child
CHILD = None
try:
    exec(sys.argv[1], globals())
except OSError as error:
    print("stopped:", errno.errorcode.get(error.errno, repr(error)))
except Stopped as stopped:
    print("stopped:", stopped)
else:
    print("succeeded")
finally:
    if CHILD: os.kill(CHILD, 9)
"""


_MOUNT_LATER = """
import os, subprocess, sys
place, *argv = sys.argv[1:]
with subprocess.Popen(argv, stdin=-1, stdout=-1, stderr=-2, close_fds=False) as sandbox:
    assert sandbox.stdout.readline() == b"ready\\n", sandbox.stdout.read()
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    open(place + "/the-hosts", "w").close()
    os.chmod(place, 0o777)
    print(sandbox.communicate(b"\\n")[0].decode(), os.listdir(place))
"""


class Lab:
    """Runs programs in sandboxes with and without their protections, and on the bare host."""

    def __init__(self, bwrap: str, base: Path, identity: Identity, found: Targets) -> None:
        self._bwrap, self._base, self._identity, self.targets = bwrap, base, identity, found
        etc = Etc(_made(base / "etc"), identity).whole()
        identity.own(Path(etc[""]))  # so that only its mount keeps code from writing there
        self._policy = SandboxPolicy(
            image=find_images()["base"],
            workspace=base,
            etc=etc,
            seccomp=seccomp.program(platform.machine()),
            tmp_bytes=TMP_BYTES,
        )
        image = self._policy.image
        # Stands for the image: something that is mounted read-only and that we may put at risk.
        shared = {str(found.shared): "/opt/shared", str(found.roots_directory): "/opt/roots"}
        beside = {path: str(real) for path, real in read_prefixes(found.environment).mounts.items()}
        image = replace(image, read_only=image.read_only | shared, beside=beside)
        self._policy = replace(self._policy, image=image)

    def inside(
        self, attempt: Attempt, without: Sequence[Layer] = (), launcher: Launcher | None = None
    ) -> str:
        """Run it in a sandbox that has all layers but some."""
        root = self._base / secrets.token_hex(4)
        tree = Tree(root, StagingIn(root), self._identity, durable=False)
        tree.create()
        with ExitStack() as stack:
            filter_inside = seccomp.descriptor(self._policy.seccomp)
            # Process 1 is a shell, as in the real one; the program is its child.
            command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *self._command(attempt)]
            policy = replace(self._policy, workspace=tree.workspace, launcher=launcher or Launcher())
            argv = bubblewrap.arguments(self._bwrap, policy, command, bubblewrap.Descriptors(filter_inside))
            words = argv.index("--")
            environment = dict(os.environ) | {"SK_TEST_SECRET": self.targets.secret}
            build = Build(argv[:words], self.targets, environment, [filter_inside])
            stack.callback(build.close)
            for layer in without:
                layer.remove(build)
            if build.root:
                os.chown(tree.workspace, 0, 0)
            said = self._run([*build.argv, *argv[words:]], build.environment, build.pass_fds, root=build.root)
        shutil.rmtree(tree.workspace.parent, ignore_errors=True)
        return said

    def with_a_later_mount(self, launcher: Launcher) -> str:
        """Return what a sandbox finds below the image when the host mounts something there meanwhile."""
        place = self.targets.shared / "later"
        place.mkdir(exist_ok=True)
        policy = replace(self._policy, workspace=self.targets.own, launcher=launcher)
        filter_inside = seccomp.descriptor(policy.seccomp)
        command = ["/bin/sh", "-c", "echo ready; read _; ls /opt/shared/later; touch /opt/shared/later/new"]
        argv = bubblewrap.arguments(self._bwrap, policy, command, bubblewrap.Descriptors(filter_inside))
        # A user gets mounts that are shared, and the right to mount, in a namespace.
        words = ["unshare", *(() if AS_ROOT else ("--user", "--map-root-user")), "--mount", "--propagation"]
        try:
            return subprocess.run(
                [*words, "shared", PYTHON, "-c", _MOUNT_LATER, place, *argv],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                timeout=20,
                pass_fds=[filter_inside],
            ).stdout
        finally:
            os.close(filter_inside)

    def on_host(self, attempt: Attempt, *, root: bool) -> str:
        """Run it as a plain process."""
        environment = dict(os.environ) | {"SK_TEST_SECRET": self.targets.secret}
        return self._run(self._command(attempt), environment, [], root=root)

    @contextmanager
    def annex(self) -> Iterator[Annex]:
        """A sandbox with all layers, in which attempts are programs beside the shell."""
        root = self._base / secrets.token_hex(4)
        tree = Tree(root, StagingIn(root), self._identity, durable=False)
        tree.create()
        filter_inside = seccomp.descriptor(self._policy.seccomp)
        info, info_inside = os.pipe()
        try:
            argv = bubblewrap.arguments(
                self._bwrap,
                replace(self._policy, workspace=tree.workspace),
                ["/bin/sh", "-c", "echo ready; read _"],
                bubblewrap.Descriptors(filter_inside, info_inside),
            )
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[filter_inside, info_inside],
                cwd="/",
                **popen_identity(self._identity),
            )
        finally:
            os.close(filter_inside)
            os.close(info_inside)
        with process, os.fdopen(info) as said:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            annex = Annex(int(json.load(said)["child-pid"]), self._identity)
            try:
                yield annex
            finally:
                annex.close()
                process.kill()

    def beside(self, annex: Annex, attempt: Attempt) -> str:
        """Run it beside the shell."""
        return annex.run(self._command(attempt))

    def _command(self, attempt: Attempt) -> list[str]:
        named = [name for name in MODULES if re.search(rf"\b{name}\b", attempt.program)]
        program = "".join(f"import {name}\n" for name in named) + attempt.program
        return [PYTHON, "-I", "-S", "-c", PRELUDE, program, repr(self.targets.facts())]

    def _run(self, argv: list[str], environment: dict[str, str], fds: list[int], *, root: bool) -> str:
        identity: Any = {} if root else popen_identity(self._identity)
        done = subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=20,
            cwd="/",
            env=environment,
            pass_fds=fds,
            **identity,
        )
        return done.stdout


class Annex:
    """Runs programs beside the first one of a sandbox."""

    def __init__(self, init_pid: int, identity: Identity) -> None:
        self._runner = asyncio.Runner()
        self._pidfd = os.pidfd_open(init_pid)
        self._spawner = self._runner.run(self._made(init_pid, identity))

    async def _made(self, init_pid: int, identity: Identity) -> Spawner:
        kit = find_kit(identity).need()
        return Spawner(Entered(kit, {}, init_pid, self._pidfd, lambda _: None))

    def run(self, command: list[str]) -> str:
        """Return what a program prints until its end."""
        return self._runner.run(self._run(command))

    async def _run(self, command: list[str]) -> str:
        reads, writes = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        if AS_ROOT:
            os.fchown(writes, ROOT_DROPS_TO, ROOT_DROPS_TO)
        try:
            env = {os.fsencode(name): os.fsencode(value) for name, value in ENVIRONMENT.items()}
            program = Program(tuple(map(os.fsencode, command)), env, b"/workspace")
            process = await self._spawner.spawn(program, null, writes, writes)
        finally:
            os.close(writes)
            os.close(null)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        process.on_ended(ended.set_result)
        with os.fdopen(reads, errors="replace") as output:
            said = await asyncio.to_thread(output.read)
        await ended
        return said

    def close(self) -> None:
        """End it."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

        async def close() -> None:
            await asyncio.to_thread(self._spawner.close())

        self._runner.run(close())
        self._runner.close()
        os.close(self._pidfd)


def others_rule() -> str:
    """Return another rule of this machine that may stop an attempt, so that our own rule cannot be shown."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if status["Seccomp"] != "0":
        return "a filter of system calls"
    if AS_ROOT and int(status["CapEff"], 16).bit_count() <= int(
        Path("/proc/sys/kernel/cap_last_cap").read_text()
    ):
        return "a root who has not all capabilities"
    for name in ("apparmor_restrict_unprivileged_userns", "yama/ptrace_scope"):
        setting = Path("/proc/sys/kernel") / name
        if setting.exists() and int(setting.read_text()) > 0:
            return f"kernel.{name.replace('/', '.')}"
    return ""


@contextmanager
def lab() -> Iterator[Lab]:
    """A lab, with its targets, in a directory that the sandboxes' user can reach."""
    identity = Identity.of_this_process()
    base = Path(tempfile.mkdtemp(prefix="sk-isolation-", dir="/tmp"))
    base.chmod(0o711)
    try:
        with targets(base, identity) as found:
            yield Lab(bwrap_binary.find_bwrap(identity, base), base, identity, found)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _made(path: Path) -> Path:
    path.mkdir()
    return path
