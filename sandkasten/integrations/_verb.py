"""The base of the verbs that agents get, and the options of the program around an agent.

Each verb is the model of its own arguments, and its docstring is its description for the language model. A
verb starts its call on a session of either package, and turns the result into an `Answer`.
"""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import frozen
from pydantic import BaseModel, ConfigDict

from sandkasten.errors import SandkastenInputError
from sandkasten.integrations._text import surroundings_text
from sandkasten.models import SessionInfo

if TYPE_CHECKING:
    import sandkasten
    import sandkasten_sync

    AnySession = sandkasten.Session | sandkasten_sync.Session

DEFAULT_MAX_OUTPUT_CHARS = 16_000
DEFAULT_TIMEOUT_MS = 60_000

MAX_TIMEOUT_SECONDS = 600
_MIN_OUTPUT_CHARS = 1_000


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
        if not 1 <= self.timeout_ms <= MAX_TIMEOUT_SECONDS * 1000:
            raise SandkastenInputError(
                f"timeout_ms is {self.timeout_ms}: it must be 1 to {MAX_TIMEOUT_SECONDS * 1000}."
            )


@frozen
class Picture:
    """A picture for a model.

    Attributes:
        kind: its MIME type.
        base64: its content.
    """

    kind: str
    base64: str

    @property
    def url(self) -> str:
        """The picture as a URL."""
        return f"data:{self.kind};base64,{self.base64}"


@frozen
class Answer:
    """The answer of a verb: a text for the model, plain data for the program around it, and pictures."""

    text: str
    data: dict[str, Any]
    pictures: tuple[Picture, ...] = ()


class Verb(BaseModel):
    """The base of all verbs.

    Attributes:
        tool_name: the name of the tool.
        is_read_only: whether it changes nothing in the sandbox.
    """

    model_config = ConfigDict(extra="forbid")
    tool_name: ClassVar[str]
    is_read_only: ClassVar[bool] = False

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


def plain(_entry: object, _field: object, value: object) -> object:
    """Return a value that JSON has, for `attrs.asdict`."""
    return value.isoformat() if isinstance(value, datetime) else value
