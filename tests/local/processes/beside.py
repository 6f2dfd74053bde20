"""The processes of one session, in plain HTTP."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Output:
    """The output that a stream of events brought."""

    data: dict[str, bytes] = field(default_factory=lambda: {"stdout": b"", "stderr": b""})
    missed_bytes: int = 0
    position: int = 0
    done: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    def take(self, name: str, number: int, data: dict[str, Any]) -> None:
        if name in self.data:
            self.data[name] += base64.b64decode(data["base64"])
        elif name == "gap":
            self.missed_bytes += data["missed_bytes"]
        elif name == "done":
            self.done = data
        else:
            assert name == "error"
            self.error = data
        self.position = number


def events(response: httpx.Response) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield name, number and data of events as they come."""
    name, number = "", 0
    for line in response.iter_lines():
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, number, json.loads(line[6:])


class Beside:
    """A session."""

    def __init__(self, client: httpx.Client, **body: Any) -> None:
        self.client = client
        answer = client.post("/v1/sessions", json={"image": "base"} | body)
        assert answer.status_code == 201, answer.text
        self.id: str = answer.json()["id"]
        self.session_url = f"/v1/sessions/{self.id}"
        self.url = f"{self.session_url}/processes"

    def ask(self, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """Run a process, whatever comes of it."""
        return self.client.post(f"{self.url}/run", json=body, headers=headers)

    def run(self, **body: Any) -> dict[str, Any]:
        """Run a process to an end of its own."""
        answer = self.ask(**body)
        assert answer.status_code == 200, answer.text
        return opened(answer.json())

    def start(self, **body: Any) -> str:
        """Start a process, and return its id."""
        process_id = os.urandom(16).hex()
        answer = self.client.post(self.url, json={"id": process_id, **body})
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] == process_id
        return process_id

    def info(self, process_id: str) -> dict[str, Any]:
        """Return the facts about a process."""
        answer = self.client.get(f"{self.url}/{process_id}")
        assert answer.status_code == 200, answer.text
        info: dict[str, Any] = answer.json()
        return info

    @contextmanager
    def reading(
        self, process_id: str, position: int = 0
    ) -> Generator[Iterator[tuple[str, int, dict[str, Any]]]]:
        """Read the output, event by event."""
        headers = {"Last-Event-ID": str(position)}
        with self.client.stream("GET", f"{self.url}/{process_id}/output", headers=headers) as response:
            assert response.status_code == 200
            yield events(response)

    def output(self, process_id: str, position: int = 0) -> Output:
        """Read the output to the end."""
        output = Output()
        with self.reading(process_id, position) as found:
            for event in found:
                output.take(*event)
        return output

    def feed(self, process_id: str, data: bytes, offset: int, *, close: bool = False) -> httpx.Response:
        """Write to the standard input."""
        params = {"offset": offset, "close": str(close).lower()}
        return self.client.put(f"{self.url}/{process_id}/input", params=params, content=data)

    def wait(self, process_id: str, timeout_ms: int = 20_000) -> dict[str, Any]:
        """Wait for the end, and return the result."""
        answer = self.client.get(f"{self.url}/{process_id}/result", params={"timeout_ms": timeout_ms})
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()["result"]
        assert result is not None, "it has not ended in time"
        return result

    def signal(self, process_id: str, signal: str | int) -> httpx.Response:
        """Signal a process."""
        return self.client.post(f"{self.url}/{process_id}/signal", json={"signal": signal})

    def end(self, process_id: str, **params: str) -> dict[str, Any]:
        """Stop a process, and return the facts."""
        answer = self.client.delete(f"{self.url}/{process_id}", params=params)
        assert answer.status_code == 200, answer.text
        info: dict[str, Any] = answer.json()
        return info

    def destroy(self) -> None:
        """End the session."""
        self.client.delete(self.session_url)


def opened(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with its outputs decoded."""
    outputs = {name: base64.b64decode(result[f"{name}_base64"]) for name in ("stdout", "stderr")}
    return result | outputs
