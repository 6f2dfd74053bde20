"""The commands of `GoDaemon`: one after another, each in a bash of its own, and none is ever stopped."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import httpx

from sandkasten.testing._server import Peer
from sandkasten.testing._steps import Answer, json_answer
from tests import go_rules as rules
from tests.go_rules import Config, internal


def in_background(function: Callable[[], Answer]) -> Future[Answer]:
    """Call a function in a thread that nothing waits for, not even the end of the program."""
    future: Future[Answer] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


@dataclass
class Known:
    """A session that this daemon made, whatever became of it.

    Attributes:
        info: what it answered when it made it.
        turn: held by the command whose result is waited for.
        late: commands that outran their time; they go on, and nobody waits for them any more.
    """

    info: dict[str, Any]
    turn: threading.Lock = field(default_factory=threading.Lock)
    late: list[Future[Answer]] = field(default_factory=list)


class Commands:
    """The commands of all sessions."""

    def __init__(self, behind: httpx.Client, config: Config) -> None:
        """Bind to the embedded daemon behind."""
        self._behind = behind
        self._config = config

    def run(self, known: Known, command: Mapping[str, Any], peer: Peer) -> Answer:
        """Wait in line, and run a command."""
        with known.turn:
            return self._run(known, command, peer)

    def _run(self, known: Known, command: Mapping[str, Any], peer: Peer) -> Answer:
        """Run a command and look for its end from time to time; one that takes too long is left alone."""
        most_ms = self._config.max_exec_timeout_ms
        limit_ms = min(command["timeout_ms"] or most_ms, most_ms)
        until = time.monotonic() + limit_ms / 1000
        running = in_background(lambda: self._run_to_its_end(known, command))
        while True:
            time.sleep(self._config.poll_seconds)
            if running.done():
                return self._result(known, command, running.result())
            if time.monotonic() > until or peer.is_gone():
                known.late.append(running)
                return rules.timed_out(limit_ms)

    def _run_to_its_end(self, known: Known, command: Mapping[str, Any]) -> Answer:
        """Run a command by a stream, which alone brings all of the output."""
        cmd = rules.in_child_shell(command["cmd"])
        body = {"cmd": cmd, "raw_output": command["raw_output"]}
        output, end = list[str](), dict[str, Any]()
        path = f"/v1/sessions/{known.info['id']}/exec/stream"
        with self._behind.stream("POST", path, json=body) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    end = json.loads(line.removeprefix("data: "))
                    output.append(end.get("chunk", ""))
        if "exit_code" not in end:
            return internal("exec: no response from runner")
        return json_answer(
            {name: end[name] for name in ("exit_code", "duration_ms")} | {"output": "".join(output)}
        )

    def _result(self, known: Known, command: Mapping[str, Any], answer: Answer) -> Answer:
        """Put what nobody waited for any more before the output of the command that came next."""
        late, known.late = [future.result() for future in known.late], []
        if answer.status != 200:
            return answer
        result = json.loads(answer.body)
        before = "".join(json.loads(each.body)["output"] for each in late if each.status == 200)
        output = rules.with_prompts(known.info["id"], before + result["output"], raw=command["raw_output"])
        return rules.exec_answer({**result, "cwd": "/workspace", "output": output})
