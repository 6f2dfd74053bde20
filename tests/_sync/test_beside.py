# Made from tests/_async/test_beside.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Real processes beside the shell: outputs, input, ends, terminals, and connections that drop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten import _wire
from sandkasten._events import late_answer
from sandkasten._processes import calls
from sandkasten.errors import (
    CannotStartError,
    ExecTimeoutError,
    ProcessInputClosedError,
    WaitTimeoutError,
)
from sandkasten.local.launch import LocalDaemon
from tests.proxy import Proxy, relayed
from tests.soon import soon

from .seam import SandboxClient, Session, together

# Prints 300 lines, alternating between its outputs, each when it got a line.
ECHO = "i=0; while read line; do i=$((i+1)); echo out $i $line; echo err $i >&2; done"


@pytest.fixture(scope="module")
def roomy(daemon: LocalDaemon) -> Iterator[Session]:
    """A session that the tests share: processes know nothing of each other."""
    target = daemon.target
    with (
        SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client,
        client.create_session(image="base") as session,
    ):
        yield session


@pytest.fixture
def proxy(daemon: LocalDaemon) -> Iterator[Proxy]:
    with relayed(daemon.target.socket_path) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy, daemon: LocalDaemon, roomy: Session) -> Iterator[Session]:
    """The same session, over connections that can be cut."""
    with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key) as client:
        yield client.get_session(roomy.id)


def test_a_run_has_its_outputs_apart_and_its_input(roomy: Session) -> None:
    script = 'cat; printf "%s|" "$A" "${HOME-none}" "$@"; printf "oh\\xff" >&2; exit 3'
    result = roomy.run(
        ["bash", "-c", script, "name", "a 'b", ""], input="in\0\n", env={"A": "x y", "HOME": None}
    )
    assert result.stdout_bytes == b"in\0\nx y|none|a 'b||"
    assert (result.stderr_bytes, result.stderr) == (b"oh\xff", "oh\N{REPLACEMENT CHARACTER}")
    assert (result.exit_code, result.end, result.signal, result.truncated) == (3, "exited", None, False)
    killed = roomy.run("kill -9 $$")
    assert (killed.exit_code, killed.signal, killed.end) == (137, "SIGKILL", "signal")


def test_a_run_neither_waits_for_the_shell_nor_changes_it(roomy: Session) -> None:
    def in_the_shell() -> str:
        return roomy.exec("mkfifo f; cat f").output

    def beside() -> str:
        return (roomy.run("until [ -p f ]; do sleep 0.01; done; echo from beside >f; cd /; echo $PWD")).stdout

    assert together(in_the_shell, beside) == ["from beside\n", "/\n"]
    assert roomy.exec("rm f; echo $PWD").output == "/workspace\n"


def test_much_input_and_much_output(roomy: Session) -> None:
    data = bytes(range(256)) * 20_000
    result = roomy.run(["cat"], input=data, keep_bytes=1000)
    assert (result.stdout_total_bytes, result.truncated) == (len(data), True)
    assert len(result.stdout_bytes) < 1100
    assert roomy.run(["wc", "-c"], input=data).stdout.strip() == str(len(data))
    assert roomy.run(["true"], input=data).ok


def test_nothing_is_left_after_a_timeout(roomy: Session) -> None:
    with pytest.raises(ExecTimeoutError) as caught, soon():
        roomy.run("echo out; echo err >&2; (trap '' TERM; sleep 313) & sleep 313", timeout_ms=300)
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "err\n")
    assert roomy.exec("pgrep -fx 'sleep 313' | wc -l").output.strip() == "0"


@pytest.mark.parametrize(
    ("args", "cwd", "match", "reason"),
    [
        (["python4"], None, "python4: ", "not_found"),
        (["/etc/passwd"], None, "/etc/passwd: ", "not_executable"),
        (["true"], "nowhere", "directory", "no_directory"),
        (["true", "x" * 200_000], None, "too long", None),
    ],
    ids=["not found", "not executable", "no directory", "too long"],
)
def test_what_cannot_be_started_says_why(
    roomy: Session, args: list[str], cwd: str | None, match: str, reason: str | None
) -> None:
    with pytest.raises(CannotStartError, match=match) as caught:
        roomy.run(args, cwd=cwd)
    assert caught.value.reason == reason
    with pytest.raises(CannotStartError, match=match):
        roomy.start(args, cwd=cwd)


def test_a_program_takes_more_than_a_mebibyte_of_arguments(roomy: Session) -> None:
    result = roomy.run(["printf", "%.1s", *["x" * 65_536] * 18])
    assert result.stdout == "x" * 18


def test_a_server_and_its_client_in_one_session(roomy: Session) -> None:
    server = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8123, bind='127.0.0.1')"
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8123/').status)"
    with roomy.start(["python3", "-u", "-c", server]) as process:
        for chunk in process:
            if "Serving" in chunk.text:
                break
        assert roomy.run(["python3", "-c", fetch]).check().stdout == "200\n"
        for chunk in process:
            if "GET /" in chunk.text:
                assert chunk.stream == "stderr"
                break
    assert process.result.signal == "SIGTERM"
    [info] = [each for each in roomy.processes() if each.id == process.id]
    assert (info.running, info.args[0]) == (False, "python3")


def test_nothing_is_lost_or_doubled_where_connections_drop(far: Session, proxy: Proxy) -> None:
    process = far.start(ECHO, stdin=True)
    seen = {"stdout": "", "stderr": ""}

    def read() -> None:
        for chunk in process:
            seen[chunk.stream] += chunk.text
            if len(seen["stdout"]) % 7 == 0:
                proxy.cut()

    def write() -> None:
        for start in range(0, 300, 30):
            process.write("".join(f"line {i}\n" for i in range(start, start + 30)))
            if start % 60 == 0:
                proxy.cut()
        process.close_stdin()

    together(read, write)
    assert seen["stdout"] == "".join(f"out {i + 1} line {i}\n" for i in range(300))
    assert seen["stderr"] == "".join(f"err {i + 1}\n" for i in range(300))
    assert (process.result.exit_code, process.result.truncated) == (0, False)
    assert process.result.stdout == seen["stdout"]
    assert proxy.connections > 3


def test_another_client_reads_on_and_feeds_it(far: Session, roomy: Session) -> None:
    process = roomy.start(ECHO, stdin=True)
    process.write("a\n")
    text = ""
    for chunk in process:
        text += chunk.text
        if text.count("\n") == 2:
            break
    other = far.process(process.id, process.position)
    other.write("b\n")
    process.write("c\n")
    other.close_stdin()
    rest = "".join([chunk.text for chunk in other])
    assert sorted(rest.split("\n")) == ["", "err 2", "err 3", "out 2 b", "out 3 c"]
    assert process.wait().stdout == "out 1 a\nout 2 b\nout 3 c\n"
    with pytest.raises(ProcessInputClosedError):
        other.write("d\n")


def test_a_slow_reader_is_no_dead_connection(roomy: Session) -> None:
    process = roomy.start("read first; until [ -e go ]; do sleep 0.01; done; wc -c", stdin=True)
    process.write("\n")
    large = b"x" * calls.INPUT_PIECE_BYTES
    connection = roomy._connection
    for start in (1, 1 + len(large)):  # the second is more than a pipe holds
        call = _wire.kept_alive(calls.put_input(process._path, start, large), 0.06)
        response = connection.open_stream(call) if start > 1 else None
        if response is None:
            assert connection.call(call) == start + len(large)
    assert response is not None
    events = connection.events(response)
    roomy.run("touch go")
    answers = [late_answer(event, response) for event in events]
    assert answers[-1] is not None
    assert answers[-1].json() == {"position": 1 + 2 * len(large)}
    process.close_stdin()
    assert process.wait().stdout.strip() == str(2 * len(large))


def test_what_there_is_can_be_read_while_it_goes_on(roomy: Session) -> None:
    with roomy.start("echo one; echo oh >&2; read x; echo $x; exit 3", stdin=True) as process:
        seen: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        while seen != {"stdout": b"one\n", "stderr": b"oh\n"}:
            for chunk in process.read(timeout_ms=50):
                seen[chunk.stream] += chunk.data
        assert process.read() == []
        assert process.info().running
        process.write("two\n")
        with soon():  # its end is no reason to wait longer
            (last,) = process.read(timeout_ms=60_000)
        assert (last.text, process.result.exit_code, process.result.stdout) == ("two\n", 3, "one\ntwo\n")
        assert process.read(timeout_ms=60_000) == []
    with roomy.start("head -c 3000000 /dev/zero") as process:
        total = 0
        while chunks := process.read(timeout_ms=10_000, max_bytes=100_000):
            size = sum(len(chunk.data) for chunk in chunks)
            assert size < 1_000_000
            total += size
        assert total == 3_000_000


def test_waiting_has_a_limit_and_needs_no_reader(roomy: Session) -> None:
    process = roomy.start("seq 200000; read x; exit 5", stdin=True)
    with pytest.raises(WaitTimeoutError, match="did not end within 100 ms"):
        process.wait(100)
    process.close_stdin()
    result = process.wait(30_000)
    assert (result.exit_code, result.truncated) == (5, True)
    assert result.stdout.endswith("\n200000\n")
    assert process.wait() is result


def test_a_limit_is_an_end_of_its_own(roomy: Session) -> None:
    process = roomy.start("echo here; sleep 100", timeout_ms=300)
    result = process.wait()
    assert (result.end, result.stdout) == ("timeout", "here\n")


def test_a_terminal_is_a_real_one(roomy: Session) -> None:
    # Without the second trap bash goes on if a program of its own, also interrupted, ends by itself.
    script = """
        trap 'stty size' WINCH
        trap 'trap - INT; kill -INT $$' INT
        stty size; echo there >/dev/tty; echo ready
        while :; do sleep 0.05; done
    """
    with roomy.start(script, terminal=(91, 17)) as process:
        text = ""
        for chunk in process:
            assert chunk.stream == "stdout"
            text += chunk.text
            if text.endswith("ready\r\n"):
                process.resize(120, 40)
            if text.endswith("40 120\r\n"):
                process.write("\x03")
        assert text.startswith("17 91\r\nthere\r\n")
        assert (process.result.exit_code, process.result.signal) == (130, "SIGINT")
    assert process.info().terminal == (120, 40)


def test_signals_reach_the_group_and_the_end_has_a_reason(roomy: Session) -> None:
    process = roomy.start("trap 'echo got it' USR1; echo ready; while :; do sleep 0.05; done")
    for chunk in process:
        if "ready" in chunk.text:
            process.send_signal("USR1")
        if "got it" in chunk.text:
            assert process.kill()
    assert (process.result.signal, process.result.exit_code, process.result.end) == ("SIGKILL", 137, "signal")
    assert not process.terminate()
