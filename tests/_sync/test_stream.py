# Made from tests/_async/test_stream.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Output while a command runs, against the real embedded daemon."""

from __future__ import annotations

import time

import pytest
from attrs import evolve

from sandkasten.errors import (
    CommandFailedError,
    ExecTimeoutError,
    SandkastenError,
    SessionNotFoundError,
)
from tests.soon import soon

from .seam import SandboxClient, Session, sleep

COUNT = "for i in 1 2 3; do echo $i; until [ -e seen$i ]; do sleep 0.01; done; done"


def still_running(session: Session, marker: str) -> bool:
    """Return whether a `sleep` with this argument still runs, waiting a little for its end."""
    for _ in range(200):
        if session.exec(f"pgrep -f 'sleep {marker}' >/dev/null && echo yes").output == "":
            return False
        sleep(0.05)
    return True


def test_chunks_come_when_they_are_printed(session: Session) -> None:
    started, outputs = time.monotonic(), []
    for chunk in session.exec_stream(COUNT):
        if not chunk.done:  # and the command waits until it was seen
            outputs.append(chunk.output)
            session.write(f"seen{len(outputs)}", "")
    assert outputs == ["1\n", "2\n", "3\n"]
    assert (chunk.done, chunk.exit_code, chunk.cwd, chunk.output) == (True, 0, "/workspace", "")
    assert chunk.duration_ms is not None
    assert 0 < chunk.duration_ms <= (time.monotonic() - started) * 1000


def test_timestamps_are_aware_and_increase(session: Session) -> None:
    stamps = [chunk.timestamp for chunk in session.exec_stream("echo a; sleep 0.05; echo b")]
    assert stamps == sorted(stamps)
    assert all(stamp.tzinfo is not None for stamp in stamps)


def test_a_stream_shares_the_shell_with_exec(session: Session) -> None:
    chunks = [chunk for chunk in session.exec_stream("cd /tmp; export NAME=World; exit 4")]
    assert (chunks[-1].exit_code, chunks[-1].cwd, chunks[-1].shell_restarted) == (4, "/tmp", True)
    assert session.exec("echo $NAME $PWD").output == "World /tmp\n"


def test_leaving_the_loop_stops_the_command(session: Session) -> None:
    for chunk in session.exec_stream("echo started; sleep 1001"):
        assert chunk.output == "started\n"
        break
    with soon():
        assert not still_running(session, "1001")


def test_leaving_the_context_manager_stops_the_command(session: Session) -> None:
    session.exec("plain=kept")
    with session.exec_stream("echo started; sleep 1002") as stream:
        assert stream.__next__().output == "started\n"
    assert not still_running(session, "1002")
    assert session.exec("echo $plain").output == "kept\n"


def test_an_error_in_the_block_stops_the_command(session: Session) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        with session.exec_stream("echo started; sleep 1003") as stream:
            for _chunk in stream:
                raise RuntimeError("mine")
    assert not still_running(session, "1003")


def test_a_closed_stream_is_at_its_end(session: Session) -> None:
    stream = session.exec_stream("echo a; sleep 1004")
    assert stream.__next__().output == "a\n"
    stream.close()
    stream.close()
    assert [chunk for chunk in stream] == []


def test_a_stream_that_is_never_read_runs_nothing(session: Session) -> None:
    with session.exec_stream("touch ran"):
        pass
    assert session.exec("ls").output == ""


def test_a_timeout_ends_the_stream_with_its_error(session: Session) -> None:
    session.exec("plain=kept")
    outputs = []
    with pytest.raises(ExecTimeoutError, match="1000 ms") as caught:
        for chunk in session.exec_stream("echo before; sleep 100", timeout_ms=1000):
            outputs.append(chunk.output)
    assert "".join(outputs).startswith("before\n")
    assert (caught.value.cwd, caught.value.shell_restarted) == ("/workspace", False)
    assert session.exec("echo $plain").output == "kept\n"


def test_a_character_cut_in_two_arrives_whole(session: Session) -> None:
    command = r"printf '\xe6\xbc'; sleep 0.1; printf '\xa2\n'"
    outputs = [chunk.output for chunk in session.exec_stream(command)]
    assert "".join(outputs) == "漢\n"


def test_a_large_stream_arrives_complete(session: Session) -> None:
    size = 0
    for chunk in session.exec_stream("head -c 20000000 /dev/zero | tr '\\0' x"):
        size += len(chunk.output)
    assert size == 20_000_000


def test_a_slow_reader_holds_the_command_back_and_loses_nothing(session: Session) -> None:
    size = 0
    for chunk in session.exec_stream("head -c 2000000 /dev/zero | tr '\\0' x"):
        if size == 0:
            sleep(0.3)
        size += len(chunk.output)
    assert size == 2_000_000


def test_destroying_the_session_ends_its_stream(session: Session, client: SandboxClient) -> None:
    other = client.create_session()
    with pytest.raises(SessionNotFoundError):
        for chunk in other.exec_stream("echo started; sleep 100"):
            if chunk.output:
                other.destroy()


def test_an_unknown_session_is_told_at_the_first_step(session: Session, client: SandboxClient) -> None:
    gone = client.create_session()
    gone.destroy()
    with pytest.raises(SessionNotFoundError, match="destroyed"):
        gone.exec_stream("true").__next__()


def test_a_stream_has_the_result_that_exec_would_have_given(session: Session) -> None:
    command = "cd /tmp; echo one; echo two >&2; (exit 3)"
    with session.exec_stream(command) as stream:
        for _ in stream:
            pass
    result = stream.result
    assert (result.exit_code, result.cwd, result.output) == (3, "/tmp", "one\ntwo\n")
    assert (result.truncated, result.shell_restarted, result.ok) == (False, False, False)
    again = session.exec(command)
    assert evolve(again, duration_ms=0) == evolve(result, duration_ms=0)
    with pytest.raises(CommandFailedError, match="two"):
        result.check()


def test_a_stream_keeps_head_and_tail_of_its_output_for_the_result(session: Session) -> None:
    for keep_bytes, kept in ((1000, True), (0, False)):
        stream = session.exec_stream("seq 100000", keep_bytes=keep_bytes)
        received = "".join([chunk.output for chunk in stream])
        assert len(received) == 588_895
        output = stream.result.output
        assert stream.result.truncated
        assert "bytes left out" in output
        assert len(output) <= max(keep_bytes, 100)
        assert (output.startswith("1\n2\n"), output.endswith("99999\n100000\n")) == (kept, kept)


def test_a_stream_that_was_not_read_to_its_end_has_no_result(session: Session) -> None:
    with session.exec_stream("echo one; sleep 100") as stream:
        with pytest.raises(SandkastenError, match="Iterate to the end"):
            assert stream.result
        for _ in stream:
            break
    with pytest.raises(SandkastenError, match="Iterate to the end"):
        assert stream.result
