"""One session: its files, its shell, its lifetime, and what is to be removed at its end."""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import field
from pathlib import Path
from typing import Any

from sandkasten._protocol import TAGGED_SESSION_ID
from sandkasten.local.clock import Clock
from sandkasten.local.endings import JobEnd
from sandkasten.local.errors import SandboxLostError, invalid_request
from sandkasten.local.files.budget import Budget
from sandkasten.local.files.outside import OutsideTree
from sandkasten.local.files.pipes import Pipes
from sandkasten.local.files.quota import DiskQuota
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.identity import Identity
from sandkasten.local.images.built_in import programs_of
from sandkasten.local.images.catalogue import Catalogue
from sandkasten.local.images.environments import EnvironmentImage
from sandkasten.local.isolation.backend import Sandbox
from sandkasten.local.isolation.names import HostNames
from sandkasten.local.isolation.policy import ENVIRONMENT, WORKSPACE, Image, PackagePlaces
from sandkasten.local.limits.cgroup_base import Usage
from sandkasten.local.limits.cgroups import Group
from sandkasten.local.limits.limits import Limits, Resource
from sandkasten.local.limits.own import as_numbers
from sandkasten.local.linux.kernel import kernel_version
from sandkasten.local.linux.scratch import remove_tree
from sandkasten.local.packages.placing import SessionPackages
from sandkasten.local.records import dataclass
from sandkasten.local.sessions.command import Loan, ShellCommand, beginning
from sandkasten.local.sessions.interpreters.run import PythonRun, RunSink
from sandkasten.local.sessions.interpreters.table import Interpreters, Surroundings
from sandkasten.local.sessions.job import Job
from sandkasten.local.sessions.lifetime import Lifetime
from sandkasten.local.sessions.processes.process import ProcessJob
from sandkasten.local.sessions.processes.table import Processes
from sandkasten.local.sessions.shell import Shell
from sandkasten.local.sessions.terminal import Turns

_BEGINNING_MS = 20_000
_WHERE = "Name a directory in /workspace, /tmp or the home directory."
_KILLED = 128 + 9


@dataclass(frozen=True)
class SessionSpec:
    """The session that a client asks for.

    Attributes:
        image: the name of what it runs on.
        python_environment: the path of an environment of Python on this machine, in place of the image.
        ttl_seconds: its lifetime; 0 is the daemon's own.
        workspace_id: whose files it works on; None: files of its own.
        host_network: whether it has the network of this machine.
        environment: variables of its shells, beside those that all have.
        cwd: the directory that its shell begins in; None is /workspace.
        labels: what its owner notes about it.
        name: another word for its id, as long as it runs.
        limits: what it asks of the limits, by their names.
        packages: the packages that it has from the beginning, as requirements.
    """

    image: str
    ttl_seconds: int = 0
    workspace_id: str | None = None
    host_network: bool = False
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    name: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    python_environment: str | None = None
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """The place in which a session is built.

    Attributes:
        id: the session's.
        image: what it runs on.
        workspace_id: whose files it works on; None: files of its own, which end with it.
        directory: what ends with it.
        tree: its files.
        identity: whose its processes and files are.
        names: how it finds host names, if it has the host's network.
        limits: what it may take.
        bounded: which of these limits control groups see to.
        packages: where it has packages; None: it takes none.
        environment: the name of those that it has from the beginning.
    """

    id: str
    image: Image
    workspace_id: str | None
    directory: Path
    tree: Tree
    identity: Identity
    names: HostNames | None
    limits: Limits
    bounded: Collection[Resource]
    packages: PackagePlaces | None = None
    environment: str | None = None


@dataclass
class Remains:
    """The parts that a session leaves behind when it ends."""

    session_id: str
    directory: Path
    images: Catalogue
    workspaces: Workspaces
    group: Group | None = None
    reap: Callable[[], None] | None = None
    environment: int | None = None  # holds the packages that it had from the beginning

    @property
    def packages(self) -> Path:
        """The directory of its packages."""
        return self.directory / "packages"

    def remove(self) -> None:
        """End what still runs and remove all of it; blocks, in any thread."""
        with ExitStack() as steps:  # from the last to the first, each of them whatever becomes of the others
            steps.callback(remove_tree, self.directory)
            if self.environment is not None:
                steps.callback(os.close, self.environment)
            steps.callback(self.workspaces.release, self.session_id)
            steps.callback(self.images.release, self.session_id)
            if self.group is not None:
                steps.callback(self.group.remove)
            if self.reap is not None:
                steps.callback(self.reap)
            if self.group is not None:
                steps.callback(self.group.kill)


class Session:
    """A running session. Lives in the event loop's thread."""

    def __init__(
        self,
        site: Site,
        shell: Shell,
        remains: Remains,
        clock: Clock,
        of_workspace: Callable[[str], Iterable[Session]],
        *,
        sandbox: Sandbox,
        turns: Turns,
        budget: Budget,
    ) -> None:
        """Hold on to what was built; `of_workspace` finds the sessions that share a workspace."""
        self.id = site.id
        self.image = site.image.name
        self.built_on = site.image
        self.workspace_id = site.workspace_id
        self.tree = site.tree
        self.directory = site.directory
        self.limits = site.limits
        self.acquire_source = "cold"
        self.environment_digest = site.environment
        self.name: str | None = None
        self.labels: Mapping[str, str] = {}
        self.environment = {**ENVIRONMENT, **site.image.variables}
        self.lifetime = Lifetime(clock)
        self.quota = DiskQuota(
            site.tree,
            site.limits.workspace_bytes,
            is_running=lambda: self.has_work,
            on_exceeded=self._stop_writers,
            members=self._members_of_workspace,
            budget=budget,
        )
        self._site = site
        self._sandbox = sandbox
        self._outside: OutsideTree | None = None
        self._is_closed = False
        self._shell = shell
        self._remains = remains
        self._of_workspace = of_workspace
        self._programs = programs_of(site.image)
        self.packages = None if site.packages is None else SessionPackages(remains.packages)
        self._jobs = set[Job[Any]]()
        self._oom_kills_told = 0
        self.processes = Processes(sandbox, self.environment, self._begin, self._ran_out_of_memory, turns)
        self.interpreters = Interpreters(
            Surroundings(
                sandbox, self.environment, self._begin, self._ran_out_of_memory,
                site.limits.processes, site.limits.memory_bytes,
            ),
            turns,
        )  # fmt: skip

    @property
    def info(self) -> dict[str, Any]:
        """The session as the wire protocol has it."""
        info = {
            "id": self.id,
            "image": self.image,
            "status": "running",
            "cwd": self._shell.cwd,
            "created_at": self.lifetime.created_at.isoformat(),
            "expires_at": self.lifetime.expires_at.isoformat(),
            "last_activity": self.lifetime.last_activity.isoformat(),
            "acquire_source": self.acquire_source,
            "network": "none" if self._site.names is None else "host",
            "programs": self._programs,
            "name": self.name,
            "labels": dict(self.labels),
            "limits": as_numbers(self.limits, self._site.bounded, kernel_version()),
        }
        if isinstance(image := self._site.image, EnvironmentImage):
            facts = {"path": image.name, "python_version": image.version, "left_out": image.left_out}
            info["python_environment"] = facts
        if tagged := TAGGED_SESSION_ID.fullmatch(self.id):
            info["node"] = tagged[1]
        return info | ({"workspace_id": self.workspace_id} if self.workspace_id else {})

    @property
    def busy(self) -> bool:
        """True if a job runs or waits."""
        return bool(self._jobs)

    @property
    def has_work(self) -> bool:
        """True if anything runs that could write a file."""
        runs = self.processes.any_runs or self.interpreters.any_runs
        return self.busy or runs or self._shell.has_programs

    def members(self) -> list[int]:
        """Return all processes of the session; for any thread."""
        return self._shell.members

    def usage(self) -> Usage:
        """Measure what the session takes; blocks."""
        assert self._remains.group is not None
        return self._remains.group.usage(self.members())

    def submit(self, cmd: str, timeout_ms: int, loan: Loan | None = None) -> ShellCommand:
        """Run a command in the shell, and watch what it does to the disk.

        Raises:
            SandboxLostError: the sandbox is gone.
        """
        self._look_after_jobs()
        command = self._shell.submit(cmd, timeout_ms, loan)
        self._keep_for(command)
        command.when_finished(lambda: self._on_command_finished(command))
        return command

    def run_python(
        self, context: str, code: str, timeout_ms: int, make_sink: Callable[[PythonRun], RunSink]
    ) -> PythonRun:
        """Have code run in a context, and keep the session for it.

        Raises:
            ApiError: CAPACITY_EXCEEDED, there are too many contexts.
            SandboxLostError: the session has ended.
        """
        run = self.interpreters.run(context, code, timeout_ms, make_sink)
        if not run.is_finished:
            self._keep_for(run)
        return run

    def _begin(self, job: ProcessJob) -> None:
        """Called before a process starts; one without a deadline does not keep the session."""
        self._look_after_jobs()
        job.oom_kills_before = self._oom_kills()
        if job.timeout_ms:
            self._keep_for(job)
        else:
            self.lifetime.renew()

    def _look_after_jobs(self) -> None:
        self.quota.watch()
        if self._site.names is not None:
            self._site.names.refresh()

    def _ran_out_of_memory(self, job: ProcessJob) -> bool:
        """Return whether memory ran out while a process ran, and that is not the end of another one yet."""
        told = max(self._oom_kills_told, job.oom_kills_before)
        if self._oom_kills() <= told:
            return False
        self._oom_kills_told = told + 1
        return True

    def _oom_kills(self) -> int:
        return 0 if self._remains.group is None else self._remains.group.oom_kills()

    def _on_command_finished(self, command: ShellCommand) -> None:
        if command.outcome is not None and command.outcome.exit_code == _KILLED:  # that may have been why
            self._oom_kills_told = self._oom_kills()

    async def furnish(self, asked: SessionSpec) -> None:
        """Give the session what its client asked for beside the sandbox itself.

        Raises:
            ApiError: INVALID_REQUEST, its shell cannot be in the directory.
            SandboxLostError: the sandbox is gone.
        """
        self.name, self.labels = asked.name, asked.labels
        self.environment.update(asked.environment)
        if asked.cwd is not None:
            self.processes.directory = posixpath.join(WORKSPACE, asked.cwd)
            self.interpreters.directory = self.processes.directory
        if not asked.environment and asked.cwd is None:
            return
        self.interpreters.discard_spare()
        is_done, said = await self.ask(beginning(self.processes.directory, asked.environment))
        if not is_done:
            reason = said.strip().rpartition(": ")[2] or "it took too long"
            raise invalid_request(f"A shell cannot begin in the directory {asked.cwd!r} ({reason}). {_WHERE}")

    async def ask(self, cmd: str, timeout_ms: int = _BEGINNING_MS) -> tuple[bool, str]:
        """Run one of the daemon's own commands; return whether it succeeded, and what it printed.

        Raises:
            SandboxLostError: the sandbox is gone.
        """
        command, said = self._shell.submit(cmd, timeout_ms), bytearray()
        while (output := await command.next_output()) is not None:
            said += b"".join(data for _channel, data in output)
        is_done = command.outcome is not None and not command.outcome.exit_code
        return is_done, said.decode(errors="replace")

    def make_pipes(self, *, has_input: bool, has_output: bool) -> Pipes:
        """Make the pipes of a command in the workspace; this does not block for long.

        Raises:
            OSError: they cannot be made.
        """
        workspace, identity = self.tree.workspace, self._site.identity
        return Pipes(workspace, identity, has_input=has_input, has_output=has_output)

    async def outside(self) -> OutsideTree:
        """Return the files beside those of the workspace.

        Raises:
            CannotSpawnError: sandboxes of this machine do not give them.
            SandboxLostError: the sandbox has ended.
            OSError: something is used up.
        """
        if self._outside is None:
            root = await self._sandbox.root()
            if self._is_closed:
                raise SandboxLostError("the session ended")
            self._outside = self._outside or OutsideTree(root, self.tree)
        return self._outside

    def interrupt(self) -> bool:
        """Stop the command that runs; return whether one did."""
        return self._shell.interrupt()

    def _keep_for(self, job: Job[Any]) -> None:
        """Keep the session as long as a job runs or waits."""

        def on_finished() -> None:
            self._jobs.discard(job)
            self.lifetime.end_use()

        self._jobs.add(job)
        self.lifetime.begin_use()
        job.when_finished(on_finished)

    async def _stop_writers(self, again: bool) -> None:
        """Stop all that may write: the disk's share is used up, and was so at the look before, if `again`."""
        self.interpreters.stop_all(JobEnd.OVER_QUOTA, at_once=again)
        await asyncio.gather(
            self._shell.stop_all(with_shell=again), self.processes.stop_all(JobEnd.OVER_QUOTA)
        )

    def close(self) -> Callable[[], None]:
        """End the session; return what removes its remains, to be called in any thread."""
        self._is_closed = True
        self.lifetime.stop()
        self.quota.close()
        if self._outside is not None:
            self._outside.close()
        self.processes.close(SandboxLostError("the session ended while the process ran"))
        self.interpreters.close(SandboxLostError("the session ended while the code ran"))
        self._remains.reap = self._shell.close()
        return self._remains.remove

    def _members_of_workspace(self) -> list[int]:
        """Return the processes of all sessions that work on these files; called in threads."""
        others = () if self.workspace_id is None else self._of_workspace(self.workspace_id)
        return [pid for session in {self, *others} for pid in session.members()]
