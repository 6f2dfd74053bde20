"""Requests that a generator made up, against every endpoint: never a 500, never a hang, always JSON."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import httpx
import pytest

from sandkasten.local.launch import LocalDaemon

ROUNDS = 150
# `scripts/fuzz` takes others, and more of them.
EXAMPLES = int(os.environ.get("SANDKASTEN_FUZZ_EXAMPLES", "0"))
SEEDS = [random.randrange(1 << 32) for _ in range(max(6, EXAMPLES // 1000))] if EXAMPLES else range(6)

PATHS = [
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("POST", "/v1/sessions"),
    ("GET", "/v1/sessions"),
    ("DELETE", "/v1/creations/{key}"),
    ("GET", "/v1/sessions/{session}"),
    ("DELETE", "/v1/sessions/{unknown}"),
    ("GET", "/v1/sessions/{session}/stats"),
    ("POST", "/v1/sessions/{session}/interrupt"),
    ("POST", "/v1/sessions/{session}/exec"),
    ("POST", "/v1/sessions/{session}/exec/stream"),
    ("DELETE", "/v1/sessions/{session}/executions/{key}"),
    ("POST", "/v1/sessions/{session}/processes/run"),
    ("POST", "/v1/sessions/{session}/processes"),
    ("GET", "/v1/sessions/{session}/processes"),
    ("GET", "/v1/sessions/{session}/processes/{process}"),
    ("DELETE", "/v1/sessions/{session}/processes/{process}"),
    ("GET", "/v1/sessions/{session}/processes/{process}/output"),
    ("GET", "/v1/sessions/{session}/processes/{process}/result"),
    ("PUT", "/v1/sessions/{session}/processes/{process}/input"),
    ("POST", "/v1/sessions/{session}/processes/{process}/signal"),
    ("POST", "/v1/sessions/{session}/processes/{process}/resize"),
    ("POST", "/v1/sessions/{session}/fs/write"),
    ("POST", "/v1/sessions/{session}/fs/upload"),
    ("GET", "/v1/sessions/{session}/fs"),
    ("GET", "/v1/sessions/{session}/fs/read"),
    ("GET", "/v1/sessions/{session}/fs/raw"),
    ("PUT", "/v1/sessions/{session}/fs/raw"),
    ("GET", "/v1/sessions/{session}/fs/tar"),
    ("PUT", "/v1/sessions/{session}/fs/tar"),
    ("GET", "/v1/workspaces/{workspace}/fs/raw"),
    ("PUT", "/v1/workspaces/{workspace}/fs/raw"),
    ("GET", "/v1/workspaces/{workspace}/fs/tar"),
    ("PUT", "/v1/workspaces/{workspace}/fs/tar"),
    ("GET", "/v1/workspaces"),
    ("DELETE", "/v1/workspaces/{unknown}"),
    ("GET", "/v1/workspaces/{workspace}/fs"),
    ("POST", "/v1/workspaces/{workspace}/fs/write"),
    ("POST", "/v1/workspaces/{workspace}/fs/upload"),
    ("GET", "/v1/workspaces/{workspace}/fs/read"),
]
FIELDS = [
    "cmd",
    "timeout_ms",
    "raw_output",
    "path",
    "text",
    "content_base64",
    "image",
    "ttl_seconds",
    "network",
    "args",
    "cwd",
    "env",
    "input",
    "keep_bytes",
    "stdin",
    "terminal",
    "columns",
    "rows",
    "signal",
]
PROCESSES = ["0" * 32, "f" * 32]
TEXTS = ["", "true", "x", "/workspace/a", "../..", "a\0b", "\ud800", "ü", "%00", "a" * 5000]
TEXTS += ["exit 1", "none", "base", "TERM", "dHJ1ZQ==", PROCESSES[0]]
NUMBERS = [0, 1, -1, 50, 2**31, 2**63, 2**200, 0.5, 1e308, float("nan")]


class Maker:
    """Makes up requests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        kinds = [None, True, False, self._random.choice(TEXTS), self._random.choice(NUMBERS)]
        if depth < 3:
            kinds += [
                [self.value(depth + 1) for _ in range(self._random.randrange(3))],
                {self._random.choice(FIELDS): self.value(depth + 1)},
            ]
        return self._random.choice(kinds)

    def body(self) -> bytes:
        if self._random.random() < 0.15:
            return self._random.randbytes(self._random.randrange(200))
        fields = self._random.sample(FIELDS, self._random.randrange(len(FIELDS)))
        values: Any = {name: self.value() for name in fields}
        if self._random.random() < 0.7:  # often a command that is not endless
            values["timeout_ms"] = self._random.choice([1, 20, 100])
        if self._random.random() < 0.6:
            values = self.process()
        return json.dumps(values if self._random.random() < 0.9 else self.value()).encode()

    def process(self) -> dict[str, Any]:
        """A process that can be started, or what can be done to one."""
        size = {"columns": self._random.choice([80, 0]), "rows": 25}
        values: dict[str, Any] = {
            "id": self._random.choice(PROCESSES),
            "args": self._random.choice([["true"], ["cat"], ["sleep", "9"], ["no"]]),
            "timeout_ms": self._random.choice([20, 100, 1000]),
            "stdin": self._random.choice([True, False]),
            "signal": self._random.choice(["TERM", 9, "STOP", 19, 0]),
            "terminal": self._random.choice([None, None, size]),
            **size,
        }
        if self._random.random() < 0.3:
            values[self._random.choice(FIELDS)] = self.value()
        return values

    def multipart(self) -> dict[str, Any]:
        parts = self._random.randrange(4)
        name = self._random.choice(["file", "files", "other", ""])
        return {
            "data": {"path": self._random.choice(TEXTS[:9]).encode("utf-8", "replace").decode()},
            "files": [
                (name, (self._random.choice(["a", "../a", "", "."]), self._random.randbytes(50)))
                for _ in range(parts)
            ],
        }

    def headers(self) -> dict[str, str]:
        """Return headers that mean something here, with good values and bad ones."""
        known = {
            "Idempotency-Key": ["0123456789abcdef", "fedcba9876543210", "short", "x" * 200, "a b" * 10],
            "Last-Event-ID": ["0", "3", "-1", "x", "9" * 30],
            "Range": ["bytes=0-", "bytes=1-0", "bytes=99999-", "bytes=-5", "lines=1", "bytes=0-1,3-4"],
            "If-Range": ['"x"', "y"],
            "X-Request-ID": ["mine", "a b", "y" * 500],
        }
        chosen = self._random.sample(sorted(known), self._random.choice([0, 0, 1, 2]))
        return {name: self._random.choice(known[name]) for name in chosen}

    def request(self, session: str) -> tuple[str, str, dict[str, Any]]:
        method, template = self._random.choice(PATHS)
        unknown = self._random.choice(["deadbeef-123", "..", "%2e%2e", "a b", "x" * 300, "\u00fc"])
        names = {
            "workspace": self._random.choice(["fuzz", "A"]),
            "key": self._random.choice(["0123456789abcdef", "%00"]),
            "process": self._random.choice([*PROCESSES, "x", "%00"]),
        }
        path = template.format(session=session, unknown=unknown, **names)
        fields = ["path", "max_bytes", "mode", "offset", "close", "force", "timeout_ms"]
        query = {self._random.choice(fields): str(self.value())[:100] for _ in range(2)}
        query = {name: text.encode("utf-8", "replace").decode() for name, text in query.items()}
        headers = self.headers()
        if method not in {"POST", "PUT"}:
            return method, path, {"params": query, "headers": headers}
        if method == "PUT":
            return method, path, {"params": query, "headers": headers, "content": self.body()}
        if self._random.random() < 0.3:
            return method, path, self.multipart()
        content_type = self._random.choice(["application/json", "text/plain", "multipart/form-data", ""])
        return method, path, {"content": self.body(), "headers": headers | {"Content-Type": content_type}}


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_is_asked_the_daemon_answers_and_does_not_fail(seed: int, daemon: LocalDaemon) -> None:
    maker = Maker(seed)
    target = daemon.target
    transport = httpx.HTTPTransport(uds=target.socket_path, verify=False)
    headers = {"Authorization": f"Bearer {target.api_key}"}
    with httpx.Client(transport=transport, headers=headers, base_url="http://x", timeout=20) as client:
        session = client.post("/v1/sessions", json={}).json()["id"]
        made = {session}
        for _ in range(ROUNDS):
            method, path, options = maker.request(session)
            answer = client.request(method, path, **options)
            assert answer.status_code < 500 or answer.status_code in {504, 507}, (method, path, options)
            if answer.status_code == 201:
                made.add(answer.json()["id"])
            if answer.status_code >= 400:
                assert {"error_code", "message"} <= answer.json().keys(), (method, path, options)
        answer = client.post(f"/v1/sessions/{session}/exec", json={"cmd": "echo ok"})
        assert answer.json().get("output", "").endswith("ok\n"), answer.text
        for session in made:
            assert client.delete(f"/v1/sessions/{session}").status_code == 200
