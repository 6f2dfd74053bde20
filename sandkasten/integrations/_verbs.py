"""The verbs that agents get, once for all frameworks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from pydantic import Field, ValidationError

from sandkasten._packages.calls import PackageInfo
from sandkasten.errors import SandkastenInputError
from sandkasten.integrations import _fileverbs as files
from sandkasten.integrations import _processverbs as processes
from sandkasten.integrations._pythonverb import RunPython
from sandkasten.integrations._text import exec_text, one_line, stats_text
from sandkasten.integrations._verb import (
    DEFAULT_MAX_OUTPUT_CHARS,
    DEFAULT_TIMEOUT_MS,
    MAX_TIMEOUT_SECONDS,
    Answer,
    Options,
    Verb,
)
from sandkasten.models import ExecResult, SessionInfo, SessionStats

if TYPE_CHECKING:
    from sandkasten.integrations._verb import AnySession

__all__ = [
    "DEFAULT_MAX_OUTPUT_CHARS",
    "DEFAULT_TIMEOUT_MS",
    "VERBS",
    "Answer",
    "Options",
    "Verb",
    "arguments_text",
    "chosen",
]


class Exec(Verb):
    """Run a bash command in a Linux sandbox; gives its exit code and its output.

    It is the same shell every time: directory, variables, functions and background jobs stay. Nothing
    can be typed into a program that runs. Output that is very long is cut in the middle.
    """

    tool_name: ClassVar[str] = "exec"
    command: str = Field(description="The command, any bash.")
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MAX_TIMEOUT_SECONDS,
        description="When to stop it, in seconds, at most 600; null is the usual limit.",
    )

    def start(self, session: AnySession, options: Options) -> Any:
        """Run the command."""
        timeout_ms = options.timeout_ms if self.timeout_seconds is None else self.timeout_seconds * 1000
        return session.exec(self.command, timeout_ms=timeout_ms)

    def answer(self, result: ExecResult, options: Options, info: SessionInfo | None) -> Answer:
        """Return the `ExecResult` as text, and its fields."""
        network = info.network if info else None
        return Answer(exec_text(result, options.max_output_chars, network), attrs.asdict(result))


class Stats(Verb):
    """Report how much memory and CPU time the sandbox uses."""

    tool_name: ClassVar[str] = "stats"
    is_read_only: ClassVar[bool] = True

    def start(self, session: AnySession, options: Options) -> Any:
        """Ask the daemon."""
        return session.stats()

    def answer(self, result: SessionStats, options: Options, info: SessionInfo | None) -> Answer:
        """Return the `SessionStats` as text, and its fields."""
        return Answer(stats_text(result), attrs.asdict(result))


class InstallPackages(Verb):
    """Install packages of Python in the sandbox, which needs no network for that.

    Programs that start afterwards can import them.
    """

    tool_name: ClassVar[str] = "install_packages"
    packages: list[str] = Field(
        description="Names as the package index has them, with versions if need be: pandas, matplotlib>=3.9.",
        min_length=1,
    )

    def start(self, session: AnySession, options: Options) -> Any:
        """Install the packages."""
        return session.install(*self.packages)

    def answer(self, result: Sequence[PackageInfo], options: Options, info: SessionInfo | None) -> Answer:
        """Return the names and versions of all packages that the session was given."""
        rows = [attrs.asdict(package) for package in result]
        names = ", ".join(f"{package.name} {package.version}" for package in result)
        return Answer(one_line(f"installed: {names}", options.max_output_chars), {"packages": rows})


VERBS: tuple[type[Verb], ...] = (
    Exec,
    RunPython,
    files.Read,
    files.Write,
    files.List,
    Stats,
    processes.RunProcess,
    processes.StartProcess,
    processes.ReadProcess,
    processes.ListProcesses,
    processes.KillProcess,
    files.Append,
    files.Glob,
    files.Search,
    files.Mkdir,
    files.Remove,
    files.Move,
)


def chosen(names: Collection[str] | None, *, allow_install: bool = False) -> list[type[Verb]]:
    """Return the verbs of these names, or all of them; the one that installs packages only if it is allowed.

    Raises:
        SandkastenInputError: a name that no verb has.
    """
    offered: tuple[type[Verb], ...] = (*VERBS, InstallPackages) if allow_install else VERBS
    if names is None:
        return list(offered)
    known = [verb.tool_name for verb in offered]
    if isinstance(names, str) or not set(names) <= set(known):
        raise SandkastenInputError(
            f"only is {one_line(repr(names))}.", f"It is a list of names of tools: {', '.join(known)}."
        )
    return [verb for verb in offered if verb.tool_name in names]


def arguments_text(error: ValidationError) -> str:
    """Return the text that says what is wrong with the arguments that a model sent."""
    problems = (
        f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    )
    return one_line(f"error: The arguments do not fit. {'; '.join(problems)}.", 1000)
