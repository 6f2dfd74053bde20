"""Sessions made to measure: variables, a directory, labels, a name, limits and lifetimes.

The limits of one session are met while another one works, against an embedded daemon with small limits.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from sandkasten.errors import (
    ExecTimeoutError,
    ExtensionMissingError,
    InsufficientStorageError,
    InvalidRequestError,
    NameTakenError,
    SandkastenInputError,
    SessionNotFoundError,
)
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from sandkasten.models import Limits
from tests.held import HeldDaemon

from .seam import SandboxClient, Session, sleep, together

MIB = 1024 * 1024
LIMITS = {
    "memory_bytes": 256 * MIB,
    "processes": 64,
    "file_bytes": 32 * MIB,
    "tmp_bytes": 16 * MIB,
    "workspace_bytes": 48 * MIB,
    "output_bytes": 100_000,
}


@pytest.fixture(scope="module")
def small_daemon() -> Iterator[LocalDaemon]:
    """A daemon with small limits, one for all: whatever a session does, the next finds it as it was."""
    daemon = start_daemon(LocalOptions(limits=Limits(**LIMITS), pool_size=0))
    yield daemon
    daemon.stop()


@pytest.fixture
async def small(small_daemon: LocalDaemon) -> AsyncIterator[SandboxClient]:
    target = small_daemon.target
    async with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        yield client


@pytest.fixture
async def greedy(small: SandboxClient) -> AsyncIterator[Session]:
    async with await small.create_session() as session:
        yield session


@pytest.fixture
async def modest(small: SandboxClient) -> AsyncIterator[Session]:
    async with await small.create_session() as session:
        yield session


async def beside(greedy: Session, command: str, modest: Session) -> tuple[int, str]:
    """Run a command that takes too much, while the other session computes."""

    async def take() -> tuple[int, str]:
        try:
            result = await greedy.exec(command, timeout_ms=10_000)
        except (ExecTimeoutError, InsufficientStorageError) as error:
            return error.status_code, error.output
        return result.exit_code, result.output

    async def work() -> tuple[int, str]:
        for _ in range(20):
            assert (await modest.exec("echo $((6 * 7))")).output == "42\n"
        return 0, ""

    outcome, _ = await together(take, work)
    assert (await greedy.exec("echo alive")).output == "alive\n"
    assert (await modest.exec("echo alive")).output == "alive\n"
    return outcome


async def test_a_memory_hog_is_ended_or_told(greedy: Session, modest: Session) -> None:
    status, output = await beside(greedy, "python3 -c 'x = bytearray(600_000_000); print(len(x))'", modest)
    assert status == 137 or "MemoryError" in output
    assert "600000000" not in output


BOMB = """
import os, time
made = 0
try:
    while made < 300:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        made += 1
    print("no limit")
except BlockingIOError:
    print("limited")
"""


async def test_a_fork_bomb_reaches_its_limit(greedy: Session, modest: Session) -> None:
    await greedy.write("bomb.py", BOMB)
    assert await beside(greedy, "python3 bomb.py", modest) == (0, "limited\n")


async def test_a_disk_filler_reaches_the_limit_of_a_file(greedy: Session, modest: Session) -> None:
    status, output = await beside(
        greedy, "head -c 100000000 /dev/zero > big; echo $?; stat -c %s big", modest
    )
    assert status == 0
    code, size = output.split()[-2:]
    assert code != "0"
    assert int(size) == LIMITS["file_bytes"]


FILL = "while :; do n=$((n + 1)); head -c 4000000 /dev/zero > f$n; sleep 0.02; done"


async def test_a_filler_of_the_workspace_is_stopped(greedy: Session, modest: Session) -> None:
    status, output = await beside(greedy, f"echo begun; {FILL}", modest)
    assert (status, output.splitlines()[0]) == (507, "begun")
    with pytest.raises(InsufficientStorageError, match="Delete files"):
        await greedy.write("more", "text")
    assert (await greedy.exec("rm f*; echo removed")).output == "removed\n"
    await greedy.write("more", "text")
    assert (await modest.exec("echo alive")).output == "alive\n"


async def test_copies_and_additions_from_outside_stop_at_the_limit(greedy: Session) -> None:
    await greedy.exec("mkdir d && head -c 30M /dev/zero > d/f")
    with pytest.raises(InsufficientStorageError):
        await greedy.copy("d", "copy")
    assert [entry.name for entry in await greedy.list()] == ["d"]
    with pytest.raises(InsufficientStorageError):
        await greedy.append("d/f", bytes(20 * MIB))
    assert (await greedy.stat("d/f")).size_bytes == 30 * MIB
    await greedy.remove("d", recursive=True)
    await greedy.write("f", bytes(MIB))


async def test_a_filler_in_the_background_is_stopped_too(greedy: Session) -> None:
    await greedy.exec(f"({FILL}) &")
    for _ in range(100):
        with suppress(
            InsufficientStorageError
        ):  # a command that runs at that moment is stopped along with it
            if (await greedy.exec("jobs -r")).output == "":
                break
        await sleep(0.1)
    assert (await greedy.exec("jobs -r; echo alive")).output == "alive\n"
    assert int((await greedy.exec("du -sm . | cut -f1")).output) < 500


@pytest.mark.parametrize("directory", ["/tmp", "/home/sandbox", "/dev/shm"])
async def test_a_filler_of_memory_file_systems_gets_no_space(
    greedy: Session, modest: Session, directory: str
) -> None:
    status, output = await beside(greedy, f"head -c 30000000 /dev/zero > {directory}/big", modest)
    assert status == 1
    assert "No space left on device" in output


async def test_an_output_flood_is_cut(greedy: Session, modest: Session) -> None:
    status, output = await beside(greedy, "head -c 50000000 /dev/zero | tr '\\0' x", modest)
    assert status == 0
    assert LIMITS["output_bytes"] - 100 < len(output) <= LIMITS["output_bytes"]


async def test_nothing_can_be_made_in_dev_or_in_the_root(greedy: Session) -> None:
    for path in ("/dev/file", "/file", "/etc/file", "/usr/file", "/run/file"):
        result = await greedy.exec(f"echo x > {path}")
        assert result.exit_code == 1
        assert "Read-only file system" in result.output


async def test_core_files_are_not_written(greedy: Session) -> None:
    await greedy.exec("sh -c 'kill -SEGV $$'")
    assert (await greedy.exec("ls; ulimit -c")).output == "0\n"


async def test_stats_tell_the_limit_where_the_kernel_enforces_it(greedy: Session) -> None:
    stats = await greedy.stats()
    assert 0 < stats.memory_bytes < 64 * MIB
    assert stats.memory_limit in {LIMITS["memory_bytes"], None}
    if os.geteuid() == 0 and os.path.isdir("/sys/fs/cgroup/memory"):
        assert stats.memory_limit == LIMITS["memory_bytes"]


# --- made to measure

FORKS = """
import os, signal
children = []
try:
    while len(children) < 100:
        children.append(os.fork() or signal.pause())
except OSError as error:
    print(error.errno)
for child in children:
    os.kill(child, signal.SIGKILL)
"""
ODD = "two  words, 'quotes' \"both\" $HOME `id` \\ \n last line é"


async def test_a_session_has_its_variables_and_its_directory(client: SandboxClient) -> None:
    async with await client.create_session(env={"ODD": ODD, "EMPTY": ""}, cwd="made/for it") as session:
        info = await session.info()
        assert info.cwd == "/workspace/made/for it"
        told = await session.exec('printf %s "$ODD"; bash -c \'printf %s "|$ODD|${EMPTY-unset}|"\'; pwd')
        assert told.output == f"{ODD}|{ODD}||/workspace/made/for it\n"
        assert (await session.exec("echo ${OLDPWD-none} $?")).output == "none 0\n"
        beside = await session.run(["bash", "-c", 'printf %s "$ODD"; pwd'])
        assert beside.stdout == f"{ODD}/workspace/made/for it\n"
        # What takes the shell's place has both, and what was changed meanwhile.
        assert (await session.exec("EMPTY=full; kill -9 $$")).shell_restarted
        assert (await session.exec('printf %s "$ODD"; echo "|$EMPTY|$PWD"')).output == (
            f"{ODD}||/workspace/made/for it\n"
        )


async def test_nothing_before_the_shell_sees_the_variables(client: SandboxClient) -> None:
    env = {"LD_PRELOAD": "/workspace/none.so", "BASH_ENV": "/workspace/early", "ENV": "/workspace/early"}
    async with await client.create_session(env=env) as session:
        await session.write("early", "echo early >>/workspace/sign")
        seen = "tr '\\0' '\\n' </proc/1/environ; unset LD_PRELOAD; tr '\\0' '\\n' </proc/$$/environ"
        told = (await session.exec(f"{seen}; ls sign 2>&1 | tail -1")).output
        assert "LD_PRELOAD=" not in told
        assert "BASH_ENV=" not in told
        # A shell that takes over runs nothing of it either, though it exports the same.
        await session.exec("rm -f sign; kill -9 $$")
        assert "No such file" in (await session.exec("echo $BASH_ENV; ls sign 2>&1")).output


async def test_a_directory_that_cannot_be_one_is_named(client: SandboxClient) -> None:
    for cwd in ("/usr/nowhere", "/etc/passwd/x"):
        with pytest.raises(InvalidRequestError, match=f"in the directory '{cwd}' \\("):
            await client.create_session(cwd=cwd)
    async with await client.create_session(cwd="/tmp") as session:
        assert (await session.exec("pwd")).output == "/tmp\n"


async def test_labels_and_names_find_sessions(client: SandboxClient) -> None:
    labels = {"job": "17", "team/owner": "ü"}
    async with await client.create_session(labels=labels, name="first-one") as session:
        info = await session.info()
        assert (info.name, info.labels) == ("first-one", labels)
        found = await client.list_sessions(labels={"job": "17"})
        assert [one.id for one in found] == [session.id]
        assert await client.list_sessions(labels={"job": "17", "other": "x"}) == []
        assert (await client.get_session("first-one")).id == session.id
        with pytest.raises(NameTakenError, match="'first-one' already") as caught:
            await client.create_session(name="first-one")
        assert (caught.value.status_code, caught.value.error_code) == (409, "NAME_TAKEN")
    with pytest.raises(SessionNotFoundError):
        await client.get_session("first-one")
    async with await client.create_session(name="first-one", image="base") as again:
        assert again.id != session.id


async def test_limits_bound_the_session(client: SandboxClient) -> None:
    limits = Limits(tmp_bytes="1m", file_bytes=4 * MIB, processes=40, workspace_bytes="8m", output_bytes=5000)
    async with await client.create_session(limits=limits) as session:
        info = await session.info()
        assert info.limits is not None
        assert (info.limits.tmp_bytes, info.limits.processes, info.limits.output_bytes) == (MIB, 40, 5000)
        assert info.limits.workspace_bytes == 8 * MIB
        assert info.acquire_source == "cold"
        told = (await session.exec("head -c 3000000 /dev/zero >/tmp/x; stat -c %s /tmp/x; ulimit -f")).output
        assert told.endswith(f"\n{MIB}\n4096\n")
        assert (await session.exec(f"python3 -c '{FORKS}'")).output == "11\n"  # EAGAIN
        assert (await session.exec("seq 10000")).truncated
    async with await client.create_session(limits=Limits()) as plain:
        told = (await plain.exec("head -c 3000000 /dev/zero >/tmp/x; stat -c %s /tmp/x; ulimit -f")).output
        assert told.startswith("3000000\n")


async def test_memory_is_bounded(client: SandboxClient) -> None:
    async with await client.create_session(limits={"memory_bytes": "64m"}) as session:
        take = "python3 -c 'x = bytearray(200_000_000); print(len(x))'"
        result = await session.exec(take)
        assert not result.ok
        assert (await session.exec("echo alive")).output == "alive\n"
        info = await session.info()
        assert info.limits is not None
        assert (info.limits.memory_bytes, info.limits.tmp_bytes) == (64 * MIB, 16 * MIB)


async def test_more_than_the_daemons_limits_is_refused(client: SandboxClient) -> None:
    before = [one.id for one in await client.list_sessions()]
    with pytest.raises(InvalidRequestError, match=r"processes is 100000: .* at most"):
        await client.create_session(limits=Limits(processes=100_000))
    assert [one.id for one in await client.list_sessions()] == before


async def test_a_lifetime_can_be_renewed(held_daemon: HeldDaemon) -> None:
    target = held_daemon.target
    async with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        session = await client.create_session(ttl_seconds=10)
        held_daemon.advance(8)
        first = await session.info()
        renewed = await session.renew(50)
        assert renewed.expires_at - first.expires_at == timedelta(seconds=48)
        held_daemon.advance(40)
        assert (await session.renew()).expires_at - renewed.expires_at == timedelta(seconds=40)
        await session.destroy()


WRONG: list[dict[str, Any]] = [
    {"env": {"A=B": "x"}},
    {"env": {"": "x"}},
    {"env": {"1A": "x"}},
    {"env": {"BASH_FUNC_ls%%": "() { echo; }"}},
    {"env": {"__sk_id": "x"}},
    {"env": {"UID": "0"}},
    {"env": {"PWD": "/"}},
    {"env": {"A": "x\0y"}},
    {"env": {"A": 1}},
    {"env": {"A": None}},
    {"env": {"A": "\udc80"}},
    {"env": ["A=x"]},
    {"env": {f"A{number}": "" for number in range(257)}},
    {"env": {"A": "x" * 70_000}},
    {"cwd": ""},
    {"cwd": "a\0b"},
    {"cwd": "a\nb"},
    {"cwd": "a" * 5000},
    {"cwd": 1},
    {"labels": {"-a": "x"}},
    {"labels": {"a b": "x"}},
    {"labels": {"a": "x\ny"}},
    {"labels": {"a": "x" * 257}},
    {"labels": {f"a{number}": "" for number in range(33)}},
    {"labels": "a=b"},
    {"name": ""},
    {"name": "1st"},
    {"name": "../x"},
    {"name": "a1b2c3d4-e5f"},
    {"limits": {"memory_byte": 1}},
    {"limits": {"memory_bytes": 1}},
    {"limits": {"memory_bytes": "unlimited"}},
    {"limits": {"cpus": "many"}},
    {"limits": 7},
]


@pytest.mark.parametrize("options", WRONG, ids=repr)
async def test_what_no_session_can_have_is_not_sent(options: dict[str, Any]) -> None:
    async with SandboxClient(base_url="http://127.0.0.1:1") as client:
        with pytest.raises(SandkastenInputError):
            await client.create_session(**options)


def test_what_is_no_size_is_refused_where_it_is_written() -> None:
    with pytest.raises(SandkastenInputError, match="'a lot' is not a size"):
        Limits(memory_bytes="a lot")


async def test_a_daemon_without_the_options_is_named_before_anything_is_made() -> None:
    with HTTPServer(threaded=True) as server:
        server.expect_request("/healthz").respond_with_json({"status": "ok"})
        async with SandboxClient(base_url=server.url_for("")) as client:
            with pytest.raises(ExtensionMissingError, match="'session-options'"):
                await client.create_session(name="a")
            with pytest.raises(ExtensionMissingError, match="'session-options'"):
                await client.list_sessions(labels={"a": "b"})
            with pytest.raises(ExtensionMissingError, match="'session-options'"):
                await Session(client._connection, "1a2b3c4d-5e6").renew()
        assert [request.path for request, _ in server.log] == ["/healthz"]
