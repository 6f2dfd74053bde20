"""A real interpreter outside of any sandbox, with the driver in it, and the daemon's end of its control."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandkasten.local.sessions.interpreters.program import args_of, first_bytes

MOST_BYTES = 4 * 1024 * 1024
# More than a frame of the driver may have.
_FRAME_BYTES = 1024 * 1024


@dataclass
class Report:
    """All that one run reported.

    Attributes:
        displays: the bundles that were shown, in order.
        value: the bundle of the last expression.
        error: the fields of the error.
        is_lost: the interpreter ended meanwhile.
        metadata: those of the displays, in order.
        size_bytes: of all frames.
    """

    displays: list[dict[str, str]] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    value: dict[str, str] | None = None
    error: dict[str, str] | None = None
    stdout: str = ""
    stderr: str = ""
    is_lost: bool = False
    size_bytes: int = 0

    @property
    def text(self) -> str | None:
        """The text of the value."""
        assert self.error is None, self.error["traceback"]
        return None if self.value is None else self.value["text/plain"]

    @property
    def error_name(self) -> str | None:
        """The name of the error."""
        return None if self.error is None else self.error["name"]


class Interpreter:
    """A process, and the control of it."""

    def __init__(self, directory: Path) -> None:
        self._control, inner = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, *args_of("python3")[1:]],
            stdin=inner,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
        )
        inner.close()
        self._control.sendall(first_bytes())
        self._selector = selectors.DefaultSelector()
        self._texts: dict[Any, bytearray] = {}
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)
            self._texts[pipe] = bytearray()
        self._selector.register(self._control, selectors.EVENT_READ)
        self._data = bytearray()
        self._frames: list[tuple[dict[str, Any], int]] = []
        self.number = 0
        self.version = self.next()["version"]

    def send(self, **message: Any) -> None:
        data = json.dumps(message).encode()
        self._control.sendall(len(data).to_bytes(4, "big") + data)

    def begin(self, code: str, most_bytes: int = MOST_BYTES) -> None:
        self.number += 1
        self.send(op="run", id=self.number, code=code, most_bytes=most_bytes)

    def run(self, code: str, most_bytes: int = MOST_BYTES) -> Report:
        self.begin(code, most_bytes)
        return self.report()

    def report(self) -> Report:
        """Read all of a run, which ends with one `done`."""
        report, pieces = Report(), dict[str, str]()
        for event, size_bytes in self._events():
            report.size_bytes += size_bytes
            assert event["id"] == self.number
            if event["event"] == "data":
                pieces[event["mime"]] = pieces.get(event["mime"], "") + event["piece"]
                continue
            self._take(report, event, pieces)
        report.is_lost = self._is_over
        report.stdout, report.stderr = self._printed()
        return report

    def _take(self, report: Report, event: dict[str, Any], pieces: dict[str, str]) -> None:
        if event["event"] == "error":
            assert report.error is None
            report.error = event
            return
        data = {**event["data"], **pieces}
        pieces.clear()
        if event["event"] == "result":
            assert report.value is None
            report.value = data
        else:
            assert event["event"] == "display"
            assert report.value is report.error is None
            report.displays.append(data)
            report.metadata.append(event["metadata"])

    def variables(self) -> dict[str, dict[str, Any]]:
        self.send(op="variables", id=self.number)
        return {row["name"]: row for row in self.next()["variables"]}

    def wait_for(self, text: str) -> None:
        """Wait until the code that runs has printed something."""
        pipe = self.process.stdout
        while text.encode() not in self._texts[pipe]:
            self._turn()

    def interrupt(self, number: int | None = None) -> None:
        self.send(op="interrupt", id=number or self.number)
        self.process.send_signal(signal.SIGINT)

    def next(self) -> dict[str, Any]:
        while not self._frames:
            self._turn()
        return self._frames.pop(0)[0]

    def hang_up(self) -> int:
        """Close the control; return the status that the process ends with."""
        self._control.close()
        return self.process.wait(10)

    def close(self) -> None:
        self._selector.close()
        self._control.close()
        self.process.kill()
        self.process.wait()
        for pipe in self._texts:
            pipe.close()

    _is_over = False

    def _events(self) -> Iterator[tuple[dict[str, Any], int]]:
        self._is_over = False
        while True:
            while not self._frames:
                if not self._turn():
                    self._is_over = True
                    return
            event, size_bytes = self._frames.pop(0)
            if event["event"] == "done":
                return
            yield event, size_bytes

    def _turn(self) -> bool:
        """Read what is there; return whether the control is open."""
        for key, _ in self._selector.select(20) or [(None, None)]:
            assert key is not None, "nothing comes any more"
            if key.fileobj is self._control:
                data = self._control.recv(1 << 20)
                if not data:
                    return False
                self._data += data
                self._cut_frames()
            else:
                self._read(key.fileobj)
        return True

    def _cut_frames(self) -> None:
        while len(self._data) >= 4:
            end = 4 + int.from_bytes(self._data[:4], "big")
            assert end <= _FRAME_BYTES
            if len(self._data) < end:
                break
            self._frames.append((json.loads(self._data[4:end]), end))
            del self._data[:end]

    def _read(self, pipe: Any) -> bool:
        try:
            data = os.read(pipe.fileno(), 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(pipe)
        self._texts[pipe] += data
        return bool(data)

    def _printed(self) -> tuple[str, str]:
        found = []
        for pipe, text in self._texts.items():
            while pipe in self._selector.get_map() and self._read(pipe):
                pass
            found.append(text.decode("utf-8", "surrogateescape"))
            text.clear()
        return found[0], found[1]
