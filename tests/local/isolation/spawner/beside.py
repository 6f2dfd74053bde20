"""A session whose sandbox starts programs beside its shell, in this process, without HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from sandkasten.local.files.rundir import run_dir
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.identity import Identity
from sandkasten.local.images.catalogue import Catalogue
from sandkasten.local.isolation.policy import ENVIRONMENT
from sandkasten.local.isolation.programs import Program
from sandkasten.local.isolation.sandbox import BubblewrapSandbox
from sandkasten.local.isolation.spawner.process import SpawnedProcess
from sandkasten.local.observe.observer import Observer
from sandkasten.local.options import Options
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.preparing import prepare
from sandkasten.local.sessions.session import Session, SessionSpec

ENV = {os.fsencode(name): os.fsencode(value) for name, value in ENVIRONMENT.items()}


@dataclass
class Result:
    """The end of a program: exit code, or minus the signal; and output and errors."""

    code: int
    out: str
    err: str


class Running:
    """A program that runs; its standard input is a pipe that stays open until `close_input`."""

    def __init__(self, process: SpawnedProcess, given: int, out: int, err: int) -> None:
        self.process = process
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        process.on_ended(self.ended.set_result)
        self.given: int | None = given
        self._readers = [asyncio.create_task(asyncio.to_thread(_read_all, each)) for each in (out, err)]

    def write(self, data: bytes) -> None:
        assert self.given is not None
        os.write(self.given, data)

    def close_input(self) -> None:
        given, self.given = self.given, None
        if given is not None:
            os.close(given)

    async def end(self) -> Result:
        """Wait for its end, and for the end of all that has its output."""
        self.close_input()
        code = await self.ended
        out, err = await asyncio.gather(*self._readers)
        return Result(code, out, err)


class Beside:
    """A session, its shell, and programs beside that."""

    def __init__(self, session: Session, manager: Manager) -> None:
        self.session = session
        self.manager = manager
        self.sandbox: BubblewrapSandbox = cast("Any", session)._shell._sandbox

    async def shell(self, text: str, timeout_ms: int = 20_000) -> str:
        """Run a command of the shell, for its output."""
        command = self.session.submit(text, timeout_ms)
        out = ""
        while (piece := await command.next_output()) is not None:
            out += "".join(each[1].decode(errors="replace") for each in piece)
        return out

    async def start(
        self, *args: str, env: Mapping[bytes, bytes] = ENV, cwd: str = "/workspace", out: int | None = None
    ) -> Running:
        """Start a program with three pipes, or with another output."""
        pipes = [os.pipe() for _ in range(3)]
        theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
        try:
            program = Program(tuple(map(os.fsencode, args)), env, os.fsencode(cwd))
            process = await self.sandbox.spawn(program, theirs[0], out or theirs[1], theirs[2])
        except BaseException:
            for each in (pipes[0][1], pipes[1][0], pipes[2][0]):
                os.close(each)
            raise
        finally:
            for each in theirs:
                os.close(each)
        return Running(process, pipes[0][1], pipes[1][0], pipes[2][0])

    async def run(self, *args: str, **options: Any) -> Result:
        """Run a program to its end, with an empty input."""
        return await (await self.start(*args, **options)).end()

    async def python(self, text: str, *args: str) -> Result:
        """Run a program in Python."""
        return await self.run("python3", "-I", "-S", "-c", text, *args)


async def soon(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait for something that is about to become true; the bound is for what never does."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def _read_all(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb") as file:
        return file.read().decode(errors="replace")


@asynccontextmanager
async def beside(options: Options | None = None, *, host_network: bool = False) -> AsyncIterator[Beside]:
    """A session of a daemon's parts."""
    identity = Identity.of_this_process()
    with run_dir(identity) as directory:
        settings = await asyncio.to_thread(prepare, directory, identity, options or Options(pool_size=0))
        workspaces = Workspaces(directory / "workspaces", identity)
        catalogue = Catalogue(settings.isolation.images, directory / "images", identity)
        manager = Manager(settings, workspaces, catalogue, Observer())
        try:
            spec = SessionSpec("base", host_network=host_network)
            yield Beside(await manager.create(spec), manager)
        finally:
            with suppress(Exception):
                await manager.close()
            settings.cgroups.close()
