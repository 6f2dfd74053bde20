"""Real processes beside the shell: outputs, input, ends, terminals, and connections that drop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

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
async def roomy(daemon: LocalDaemon) -> AsyncIterator[Session]:
    """A session that the tests share: processes know nothing of each other."""
    target = daemon.target
    async with (
        SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client,
        await client.create_session(image="base") as session,
    ):
        yield session


@pytest.fixture
def proxy(daemon: LocalDaemon) -> Iterator[Proxy]:
    with relayed(daemon.target.socket_path) as proxy:
        yield proxy


@pytest.fixture
async def far(proxy: Proxy, daemon: LocalDaemon, roomy: Session) -> AsyncIterator[Session]:
    """The same session, over connections that can be cut."""
    async with SandboxClient(base_url=proxy.url, api_key=daemon.target.api_key) as client:
        yield await client.get_session(roomy.id)


async def test_a_run_has_its_outputs_apart_and_its_input(roomy: Session) -> None:
    script = 'cat; printf "%s|" "$A" "${HOME-none}" "$@"; printf "oh\\xff" >&2; exit 3'
    result = await roomy.run(
        ["bash", "-c", script, "name", "a 'b", ""], input="in\0\n", env={"A": "x y", "HOME": None}
    )
    assert result.stdout_bytes == b"in\0\nx y|none|a 'b||"
    assert (result.stderr_bytes, result.stderr) == (b"oh\xff", "oh\N{REPLACEMENT CHARACTER}")
    assert (result.exit_code, result.end, result.signal, result.truncated) == (3, "exited", None, False)
    killed = await roomy.run("kill -9 $$")
    assert (killed.exit_code, killed.signal, killed.end) == (137, "SIGKILL", "signal")


async def test_a_run_neither_waits_for_the_shell_nor_changes_it(roomy: Session) -> None:
    async def in_the_shell() -> str:
        return (await roomy.exec("mkfifo f; cat f")).output

    async def beside() -> str:
        return (
            await roomy.run("until [ -p f ]; do sleep 0.01; done; echo from beside >f; cd /; echo $PWD")
        ).stdout

    assert await together(in_the_shell, beside) == ["from beside\n", "/\n"]
    assert (await roomy.exec("rm f; echo $PWD")).output == "/workspace\n"


async def test_much_input_and_much_output(roomy: Session) -> None:
    data = bytes(range(256)) * 20_000
    result = await roomy.run(["cat"], input=data, keep_bytes=1000)
    assert (result.stdout_total_bytes, result.truncated) == (len(data), True)
    assert len(result.stdout_bytes) < 1100
    assert (await roomy.run(["wc", "-c"], input=data)).stdout.strip() == str(len(data))
    assert (await roomy.run(["true"], input=data)).ok


async def test_nothing_is_left_after_a_timeout(roomy: Session) -> None:
    with pytest.raises(ExecTimeoutError) as caught, soon():
        await roomy.run("echo out; echo err >&2; (trap '' TERM; sleep 313) & sleep 313", timeout_ms=300)
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "err\n")
    assert (await roomy.exec("pgrep -fx 'sleep 313' | wc -l")).output.strip() == "0"


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
async def test_what_cannot_be_started_says_why(
    roomy: Session, args: list[str], cwd: str | None, match: str, reason: str | None
) -> None:
    with pytest.raises(CannotStartError, match=match) as caught:
        await roomy.run(args, cwd=cwd)
    assert caught.value.reason == reason
    with pytest.raises(CannotStartError, match=match):
        await roomy.start(args, cwd=cwd)


async def test_a_program_takes_more_than_a_mebibyte_of_arguments(roomy: Session) -> None:
    result = await roomy.run(["printf", "%.1s", *["x" * 65_536] * 18])
    assert result.stdout == "x" * 18


async def test_a_server_and_its_client_in_one_session(roomy: Session) -> None:
    server = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8123, bind='127.0.0.1')"
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8123/').status)"
    async with await roomy.start(["python3", "-u", "-c", server]) as process:
        async for chunk in process:
            if "Serving" in chunk.text:
                break
        assert (await roomy.run(["python3", "-c", fetch])).check().stdout == "200\n"
        async for chunk in process:
            if "GET /" in chunk.text:
                assert chunk.stream == "stderr"
                break
    assert process.result.signal == "SIGTERM"
    [info] = [each for each in await roomy.processes() if each.id == process.id]
    assert (info.running, info.args[0]) == (False, "python3")


async def test_nothing_is_lost_or_doubled_where_connections_drop(far: Session, proxy: Proxy) -> None:
    process = await far.start(ECHO, stdin=True)
    seen = {"stdout": "", "stderr": ""}

    async def read() -> None:
        async for chunk in process:
            seen[chunk.stream] += chunk.text
            if len(seen["stdout"]) % 7 == 0:
                proxy.cut()

    async def write() -> None:
        for start in range(0, 300, 30):
            await process.write("".join(f"line {i}\n" for i in range(start, start + 30)))
            if start % 60 == 0:
                proxy.cut()
        await process.close_stdin()

    await together(read, write)
    assert seen["stdout"] == "".join(f"out {i + 1} line {i}\n" for i in range(300))
    assert seen["stderr"] == "".join(f"err {i + 1}\n" for i in range(300))
    assert (process.result.exit_code, process.result.truncated) == (0, False)
    assert process.result.stdout == seen["stdout"]
    assert proxy.connections > 3


async def test_another_client_reads_on_and_feeds_it(far: Session, roomy: Session) -> None:
    process = await roomy.start(ECHO, stdin=True)
    await process.write("a\n")
    text = ""
    async for chunk in process:
        text += chunk.text
        if text.count("\n") == 2:
            break
    other = far.process(process.id, process.position)
    await other.write("b\n")
    await process.write("c\n")
    await other.close_stdin()
    rest = "".join([chunk.text async for chunk in other])
    assert sorted(rest.split("\n")) == ["", "err 2", "err 3", "out 2 b", "out 3 c"]
    assert (await process.wait()).stdout == "out 1 a\nout 2 b\nout 3 c\n"
    with pytest.raises(ProcessInputClosedError):
        await other.write("d\n")


async def test_a_slow_reader_is_no_dead_connection(roomy: Session) -> None:
    process = await roomy.start("read first; until [ -e go ]; do sleep 0.01; done; wc -c", stdin=True)
    await process.write("\n")
    large = b"x" * calls.INPUT_PIECE_BYTES
    connection = roomy._connection
    for start in (1, 1 + len(large)):  # the second is more than a pipe holds
        call = _wire.kept_alive(calls.put_input(process._path, start, large), 0.06)
        response = await connection.open_stream(call) if start > 1 else None
        if response is None:
            assert await connection.call(call) == start + len(large)
    assert response is not None
    events = connection.events(response)
    await roomy.run("touch go")
    answers = [late_answer(event, response) async for event in events]
    assert answers[-1] is not None
    assert answers[-1].json() == {"position": 1 + 2 * len(large)}
    await process.close_stdin()
    assert (await process.wait()).stdout.strip() == str(2 * len(large))


async def test_what_there_is_can_be_read_while_it_goes_on(roomy: Session) -> None:
    async with await roomy.start("echo one; echo oh >&2; read x; echo $x; exit 3", stdin=True) as process:
        seen: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        while seen != {"stdout": b"one\n", "stderr": b"oh\n"}:
            for chunk in await process.read(timeout_ms=50):
                seen[chunk.stream] += chunk.data
        assert await process.read() == []
        assert (await process.info()).running
        await process.write("two\n")
        with soon():  # its end is no reason to wait longer
            (last,) = await process.read(timeout_ms=60_000)
        assert (last.text, process.result.exit_code, process.result.stdout) == ("two\n", 3, "one\ntwo\n")
        assert await process.read(timeout_ms=60_000) == []
    async with await roomy.start("head -c 3000000 /dev/zero") as process:
        total = 0
        while chunks := await process.read(timeout_ms=10_000, max_bytes=100_000):
            size = sum(len(chunk.data) for chunk in chunks)
            assert size < 1_000_000
            total += size
        assert total == 3_000_000


async def test_waiting_has_a_limit_and_needs_no_reader(roomy: Session) -> None:
    process = await roomy.start("seq 200000; read x; exit 5", stdin=True)
    with pytest.raises(WaitTimeoutError, match="did not end within 100 ms"):
        await process.wait(100)
    await process.close_stdin()
    result = await process.wait(30_000)
    assert (result.exit_code, result.truncated) == (5, True)
    assert result.stdout.endswith("\n200000\n")
    assert await process.wait() is result


async def test_a_limit_is_an_end_of_its_own(roomy: Session) -> None:
    process = await roomy.start("echo here; sleep 100", timeout_ms=300)
    result = await process.wait()
    assert (result.end, result.stdout) == ("timeout", "here\n")


async def test_a_terminal_is_a_real_one(roomy: Session) -> None:
    # Without the second trap bash goes on if a program of its own, also interrupted, ends by itself.
    script = """
        trap 'stty size' WINCH
        trap 'trap - INT; kill -INT $$' INT
        stty size; echo there >/dev/tty; echo ready
        while :; do sleep 0.05; done
    """
    async with await roomy.start(script, terminal=(91, 17)) as process:
        text = ""
        async for chunk in process:
            assert chunk.stream == "stdout"
            text += chunk.text
            if text.endswith("ready\r\n"):
                await process.resize(120, 40)
            if text.endswith("40 120\r\n"):
                await process.write("\x03")
        assert text.startswith("17 91\r\nthere\r\n")
        assert (process.result.exit_code, process.result.signal) == (130, "SIGINT")
    assert (await process.info()).terminal == (120, 40)


async def test_signals_reach_the_group_and_the_end_has_a_reason(roomy: Session) -> None:
    process = await roomy.start("trap 'echo got it' USR1; echo ready; while :; do sleep 0.05; done")
    async for chunk in process:
        if "ready" in chunk.text:
            await process.send_signal("USR1")
        if "got it" in chunk.text:
            assert await process.kill()
    assert (process.result.signal, process.result.exit_code, process.result.end) == ("SIGKILL", 137, "signal")
    assert not await process.terminate()
