"""The builder of sandboxes, as the rest of the daemon knows it, and the one kind that there is: bubblewrap.

This is the only place that assembles a sandbox's policy. A daemon prepares a backend, has it tried with a
session's own shell (`sessions/trial.py`), and starts all its sandboxes with the backend that passed. The
doctor does the same, and so reports what a daemon would meet.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import platform
import socket
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Protocol

from sandkasten.local.errors import IsolationError
from sandkasten.local.identity import Identity, has_user, missing_capabilities
from sandkasten.local.isolation import bwrap_binary, causes, mounttable, seccomp
from sandkasten.local.isolation.carrier import carried
from sandkasten.local.isolation.closedbash import with_closed_bash
from sandkasten.local.isolation.etc import Etc
from sandkasten.local.isolation.names import HostNames
from sandkasten.local.isolation.policy import ENVIRONMENT, Image, Launcher, PackagePlaces, SandboxPolicy
from sandkasten.local.isolation.programs import Program, Spawned
from sandkasten.local.isolation.sandbox import BubblewrapSandbox
from sandkasten.local.isolation.spawner.dropping import place_dropper
from sandkasten.local.isolation.spawner.entering import Starting, find_kit
from sandkasten.local.limits.limits import Limits, Resource, clamped, rlimits, ulimit_command
from sandkasten.local.linux.kernel import kernel_version
from sandkasten.local.linux.processes import Process
from sandkasten.local.linux.syscalls import check_openat2
from sandkasten.local.records import dataclass


@dataclass(frozen=True)
class Wanted:
    """The sandbox that is to be built for a session.

    Attributes:
        image: what is installed, as the catalogue holds it for this session.
        workspace: the host directory that is writable at /workspace.
        host_network: whether it shares the host's network; otherwise it has none.
        limits: the limits of this sandbox, where they are not those of all.
        packages: where it has packages; None: nowhere.
    """

    image: Image
    workspace: Path
    host_network: bool = False
    limits: Limits | None = None
    packages: PackagePlaces | None = None


class Sandbox(Protocol):
    """One sandbox, from its start to its end.

    `Backend.start` makes it, and it waits at its gate. A `Shell` then listens to its channels, `release` lets
    process 1 run, and `kill` ends it. All of that happens in the event loop's thread.

    Attributes:
        terminal: the descriptor from which the shell reads what programs print.
        control: the shell sends commands here, and `read_control` receives what became of them.
        tokens: the shell sends one line of code here for each command.
        init_pid: process 1 in the host's numbers; None before `release`.
        idle_programs: how many programs beside the shell do nothing yet, which `has_jobs` leaves out.
    """

    idle_programs: int
    terminal: int
    control: socket.socket
    tokens: socket.socket
    init_pid: int | None

    async def release(self, confine: Callable[[int], None]) -> None:
        """Let process 1 run, once `confine` has put it into its group, in a thread.

        Called once, by whoever builds a session and by the trial, as soon as there is a group.

        Raises:
            Exception: `confine` raised it, and nothing runs.
        """
        ...

    def admit_shell(self) -> None:
        """Let process 1 start the next shell. Called by the shell when the one before has ended."""
        ...

    def spare_init(self) -> None:
        """Have process 1 go last when memory runs out. Called by the shell whenever a new shell is ready."""
        ...

    def read_control(self, max_bytes: int) -> tuple[bytes, int]:
        """Return a piece of what a process wrote, and that process. Called when `control` is readable.

        Raises:
            OSError: the channel is broken, or BlockingIOError: there is nothing.
        """
        ...

    def end_input(self) -> None:
        """Have programs find an end of input again. Called after each command that was stopped."""
        ...

    def others(self, shell: Process | None) -> Container[Process]:
        """Return all processes besides process 1 and the shell. Called before each command."""
        ...

    def signal_shell(self, shell: Process | None, signal_number: Signals) -> None:
        """Send a signal to the shell. Called on the rungs of the ladder that stops a command."""
        ...

    def signal_others(
        self, shell: Process | None, spared: Container[Process], signal_number: int
    ) -> asyncio.Future[int]:
        """Signal all but process 1, the shell, the spared and their children; return how many there were.

        Called on the same rungs, and with signal 0, which only counts, when a stopped command has ended.
        """
        ...

    async def spawn(self, program: Program, stdin: int, stdout: int, stderr: int) -> Spawned:
        """Start a program beside the shell, under all that the shell is under.

        The descriptors stay the caller's, who closes them. Pipes and terminals among them are given to the
        sandbox's user, so that the program may also open them by name (`/dev/stdout`).

        Raises:
            ProgramError: the program is not there or cannot be run, or its directory is not there.
            OSError: something is used up, such as processes (EAGAIN) or memory (ENOMEM).
            SandboxLostError: the sandbox has ended.
            CannotSpawnError: no sandbox of this machine can do that.
        """
        ...

    async def root(self) -> int:
        """Return a descriptor (O_PATH) of the directory `/` as the sandbox has it; it stays the sandbox's.

        Raises:
            OSError: something is used up.
            SandboxLostError: the sandbox has ended.
            CannotSpawnError: no sandbox of this machine can do that.
        """
        ...

    @property
    def has_jobs(self) -> bool:
        """True if anything runs besides an idle shell. Asked while the workspace is measured."""
        ...

    @property
    def members(self) -> list[int]:
        """All processes, process 1 first; none after the end. Asked in any thread."""
        ...

    def kill(self) -> Callable[[], None]:
        """End every process, and close all descriptors; the result reaps, and is called in any thread.

        Called once, by the shell's `close`.
        """
        ...


class Backend(Protocol):
    """The builder of sandboxes on this machine.

    Attributes:
        images: this machine's own images, by name; the catalogue offers them.
        names: what sandboxes with the host's network find host names by; a session renews it before each
            command.
        launcher: what starts its sandboxes; the doctor reports what that protects.
        can_spawn: whether its sandboxes start programs beside the shell, which the trial found out.
        cannot_spawn: the sentence that says why they do not; empty if they do.
    """

    @property
    def images(self) -> Mapping[str, Image]:
        """See above."""
        ...

    @property
    def names(self) -> HostNames:
        """See above."""
        ...

    @property
    def launcher(self) -> Launcher:
        """See above."""
        ...

    @property
    def can_spawn(self) -> bool:
        """See above."""
        ...

    @property
    def cannot_spawn(self) -> str:
        """See above."""
        ...

    def refuse_to_spawn(self, why: str) -> None:
        """Have no sandbox start programs beside the shell. Called by the trial, with a sentence."""
        ...

    def tried(self, trial: Callable[[Backend], str | None]) -> Backend:
        """Return the backend that sessions are to use: the best way to build sandboxes that works here.

        Called once, at a daemon's start and by the doctor, before anything is built for a client.

        Args:
            trial: builds a sandbox with a backend, runs a command, and returns the complaint, or None.

        Raises:
            IsolationError: no way works.
        """
        ...

    def start(self, wanted: Wanted) -> Sandbox:
        """Start a sandbox, which waits at its gate.

        Called for each session, in a thread that lives as long as the daemon: the kernel ends a sandbox
        together with the *thread* that made it.

        Raises:
            OSError: something is used up, such as processes or pseudo-terminals.
        """
        ...


@dataclass(frozen=True)
class BubblewrapBackend:
    """Builds sandboxes with bubblewrap; see `Backend`.

    Attributes:
        bwrap: bubblewrap's path.
        launchers: what may start it, the best first; the best is used.
        etc: what is mounted at /etc.
        names: see `Backend`.
        images: see `Backend`.
        identity: whom sandboxes run as.
        run_dir: for what ends with the daemon.
        seccomp: the filter of system calls, see `SandboxPolicy`.
        limits: what each sandbox may take, unless it has limits of its own.
        bounded: which of these limits control groups see to.
        starting: how programs are started beside the shell.
        dropper: the words that become sandboxes' user before bubblewrap; none: `Popen` does.
    """

    bwrap: str
    launchers: tuple[Launcher, ...]
    etc: Etc
    names: HostNames
    images: Mapping[str, Image]
    identity: Identity
    run_dir: Path
    seccomp: bytes
    limits: Limits
    bounded: Collection[Resource]
    starting: Starting
    dropper: tuple[str, ...] = ()

    @property
    def can_spawn(self) -> bool:
        """See `Backend`."""
        return not self.starting.refusal

    @property
    def cannot_spawn(self) -> str:
        """See `Backend`."""
        return self.starting.refusal

    def refuse_to_spawn(self, why: str) -> None:
        """See `Backend`."""
        self.starting.refusal = why

    @property
    def launcher(self) -> Launcher:
        """See `Backend`."""
        return self.launchers[0]

    def tried(self, trial: Callable[[Backend], str | None]) -> Backend:
        """See `Backend`."""
        complaint: str | None = None
        for way in self._ways():
            complaint = trial(way)
            if complaint is None:
                return way
        raise IsolationError(*causes.explain(str(complaint), os.geteuid()), complaint=complaint)

    def start(self, wanted: Wanted) -> BubblewrapSandbox:
        """See `Backend`."""
        return BubblewrapSandbox.start(self.bwrap, self.policy(wanted), self.identity, self.starting)

    def policy(self, wanted: Wanted) -> SandboxPolicy:
        """Return what a sandbox is made of."""
        image, limits = wanted.image, wanted.limits or self.limits
        chosen = clamped(rlimits(limits, self.bounded, kernel_version()))
        etc, links = self._etc(image, host_network=wanted.host_network)
        beside, carrier = carried(image.beside, self.identity, self.run_dir / "beside")
        return SandboxPolicy(
            image=replace(image, beside=beside),
            carrier=carrier or self.dropper,
            by_descriptor=bool(beside) and not carrier and bwrap_binary.binds_descriptors(self.bwrap),
            workspace=wanted.workspace,
            etc=etc,
            seccomp=self.seccomp,
            launcher=mounttable.resized(self.launcher, limits.tmp_bytes),
            rlimits=chosen,
            ulimit=ulimit_command(chosen),
            tmp_bytes=limits.tmp_bytes,
            host_network=wanted.host_network,
            etc_links=links,
            environment={**ENVIRONMENT, **image.variables},
            packages=wanted.packages,
        )

    def _etc(self, image: Image, *, host_network: bool) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return what is mounted at and below /etc, and the links there."""
        names = self.names
        if host_network:
            names.refresh()
        if not image.has_own_etc:
            return names.mounts(self.etc.whole(names.links)) if host_network else self.etc.whole(), {}
        return (names.mounts(self.etc.own), names.links) if host_network else (self.etc.own, {})

    def _ways(self) -> Iterator[BubblewrapBackend]:
        """Yield all ways to build sandboxes, the best first."""
        closed = with_closed_bash(self.images, self.run_dir)
        # Where the copies may not be run, or no namespace made but by bubblewrap (AppArmor): without.
        droppers = (self.dropper, ()) if self.dropper else ((),)
        for dropper, images, launcher in itertools.product(droppers, (closed, self.images), self.launchers):
            yield replace(self, images=images, launchers=(launcher,), dropper=dropper)


def check(directory: Path, identity: Identity) -> None:
    """Make sure that this process and this kernel can isolate at all, before anything is made.

    Args:
        directory: any directory, to try paths in.
        identity: whom sandboxes run as.

    Raises:
        IsolationError: there is no such user here, this root has not all of root's rights, or paths cannot be
            resolved safely.
    """
    if not has_user(identity.uid):
        raise IsolationError(causes.unmapped(identity.uid), causes.UNMAPPED_FIX)
    missing = missing_capabilities(identity)
    if missing:
        raise IsolationError(causes.powerless(missing), causes.powerless_fix(missing))
    check_openat2(directory)


def prepare(
    directory: Path,
    identity: Identity,
    images: Mapping[str, Image],
    limits: Limits,
    bounded: Collection[Resource],
) -> BubblewrapBackend:
    """Find what sandboxes are built with, and make what they share; call `check` before, and `tried` after.

    Args:
        directory: for what ends with this process.
        identity: whom sandboxes run as.
        images: this machine's own.
        limits: what each sandbox may take.
        bounded: which of these limits control groups see to.

    Raises:
        IsolationError: something is missing; the text says what fixes it.
    """
    # Where nothing else bounds the number of files in memory.
    memory = None if "memory" in bounded else _made(directory / "memory", identity)
    return BubblewrapBackend(
        bwrap=bwrap_binary.find_bwrap(identity, directory),
        launchers=mounttable.launchers(memory, limits.tmp_bytes),
        etc=Etc(_made(directory / "etc", identity), identity),
        names=HostNames(directory / "names", identity),
        images=images,
        identity=identity,
        run_dir=directory,
        seccomp=seccomp.program(platform.machine()),
        limits=limits,
        bounded=bounded,
        starting=find_kit(identity),
        dropper=place_dropper(identity, directory),
    )


def _made(directory: Path, identity: Identity) -> Path:
    directory.mkdir(exist_ok=True)
    identity.let_pass(directory)
    return directory
