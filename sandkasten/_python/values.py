"""Results of code that ran in a context, as frozen values; the same classes for both packages."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from sandkasten._shown import shortened
from sandkasten.errors import PythonError


@frozen
class PythonFault:
    """An exception that code raised, or the end of its interpreter.

    Attributes:
        name: the exception's class; `InterpreterLost` if the interpreter ended with the code.
        message: its text.
        traceback: where it was raised, in short: without frames that are not the code's. Empty if the
            interpreter ended.
    """

    name: str
    message: str = ""
    traceback: str = field(default="", repr=shortened)

    def __str__(self) -> str:
        """Return the traceback, or name and message."""
        line = f"{self.name}: {self.message}" if self.message else self.name
        return self.traceback.rstrip("\n") or line


def _few(data: Mapping[str, str]) -> str:
    return f"<{', '.join(data)}>"


@frozen
class RichResult:
    """A value or a display, in all the forms that it came in.

    Attributes:
        data: each form, by its MIME type; what is binary is base64. All of it is made by code in the sandbox:
            do not put it into a page of yours as it is.
        is_value: whether it is the value of the last expression, and no display.
        metadata: what else was said about the forms, such as a picture's size.
    """

    data: Mapping[str, str] = field(repr=_few)
    is_value: bool = False
    metadata: Mapping[str, Any] = field(factory=dict[str, Any], repr=False)

    @property
    def text(self) -> str | None:
        """The plain text."""
        return self.data.get("text/plain")

    @property
    def html(self) -> str | None:
        """The HTML, which may hold anything, scripts too."""
        return self.data.get("text/html")

    @property
    def markdown(self) -> str | None:
        """The Markdown."""
        return self.data.get("text/markdown")

    @property
    def latex(self) -> str | None:
        """The LaTeX."""
        return self.data.get("text/latex")

    @property
    def svg(self) -> str | None:
        """The SVG, which may hold scripts too."""
        return self.data.get("image/svg+xml")

    @property
    def png(self) -> bytes | None:
        """The PNG picture."""
        return self._bytes("image/png")

    @property
    def jpeg(self) -> bytes | None:
        """The JPEG picture."""
        return self._bytes("image/jpeg")

    @property
    def json(self) -> Any:
        """The value of its JSON; None if there is none, or it cannot be read."""
        try:
            return json.loads(self.data.get("application/json", "null"))
        except (ValueError, RecursionError):
            return None

    def _bytes(self, kind: str) -> bytes | None:
        try:
            return base64.b64decode(self.data[kind].replace("\n", ""), validate=True)
        except (KeyError, binascii.Error, ValueError):
            return None

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        from sandkasten._python.showing import rich_bundle  # noqa: PLC0415  (notebooks only)

        return rich_bundle(self)


@frozen
class PythonResult:
    """The end of code that ran, its output, and what it showed.

    Attributes:
        stdout: its standard output; of more than is kept, head and tail, with a line between them that says
            how much was left out.
        stderr: its standard error, in the same way.
        results: its displays, figures and the value of its last expression, in their order.
        error: the exception that it raised; None if it raised none.
        end: how it ended: `completed` (an exception is that, too), `interrupted`, or with its interpreter:
            `exited`, `signal`, `out_of_memory`, or `lost`.
        duration_ms: how long it ran, in milliseconds.
        truncated: whether output or results were left out.
        restarted: whether it began in a new interpreter, because the one before was lost: no variable of
            before was there.
        context_lost: whether its interpreter ended with it: the next code begins in a new one.
        execution_count: which code of its context it was, from 1 on.
    """

    stdout: str = field(repr=shortened)
    stderr: str = field(repr=shortened)
    results: tuple[RichResult, ...] = ()
    error: PythonFault | None = None
    end: str = "completed"
    duration_ms: int = 0
    truncated: bool = False
    restarted: bool = False
    context_lost: bool = False
    execution_count: int = 0

    @property
    def value(self) -> str | None:
        """The last expression's value as text, as `repr` has it; None without one."""
        return next((each.text for each in self.results if each.is_value), None)

    @property
    def ok(self) -> bool:
        """True if it came to its end without an exception."""
        return self.error is None and self.end == "completed"

    def check(self) -> PythonResult:
        """Return this result if the code came to its end without an exception.

        Raises:
            PythonError: it did not; the error's text is the short traceback, and it carries this result.
        """
        if not self.ok:
            raise PythonError(self)
        return self

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        from sandkasten._python.showing import result_bundle  # noqa: PLC0415  (notebooks only)

        return result_bundle(self)


@frozen
class PythonChunk:
    """A piece of what code prints and shows, while it runs.

    Attributes:
        stream: `stdout`, `stderr`, `display` or `result`; empty for a gap.
        text: what was printed.
        result: what was shown.
        missed_bytes: how much is lost here, because the connection was away for longer than the daemon could
            hold it; mostly 0.
    """

    stream: str
    text: str = field(default="", repr=shortened)
    result: RichResult | None = None
    missed_bytes: int = 0


@frozen
class PythonVariable:
    """A variable of a context.

    Attributes:
        name: its name.
        type: its class.
        repr: its value as text; of a long one the beginning.
        size: how large it is, as a text: a number of bytes or of values, or the shape of a table; empty if
            that is not known.
    """

    name: str
    type: str
    repr: str = ""
    size: str = ""


@frozen
class PythonContextInfo:
    """The facts about a context.

    Attributes:
        name: its name.
        running: whether code runs in it.
        started_at: when its interpreter was started; None if it has none.
        python_version: of its interpreter, such as `3.12.1`; None if that is not known yet.
        execution_count: how many times code ran in it since its interpreter was asked for.
    """

    name: str
    running: bool
    started_at: datetime | None = None
    python_version: str | None = None
    execution_count: int = 0
