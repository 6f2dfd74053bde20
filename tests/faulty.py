"""Daemons in trouble: a relay that spoils answers, and a server that is killed and comes back."""

from __future__ import annotations

import io
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx

from sandkasten.testing import Fault
from sandkasten.testing._server import Peer, Request, Server
from sandkasten.testing._steps import Answer, Step, steps_of

ROOT = Path(__file__).resolve().parents[1]
_DROPPED = {"connection", "content-length", "host", "transfer-encoding"}


class Relay:
    """Passes requests on to a real daemon, and spoils the answers to those that a test chooses."""

    def __init__(self, base_url: str, api_key: str | None, socket_path: str | None = None) -> None:
        """Relay to a daemon; `behind` reaches it without the relay."""
        self.api_key = api_key
        self.behind = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key}"},
            transport=httpx.HTTPTransport(uds=socket_path, verify=False),
            timeout=30,
        )
        self._fault: Fault | None = None
        self._times = 0
        self._where = ""
        self._server = Server(self._handle, lambda _headers: 1024 * 1024)
        self._server.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def spoil(self, fault: Fault, times: int, where: str) -> None:
        """Spoil the next answers; `where` is a pattern for the verb and the path."""
        self._fault, self._times, self._where = fault, times, where

    @property
    def is_spoilt(self) -> bool:
        """True if all that was to be spoilt is."""
        return self._times == 0

    def close(self) -> None:
        self._server.stop()
        self.behind.close()

    def _handle(self, request: Request, _peer: Peer) -> Iterable[Step]:
        line = f"{request.method} {request.path}"
        fault = self._fault
        if fault is None or self._times == 0 or not re.search(self._where, line):
            return steps_of(self._ask(request))
        self._times -= 1
        return fault.spoil(self._ask(request) if fault.executes else Answer())

    def _ask(self, request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name not in _DROPPED}
        url = httpx.URL(request.path, params=request.query)
        asked = self.behind.build_request(request.method, url, content=request.body, headers=headers)
        response = self.behind.send(asked, stream=True)
        kept = {name: value for name, value in response.headers.items() if name not in _DROPPED}
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return Answer(response.status_code, kept, events=_events_of(response))
        return Answer(response.status_code, kept, response.read())


def _events_of(response: httpx.Response) -> Iterator[bytes]:
    """One event after the other, each when it comes."""
    try:
        pending = ""
        for text in response.iter_text():
            *events, pending = (pending + text).split("\n\n")
            for event in events:
                yield f"{event}\n\n".encode()
    finally:
        response.close()


class Served:
    """A daemon served over TCP, in a process that can be killed and started again at the same address."""

    def __init__(self, folder: Path, idle_seconds: float | None = None) -> None:
        """Start it; `idle_seconds` is how long nothing may move on a connection of its."""
        self._folder = folder
        self._program = ["-m", "sandkasten.local"]
        if idle_seconds is not None:
            code = (
                "import sys; from sandkasten.local import __main__; "
                "from sandkasten.local.api import bodystream; "
                f"bodystream.IDLE_SECONDS = {idle_seconds}; sys.exit(__main__.main())"
            )
            self._program = ["-c", code]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._process = self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def restart(self) -> None:
        """Kill it, and start another."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def stall(self, seconds: float) -> None:
        """Let it do nothing for a while, as a machine does that is suspended."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def _start(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, *self._program, "serve", "--no-api-key", "--allowed-packages", "all"]
        argv += ["--listen", f"127.0.0.1:{self._port}", "--data-dir", str(self._folder)]
        with (self._folder / f"log-{secrets.token_hex(4)}").open("wb") as log:
            process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(400):
            try:
                httpx.get(f"{self.url}/healthz", timeout=1)
            except httpx.TransportError:
                assert process.poll() is None, "the daemon did not start"
                time.sleep(0.05)
            else:
                return process
        raise AssertionError("the daemon does not answer")


class OnlyOnce(io.RawIOBase):
    """A stream that cannot be read twice; after its second part it calls something."""

    def __init__(self, content: bytes, then: Callable[[], None]) -> None:
        self._content = io.BytesIO(content)
        self._then: list[Callable[[], None]] = [then, lambda: None]

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._then:
            self._then.pop()()
        return self._content.read(size)
