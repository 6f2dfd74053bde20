"""The verbs that agents get, once for all frameworks.

Each verb is the model of its own arguments, and its docstring is its description for the language model. A
verb starts its call on a session of either package, and turns the result into an `Answer`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs import frozen
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandkasten.errors import SandkastenInputError
from sandkasten.integrations._text import (
    exec_text,
    list_text,
    one_line,
    read_text,
    stats_text,
    surroundings_text,
)
from sandkasten.models import DirEntry, ExecResult, ReadResult, SessionInfo, SessionStats

if TYPE_CHECKING:
    import sandkasten
    import sandkasten_sync

    AnySession = sandkasten.Session | sandkasten_sync.Session

DEFAULT_MAX_OUTPUT_CHARS = 16_000
DEFAULT_TIMEOUT_MS = 60_000

_MIN_OUTPUT_CHARS = 1_000
_MAX_TIMEOUT_SECONDS = 600
# More is not read to show so little of it; and some daemons have trouble with more than about 3.7 MB.
_MAX_READ_BYTES = 1024 * 1024


@frozen
class Options:
    """The options that belong to the program around the agent.

    Attributes:
        max_output_chars: the length of the longest text that a model gets.
        timeout_ms: the time limit of commands for which the model does not set one.
    """

    max_output_chars: int
    timeout_ms: int

    def __attrs_post_init__(self) -> None:
        """Refuse limits that are out of range."""
        if self.max_output_chars < _MIN_OUTPUT_CHARS:
            raise SandkastenInputError(
                f"max_output_chars is {self.max_output_chars}: it must be at least {_MIN_OUTPUT_CHARS}."
            )
        if not 1 <= self.timeout_ms <= _MAX_TIMEOUT_SECONDS * 1000:
            raise SandkastenInputError(
                f"timeout_ms is {self.timeout_ms}: it must be 1 to {_MAX_TIMEOUT_SECONDS * 1000}."
            )


@frozen
class Answer:
    """The answer of a verb: a text for the model, and plain data for the program around it."""

    text: str
    data: dict[str, Any]


class Verb(BaseModel):
    """The base of all verbs."""

    model_config = ConfigDict(extra="forbid")
    tool_name: ClassVar[str]

    @classmethod
    def about(cls, info: SessionInfo | None) -> str:
        """Return the description of the tool for the model; that of `exec` describes the session as well."""
        words = inspect.cleandoc(cls.__doc__ or "").split()
        return " ".join([*words, *surroundings_text(info).split()] if cls.tool_name == "exec" else words)

    def start(self, session: AnySession, options: Options) -> Any:
        """Call the session, and return the result, or an awaitable of it with an async session."""
        raise NotImplementedError

    def answer(self, result: Any, options: Options, info: SessionInfo | None) -> Answer:
        """Turn the result of the call into an answer; `info` describes the session, if that is known."""
        raise NotImplementedError


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
        le=_MAX_TIMEOUT_SECONDS,
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


class Read(Verb):
    """Read a text file of the sandbox. A file that is very long is cut in the middle."""

    tool_name: ClassVar[str] = "read"
    path: str = Field(description="Below /workspace; relative paths start there, wherever the shell is.")

    def start(self, session: AnySession, options: Options) -> Any:
        """Read the file, or as much of it as makes sense."""
        return session.read(self.path, max_bytes=_MAX_READ_BYTES)

    def answer(self, result: ReadResult, options: Options, info: SessionInfo | None) -> Answer:
        """Return the file as text, and how much of it was read."""
        data = {"path": result.path, "read_bytes": len(result.content), "truncated": result.truncated}
        return Answer(read_text(result, options.max_output_chars), data)


class Write(Verb):
    """Write a text file in the sandbox, replacing what is there. Missing directories are made."""

    tool_name: ClassVar[str] = "write"
    path: str = Field(description="Below /workspace; relative paths start there, wherever the shell is.")
    content: str = Field(description="The whole content of the file.")

    def start(self, session: AnySession, options: Options) -> Any:
        """Write the file."""
        return session.write(self.path, self.content)

    def answer(self, result: None, options: Options, info: SessionInfo | None) -> Answer:
        """Return how much was written."""
        size_bytes = len(self.content.encode())
        data = {"path": self.path, "written_bytes": size_bytes}
        return Answer(f"wrote {size_bytes} bytes to {one_line(self.path)}", data)


class List(Verb):
    """List a directory of the sandbox: kinds, sizes, times, names."""

    tool_name: ClassVar[str] = "list"
    path: str = Field(description="Below /workspace; relative paths start there, wherever the shell is.")

    def start(self, session: AnySession, options: Options) -> Any:
        """List the directory."""
        return session.list(self.path)

    def answer(self, result: Sequence[DirEntry], options: Options, info: SessionInfo | None) -> Answer:
        """Return the entries as text, and their fields."""
        entries = [attrs.asdict(entry, value_serializer=_plain) for entry in result]
        return Answer(list_text(result, options.max_output_chars), {"path": self.path, "entries": entries})


class Stats(Verb):
    """Report how much memory and CPU time the sandbox uses."""

    tool_name: ClassVar[str] = "stats"

    def start(self, session: AnySession, options: Options) -> Any:
        """Ask the daemon."""
        return session.stats()

    def answer(self, result: SessionStats, options: Options, info: SessionInfo | None) -> Answer:
        """Return the `SessionStats` as text, and its fields."""
        return Answer(stats_text(result), attrs.asdict(result))


def _plain(_entry: object, _field: object, value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


VERBS: tuple[type[Verb], ...] = (Exec, Read, Write, List, Stats)


def arguments_text(error: ValidationError) -> str:
    """Return the text that says what is wrong with the arguments that a model sent."""
    problems = (
        f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    )
    return one_line(f"error: The arguments do not fit. {'; '.join(problems)}.", 1000)
