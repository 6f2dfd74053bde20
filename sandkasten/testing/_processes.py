"""Processes of a fake daemon: each prints what a rule says, and ends when somebody asks."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandkasten.testing._multipart import parts_of
from sandkasten.testing._script import Reply
from sandkasten.testing._server import Request
from sandkasten.testing._steps import Answer, Pause, error_answer, event, json_answer, stream_answer
from sandkasten.testing._store import RefusedError, json_body

_ENDED_BY = {"KILL": 137, "TERM": 143, "INT": 130, "HUP": 129}


@dataclass
class FakeProcess:
    """A process of a fake daemon; a test may look at it.

    Attributes:
        id: its id.
        args: the program and its arguments.
        cwd: the directory that was asked for.
        env: the variables that were asked for.
        stdin: what was written to it; of a process without standard input None.
        terminal: the columns and rows of its terminal, or None.
        signals: the signals that it got, by their names or numbers, as they were sent.
        is_running: whether it runs: until its output was read to the end, it got a deadly signal, or somebody
            waited for it.
    """

    id: str
    args: Sequence[str]
    cwd: str
    env: Mapping[str, str | None]
    stdin: bytearray | None
    terminal: tuple[int, int] | None
    reply: Reply = field(repr=False)
    signals: list[str | int] = field(default_factory=list["str | int"])
    is_running: bool = True
    is_input_closed: bool = False
    exit_code: int = 0
    signal: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def end(self, signal: str | None = None) -> None:
        """End, by a signal or as the rule says."""
        if self.is_running:
            self.is_running = False
            self.signal = None if signal is None else f"SIG{signal}"
            self.exit_code = self.reply.exit_code if signal is None else _ENDED_BY[signal]

    @property
    def outputs(self) -> Sequence[tuple[str, bytes]]:
        """The pieces of its output, each with its channel."""
        out = [("stdout", piece.encode()) for piece in self.reply.pieces]
        return out + ([("stderr", self.reply.stderr.encode())] if self.reply.stderr else [])

    def result(self, *, with_outputs: bool = True) -> dict[str, Any]:
        """The end of the process, as the wire has it."""
        streams = {name: b"".join(data for at, data in self.outputs if at == name) for name in _STREAMS}
        sizes = {f"{name}_bytes": len(data) for name, data in streams.items()}
        encoded = {f"{name}_base64": base64.b64encode(data).decode() for name, data in streams.items()}
        end = "signal" if self.signal else "timeout" if self.reply.timed_out else "exited"
        return {
            "exit_code": self.exit_code,
            "signal": self.signal,
            "end": end,
            "duration_ms": round(self.reply.pause_seconds * len(self.reply.pieces) * 1000),
            "truncated": False,
            **sizes,
            **(encoded if with_outputs else {}),
        }

    @property
    def info(self) -> dict[str, Any]:
        """The facts about it, as the wire has them."""
        size = self.terminal
        return {
            "id": self.id,
            "pid": None,
            "args": list(self.args),
            "cwd": self.cwd,
            "running": self.is_running,
            "started_at": self.started_at.isoformat(),
            "terminal": None if size is None else {"columns": size[0], "rows": size[1]},
            "result": None if self.is_running else self.result(),
        }

    def events(self, position: int) -> Iterator[bytes | Pause]:
        """Yield what it prints after a position, and its end."""
        offset = 0
        for stream, data in self.outputs:
            offset += len(data)
            if offset > position:
                yield Pause(self.reply.pause_seconds)
                rest = data[max(0, position - (offset - len(data))) :]
                yield event(stream, {"base64": base64.b64encode(rest).decode()}, offset)
        self.end()
        yield event("done", self.result(with_outputs=False), offset)


_STREAMS = ("stdout", "stderr")
Processes = dict[str, FakeProcess]
Replies = Callable[[str], Reply]


@dataclass(frozen=True)
class ProcessCall:
    """A call about the processes of one session.

    Attributes:
        method: the HTTP verb.
        path: the end of its path, a pattern from `/processes` on.
        answer: makes the answer from the session's processes, the request, and what programs reply.
    """

    method: str
    path: str
    answer: Callable[[Processes, Request, Replies], Answer]


def run(_processes: Processes, request: Request, replies: Replies) -> Answer:
    """`POST .../processes/run`."""
    body = _run_body(request)
    process = _made("", body, replies)
    process.end()
    if process.reply.timed_out:
        sentence = f"The process was stopped after {body.get('timeout_ms')} ms."
        return error_answer(504, "COMMAND_TIMEOUT", sentence, process.result())
    answer = json_answer(process.result())
    pause_seconds = process.reply.pause_seconds * len(process.reply.pieces)
    return Answer(answer.status, answer.headers, answer.body, pause_seconds=pause_seconds)


def _run_body(request: Request) -> Mapping[str, Any]:
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("multipart/"):
        return json_body(request)
    parts = {part.name: part.content for part in parts_of(content_type, request.body)}
    body: dict[str, Any] = json.loads(parts["request"])
    return body


def start(processes: Processes, request: Request, replies: Replies) -> Answer:
    """`POST .../processes`; once for each id."""
    body = json_body(request)
    process_id = str(body.get("id"))
    if process_id not in processes:
        processes[process_id] = _made(process_id, body, replies)
    return json_answer(processes[process_id].info, 201)


def _made(process_id: str, body: Mapping[str, Any], replies: Replies) -> FakeProcess:
    cmd = body.get("cmd")
    args = [str(word) for word in body.get("args") or ("bash", "-c", cmd)]
    size = body.get("terminal")
    return FakeProcess(
        process_id,
        args,
        body.get("cwd") or "/workspace",
        body.get("env") or {},
        bytearray() if body.get("stdin") or size else None,
        (size["columns"], size["rows"]) if size else None,
        replies(cmd or shlex.join(args)),
    )


def listed(processes: Processes, _request: Request, _replies: Replies) -> Answer:
    """`GET .../processes`."""
    return json_answer({"processes": [process.info for process in processes.values()]})


def info(processes: Processes, request: Request, _replies: Replies) -> Answer:
    """`GET .../processes/{id}`."""
    return json_answer(_found(processes, request).info)


def output(processes: Processes, request: Request, _replies: Replies) -> Answer:
    """`GET .../output`."""
    position = int(request.headers.get("last-event-id") or 0)
    return stream_answer(_found(processes, request).events(position))


def result(processes: Processes, request: Request, _replies: Replies) -> Answer:
    """`GET .../result`: whoever waits for the end sees it."""
    process = _found(processes, request)
    process.end()
    return json_answer(process.info)


def put_input(processes: Processes, request: Request, _replies: Replies) -> Answer:
    """`PUT .../input`."""
    process = _found(processes, request)
    if process.stdin is None or process.is_input_closed or not process.is_running:
        raise RefusedError(409, "INPUT_CLOSED", "Nobody reads this input any more.")
    offset = int(request.query.get("offset") or 0)
    if offset > len(process.stdin):
        raise RefusedError(409, "CONFLICT", "There is a hole before this input.")
    process.stdin += request.body[len(process.stdin) - offset :]
    process.is_input_closed = request.query.get("close") == "true"
    return json_answer({"position": len(process.stdin)})


def signal(processes: Processes, request: Request, _replies: Replies) -> Answer:
    """`POST .../signal`."""
    process, number = _found(processes, request), json_body(request)["signal"]
    was_running = process.is_running
    if was_running:
        process.signals.append(number)
    if number in _ENDED_BY:
        process.end(number)
    return json_answer({"delivered": was_running})


def resize(processes: Processes, request: Request, _replies: Replies) -> Answer:
    """`POST .../resize`."""
    process, body = _found(processes, request), json_body(request)
    if process.terminal is None:
        raise RefusedError(400, "INVALID_REQUEST", "The process has no terminal.")
    process.terminal = body["columns"], body["rows"]
    return json_answer({"ok": True})


def end(processes: Processes, request: Request, _replies: Replies) -> Answer:
    """`DELETE .../processes/{id}`."""
    process = _found(processes, request)
    process.end("KILL" if request.query.get("force") == "true" else "TERM")
    return json_answer(process.info)


def _found(processes: Processes, request: Request) -> FakeProcess:
    name = request.path.split("/")[5]
    if name not in processes:
        raise RefusedError(404, "PROCESS_NOT_FOUND", f"There is no process {name!r}.")
    return processes[name]


# By the client's names for them; the first that fits counts.
PROCESS_CALLS: Mapping[str, ProcessCall] = {
    "run": ProcessCall("POST", "/processes/run", run),
    "start": ProcessCall("POST", "/processes", start),
    "processes": ProcessCall("GET", "/processes", listed),
    "process_info": ProcessCall("GET", "/processes/[^/]+", info),
    "process_output": ProcessCall("GET", "/processes/[^/]+/output", output),
    "process_result": ProcessCall("GET", "/processes/[^/]+/result", result),
    "process_input": ProcessCall("PUT", "/processes/[^/]+/input", put_input),
    "process_signal": ProcessCall("POST", "/processes/[^/]+/signal", signal),
    "process_resize": ProcessCall("POST", "/processes/[^/]+/resize", resize),
    "process_end": ProcessCall("DELETE", "/processes/[^/]+", end),
}
