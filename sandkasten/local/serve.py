"""The daemon's process, as the client starts it: `python -m sandkasten.local.serve`.

Its owner holds the other ends of standard input and output. One line of JSON comes in, with the key
and the options; one goes out, with the socket's path or with what prevents the start. When standard
input ends, the owner is gone, however it went, and so the daemon ends, with all sandboxes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn

from sandkasten.local import bubblewrap, host, seccomp
from sandkasten.local.app import make_app
from sandkasten.local.cgroups import find_cgroups
from sandkasten.local.errors import IsolationError
from sandkasten.local.etc import make_etc
from sandkasten.local.files import Tree, check_openat2
from sandkasten.local.host import Identity
from sandkasten.local.images import find_images
from sandkasten.local.limits import Limits, clamped, kernel_version, machine_limits, rlimits, ulimit_command
from sandkasten.local.manager import Manager, Settings
from sandkasten.local.policy import SandboxPolicy
from sandkasten.local.rundir import run_dir
from sandkasten.local.workspaces import Workspaces

_THREADS = 32


def main() -> None:
    """Serve until the owner goes."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    options = json.loads(sys.stdin.buffer.readline())
    os.umask(0o022)  # the directories made for sandboxes are theirs; what is private says so itself
    _use_all_descriptors()
    _forget_ignored_signals()
    identity = Identity.of_this_process()
    try:
        with run_dir(identity) as directory:
            settings = prepare(directory, identity, options)
            try:
                asyncio.run(_serve(settings, options))
            finally:
                settings.cgroups.close()
    except IsolationError as error:
        _tell_owner({"error": str(error)})
        sys.exit(1)


def prepare(directory: Path, identity: Identity, options: dict[str, Any]) -> Settings:
    """Find out what this machine can do, and make sure that it isolates.

    Raises:
        IsolationError: it does not; the text says what mends it.
    """
    check_openat2(directory)
    limits = Limits.from_mapping(options.get("limits") or {}, machine_limits())
    cgroups = find_cgroups()
    cgroups.cleanup_stale()
    settings = Settings(
        bwrap=host.find_bwrap(identity, directory),
        etc=make_etc(_made(directory / "etc")),
        images=find_images(),
        identity=identity,
        run_dir=directory,
        seccomp=seccomp.program(platform.machine()),
        limits=limits,
        ulimit=ulimit_command(clamped(rlimits(limits, cgroups.bounded, kernel_version()))),
        cgroups=cgroups,
        default_ttl_seconds=options["default_ttl_seconds"],
        max_sessions=options["max_sessions"],
        pool_size=options["pool_size"],
        allow_host_network=options["allow_host_network"],
    )
    _made(directory / "sessions")
    _try_a_sandbox(settings)
    return settings


def _try_a_sandbox(settings: Settings) -> None:
    probe = Tree(settings.run_dir / "sessions" / "probe", settings.identity, durable=False)
    probe.create()
    policy = SandboxPolicy(settings.images["base"], probe.workspace, settings.etc, settings.seccomp)
    filter_inside = seccomp.descriptor(settings.seccomp)
    try:
        command = ["/bin/bash", "-c", f"{settings.ulimit} && :"]
        descriptors = bubblewrap.Descriptors(filter_inside)
        argv = bubblewrap.arguments(settings.bwrap, policy, command, descriptors)
        host.check_isolation(argv, settings.identity, pass_fds=[filter_inside])
    finally:
        os.close(filter_inside)


async def _serve(settings: Settings, options: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(_THREADS))
    data_dir = Path(options["data_dir"] or _default_data_dir(settings.identity))
    manager = Manager(settings, Workspaces(data_dir / "workspaces", settings.identity))
    app = make_app(manager, options["api_key"])
    server = _Server(manager, _config(app))
    loop.add_reader(sys.stdin.fileno(), server.on_owner)
    with _private_socket(settings.run_dir) as (listener, path):
        _tell_owner({"socket_path": str(path)})
        await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn, which ends the sandboxes first: running streams would keep it from ending."""

    def __init__(self, manager: Manager, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._manager = manager

    def on_owner(self) -> None:
        """Standard input has something to read: its end, or nothing of interest."""
        if not os.read(sys.stdin.fileno(), 4096):
            self.should_exit = True
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._manager.close()
        await super().shutdown(sockets)


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
    )


@contextlib.contextmanager
def _private_socket(run_dir: Path) -> Generator[tuple[socket.socket, Path], None, None]:
    """Bind here rather than in uvicorn, which lets everybody connect."""
    directory = run_dir / "api"
    directory.mkdir(mode=0o700)
    path = directory / "daemon.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(1024)
        yield listener, path


def _made(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    directory.chmod(0o711)
    return directory


def _default_data_dir(identity: Identity) -> str:
    import platformdirs  # noqa: PLC0415  (not needed where the directory is given)

    # Root's home is closed to the user that its sandboxes run as.
    return "/var/lib/sandkasten" if identity.drops else platformdirs.user_data_dir("sandkasten")


def _use_all_descriptors() -> None:
    """A session takes four; the usual soft limit of 1024 is there for programs that use select()."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _forget_ignored_signals() -> None:
    """Sandboxes inherit what is ignored, and under nohup, say, an interrupt would stop nothing."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _tell_owner(message: dict[str, str]) -> None:
    sys.stdout.write(f"{json.dumps(message)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
