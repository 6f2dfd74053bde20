# Made from tests/_async/test_resume.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Streams that survive a dropped connection, and commands that stop with their caller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten.errors import SandkastenConnectionError, SandkastenStreamError
from sandkasten.local.launch import LocalDaemon
from tests.local.box import workspace_of
from tests.proxy import Proxy, relayed
from tests.soon import soon

from .seam import SandboxClient, Session, sleep

COUNT = "for i in $(seq 1 60); do echo line $i; sleep 0.02; done"
UNTIL_CUT = "touch begun; while [ -e begun ]; do sleep 0.01; done"
COUNTED = "".join(f"line {i}\n" for i in range(1, 61))


@pytest.fixture
def proxy(daemon: LocalDaemon) -> Iterator[Proxy]:
    with relayed(daemon.target.socket_path) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy, daemon: LocalDaemon) -> Iterator[Session]:
    """A session whose connections can be cut."""
    client = SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key)
    with client, client.create_session() as session:
        yield session


def test_a_stream_goes_on_where_its_connection_dropped(far: Session, proxy: Proxy) -> None:
    output = ""
    with far.exec_stream(COUNT) as stream:
        for chunk in stream:
            if chunk.output.count("\n") and len(output) % 5 == 0:
                proxy.cut()
            output += chunk.output
            assert chunk.missed_bytes == 0
    assert output == COUNTED
    assert (chunk.done, chunk.exit_code) == (True, 0)
    assert proxy.connections > 2


def test_a_stream_that_was_cut_after_its_last_chunk_still_gets_its_end(far: Session, proxy: Proxy) -> None:
    chunks = []
    with far.exec_stream("echo all; sleep 0.3; exit 7") as stream:
        for chunk in stream:
            chunks.append(chunk)
            if chunk.output:
                proxy.cut()
    assert "".join(chunk.output for chunk in chunks) == "all\n"
    assert chunks[-1].exit_code == 7


def test_output_that_nobody_could_keep_is_a_visible_gap(far: Session, proxy: Proxy) -> None:
    total = 8 * 1024 * 1024
    received = missed = 0
    was_cut = False
    with far.exec_stream(f"head -c {total} /dev/zero | tr '\\0' x; sleep 0.3") as stream:
        for chunk in stream:
            received += len(chunk.output)
            missed += chunk.missed_bytes
            if chunk.output and not was_cut:
                was_cut = True
                sleep(0.5)  # while the sockets between here and there fill
                proxy.cut()
    assert received + missed == total
    assert stream.result.truncated
    assert "bytes left out" in stream.result.output


def test_without_retries_a_cut_stream_is_an_error_with_what_was_received(
    proxy: Proxy, daemon: LocalDaemon
) -> None:
    with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key, max_retries=0) as client:
        session = client.create_session()
        with pytest.raises(SandkastenStreamError, match="cut") as caught:
            for chunk in session.exec_stream("echo one; sleep 100"):
                assert chunk.output == "one\n"
                proxy.cut()
        assert caught.value.output == "one\n"
        with soon():
            assert session.exec("echo free").output == "free\n"  # the command was stopped
        session.destroy()


def test_a_command_runs_once_though_its_answer_was_lost(
    far: Session, proxy: Proxy, daemon: LocalDaemon
) -> None:
    proxy.cut_at(workspace_of(daemon, far.id) / "begun")
    result = far.exec(f"{UNTIL_CUT}; echo ran >>/workspace/log; cat /workspace/log")
    assert result.output == "ran\n"
    assert far.exec("wc -l </workspace/log").output.strip() == "1"


def test_a_command_is_not_repeated_where_retries_are_off(proxy: Proxy, daemon: LocalDaemon) -> None:
    with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key, max_retries=0) as client:
        session = client.create_session()
        proxy.cut_at(workspace_of(daemon, session.id) / "begun")
        with pytest.raises(SandkastenConnectionError, match="lost before the answer") as caught:
            session.exec(UNTIL_CUT)
        assert caught.value.request_id
        session.destroy()


def test_a_stream_that_is_left_stops_its_command_at_once(session: Session) -> None:
    with session.exec_stream("echo started; sleep 100") as stream:
        stream.__next__()
    with soon():
        assert session.exec("pgrep -x sleep | wc -l").output.strip() == "0"
