"""A session of the real daemon, spoken to in plain HTTP, as no client of ours would."""

from __future__ import annotations

import base64
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpcore
import httpx
from httpcore._backends.sync import SyncStream

from sandkasten.local.files.tree import Tree
from sandkasten.local.launch import LocalDaemon

PROGRAMS = Path(__file__).parent / "programs"


def connect(daemon: LocalDaemon, timeout: float = 30.0) -> httpx.Client:
    """A client with the key, on the daemon's socket."""
    # No TLS here, and reading all certificates is most of what a client costs.
    transport = httpx.HTTPTransport(uds=daemon.target.socket_path, verify=False)
    transport._pool._network_backend = _Backend()
    return httpx.Client(
        transport=transport,
        base_url=daemon.target.base_url,
        headers={"Authorization": f"Bearer {daemon.target.api_key}"},
        timeout=timeout,
    )


class _Backend(httpcore.SyncBackend):
    def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(super().connect_unix_socket(*args, **options).get_extra_info("socket"))


class _Stream(SyncStream):
    """Sends a large body as one; the library's own copies all that is left for each part of it."""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._sock.settimeout(timeout)
        try:
            self._sock.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error


def directory_of(daemon: LocalDaemon, session_id: str) -> Path:
    """Return the directory on the host in which the daemon keeps a session."""
    return Path(daemon.target.socket_path or "").parent.parent / "sessions" / session_id


def workspace_of(daemon: LocalDaemon, session_id: str) -> Path:
    """Return the directory on the host that is mounted at a session's /workspace."""
    return directory_of(daemon, session_id) / "root" / "workspace"


class Box:
    """One session."""

    def __init__(self, daemon: LocalDaemon, client: httpx.Client, patience: float = 30, **body: Any) -> None:
        self.daemon = daemon
        self.client = client
        self.patience = patience
        answer = client.post("/v1/sessions", json={"image": "base"} | body)
        assert answer.status_code == 201, answer.text
        self.info: dict[str, Any] = answer.json()
        self.id: str = self.info["id"]
        self.url = f"/v1/sessions/{self.id}"

    @property
    def directory(self) -> Path:
        """The directory of the session on the host."""
        return directory_of(self.daemon, self.id)

    @property
    def workspace(self) -> Path:
        """The host's directory that is mounted at /workspace."""
        return workspace_of(self.daemon, self.id)

    def ask(self, cmd: str, timeout_ms: int = 20_000, **body: Any) -> httpx.Response:
        """Run a command, whatever comes of it."""
        return self.client.post(
            f"{self.url}/exec", json={"cmd": cmd, "timeout_ms": timeout_ms} | body, timeout=self.patience
        )

    def exec(self, cmd: str, timeout_ms: int = 20_000, **body: Any) -> dict[str, Any]:
        """Run a command that comes to an end."""
        answer = self.ask(cmd, timeout_ms, **body)
        assert answer.status_code == 200, f"{cmd[:200]!r}: {answer.text[:2000]}"
        result: dict[str, Any] = answer.json()
        return result

    def run(self, cmd: str, timeout_ms: int = 20_000) -> str:
        """Run a command that succeeds, for its output."""
        result = self.exec(cmd, timeout_ms)
        assert result["exit_code"] == 0, f"{cmd[:200]!r}: {result}"
        output: str = result["output"]
        return output

    def times_out(self, cmd: str, timeout_ms: int = 100) -> dict[str, Any]:
        """Run a command that must be stopped at its deadline, for the error's details."""
        answer = self.ask(cmd, timeout_ms)
        assert answer.status_code == 504, f"{cmd[:200]!r}: {answer.status_code} {answer.text[:2000]}"
        assert answer.json()["error_code"] == "COMMAND_TIMEOUT"
        details: dict[str, Any] = answer.json()["details"]
        return details

    def write(self, path: str, content: bytes | str) -> httpx.Response:
        """Write a file from outside."""
        data = content.encode() if isinstance(content, str) else content
        body = {"path": path, "content_base64": base64.b64encode(data).decode()}
        return self.client.post(f"{self.url}/fs/write", json=body)

    def read(self, path: str, **query: Any) -> httpx.Response:
        """Read a file from outside."""
        return self.client.get(f"{self.url}/fs/read", params={"path": path} | query)

    def content(self, path: str) -> bytes:
        """The bytes of a file that is there."""
        answer = self.read(path)
        assert answer.status_code == 200, answer.text
        return base64.b64decode(answer.json()["content_base64"])

    def put_program(self, name: str) -> str:
        """Put one of `programs/` into the workspace; its path there."""
        answer = self.write(name, (PROGRAMS / name).read_bytes())
        assert answer.status_code == 200, answer.text
        return f"/workspace/{name}"

    def destroy(self) -> httpx.Response:
        """End it."""
        return self.client.delete(self.url)

    def exec_in_background(self, cmd: str, timeout_ms: int = 20_000) -> Waiting:
        """Run a command on a connection and a thread of its own."""
        return Waiting(self, cmd, timeout_ms)


class Waiting:
    """A command that somebody waits for in another thread."""

    def __init__(self, box: Box, cmd: str, timeout_ms: int) -> None:
        self._answers: list[httpx.Response | Exception] = []

        def work() -> None:
            try:
                with connect(box.daemon) as client:
                    body = {"cmd": cmd, "timeout_ms": timeout_ms}
                    self._answers.append(client.post(f"{box.url}/exec", json=body))
            except Exception as error:
                self._answers.append(error)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """True if there is an answer."""
        return not self._thread.is_alive()

    def answer(self, timeout: float = 20.0) -> httpx.Response:
        """Return the answer."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "nobody answered"
        (answer,) = self._answers
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def boxes(daemon: LocalDaemon) -> Iterator[Callable[..., Box]]:
    """A maker of sessions, which are destroyed at the end."""
    made: list[Box] = []
    with connect(daemon) as client:

        def make(**body: Any) -> Box:
            made.append(Box(daemon, client, **body))
            return made[-1]

        yield make
        for box in made:
            box.destroy()


def content_of(tree: Tree, path: str) -> bytes:
    """The bytes of a file, as they are read from outside."""
    with tree.open(path) as file:
        return file.read()


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait for something that is about to become true, and return it; the bound is for what never does."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def control_groups(daemon_pid: int) -> list[Path]:
    """The groups of a daemon's sandboxes, in all trees; others may come and go meanwhile."""
    own = re.compile(rf"sandkasten-{daemon_pid}-[0-9a-f]{{8}}")  # and not its scope
    return [
        Path(directory) / name
        for directory, names, _files in os.walk("/sys/fs/cgroup")  # which passes over what has gone
        if own.fullmatch(os.path.basename(directory))
        for name in names
    ]
