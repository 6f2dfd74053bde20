"""Programs beside the shell: they start, end and are stopped as the Protocol of sandboxes has it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandkasten.local.errors import SandboxLostError
from sandkasten.local.isolation import spawner
from sandkasten.local.isolation.programs import ProgramError
from sandkasten.local.isolation.spawner.entering import SLOTS
from sandkasten.local.linux import processes
from sandkasten.local.options import Options
from tests.local.isolation.spawner.beside import ENV, Beside, Result, beside, soon

FOLDER = Path(spawner.__file__).parent


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def box(anyio_backend: str) -> AsyncIterator[Beside]:
    """One sandbox for all tests that leave it as it was."""
    async with beside() as made:
        yield made


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("program", ["spawner", "dropper"])
def test_the_committed_binaries_are_made_of_the_committed_source(program: str, machine: str) -> None:
    digest = hashlib.sha256((FOLDER / f"{program}.c").read_bytes()).hexdigest()
    assert digest.encode() in (FOLDER / f"{program}-{machine}").read_bytes(), "run scripts/build_spawner.py"


async def test_output_errors_and_exit_code_are_its_own(box: Beside) -> None:
    result = await box.run("sh", "-c", "pwd; echo wrong >&2; exit 3", cwd="/tmp")
    assert (result.code, result.out, result.err) == (3, "/tmp\n", "wrong\n")
    assert (await box.run("sh", "-c", "kill -KILL $$")).code == -signal.SIGKILL


async def test_arguments_and_environment_arrive_as_they_are(box: Beside) -> None:
    odd = ("", " a  b ", "$HOME `x`", "'\"\\\n", "ä\udcff")
    code = "import os, sys; sys.stdout.write(ascii([sys.argv[1:], sorted(os.environ.items())]))"
    env = {b"PATH": b"/usr/bin:/bin", b"ODD": b"=a=\nb\xff", b"EMPTY": b"", b"LC_ALL": b"C.UTF-8"}
    result = await box.run("python3", "-I", "-S", "-c", code, *odd, env=env)
    expected = {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()}
    assert result.out == ascii([list(odd), sorted(expected.items())]), result.err


async def test_arguments_of_a_megabyte_arrive(box: Beside) -> None:
    many = ["x" * 100_000] * 10
    assert (await box.run("sh", "-c", "echo $#; echo ${#10}", "sh", *many)).out == "10\n100000\n"
    with pytest.raises(ProgramError) as caught:
        await box.run("true", "x" * 200_000)  # one may have 128 KiB
    assert caught.value.errno == errno.E2BIG


@pytest.mark.parametrize(
    ("args", "cwd", "number", "says"),
    [
        (("no-such-program",), "/", errno.ENOENT, "no-such-program: not found in PATH"),
        (("/no/such",), "/", errno.ENOENT, "/no/such: not found"),
        (("",), "/", errno.ENOENT, ": not found in PATH"),
        (("/etc/passwd",), "/", errno.EACCES, "/etc/passwd: not executable, or out of reach"),
        (("/usr/bin",), "/", errno.EACCES, "/usr/bin: not executable, or out of reach"),
        (("true",), "/no/such", errno.ENOENT, "/no/such: No such file or directory"),
        (("true",), "/etc/passwd", errno.ENOTDIR, "/etc/passwd: Not a directory"),
    ],
)
async def test_a_program_that_cannot_be_started_is_an_error_with_a_sentence(
    box: Beside, args: tuple[str, ...], cwd: str, number: int, says: str
) -> None:
    with pytest.raises(ProgramError) as caught:
        await box.run(*args, cwd=cwd)
    assert (caught.value.errno, caught.value.strerror) == (number, says)
    assert not box.sandbox.members[1:] or os.getpid() not in box.sandbox.members


async def test_a_script_without_its_first_line_is_no_program(box: Beside) -> None:
    await box.shell("echo 'echo hi' >/tmp/script; chmod +x /tmp/script")
    with pytest.raises(ProgramError, match="neither a program nor a script") as caught:
        await box.run("/tmp/script")
    assert caught.value.errno == errno.ENOEXEC


async def test_it_is_found_in_its_own_path_past_what_cannot_be_run(box: Beside) -> None:
    await box.shell(
        "mkdir -p /tmp/a/tool /tmp/b; printf '#!/bin/sh\\necho b' >/tmp/b/tool; chmod +x /tmp/b/tool"
    )
    env = {b"PATH": b"/no/such:/etc/passwd:/tmp/a:/tmp/b:/usr/bin"}
    assert (await box.run("tool", env=env)).code == 0
    with pytest.raises(ProgramError) as caught:
        await box.run("tool", env={b"PATH": b"/tmp/a"})
    assert caught.value.errno == errno.EACCES


async def test_many_run_at_once(box: Beside) -> None:
    results = await asyncio.gather(*(box.run("sh", "-c", f"exit {number}") for number in range(64)))
    assert [result.code for result in results] == list(range(64))
    await soon(lambda: not box.sandbox.has_jobs)


async def test_signals_go_to_its_group_and_none_after_its_end(box: Beside) -> None:
    code = """
import os, sys, time
for leaves in (False, True):
    if not os.fork():
        if leaves: os.setsid()
        print("up", flush=True)
        time.sleep(1000)
time.sleep(1000)
"""
    reads, writes = os.pipe()
    running = await box.start("python3", "-I", "-S", "-c", code, out=writes)
    os.close(writes)
    lines = await asyncio.to_thread(lambda: [os.read(reads, 3), os.read(reads, 3)])
    os.close(reads)
    assert lines == [b"up\n", b"up\n"]
    assert os.getpgid(running.process.pid) == running.process.pid
    assert running.process.signal(signal.SIGKILL)
    assert await running.ended == -signal.SIGKILL
    assert not running.process.signal(signal.SIGKILL)
    while await running.process.signal_all(0) > 1:  # those of its group end a little later
        await asyncio.sleep(0.01)
    assert await running.process.signal_all(signal.SIGKILL) == 1  # the one with a session of its own
    await running.end()


async def test_a_signal_can_be_caught(box: Beside) -> None:
    running = await box.start("sh", "-c", "trap 'exit 5' TERM; echo >/tmp/up; while :; do read x; done")
    await soon(lambda: os.path.exists(f"/proc/{running.process.pid}/root/tmp/up"))
    assert running.process.signal(signal.SIGTERM)
    assert await running.ended == 5
    await running.end()


async def test_all_that_it_started_is_found_after_its_end_whatever_became_of_it(box: Beside) -> None:
    script = (
        "(setsid sh -c 'sleep 1000 & (sleep 1000 &) & sleep 1000' &); (setsid setsid sleep 1000 &); read x"
    )
    running = await box.start("sh", "-c", script)
    other = await box.start("sleep", "1000")
    while await running.process.signal_all(0) < 6:
        await asyncio.sleep(0.01)
    running.close_input()
    assert await running.ended == 1
    assert box.sandbox.has_jobs
    while await running.process.signal_all(0) > 5:  # a shell in between has not ended yet
        await asyncio.sleep(0.01)
    assert await running.process.signal_all(signal.SIGKILL) == 5
    assert await running.process.signal_all(0) == 0
    assert await other.process.signal_all(signal.SIGKILL) == 1  # which was not touched
    assert (await other.end()).code == -signal.SIGKILL


async def test_a_shells_deadline_leaves_programs_and_what_they_left_alone(box: Beside) -> None:
    running = await box.start("sh", "-c", "read x; (setsid sleep 1000 &); read x")
    stopped = asyncio.create_task(box.shell("sleep 1000", 300))
    running.write(b"\n")  # so it starts something while the command runs
    while await running.process.signal_all(0) < 2:
        await asyncio.sleep(0.01)
    await stopped
    assert await running.process.signal_all(0) == 2
    assert await running.process.signal_all(signal.SIGKILL) == 2
    assert (await running.end()).code == -signal.SIGKILL


async def test_its_processes_are_members_and_work_of_the_sandbox(box: Beside) -> None:
    await soon(lambda: not box.sandbox.has_jobs)
    before = set(box.sandbox.members)
    running = await box.start("sleep", "1000")
    assert set(box.sandbox.members) - before == {running.process.pid}
    assert box.sandbox.has_jobs
    assert f"{running.process.inside_pid} sleep" in await box.shell("ps -eo pid,args | sed 's/^ *//'")
    running.process.signal(signal.SIGKILL)
    await running.end()


async def test_what_it_uses_counts_and_process_1_stays_the_groups_first(box: Beside) -> None:
    running = await box.start(
        "python3", "-I", "-S", "-c", "x = bytearray(b'x' * (64 << 20)); print(1); input()"
    )
    while (await asyncio.to_thread(box.session.usage)).memory_bytes < 64 << 20:
        await asyncio.sleep(0.01)
    group = box.session._remains.group
    assert getattr(group, "_pid", None) == box.sandbox.init_pid  # the spawner came later
    await running.end()


async def test_one_that_nobody_waits_for_any_more_is_ended(box: Beside) -> None:
    await box.run("true")
    spawner = box.sandbox._spawner
    assert spawner is not None
    for _ in range(20):
        starting = asyncio.create_task(box.start("sleep", "1000"))
        while not spawner._under_way:
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    await box.run("true")
    await soon(lambda: not box.sandbox.has_jobs)


async def test_the_root_directory_is_the_sandboxes(box: Beside) -> None:
    root = await box.sandbox.root()
    await box.shell("echo inside >/tmp/file")
    with open(f"/proc/self/fd/{root}/tmp/file") as file:
        assert file.read() == "inside\n"
    assert not os.get_inheritable(root)


async def test_the_spawner_ends_and_the_next_program_starts_another(box: Beside) -> None:
    running = await box.start("sh", "-c", "read x; exit 7")
    link = box.sandbox._spawner._link  # type: ignore[union-attr]
    link.process.kill()  # type: ignore[union-attr]
    link.process.wait()  # type: ignore[union-attr]
    with pytest.raises(OSError, match="the process that starts others"):
        await box.run("true")
    assert (await box.run("echo", "again")).out == "again\n"
    running.write(b"\n")
    assert (await running.end()).code == 7


async def test_of_many_on_their_way_those_that_were_asked_for_end_with_the_spawner(box: Beside) -> None:
    await box.run("true")
    spawner = box.sandbox._spawner
    assert spawner is not None
    assert spawner._link is not None
    first = spawner._link.process
    first.send_signal(signal.SIGSTOP)
    starting = [asyncio.create_task(box.run("true")) for _ in range(SLOTS + 4)]
    await soon(lambda: len(spawner._asked) == SLOTS)
    first.kill()
    ends = await asyncio.gather(*starting, return_exceptions=True)
    assert sum(isinstance(end, OSError) for end in ends) == SLOTS
    assert [end.code for end in ends if isinstance(end, Result)] == [0] * 4  # the next spawner had them


async def test_children_of_which_a_spawner_did_not_report_are_found_and_ended(box: Beside) -> None:
    await box.run("true")
    spawner = box.sandbox._spawner
    assert spawner is not None
    link = spawner._link
    assert link is not None
    starting = [asyncio.create_task(box.start("sleep", "1000")) for _ in range(3)]
    while len(spawner._asked) < 3:
        await asyncio.sleep(0)
    while sum(map(bool, memoryview(link._slots)[: 4 * SLOTS].cast("i"))) < 3:
        time.sleep(0.001)  # so that nobody here reads the answers
    spawner._on_spawner_ended(link)
    for one in starting:
        with pytest.raises(OSError, match="the process that starts others"):
            await one
    await soon(lambda: not box.sandbox.has_jobs)


async def test_a_session_that_ends_answers_all_that_are_on_their_way() -> None:
    async with beside() as own:
        await own.run("true")
        spawner = own.sandbox._spawner
        assert spawner is not None
        assert spawner._link is not None
        spawner._link.process.send_signal(signal.SIGSTOP)
        starting = [asyncio.create_task(own.run("true")) for _ in range(SLOTS + 4)]
        await soon(lambda: len(spawner._asked) == SLOTS)
        await own.manager.destroy(own.session.id)
        ends = await asyncio.gather(*starting, return_exceptions=True)
        assert {type(end) for end in ends} == {SandboxLostError}


async def test_descriptors_do_not_pile_up(box: Beside) -> None:
    async def measure() -> int:
        await asyncio.gather(*(box.run("true") for _ in range(40)))
        return len(os.listdir("/proc/self/fd"))

    first = await measure()
    for _ in range(3):
        last = await measure()
    assert last <= first + 60  # some user namespaces are kept for a while, far fewer than there were programs


async def test_the_end_of_the_sandbox_is_the_end_of_all() -> None:
    async with beside() as own:
        running = await own.start("sh", "-c", "(setsid sleep 1000 &); sleep 1000")
        init = own.sandbox.init_pid
        assert init is not None
        os.kill(init, signal.SIGKILL)
        assert (await running.end()).code == -signal.SIGKILL
        with pytest.raises(SandboxLostError):
            await own.run("true")


async def test_in_a_session_with_the_hosts_network_programs_have_that_too() -> None:
    async with beside(Options(pool_size=0, allow_host_network=True), host_network=True) as own:
        result = await own.run("readlink", "/proc/self/ns/net", "/proc/self/ns/pid")
        net, pid = result.out.split()
        assert net == os.readlink("/proc/self/ns/net")
        assert pid != os.readlink("/proc/self/ns/pid")


async def test_a_session_that_is_destroyed_ends_its_programs() -> None:
    async with beside() as own:
        running = await own.start("sh", "-c", "trap '' TERM; (setsid sleep 1000 &); sleep 1000")
        pids = own.sandbox.members
        await own.manager.destroy(own.session.id)
        assert (await running.end()).code == -signal.SIGKILL
        assert all(map(processes.has_ended, pids))


def test_the_environment_of_these_tests_is_that_of_shells() -> None:
    assert ENV[b"HOME"] == b"/home/sandbox"
