"""A daemon whose sandboxes are stand-ins: their programs are processes of the host, in a session's files."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from sandkasten.local.api.app import make_app
from sandkasten.local.api.asgi import open_guard
from sandkasten.local.api.routes import rows_of
from sandkasten.local.daemon import Server
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.identity import Identity
from sandkasten.local.images.catalogue import Catalogue
from sandkasten.local.isolation.backend import Wanted
from sandkasten.local.isolation.policy import Image, Launcher
from sandkasten.local.isolation.programs import Program
from sandkasten.local.limits.cgroups import NoCgroups
from sandkasten.local.limits.limits import Limits
from sandkasten.local.observe.observer import Observer
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.settings import Settings
from tests.local.sessions.standin import StandIn
from tests.local.sessions.standprogram import HostProcess


class Stand(StandIn):
    """A sandbox whose shell is ready at once, and whose /workspace is the session's."""

    def __init__(self, workspace: Path) -> None:
        super().__init__()
        self._workspace = workspace

    async def release(self, confine: Callable[[int], None]) -> None:
        del confine
        self.ready()

    async def spawn(self, program: Program, stdin: int, stdout: int, stderr: int) -> HostProcess:
        below = program.cwd.decode().removeprefix("/workspace").lstrip("/")
        cwd = str(self._workspace / below).encode()
        return await super().spawn(replace(program, cwd=cwd), stdin, stdout, stderr)


class _Names:
    def refresh(self) -> None:
        pass


class _Backend:
    def __init__(self) -> None:
        self.images = {"base": Image("base", {})}
        self.names = _Names()
        self.launcher = Launcher()
        self.can_spawn = True
        self.sandboxes: list[Stand] = []

    def start(self, wanted: Wanted) -> Stand:
        self.sandboxes.append(Stand(wanted.workspace))
        return self.sandboxes[-1]


class StandDaemon:
    """A server in a thread of this process.

    Attributes:
        manager: its sessions.
        sandboxes: those that it built.
        loop: its event loop.
    """

    def __init__(self, directory: Path) -> None:
        self._socket_path = str(directory / "s")
        self._directory = directory
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.loop: asyncio.AbstractEventLoop
        self.manager: Manager
        self.sandboxes: list[Stand]
        self._server: Server
        self._thread.start()
        assert self._ready.wait(20)

    async def _serve(self) -> None:
        identity, backend, observer = Identity.of_this_process(), _Backend(), Observer()
        settings = Settings(
            isolation=backend,  # type: ignore[arg-type]  # what sessions use of one  # pyright: ignore[reportArgumentType]
            identity=identity,
            run_dir=self._directory,
            limits=Limits(
                memory_bytes=None,
                processes=None,
                cpus=None,
                file_bytes=None,
                workspace_bytes=None,
                tmp_bytes=None,
                output_bytes=1024 * 1024,
            ),
            cgroups=NoCgroups([]),
            default_ttl_seconds=600,
            max_sessions=100,
            pool_size=0,
            allow_host_network=False,
        )
        workspaces = Workspaces(self._directory / "workspaces", identity)
        self.loop, self.sandboxes = asyncio.get_running_loop(), backend.sandboxes
        self.manager = Manager(
            settings, workspaces, Catalogue(backend.images, self._directory / "images", identity), observer
        )
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._socket_path)
            listener.listen(100)
            app = make_app(rows_of(self.manager, observer), open_guard, observer)
            self._server = Server(app, self.manager, observer, lambda _server: self._ready.set())
            await self._server.serve(sockets=[listener])

    def connect(self) -> httpx.Client:
        """A client."""
        transport = httpx.HTTPTransport(uds=self._socket_path, verify=False)
        return httpx.Client(transport=transport, base_url="http://stand", timeout=30)

    def stop(self) -> None:
        """End it."""
        self.loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextmanager
def stand_daemon(directory: Path) -> Generator[StandDaemon]:
    """A daemon until the block ends."""
    daemon = StandDaemon(directory)
    try:
        yield daemon
    finally:
        daemon.stop()
