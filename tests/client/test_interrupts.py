"""Ctrl-C and cancellation stop the command in the sandbox, and the session goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

import sandkasten_sync
from sandkasten import SandboxClient, Session
from sandkasten.local.launch import LocalDaemon
from tests._async.seam import until_there
from tests.local.box import until, workspace_of
from tests.soon import soon

ROOT = Path(__file__).resolve().parents[2]

LONG = "touch begun; sleep 100"
PROGRAM = """
    import sys
    from sandkasten_sync import SandboxClient

    client = SandboxClient(base_url=sys.argv[1], api_key=sys.argv[2])
    session = client.get_session(sys.argv[3])
    print("ready", flush=True)
    try:
        {statement}
    except KeyboardInterrupt:
        print(session.exec("pgrep -x sleep | wc -l").output.strip(), flush=True)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def session(daemon: LocalDaemon) -> AsyncIterator[Session]:
    target = daemon.target
    client = SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key)
    async with client, await client.create_session() as session:
        yield session


@pytest.mark.parametrize(
    "statement",
    [
        f'for chunk in session.exec_stream("echo begun; {LONG}"): pass',
        f'list(session.exec_stream("{LONG}"))',
        f'session.exec("{LONG}")',
    ],
    ids=["stream", "silent stream", "exec"],
)
def test_ctrl_c_in_a_blocking_call_stops_the_command(daemon: LocalDaemon, statement: str) -> None:
    target = daemon.target
    url = f"unix://{target.socket_path}"
    client = sandkasten_sync.SandboxClient(base_url=url, api_key=target.api_key)
    with client, client.create_session() as session:
        program = textwrap.dedent(PROGRAM).format(statement=statement)
        process = subprocess.Popen(
            [sys.executable, "-c", program, url, str(target.api_key), session.id],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            until((workspace_of(daemon, session.id) / "begun").exists)
            process.send_signal(signal.SIGINT)
            with soon():
                assert process.stdout.readline() == "0\n"


async def _cancel_when_begun(session: Session, function: Callable[[], Awaitable[object]]) -> None:
    """Call what runs the long command, and cancel the call as soon as the command runs."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(function)
        await until_there(session, "begun")
        tasks.cancel_scope.cancel()


async def test_a_cancelled_stream_stops_its_command(session: Session) -> None:
    async def read() -> None:
        async for _ in session.exec_stream(f"echo begun; {LONG}"):
            pass

    await _cancel_when_begun(session, read)
    await _expect_no_sleep(session)


async def test_a_cancelled_command_is_stopped(session: Session) -> None:
    await _cancel_when_begun(session, partial(session.exec, LONG))
    await _expect_no_sleep(session)


async def test_a_command_that_waits_in_line_is_cancelled_too(session: Session) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.exec, "touch begun; until [ -e go ]; do sleep 0.01; done")
        await until_there(session, "begun")
        with anyio.move_on_after(0.2):
            await session.exec("touch /workspace/ran")
        await session.write("go", "")
    assert (await session.exec("ls /workspace")).output == "begun\ngo\n"


async def test_a_session_whose_block_is_cancelled_is_destroyed(daemon: LocalDaemon) -> None:
    target = daemon.target
    async with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        with anyio.CancelScope() as scope:
            async with await client.create_session() as session, anyio.create_task_group() as tasks:
                tasks.start_soon(session.exec, LONG)
                await until_there(session, "begun")
                scope.cancel()
        assert scope.cancelled_caught
        assert session.id not in {found.id for found in await client.list_sessions()}


async def test_a_session_whose_creation_is_cancelled_is_not_left_behind(daemon: LocalDaemon) -> None:
    target = daemon.target
    async with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        before = {info.id for info in await client.list_sessions()}
        cancelled = 0
        for step in range(1, 8):
            session = None
            with anyio.move_on_after(step * 0.002) as scope:
                session = await client.create_session(workspace_id=f"cancelled-{step}")  # never from the pool
            cancelled += scope.cancelled_caught
            if session is not None:  # the answer was there when the loop came to look at the time
                await session.destroy()
            assert {info.id for info in await client.list_sessions()} == before
        assert cancelled


async def _expect_no_sleep(session: Session) -> None:
    with soon():
        assert (await session.exec("pgrep -x sleep | wc -l")).output.strip() == "0"
