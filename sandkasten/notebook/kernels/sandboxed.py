"""A kernel in a session: its start, its signals, its end; in an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from sandkasten._options.environments import PythonEnvironment
from sandkasten._protocol import MAX_TTL_SECONDS, WORKSPACE
from sandkasten.client import SandboxClient
from sandkasten.errors import SandkastenError
from sandkasten.models import ProcessResult
from sandkasten.notebook.kernels.copying import packed
from sandkasten.notebook.kernels.frames import BrokenFramesError
from sandkasten.notebook.kernels.messages import Keys
from sandkasten.notebook.kernels.proxy import CHANNELS, Proxy
from sandkasten.notebook.kernels.tunnel import Tunnel
from sandkasten.process import Process
from sandkasten.session import Session

_RELAY = (resources.files("sandkasten.notebook.kernels") / "relay.py").read_text("utf-8")
_START_SECONDS = 30.0
_KEPT_CHARS = 2000

T = TypeVar("T")


def _short_directory() -> str | None:
    """Return a directory for sockets, whose paths may have 107 bytes at most; None is the usual one."""
    return None if len(os.fsencode(tempfile.gettempdir())) < 60 else "/tmp"  # noqa: S108


class CannotStartKernelError(RuntimeError):
    """A kernel that does not start; the text says why, and what to do."""


@dataclass(frozen=True)
class Choice:
    """The sandbox of a kernel, as its specification has it.

    Attributes:
        environment: the path of its environment of Python; empty: the image's.
        image: its image, if it has no environment.
        workspace: the id of a workspace that keeps its files; empty: they end with the kernel.
        copies_files: whether the files of the notebook's directory are copied in at the start.
        shows_anything: whether what it displays reaches the notebook as it is, scripts and all.
    """

    environment: str = ""
    image: str = "python"
    workspace: str = ""
    copies_files: bool = False
    shows_anything: bool = False


class Loop:
    """An event loop in a thread, for whichever loops its users have."""

    def __init__(self) -> None:
        """Start it."""
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._end = asyncio.Event()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._run(started),), name="sandkasten-kernel", daemon=True
        )
        self._thread.start()
        self._loop = started.result()

    async def _run(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        started.set_result(asyncio.get_running_loop())
        await self._end.wait()

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def stop(self) -> None:
        """End it with all that still runs there, and wait for that."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


class SandboxedKernel:
    """A kernel, and another one in the same session after each restart."""

    def __init__(self, choice: Choice) -> None:
        """Remember the choice; nothing is started."""
        self._choice = choice
        self._client: SandboxClient | None = None
        self._session: Session | None = None
        self._directory = WORKSPACE
        self._kernel: Process | None = None
        self._relay: Process | None = None
        self._tunnel: Tunnel | None = None
        self._proxy: Proxy | None = None
        self._sockets: Path | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: asyncio.Future[int] | None = None
        self._said = ""

    @property
    def exit_code(self) -> int | None:
        """The kernel's exit code; None while it runs."""
        return self._ended.result() if self._ended is not None and self._ended.done() else None

    async def start(
        self, argv: Sequence[str], env: Mapping[str, str], key: bytes, urls: Mapping[str, str], place: str
    ) -> None:
        """Start a kernel.

        Args:
            argv: its command, with `{connection_file}` in it.
            env: variables for it.
            key: the key of its clients.
            urls: the URL of each channel for its clients.
            place: the notebook's directory on this machine.

        Raises:
            CannotStartKernelError: it does not start.
        """
        try:
            session = await self._made_session(place)
            await self._start(session, argv, env, key, urls)
        except (SandkastenError, BrokenFramesError) as error:
            await self.close()
            raise CannotStartKernelError(f"{error} {self._said}".strip()) from None
        except BaseException:
            await self.close()
            raise

    async def _made_session(self, place: str) -> Session:
        if self._session is not None:
            try:
                await self._session.info()
            except SandkastenError:  # it ended, or its daemon did
                await self.close()
        if self._session is None:
            choice = self._choice
            self._client = SandboxClient()
            self._session = await self._client.create_session(
                image=PythonEnvironment(choice.environment) if choice.environment else choice.image,
                ttl_seconds=MAX_TTL_SECONDS,
                workspace_id=choice.workspace or None,
            )
            if choice.copies_files:
                archive = await asyncio.to_thread(packed, Path(place))
                await self._session.unpack(archive, self._directory)
        return self._session

    async def _start(
        self,
        session: Session,
        argv: Sequence[str],
        env: Mapping[str, str],
        key: bytes,
        urls: Mapping[str, str],
    ) -> None:
        inside, own_key = f"/tmp/.kernel-{secrets.token_hex(8)}", secrets.token_hex(32)  # noqa: S108
        prefix, file = f"{inside}/s", f"{inside}/connection.json"
        ports = {f"{channel}_port": number for number, channel in enumerate(CHANNELS, 1)}
        connection = {
            "transport": "ipc",
            "ip": prefix,
            "key": own_key,
            "signature_scheme": "hmac-sha256",
            **ports,
        }
        await session.write(file, json.dumps(connection), mode=0o600)
        command = [word.replace("{connection_file}", file) for word in argv]
        self._ended = asyncio.get_running_loop().create_future()
        self._relay = await session.start([argv[0], "-c", _RELAY, prefix], stdin=True, cwd="/tmp")  # noqa: S108
        self._kernel = await session.start(command, cwd=self._directory, env=env)
        self._tasks = [asyncio.create_task(self._follow(self._kernel, self._ended))]
        self._sockets = Path(tempfile.mkdtemp(prefix="sandkasten-kernel-", dir=_short_directory()))
        self._tunnel = Tunnel(self._relay, self._on_broken)
        await self._tunnel.start(self._sockets / "s", range(1, len(CHANNELS) + 1))
        async with asyncio.timeout(_START_SECONDS):
            has_ipykernel = await self._tunnel.ready
        if not has_ipykernel:
            raise CannotStartKernelError(
                f"{self._choice.environment or self._choice.image} has no ipykernel. Install it there: "
                "python -m pip install ipykernel"
            )
        self._proxy = Proxy(Keys(key, own_key.encode()), anything=self._choice.shows_anything)
        self._proxy.start(urls, self._sockets / "s")

    async def _follow(self, kernel: Process, ended: asyncio.Future[int]) -> None:
        """Keep the end of what it prints beside its messages, and its exit code."""
        code = 1
        try:
            async for chunk in kernel:
                self._said = (self._said + chunk.text)[-_KEPT_CHARS:]
            result: ProcessResult = kernel.result
            code = result.exit_code
        except SandkastenError as error:
            self._said = str(error)
        if not ended.done():
            ended.set_result(code)

    def _on_broken(self, _reason: str) -> None:
        """End a kernel that nobody reaches any more."""
        if self._kernel is not None:
            self._tasks.append(asyncio.create_task(self._kill()))

    async def _kill(self) -> None:
        with contextlib.suppress(SandkastenError):
            await self.signal("KILL")

    async def signal(self, name: str | int) -> None:
        """Send a signal to it and those of its group; nothing happens if it has ended."""
        if self._kernel is not None and self.exit_code is None:
            await self._kernel.send_signal(name)

    async def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        return 0 if self._ended is None else await asyncio.shield(self._ended)

    async def end(self) -> None:
        """End the kernel with all that it started; the session stays for another one."""
        for process in (self._kernel, self._relay):
            if process is not None:
                with contextlib.suppress(SandkastenError):
                    await process.close(force=True)
        self._kernel = self._relay = None
        if self._proxy is not None:
            await self._proxy.close()
        if self._tunnel is not None:
            await self._tunnel.close()
        self._proxy = self._tunnel = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(-9)
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)

    async def close(self) -> None:
        """End the kernel and the session; a workspace stays."""
        await self.end()
        if self._session is not None:
            with contextlib.suppress(SandkastenError):
                await self._session.destroy()
        if self._client is not None:
            await self._client.close()
        self._client = self._session = None
