"""Python of a fake daemon: code has the results that a test gave it, and a context counts what ran in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandkasten.testing._script import CommandMatch, ScriptedOutput
from sandkasten.testing._server import Request
from sandkasten.testing._steps import Answer, Pause, error_answer, event, json_answer, stream_answer
from sandkasten.testing._store import RefusedError, json_body

_MAX_TIMEOUT_MS = 600_000


@dataclass(frozen=True)
class PythonReply:
    """The course of some code.

    Attributes:
        pieces: what it prints, as a stream delivers it.
        stderr: what it prints to its standard error.
        displays: what it shows, each by MIME type.
        value: its last expression's value, by MIME type; None without one.
        error: the exception that it raises: name and message.
        pause_seconds: how long it takes to print each piece.
        timed_out: whether it outruns its time instead of ending.
    """

    pieces: Sequence[str] = ()
    stderr: str = ""
    displays: Sequence[Mapping[str, str]] = ()
    value: Mapping[str, str] | None = None
    error: tuple[str, str] | None = None
    pause_seconds: float = 0.0
    timed_out: bool = False


@dataclass
class PythonRule:
    """A rule for some code, and how often it still applies; None is for ever."""

    match: CommandMatch
    output: ScriptedOutput
    reply: PythonReply
    times: int | None = None


@dataclass
class FakeContext:
    """An interpreter that remembers, of a fake daemon: it only counts.

    Attributes:
        name: its name.
        codes: the code that ran in it, in order.
    """

    name: str
    codes: list[str] = field(default_factory=list[str])


@dataclass
class FakeRun:
    """Code that was run, kept for whoever asks for it again."""

    reply: PythonReply
    timeout_ms: int
    execution_count: int

    def answer(self) -> Answer:
        """Return the answer to a call that waits for the end."""
        result = self._ending() | {
            "stdout": "".join(self.reply.pieces),
            "stderr": self.reply.stderr,
            "results": self._results(),
            "truncated": False,
        }
        answer = json_answer(result)
        if self.reply.timed_out:
            answer = error_answer(504, "COMMAND_TIMEOUT", self._sentence(), result)
        pause_seconds = self.reply.pause_seconds * len(self.reply.pieces)
        return Answer(answer.status, answer.headers, answer.body, pause_seconds=pause_seconds)

    def events(self, position: int) -> Iterator[bytes | Pause]:
        """Yield the events of a stream from a position on."""
        offset = 0
        outputs = [("stdout", piece) for piece in self.reply.pieces]
        for stream, text in [*outputs, *([("stderr", self.reply.stderr)] if self.reply.stderr else [])]:
            offset += len(text.encode())
            if offset > position:
                yield Pause(self.reply.pause_seconds)
                yield event(stream, {"base64": base64.b64encode(text.encode()).decode()}, offset)
        for result in self._results():
            name = "result" if result.pop("is_value") else "display"
            offset += len(json.dumps(result))
            if offset > position:
                yield event(name, result, offset)
        if self.reply.timed_out:
            error = {"error": self._sentence(), "error_code": "COMMAND_TIMEOUT", "status": 504}
            yield event("error", error | {"details": self._ending()})
        else:
            yield event("done", self._ending(), offset)

    def _results(self) -> list[dict[str, Any]]:
        shown = [*self.reply.displays, *([] if self.reply.value is None else [self.reply.value])]
        return [{"data": dict(data), "metadata": {}, "is_value": data is self.reply.value} for data in shown]

    def _ending(self) -> dict[str, Any]:
        error: dict[str, str] | None = None
        if self.reply.error is not None:
            name, message = self.reply.error
            error = {"name": name, "message": message, "traceback": f"{name}: {message}"}
        return {
            "error": error,
            "end": "timeout" if self.reply.timed_out else "completed",
            "duration_ms": round(self.reply.pause_seconds * len(self.reply.pieces) * 1000),
            "context_lost": False,
            "restarted": False,
            "execution_count": self.execution_count,
        }

    def _sentence(self) -> str:
        return f"The code was stopped after {self.timeout_ms} ms. Its variables are still there."


Contexts = dict[str, FakeContext]
Replies = Callable[[str], PythonReply]


def made_run(contexts: Contexts, request: Request, replies: Replies) -> FakeRun:
    """Run code, as a rule says."""
    body = json_body(request)
    code = body.get("code")
    if not isinstance(code, str):
        raise RefusedError(400, "INVALID_REQUEST", "'code' must be given as a string.")
    name = body.get("context") or "default"
    context = contexts.setdefault(name, FakeContext(name))
    context.codes.append(code)
    timeout_ms = body.get("timeout_ms") or _MAX_TIMEOUT_MS
    return FakeRun(replies(code), timeout_ms, len(context.codes))


def answer_of(run: FakeRun, request: Request) -> Answer:
    """Answer with a result, or with a stream."""
    if "text/event-stream" not in request.headers.get("accept", ""):
        return run.answer()
    return stream_answer(run.events(int(request.headers.get("last-event-id") or 0)))


@dataclass(frozen=True)
class ContextCall:
    """A call about the contexts of one session.

    Attributes:
        method: the HTTP verb.
        path: the end of its path, a pattern.
        answer: makes the answer from the session's contexts and the name of one.
    """

    method: str
    path: str
    answer: Callable[[Contexts, str], Answer]


def _listed(contexts: Contexts, _name: str) -> Answer:
    rows = [
        {"name": each.name, "running": False, "execution_count": len(each.codes)}
        for each in contexts.values()
    ]
    return json_answer({"contexts": rows})


def _variables(_contexts: Contexts, _name: str) -> Answer:
    return json_answer({"variables": []})


def _interrupt(_contexts: Contexts, _name: str) -> Answer:
    return json_answer({"interrupted": False})


def _restart(contexts: Contexts, name: str) -> Answer:
    if name in contexts:
        contexts[name].codes.clear()
    return json_answer({"ok": True})


def _close(contexts: Contexts, name: str) -> Answer:
    contexts.pop(name, None)
    return json_answer({"ok": True})


# By the client's names for them; the first that fits counts.
CONTEXT_CALLS: Mapping[str, ContextCall] = {
    "python_contexts": ContextCall("GET", "/python", _listed),
    "python_close": ContextCall("DELETE", "/python/[^/]+", _close),
    "python_variables": ContextCall("GET", "/python/[^/]+/variables", _variables),
    "python_interrupt": ContextCall("POST", "/python/[^/]+/interrupt", _interrupt),
    "python_restart": ContextCall("POST", "/python/[^/]+/restart", _restart),
}
