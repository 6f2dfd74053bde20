"""The common part of the embedded daemon and the server: isolation that was tried, and an orderly end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import resource
import socket
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol

from sandkasten.local.api.app import App, make_app
from sandkasten.local.api.asgi import Guard
from sandkasten.local.api.connections import Bounds, Connections
from sandkasten.local.api.http import serving
from sandkasten.local.api.http.serving import Config
from sandkasten.local.api.routes import rows_of
from sandkasten.local.files.directories import PACKAGES, WORKSPACES, secure_data_dir
from sandkasten.local.files.rundir import run_dir, sweep
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.identity import Identity
from sandkasten.local.images.catalogue import Catalogue, images_dir
from sandkasten.local.images.environments import Environments
from sandkasten.local.limits.limits import OF_A_USER
from sandkasten.local.linux import inherited
from sandkasten.local.listen import Certificate
from sandkasten.local.observe.observer import Observer
from sandkasten.local.options import Options, find_data_dir
from sandkasten.local.packages.installer import Installer
from sandkasten.local.packages.store import Store
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.preparing import prepare
from sandkasten.local.sessions.settings import Settings

_THREADS = 32
_SWEEP_SECONDS = 3.0  # at the end, for the sweep; the next daemon does the rest


@contextlib.contextmanager
def prepared(options: Options, *, keep_ignored: bool = True) -> Generator[Settings, None, None]:
    """Make ready what ends with this process.

    Args:
        options: the daemon's.
        keep_ignored: whether signals that end a daemon stay ignored if this process ignores them.

    Raises:
        IsolationError: this machine does not isolate; the text says what fixes it.
    """
    inherited.set_right(keep_ignored=keep_ignored)
    _share_with_other_sandboxes()
    identity = Identity.of_this_process()
    secure_data_dir(find_data_dir(options.data_dir, identity), identity)
    with run_dir(identity) as directory:
        settings = prepare(directory, identity, options)
        try:
            yield settings
        finally:
            settings.cgroups.close()


async def serve(
    settings: Settings,
    data_dir: Path | None,
    guard: Guard,
    listener: socket.socket,
    on_ready: Callable[[Server], None],
    *,
    certificate: Certificate | None = None,
) -> None:
    """Serve until somebody stops it, and leave nothing.

    Args:
        settings: see `prepared`.
        data_dir: see `Options`.
        guard: who may ask.
        listener: where they ask.
        on_ready: called as soon as they can.
        certificate: see `ServerOptions`.
    """
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(_THREADS))
    directory = find_data_dir(data_dir, settings.identity)
    observer = Observer()
    workspaces = Workspaces(directory / WORKSPACES, settings.identity)
    packages = Store(directory / PACKAGES, settings.identity)
    installer = None if settings.packages is None else Installer(packages, settings.packages)
    manager = Manager(settings, workspaces, _catalogue(settings, directory), observer, installer)
    app = make_app(rows_of(manager, observer), guard, observer)
    server = Server(app, manager, observer, on_ready, certificate)
    for number in inherited.ENDING_SIGNALS:
        if not inherited.is_kept_ignored(number):
            loop.add_signal_handler(number, server.stop)
    sweeping = _sweep(settings.run_dir, workspaces, packages)
    try:
        await server.serve(sockets=[listener])
    finally:
        await asyncio.to_thread(workspaces.close)
        await asyncio.to_thread(sweeping.join, _SWEEP_SECONDS)


def _catalogue(settings: Settings, data_dir: Path) -> Catalogue:
    built_in, identity = settings.isolation.images, settings.identity
    private = [path.resolve() for path in (data_dir, settings.run_dir)]
    environments = Environments(settings.environments, built_in, identity, private)
    return Catalogue(built_in, images_dir(data_dir), identity, environments)


def _sweep(run_dir: Path, workspaces: Workspaces, packages: Store) -> threading.Thread:
    """Remove what killed daemons left, however much it is; who waits for this one does not wait for that."""

    def work() -> None:
        sweep(run_dir.parent)
        workspaces.sweep()
        packages.sweep()

    thread = threading.Thread(target=work, name="sweep", daemon=True)
    thread.start()
    return thread


class Closing(Protocol):
    """Something that ends before the connections do."""

    async def close(self) -> None:
        """End it; called more than once."""
        ...


class Server(serving.Server):
    """uvicorn, which ends the sandboxes first: running streams would keep it from ending."""

    def __init__(
        self,
        app: App,
        manager: Closing,
        observer: Observer,
        on_ready: Callable[[Server], None],
        certificate: Certificate | None = None,
    ) -> None:
        """Serve an application, whose sessions are a manager's, or a gateway's."""
        bounds = Bounds()
        super().__init__(_config(app, bounds))
        self._manager = manager
        self._connections = Connections(self.config, self.server_state, observer, bounds, certificate)
        self._accepting: list[asyncio.Task[None]] = []
        self._on_ready = on_ready
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let the daemon end soon."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Wait for that; uvicorn would look ten times a second, whether anything happens or not."""
        await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to `serve`: uvicorn would raise them again, before anything is cleaned up."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so; peers are let in by `Connections`, within its bounds."""
        await super().startup([])
        self._accepting = [asyncio.create_task(self._connections.accept(one)) for one in sockets or []]
        self._on_ready(self)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in, end all sessions, then the connections."""
        for task in self._accepting:
            task.cancel()
        await asyncio.wait(self._accepting)
        for listener in sockets or []:
            listener.close()
        await self._manager.close()
        if self.server_state.connections or self.server_state.tasks:  # otherwise it would sleep for nothing
            await super().shutdown(sockets)
        await self._manager.close()  # what was about to start when the first one came


def _config(app: App, bounds: Bounds) -> Config:
    return Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here depends on who asks, but on what they have
        server_header=False,
        date_header=False,
        timeout_keep_alive=round(bounds.idle_seconds),
        timeout_graceful_shutdown=2,
    )


def _share_with_other_sandboxes() -> None:
    """Lift what all sandboxes of a user may take together, if this process may; each has its own limit."""
    for which in OF_A_USER:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
