# Made from tests/_async/test_pipes.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""The extension `pipes`: a command's input and output byte for byte, while it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from pytest_httpserver import HTTPServer

from sandkasten.errors import ExtensionMissingError, InvalidRequestError, SandkastenConnectionError
from sandkasten.models import ExecChunk

from .seam import SandboxClient, Session, together

EVERY_BYTE = bytes(range(256)) * 20_000  # more than any pipe holds


def ran(session: Session, cmd: str, pieces: Iterator[bytes] | None = None) -> tuple[bytes, str, ExecChunk]:
    """Return a command's output on its pipe and on its terminal, and its end."""
    stream = session.exec_stream(cmd, pipe_output=True, pipe_input=pieces is not None)
    chunks: list[ExecChunk] = []

    def read() -> None:
        for chunk in stream:
            chunks.append(chunk)

    def write() -> None:
        assert pieces is not None
        stream.send_input(pieces)

    together(read, *[write] * (pieces is not None))
    piped = b"".join(chunk.data for chunk in chunks)
    return piped, "".join(chunk.output for chunk in chunks), chunks[-1]


@pytest.mark.parametrize("content", [EVERY_BYTE, b"\0", b"\n", b"no newline", b""], ids=len)
def test_bytes_go_through_a_command_as_they_are(session: Session, content: bytes) -> None:
    pieces = (content[start : start + 100_000] for start in range(0, len(content), 100_000))
    assert ran(session, "cat", pieces)[0] == content
    assert ran(session, "cat; echo", iter([content, content]))[0] == content * 2 + b"\n"


def test_standard_error_stays_text_and_apart(session: Session) -> None:
    piped, told, last = ran(session, "printf 'a\\xffb'; echo '\x1b[1mwhy\x1b[m' >&2; (exit 7)")
    assert (piped, told, last.exit_code) == (b"a\xffb", "why\n", 7)


def test_programs_see_pipes_and_no_terminal(session: Session) -> None:
    piped, _, _ = ran(session, "[ -t 0 ] || echo in; [ -t 1 ] || echo out; [ -t 2 ] && echo err", iter([b""]))
    assert piped == b"in\nout\nerr\n"


def test_what_was_printed_before_the_end_is_never_lost(session: Session) -> None:
    for end in ("", "; exit 3", "; kill -9 $$", "; exec true"):
        piped, _, last = ran(session, f"head -c 60000 /dev/zero{end}")
        assert piped == bytes(60_000)
        assert last.shell_restarted == bool(end)


def test_a_command_need_not_read_what_has_no_end(session: Session) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"y\n" * 10_000

    assert ran(session, "head -c 4", endless())[0] == b"y\ny\n"
    assert ran(session, "echo unread", endless())[0] == b"unread\n"
    assert ran(session, "exec <&-; read -t 0.2 <>/dev/null; echo closed", endless())[0] == b"closed\n"
    assert ran(session, "head -c 1; exit 5", endless())[2].exit_code == 5


def test_input_arrives_while_the_command_runs(session: Session) -> None:
    stream = session.exec_stream(
        "while read line; do echo got $line; done", pipe_input=True, pipe_output=True
    )
    heard: list[bytes] = []
    has_heard = threading.Event()

    def answers() -> Iterator[bytes]:  # in a thread
        yield b"1\n"
        yield b""  # is nothing, and not the end
        assert has_heard.wait(30)
        yield b"2\n"

    def read() -> None:
        for chunk in stream:
            if chunk.data:
                heard.append(chunk.data)
                has_heard.set()

    def write() -> None:
        stream.send_input(answers())

    together(read, write)
    assert b"".join(heard) == b"got 1\ngot 2\n"


def test_pipes_do_not_change_what_a_command_means(session: Session) -> None:
    ran(session, "read line; kept=$line; cd /tmp # a comment", iter([b"hello\n"]))
    assert session.exec("echo $kept $PWD; (exit 9)").output == "hello /tmp\n"
    assert ran(session, "echo $?; ls -A /workspace", iter([b""]))[0] == b"9\n"
    assert ran(session, "set -e; false || true; echo on", iter([b""]))[0] == b"on\n"
    assert session.exec("set +e; ls -A /workspace").output == ""


def test_a_background_job_outlives_its_pipe(session: Session) -> None:
    ran(session, "(while [ ! -e go ]; do sleep 0.05; done; echo late; echo alive >sign) &")
    result = session.exec("touch go; wait; until [ -e sign ]; do sleep 0.05; done; cat sign")
    assert result.output == "alive\n"


def test_input_into_a_terminal_is_possible(session: Session) -> None:
    stream = session.exec_stream("cat; [ -t 1 ] && echo terminal", pipe_input=True)
    shown: list[str] = []

    def read() -> None:
        for chunk in stream:
            shown.append(chunk.output)

    def write() -> None:
        stream.send_input(iter([b"typed\n"]))

    together(read, write)
    assert "".join(shown) == "typed\nterminal\n"


def test_input_that_breaks_off_stops_the_command(session: Session) -> None:
    def broken() -> Iterator[bytes]:
        yield b"a part"
        raise ZeroDivisionError

    stream = session.exec_stream("cat; echo whole", pipe_input=True, pipe_output=True)
    chunks: list[ExecChunk] = []

    def read() -> None:
        for chunk in stream:
            chunks.append(chunk)

    def write() -> None:
        with pytest.raises((ZeroDivisionError, SandkastenConnectionError)):
            stream.send_input(broken())

    together(read, write)
    assert chunks[-1].exit_code != 0
    assert b"whole" not in b"".join(chunk.data for chunk in chunks)


def test_a_command_without_such_input_says_so(session: Session) -> None:
    stream = session.exec_stream("sleep 0.1", pipe_output=True)

    def read() -> None:
        for _ in stream:
            pass

    def write() -> None:
        with pytest.raises(InvalidRequestError, match="standard input is a pipe"):
            stream.send_input(iter([b"x"]))

    together(read, write)


def test_a_daemon_without_pipes_is_named_before_anything_runs() -> None:
    with HTTPServer(threaded=True) as server:
        server.expect_request("/healthz").respond_with_json({"status": "ok"})
        with SandboxClient(base_url=server.url_for("")) as client:
            session = Session(client._connection, "1a2b3c4d-5e6")
            for pipes in ({"pipe_output": True}, {"pipe_input": True}):
                stream = session.exec_stream("true", **pipes)
                with pytest.raises(ExtensionMissingError, match="'pipes'"):
                    stream.send_input(iter([b"x"]))
                with pytest.raises(ExtensionMissingError, match="'pipes'"):
                    for _ in stream:
                        pass
