# Made from tests/_async/test_processes.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Processes beside the shell, on a daemon that plays them: calls, and what the client makes of answers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from sandkasten.errors import (
    CommandFailedError,
    ExecTimeoutError,
    ExtensionMissingError,
    InvalidRequestError,
    ProcessInputClosedError,
    ProcessNotFoundError,
    SandkastenError,
    SandkastenInputError,
    SandkastenStreamError,
)
from sandkasten.testing import FakeDaemon, faults

from .seam import SandboxClient, Session


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    with FakeDaemon(extensions=("files", "idempotency", "processes")) as daemon:
        yield daemon


@pytest.fixture
def played(fake: FakeDaemon) -> Iterator[Session]:
    with SandboxClient(base_url=fake.url) as client, client.create_session() as session:
        yield session


def test_a_program_runs_with_its_outputs_apart(fake: FakeDaemon, played: Session) -> None:
    fake.on_exec("ls -l 'a b'", output="a\nb\n", stderr="oh\n", exit_code=3)
    result = played.run(["ls", "-l", PurePosixPath("a b")], input="x", cwd="d", env={"A": "1", "B": None})
    assert (result.stdout, result.stderr, result.exit_code, result.end) == ("a\nb\n", "oh\n", 3, "exited")
    assert (result.stdout_bytes, result.stdout_total_bytes, result.truncated) == (b"a\nb\n", 4, False)
    assert result.signal is None
    sent = fake.requests[-1].json
    assert sent["args"] == ["ls", "-l", "a b"]
    assert (sent["cwd"], sent["env"], sent["input"]) == ("d", {"A": "1", "B": None}, "eA==")
    with pytest.raises(CommandFailedError, match="status 3: oh") as caught:
        result.check()
    assert caught.value.result is result


def test_a_text_is_for_bash(fake: FakeDaemon, played: Session) -> None:
    fake.on_exec("echo $HOME | tr a b", output="/home\n")
    assert played.run("echo $HOME | tr a b").check().stdout == "/home\n"
    assert fake.requests[-1].json["cmd"] == "echo $HOME | tr a b"


def test_a_large_input_goes_as_a_part_of_its_own(fake: FakeDaemon, played: Session) -> None:
    fake.on_exec("wc -c", output="1000000\n")
    assert played.run(["wc", "-c"], input=b"\0\r\n--" * 200_000).ok
    request = fake.requests[-1]
    assert request.headers["content-type"].startswith("multipart/form-data")
    assert int(request.headers["content-length"]) > 1_000_000


def test_a_run_that_outran_its_time_has_what_it_printed(fake: FakeDaemon, played: Session) -> None:
    fake.on_exec("slow", output="some\n", stderr="oh\n", timed_out=True)
    with pytest.raises(ExecTimeoutError) as caught:
        played.run(["slow"])
    assert (caught.value.stdout, caught.value.stderr, caught.value.output) == ("some\n", "oh\n", "some\noh\n")


def test_a_run_whose_answer_was_lost_runs_once(fake: FakeDaemon, played: Session) -> None:
    fake.on_exec("once", output="1\n", times=1)
    fake.fail_next(faults.reset(), where="run")
    assert played.run(["once"]).stdout == "1\n"
    assert fake.commands == ["once"]


def test_a_process_is_iterated_over_and_left_and_begun_again(fake: FakeDaemon, played: Session) -> None:
    fake.on_exec("count", output=["1\n", "2\n", "3\n"], stderr="end\n", exit_code=2)
    process = played.start(["count"])
    with pytest.raises(SandkastenError, match="no result yet"):
        _ = process.result
    for chunk in process:
        assert (chunk.stream, chunk.data, chunk.text) == ("stdout", b"1\n", "1\n")
        break
    assert process.position == 2
    rest = [(chunk.stream, chunk.text) for chunk in process]
    assert rest == [("stdout", "2\n"), ("stdout", "3\n"), ("stderr", "end\n")]
    assert (process.result.stdout, process.result.stderr) == ("1\n2\n3\n", "end\n")
    assert (process.result.exit_code, process.result.truncated) == (2, False)
    assert [chunk for chunk in process] == []
    assert process.wait() == process.result


@pytest.mark.parametrize("after_events", [0, 1, 2])
def test_a_dropped_connection_loses_and_doubles_nothing(
    fake: FakeDaemon, played: Session, after_events: int
) -> None:
    fake.on_exec("count", output=["1\n", "2\n", "3\n"])
    fake.fail_next(faults.cut_mid_event(after_events=after_events), where="process_output")
    process = played.start(["count"])
    assert "".join([chunk.text for chunk in process]) == "1\n2\n3\n"
    assert process.result.ok


def test_without_retries_a_cut_is_an_error_and_the_next_loop_goes_on(fake: FakeDaemon) -> None:
    fake.on_exec("count", output=["1\n", "2\n"])
    fake.fail_next(faults.cut_mid_event(after_events=1), where="process_output")
    with SandboxClient(base_url=fake.url, max_retries=0) as client:
        process = client.create_session().start(["count"])
        text = ""
        with pytest.raises(SandkastenStreamError, match="cut before the process's end"):
            for chunk in process:
                text += chunk.text
        assert text == "1\n"
        assert "".join([chunk.text for chunk in process]) == "2\n"


def test_characters_are_whole_and_a_gap_is_seen(fake: FakeDaemon, played: Session) -> None:
    process = played.start(["any"])
    events = [
        ("stdout", '{"base64": "w6TD"}', 3),
        ("stderr", '{"base64": "w6Q="}', 5),
        ("stdout", '{"base64": "pA=="}', 6),
        ("gap", '{"missed_bytes": 10}', 16),
        ("later", "{}", 16),
        (
            "done",
            '{"exit_code": 137, "signal": "SIGKILL", "end": "out_of_memory", "stdout_bytes": 16}',
            16,
        ),
    ]
    text = "".join(f"id: {at}\nevent: {name}\ndata: {data}\n\n" for name, data, at in events)
    stream = {"content_type": "text/event-stream", "response_data": text}
    with HTTPServer(threaded=True) as server:
        server.expect_request("/healthz").respond_with_json({"status": "ok"})
        server.expect_request(f"/v1/sessions/{played.id}/processes/{process.id}/output").respond_with_data(
            **stream
        )
        with SandboxClient(base_url=server.url_for("")) as client:
            handle = Session(client._connection, played.id).process(process.id)
            chunks = [chunk for chunk in handle]
    assert [chunk.text for chunk in chunks] == ["ä", "ä", "ä", ""]
    assert [chunk.missed_bytes for chunk in chunks] == [0, 0, 0, 10]
    assert handle.position == 16
    result = handle.result
    assert (result.signal, result.end, result.truncated) == ("SIGKILL", "out_of_memory", True)
    assert "10 bytes left out" in result.stdout


def test_input_is_written_by_two_clients_that_take_turns(fake: FakeDaemon, played: Session) -> None:
    process = played.start(["cat"], stdin=True)
    process.write("one\n")
    with SandboxClient(base_url=fake.url) as client:
        other = client.get_session(played.id).process(process.id)
        other.write(b"two\n")
        large = b"0123456789" * 20_000
        fake.fail_next(faults.reset(), where="process_input", times=2)
        other.write(large)
    process.write("three\n")
    seen = fake.sessions[played.id].processes[process.id]
    assert seen.stdin == b"one\ntwo\n" + large + b"three\n"
    process.close_stdin()
    process.close_stdin()
    with pytest.raises(BrokenPipeError) as caught:
        process.write("x")
    assert isinstance(caught.value, ProcessInputClosedError)


def test_the_block_ends_the_process_and_a_forgotten_handle_does_not(
    fake: FakeDaemon, played: Session
) -> None:
    with played.start(["server"]) as process:
        assert process.info().running
    played.start("server2", terminal=(80, 24))
    first, second = played.processes()
    assert (first.id, first.running, first.args) == (process.id, False, ("server",))
    assert first.result is not None
    assert (first.result.signal, process.result.exit_code) == ("SIGTERM", 143)
    assert (second.running, second.terminal, second.result) == (True, (80, 24), None)
    assert second.args == ("bash", "-c", "server2")
    handle = played.process(second.id)
    handle.resize(100, 30)
    assert handle.info().terminal == (100, 30)
    assert handle.send_signal("sigusr1")
    assert handle.send_signal(signal.SIGWINCH)
    assert handle.send_signal(10)
    assert fake.sessions[played.id].processes[second.id].signals == ["USR1", "WINCH", 10]
    assert handle.kill()
    assert not handle.terminate()
    assert handle.wait(0).signal == "SIGKILL"


def test_what_is_not_there_has_its_own_errors(played: Session) -> None:
    handle = played.process("0" * 32)
    with pytest.raises(ProcessNotFoundError):
        handle.wait()
    with pytest.raises(ProcessNotFoundError):
        for _ in handle:
            pass
    handle.close()
    process = played.start(["any"])
    with pytest.raises(InvalidRequestError, match="no terminal"):
        process.resize(80, 24)


@pytest.mark.parametrize(
    ("args", "options", "match"),
    [
        ([], {}, "args is"),
        ("  ", {}, "cmd is"),
        (["x", 1], {}, r"args\[1\] is 1"),
        ([""], {}, "empty"),
        (["a\0b"], {}, "NUL"),
        (["\udc80"], {}, "Unicode"),
        (["x" * 2_200_000], {}, "bytes long"),
        (["x"], {"env": {"A=B": "1"}}, "name 'A=B'"),
        (["x"], {"env": {"A": 1}}, "must be a str, or None"),
        (["x"], {"cwd": ""}, "cwd is"),
        (["x"], {"timeout_ms": -1}, "timeout_ms is"),
        (["x"], {"terminal": (0, 24)}, "columns is 0"),
        (["x"], {"terminal": (80, 10_001)}, "rows is 10001"),
        (["x"], {"terminal": 80}, "terminal is 80"),
        (["x"], {"input": 5}, "input is of type int"),
        (["x"], {"keep_bytes": -1}, "keep_bytes is"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    fake: FakeDaemon, played: Session, args: Any, options: dict[str, Any], match: str
) -> None:
    sent = len(fake.requests)
    of_start = {"terminal", "timeout_ms", "env", "cwd"}
    with pytest.raises(SandkastenInputError, match=match):
        if options.keys() <= of_start:
            played.start(args, **options)
        else:
            played.run(args, **options)
    assert len(fake.requests) == sent


def test_bad_arguments_of_a_handle_are_refused_too(fake: FakeDaemon, played: Session) -> None:
    sent = len(fake.requests)
    for process_id, position in (("x", 0), ("0" * 32, -1)):
        with pytest.raises(SandkastenInputError):
            played.process(process_id, position)
    handle = played.process("0" * 32)
    for name in ("", "SIGNOTHING", 0, 65, True):
        with pytest.raises(SandkastenInputError, match="signal is"):
            handle.send_signal(name)
    with pytest.raises(SandkastenInputError, match="columns is 0"):
        handle.resize(0, 1)
    with pytest.raises(SandkastenInputError, match="timeout_ms is -1"):
        handle.wait(-1)
    with pytest.raises(SandkastenInputError, match="content is of type int"):
        handle.write(5)  # type: ignore[arg-type]
    assert len(fake.requests) == sent


def test_a_daemon_without_processes_is_named_before_anything_is_sent() -> None:
    with FakeDaemon() as daemon:
        with SandboxClient(base_url=daemon.url) as client:
            session = client.create_session()
            with pytest.raises(ExtensionMissingError, match="'processes'"):
                session.start(["true"])
            with pytest.raises(ExtensionMissingError, match="'processes'"):
                session.processes()
