"""Parts that errors are made of: their texts, paths and details, and how they are pickled and copied."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import httpx

from sandkasten._names import from_json

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# What an OSError keeps outside its `__dict__`.
_OWN = ("errno", "strerror", "filename", "filename2")


def joined(*sentences: str) -> str:
    r"""Return sentences as one text, with control characters written out (`\x1b`); there may be empty ones.

    A traceback prints the text as it is, on a terminal, and names and output of a sandbox stand in it.
    """
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], " ".join(filter(None, sentences)))


def as_sentence(text: str) -> str:
    """Return a text with something at its end."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def origin_of(status_code: int, error_code: str | None, request_id: str | None) -> str:
    """Return the end of the text of a daemon's error: its codes, and the request's id if there is one."""
    codes = " ".join(filter(None, [str(status_code), error_code]))
    return f"[{codes}, request {request_id}]" if request_id else f"[{codes}]"


def seconds_in(retry_after: str | None) -> float | None:
    """Return the time that a header asks to wait; None of a date, which needs clocks that agree."""
    try:
        return None if retry_after is None else max(0.0, float(retry_after))
    except ValueError:
        return None


def text_of_end(exit_code: int | None, end: str | None, output: str) -> str:
    """Return the text of a command's failure: its status and its last line, which is mostly the reason."""
    last_line = output.rstrip().rpartition("\n")[2][:200]
    why = f" ({end})" if end not in {None, "exited", "signal"} else ""
    return f"The command ended with status {exit_code}{why}: {last_line or '(no output)'}"


def path_in(details: Mapping[str, Any], field: str) -> str | None:
    """Return a path of a daemon's details, if it is there."""
    try:
        path = from_json(field, details).get(field)
    except ValueError:
        return None
    return path if isinstance(path, str) else None


# --- about a command that was stopped


class StartFacts:
    """The facts about a program that could not be started, for error classes with `details`."""

    details: Mapping[str, Any]

    @property
    def reason(self) -> str | None:
        """`not_found`, `not_executable` or `no_directory`; None of other reasons, and on other daemons."""
        found = self.details.get("reason")
        return found if isinstance(found, str) else None


class CommandDetails:
    """The facts about a command that the daemon stopped, for error classes with `details`."""

    details: Mapping[str, Any]

    @property
    def output(self) -> str:
        """The output until the command was stopped (empty on a stream, which delivered it already)."""
        return str(self.details.get("output", "")) or self.stdout + self.stderr

    @property
    def stdout(self) -> str:
        """The standard output of a command of `run`, or of Python code; empty of any other command."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """The standard error of a command of `run`, or of Python code; empty of any other command."""
        return self._text("stderr")

    @property
    def truncated(self) -> bool:
        """True if output beyond the daemon's limit is missing from `output`; a line in it says where."""
        return bool(self.details.get("truncated", False))

    @property
    def cwd(self) -> str | None:
        """The shell's directory afterwards; None if the daemon does not say."""
        return self.details.get("cwd")

    @property
    def shell_restarted(self) -> bool:
        """True if the shell itself had to be replaced: directory and exported variables were kept."""
        return bool(self.details.get("shell_restarted", False))

    def _text(self, name: str) -> str:
        found = self.details.get(name)  # of Python that remembers, whose output is text
        if isinstance(found, str):
            return found
        try:
            return base64.b64decode(self.details.get(f"{name}_base64", ""), validate=True).decode(
                errors="replace"
            )
        except (ValueError, TypeError):
            return ""


# --- for other processes


def state_of(error: BaseException) -> dict[str, Any]:
    """Return what an error knows, without a key."""
    state = dict(error.__dict__)
    if isinstance(error, OSError):
        state |= {name: getattr(error, name) for name in _OWN}
    if isinstance(state.get("_request"), httpx.Request):
        state["_request"] = _without_key(state["_request"])
    if isinstance(state.get("response"), httpx.Response):
        state["response"] = _plain_copy(state["response"])
    return state


def remade(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Return the error that `state_of` looked at."""
    base = OSError if issubclass(kind, OSError) else BaseException  # Python allows no other than its own
    error: BaseException = base.__new__(kind, *args)
    error.args = args
    for name, value in state.items():
        setattr(error, name, value)
    return error


def _without_key(request: httpx.Request) -> httpx.Request:
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"authorization"]
    return httpx.Request(request.method, request.url, headers=headers)


def _plain_copy(response: httpx.Response) -> httpx.Response:
    """Return what is known of an answer, without the connection it came on."""
    try:
        content, request = response.content, _without_key(response.request)
    except (httpx.ResponseNotRead, RuntimeError):  # of a stream; or it belongs to no request
        content, request = b"", None
    copied = httpx.Response(response.status_code, request=request, content=content)
    copied.headers = httpx.Headers(response.headers)  # those of the content as it was sent, not as it is
    return copied
