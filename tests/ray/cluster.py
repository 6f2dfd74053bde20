"""A cluster of the tests: nodes of Ray, gateways, and a program that looks at Ray, each by itself."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandkasten_sync import SandboxClient
from tests.local.box import until

ROOT = Path(__file__).resolve().parents[2]
KEY = "clients-" + secrets.token_hex(16)
TOKEN = secrets.token_hex(24)
START_SECONDS = 120.0


def environment(home: Path, token: str = TOKEN) -> dict[str, str]:
    """Return the environment of the cluster's programs: with a token, and a place of their own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_TMPDIR": str(home)}
    # The dashboards of three nodes take as much time as all the rest.
    ray |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_METRICS_COLLECTION": "0"}
    return {**kept, **ray, "HOME": str(home), "PYTHONPATH": str(ROOT)}


class Program:
    """A program that runs until the test ends it, and what it printed."""

    def __init__(self, home: Path, name: str, *words: str) -> None:
        """Start it."""
        self.log_file = home / f"{name}-{secrets.token_hex(3)}.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=environment(home),
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it prints something."""

        def is_there() -> bool:
            assert self.process.poll() is None, self.log
            return text in self.log

        until(is_there, START_SECONDS)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


class Gateway(Program):
    """A gateway on a port that stays the same."""

    def __init__(self, home: Path, port: int) -> None:
        """Start it."""
        words = ("--listen", f"127.0.0.1:{port}", "--api-key-file", str(home / "key"))
        super().__init__(home, "gateway", "sandkasten.ray", "gateway", *words)
        self.url = f"http://127.0.0.1:{port}"

    def client(self, key: str = KEY, **options: Any) -> SandboxClient:
        """Return a client of it."""
        return SandboxClient(base_url=self.url, api_key=key, **options)


class Observer:
    """The program that looks at Ray."""

    def __init__(self, home: Path) -> None:
        """Start it; it is there when it has answered."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray.observer"],
            env=environment(home),
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def ask(self, question: str) -> Any:
        """Ask, and return the answer."""
        assert self.process.stdin is not None
        print(question, file=self.process.stdin, flush=True)
        return self._read()

    def end(self) -> None:
        """End it, with its input."""
        with self.process:
            pass

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the observer ended"
        return json.loads(line)


class Cluster:
    """The whole of it."""

    def __init__(self, home: Path, nodes: int, sessions: int) -> None:
        """Start Ray, the nodes, and two gateways."""
        self.home = home
        self.gateways: list[Gateway] = []
        (home / "key").touch(0o600)
        (home / "key").write_text(KEY)
        words = (
            "--local",
            str(nodes),
            "--sessions",
            str(sessions),
            "--pool-size",
            "0",
            "--queue-seconds",
            "3",
        )
        self.up = Program(home, "up", "sandkasten.ray", "up", *words, "--data-dir", str(home / "data"))
        with contextlib.ExitStack() as stack:
            stack.callback(self.up.end)
            stack.callback(self._end_gateways)
            self.up.wait_for("runs until")
            self.gateways += [Gateway(home, _free_port()) for _ in range(2)]
            self.observer = Observer(home)
            stack.callback(self.observer.end)
            for gateway in self.gateways:
                gateway.wait_for('"ready"')
            self._stack = stack.pop_all()

    def _end_gateways(self) -> None:
        for gateway in self.gateways:
            gateway.end()

    def nodes(self) -> dict[str, Any]:
        """Return the processes of each node that answers, by its tag."""
        found: dict[str, Any] = self.observer.ask("nodes")
        return found

    def leases(self) -> list[list[str]]:
        """Return the leases, with their nodes' tags."""
        found: list[list[str]] = self.observer.ask("leases")
        return found

    def end(self) -> None:
        """End all of it."""
        self._stack.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(home: Path, nodes: int = 3, sessions: int = 8) -> Iterator[Cluster]:
    """Give a cluster that ends with the block."""
    cluster = Cluster(home, nodes, sessions)
    try:
        yield cluster
    finally:
        cluster.end()
