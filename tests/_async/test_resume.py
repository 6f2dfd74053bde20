"""Streams that survive a dropped connection, commands that stop with their caller, and daemons in trouble."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sandkasten import _retry, errors
from sandkasten.errors import SandkastenConnectionError, SandkastenStreamError
from sandkasten.local.launch import LocalDaemon
from tests.faults import OK, TABLE, VERBS, Never
from tests.faulty import OnlyOnce, Served
from tests.go_daemon import GoDaemon
from tests.go_rules import Config
from tests.local.box import until, workspace_of
from tests.proxy import Proxy, relayed
from tests.soon import soon

from .seam import SandboxClient, Session, sleep
from .test_faults import outcome_of

COUNT = "for i in $(seq 1 60); do echo line $i; sleep 0.02; done"
UNTIL_CUT = "touch begun; while [ -e begun ]; do sleep 0.01; done"
COUNTED = "".join(f"line {i}\n" for i in range(1, 61))


@pytest.fixture
def proxy(daemon: LocalDaemon) -> Iterator[Proxy]:
    with relayed(daemon.target.socket_path) as proxy:
        yield proxy


@pytest.fixture
async def far(proxy: Proxy, daemon: LocalDaemon) -> AsyncIterator[Session]:
    """A session whose connections can be cut."""
    client = SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key)
    async with client, await client.create_session() as session:
        yield session


async def test_a_stream_goes_on_where_its_connection_dropped(far: Session, proxy: Proxy) -> None:
    output = ""
    async with far.exec_stream(COUNT) as stream:
        async for chunk in stream:
            if chunk.output.count("\n") and len(output) % 5 == 0:
                proxy.cut()
            output += chunk.output
            assert chunk.missed_bytes == 0
    assert output == COUNTED
    assert (chunk.done, chunk.exit_code) == (True, 0)
    assert proxy.connections > 2


async def test_a_stream_that_was_cut_after_its_last_chunk_still_gets_its_end(
    far: Session, proxy: Proxy
) -> None:
    chunks = []
    async with far.exec_stream("echo all; sleep 0.3; exit 7") as stream:
        async for chunk in stream:
            chunks.append(chunk)
            if chunk.output:
                proxy.cut()
    assert "".join(chunk.output for chunk in chunks) == "all\n"
    assert chunks[-1].exit_code == 7


async def test_output_that_nobody_could_keep_is_a_visible_gap(far: Session, proxy: Proxy) -> None:
    total = 8 * 1024 * 1024
    received = missed = 0
    was_cut = False
    async with far.exec_stream(f"head -c {total} /dev/zero | tr '\\0' x; sleep 0.3") as stream:
        async for chunk in stream:
            received += len(chunk.output)
            missed += chunk.missed_bytes
            if chunk.output and not was_cut:
                was_cut = True
                await sleep(0.5)  # while the sockets between here and there fill
                proxy.cut()
    assert received + missed == total
    assert stream.result.truncated
    assert "bytes left out" in stream.result.output


async def test_without_retries_a_cut_stream_is_an_error_with_what_was_received(
    proxy: Proxy, daemon: LocalDaemon
) -> None:
    async with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key, max_retries=0) as client:
        session = await client.create_session()
        with pytest.raises(SandkastenStreamError, match="cut") as caught:
            async for chunk in session.exec_stream("echo one; sleep 100"):
                assert chunk.output == "one\n"
                proxy.cut()
        assert caught.value.output == "one\n"
        with soon():
            assert (await session.exec("echo free")).output == "free\n"  # the command was stopped
        await session.destroy()


async def test_a_command_runs_once_though_its_answer_was_lost(
    far: Session, proxy: Proxy, daemon: LocalDaemon
) -> None:
    proxy.cut_at(workspace_of(daemon, far.id) / "begun")
    result = await far.exec(f"{UNTIL_CUT}; echo ran >>/workspace/log; cat /workspace/log")
    assert result.output == "ran\n"
    assert (await far.exec("wc -l </workspace/log")).output.strip() == "1"


async def test_a_command_is_not_repeated_where_retries_are_off(proxy: Proxy, daemon: LocalDaemon) -> None:
    async with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key, max_retries=0) as client:
        session = await client.create_session()
        proxy.cut_at(workspace_of(daemon, session.id) / "begun")
        with pytest.raises(SandkastenConnectionError, match="lost before the answer") as caught:
            await session.exec(UNTIL_CUT)
        assert caught.value.request_id
        await session.destroy()


async def test_a_stream_that_is_left_stops_its_command_at_once(session: Session) -> None:
    async with session.exec_stream("echo started; sleep 100") as stream:
        await stream.__anext__()
    with soon():
        assert (await session.exec("pgrep -x sleep | wc -l")).output.strip() == "0"


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_retry, "_FIRST_PAUSE_SECONDS", 0.01)


# --- a daemon that is killed and comes back


@pytest.fixture
def served(daemon: LocalDaemon) -> Iterator[Served]:
    """A daemon in a process of its own; `daemon` is here so that both start one after another."""
    folder = Path(tempfile.mkdtemp(prefix="sandkasten-served-", dir="/tmp"))
    folder.chmod(0o711)
    served = Served(folder)
    yield served
    served.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def patient(served: Served) -> AsyncIterator[SandboxClient]:
    """A client that goes on trying for longer than a start takes."""
    async with SandboxClient(base_url=served.url, timeout=20, max_retries=100) as client:
        yield client


def when_begun(url: str, key: str | None, session_id: str, function: Callable[[], None]) -> threading.Thread:
    """Call a function in another thread, once the session runs its long command."""

    def work() -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(base_url=url, headers=headers) as http:
            read = f"/v1/sessions/{session_id}/fs/read"
            until(lambda: http.get(read, params={"path": "begun"}).status_code == 200)
        function()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


async def outcome_of_long(verb: str, session: Session) -> str:
    cmd = "touch begun; echo begun; until [ -e go ]; do sleep 0.01; done; echo ended"
    try:
        if verb == "exec":
            await session.exec(cmd)
        else:
            async for _chunk in session.exec_stream(cmd):
                pass
    except errors.SandkastenError as error:
        return type(error).__name__
    return OK


@pytest.mark.parametrize("verb", ["exec", "stream"])
async def test_a_daemon_with_the_extensions_is_killed_and_started_again(
    served: Served, patient: SandboxClient, verb: str
) -> None:
    expected = TABLE["killed"].cells
    session = await patient.create_session(image="base")
    killer = when_begun(served.url, None, session.id, served.restart)
    outcome = await outcome_of_long(verb, session)
    killer.join()
    assert outcome == expected[verb].able
    for other in VERBS[2:]:
        assert await outcome_of(patient, other, session.id, "file") == expected[other].able


@pytest.mark.parametrize("verb", ["exec", "stream"])
async def test_a_daemon_without_extensions_is_started_again(daemon: LocalDaemon, verb: str) -> None:
    expected = TABLE["killed"].cells
    with GoDaemon(daemon, Config(readonly_rootfs=False)) as go_daemon:
        async with SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client:
            session = await client.create_session(image="base")
            await session.write("file.in", "content of file")
            restarter = when_begun(go_daemon.url, go_daemon.api_key, session.id, go_daemon.restart)
            outcome = await outcome_of_long(verb, session)
            restarter.join()
            await session.write("go", "")
            assert outcome == expected[verb].plain
            for other in VERBS[2:]:
                if not isinstance(expected[other].plain, Never):
                    assert await outcome_of(client, other, session.id, "file") == expected[other].plain


# --- a daemon that stands still


async def test_an_upload_goes_on_after_the_daemon_stood_still_for_longer_than_it_waits() -> None:
    folder = Path(tempfile.mkdtemp(prefix="sandkasten-stalled-", dir="/tmp"))
    folder.chmod(0o711)
    served = Served(folder, idle_seconds=0.5)
    stalls: list[threading.Thread] = []

    def waits() -> bool:
        """Return whether the daemon has written the first part, and waits for the next."""
        return any(path.stat().st_size for path in folder.glob("workspaces/.writing-*/stalled/*"))

    def stall() -> None:
        until(waits)
        stalls.append(threading.Thread(target=served.stall, args=(1.5,)))
        stalls[0].start()
        stalls[0].join()  # so that nothing is sent meanwhile

    try:
        content = bytes(range(256)) * 20_000
        async with SandboxClient(base_url=served.url, max_retries=0) as client:
            workspace = client.workspace("stalled")
            await workspace.upload(OnlyOnce(content, stall), filename="f")  # type: ignore[arg-type]
            assert (await workspace.read("f")).content == content
        assert len(stalls) == 1
    finally:
        served.stop()
        shutil.rmtree(folder, ignore_errors=True)
