"""Hostile code against programs beside the shell, their results, and the spawner itself."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sandkasten.local.limits.limits import machine_limits
from sandkasten.local.options import Options
from tests.local.isolation.arena.registry import attempt
from tests.local.isolation.spawner.beside import Beside, beside, soon

# Tries everything at a process by which it could be read, steered or spoken for.
PEEK = r"""
import os, sys
pid, opened = sys.argv[1], []
for name in ("exe", "cwd", "root", "fd/0", "fd/1", "fd/2", "ns/user", "ns/mnt"):
    try: opened.append((name, os.readlink(f"/proc/{pid}/{name}")))
    except PermissionError: pass
ways = [(name, os.O_RDONLY) for name in ("environ", "maps", "mem", "fd/0", "exe", "root/etc", "cwd/.")]
for name, flags in (*ways, ("fd/1", os.O_WRONLY), ("fd/2", os.O_WRONLY)):
    try: descriptor = os.open(f"/proc/{pid}/{name}", flags)
    except PermissionError: continue
    opened.append((name, "opened"))
    if flags == os.O_WRONLY: os.write(descriptor, b"FORGED")
os.kill(int(pid), 0)  # it is there, and may be signalled
print(opened)
"""
VICTIM = ("sh", "-c", "echo up; read x; echo got $x")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def box(anyio_backend: str) -> AsyncIterator[Beside]:
    """One sandbox for all attacks, none of which may harm it."""
    async with beside() as made:
        await made.shell(f"cat >/tmp/peek.py <<'X'\n{PEEK}\nX")
        yield made


async def peeked(box: Beside, pid: int | None) -> str:
    return (await box.run("python3", "-I", "-S", "/tmp/peek.py", str(pid))).out


@attempt("programs/read-or-speak-for-one")
async def test_nobody_reads_or_speaks_for_a_program(box: Beside) -> None:
    running = await box.start(*VICTIM)
    victim = running.process.inside_pid
    assert await peeked(box, victim) == "[]\n"
    assert await box.shell(f"python3 -I -S /tmp/peek.py {victim}") == "[]\n"
    running.write(b"hello\n")
    result = await running.end()
    assert (result.code, result.out, result.err) == (0, "up\ngot hello\n", "")


@attempt("programs/read-process-1-and-the-shell")
async def test_a_program_reads_neither_process_1_nor_the_shell(box: Beside) -> None:
    shell = (await box.shell("echo $$")).strip()
    for pid in ("1", shell):
        assert await peeked(box, int(pid)) == "[]\n"


async def test_the_attempt_is_real(box: Beside) -> None:
    # Those of one user namespace are open to each other, as any user's processes are.
    code = """
import os, subprocess, sys
child = subprocess.Popen(["sleep", "1000"], stdin=-1, stdout=-1)
peek = [sys.executable, "-I", "-S", "/tmp/peek.py", str(child.pid)]
print(subprocess.run(peek, stdout=-1, text=True).stdout)
child.kill()
print(child.stdout.read())
"""
    said = (await box.python(code)).out
    for way in ("fd/0", "environ", "exe", "cwd", "mem"):
        assert f"('{way}', 'opened')" in said or f"('{way}', '/" in said, said
    assert "b'FORGED'" in said


async def test_a_program_still_opens_its_own_output_by_name(box: Beside) -> None:
    script = "echo one >/dev/stdout; echo two >/proc/self/fd/2; cat /dev/stdin"
    running = await box.start("sh", "-c", script)
    running.write(b"three")
    result = await running.end()
    assert (result.out, result.err) == ("one\nthree", "two\n")


@attempt("programs/fewer-bounds-than-the-shell")
async def test_it_has_three_descriptors_and_all_that_the_shell_is_under(box: Beside) -> None:
    look = (
        "ls /proc/self/fd | tr '\\n' ' '; grep -E '^(Uid|Gid|Cap|NoNew|Seccomp:|Groups)' /proc/self/status; "
    )
    look += "cat /proc/self/oom_score_adj; ulimit -a -H; ulimit -a; umask; "
    look += "readlink /proc/self/ns/{pid,mnt,net,ipc,uts,cgroup}"
    beside_it = (await box.run("bash", "-c", look)).out
    assert beside_it == await box.shell(look.replace("ls /proc/self/fd", "echo 0 1 2 3"))
    assert beside_it.startswith("0 1 2 3 ")


@pytest.mark.parametrize(
    "code",
    [
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); r = libc.unshare(0x10000000)",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); r = libc.prctl(22, 2, 0, 0, 0)",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); r = libc.setns(0, 0)",
        "import os; r = -1\ntry: os.setuid(0)\nexcept OSError: pass\nelse: r = 0",
    ],
)
@attempt("programs/new-rights")
async def test_it_gets_no_new_rights(box: Beside, code: str) -> None:
    assert (await box.python(f"{code}\nprint(r)")).out == "-1\n"


@attempt("programs/outlive-its-end-as-a-child-of-the-daemons")
async def test_it_makes_no_children_for_its_own_parent(box: Beside) -> None:
    clone = {"x86_64": 56, "aarch64": 220}[platform.machine()]
    code = f"import ctypes, os; r = ctypes.CDLL(None).syscall({clone}, 0x8000 | 17, 0, 0, 0, 0)"
    assert (await box.python(f"{code}\nif not r: os._exit(0)\nprint(r)")).out == "-1\n"


@attempt("programs/script-of-its-own-program")
async def test_a_script_that_names_its_own_program_runs_nothing_of_the_hosts(box: Beside) -> None:
    await box.shell("printf '#!/proc/self/exe a b\\n' >/tmp/exe; printf '#!/proc/self/fd/3\\n' >/tmp/three")
    await box.shell("chmod +x /tmp/exe /tmp/three")
    assert (await box.run("/tmp/exe")).code == 127
    assert (await box.run("/proc/self/exe", "0")).code in {0, 127}
    with pytest.raises(OSError, match="/tmp/three"):
        await box.run("/tmp/three")
    assert (await box.run("echo", "well")).out == "well\n"


@attempt("programs/change-the-spawners-file")
async def test_the_spawners_file_cannot_be_changed(box: Beside) -> None:
    # As the interpreter of an ELF file it stays mapped, where another process of the program finds it.
    code = r"""
import os, re, signal
pid = os.fork()
if not pid:
    os.execv("/tmp/exe", ["x"])
found = set()
for _ in range(3000):
    try: descriptor = os.open(f"/proc/{pid}/exe", os.O_PATH)
    except OSError: continue
    if "memfd" in os.readlink(f"/proc/self/fd/{descriptor}"):
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
            try: os.close(os.open(f"/proc/self/fd/{descriptor}", flags)); found.add("WRITABLE")
            except OSError as error: pass
    os.close(descriptor)
print(found or "no")
"""
    # `#!/proc/self/exe` from a program that was executed is that program's own file.
    assert (await box.python(code)).out == "no\n"


@attempt("programs/interpreter-of-its-own-program")
async def test_an_elf_whose_interpreter_is_its_own_program_gains_nothing(box: Beside) -> None:
    await box.shell(
        r"""python3 - <<'X'
import re
data = bytearray(open("/bin/sleep", "rb").read())
at = re.search(rb"/lib[^\0]*/ld-[^\0]*\0", data).start()
name = b"/proc/self/exe\0"
data[at : at + len(name)] = name
open("/tmp/elf", "wb").write(data)
X
chmod +x /tmp/elf"""
    )
    # The interpreter that the kernel loads is the spawner's file; it finds no channel, and ends.
    result = await box.run("/tmp/elf", "1")
    assert (result.code in {0, 127} or result.code < 0, result.out, result.err) == (True, "", "")
    assert (await box.run("echo", "well")).out == "well\n"


@attempt("programs/directory-by-descriptor")
async def test_its_directory_is_none_of_the_spawners(box: Beside) -> None:
    got = []
    for number in range(40):
        try:
            result = await box.run("/bin/pwd", "-P", cwd=f"/proc/self/fd/{number}")
        except OSError:
            continue
        got.append(result.out)
    assert got == []
    with pytest.raises(OSError, match="/proc/1/root"):
        await box.run("true", cwd="/proc/1/root")
    assert "workspace" in (await box.run("ls", cwd="/proc/self/root")).out


@attempt("programs/stop-all-that-start")
async def test_a_storm_of_stops_holds_up_nobody_for_good(box: Beside) -> None:
    storm = r"""
import os, signal, sys, time
end = time.monotonic() + 2
mine = {1, os.getpid(), int(sys.argv[1])}  # a shell that is stopped is another matter
while time.monotonic() < end:
    for name in filter(str.isdigit, os.listdir("/proc")):
        if int(name) not in mine:
            try: os.kill(int(name), signal.SIGSTOP)
            except OSError: pass
for _ in range(50):
    for name in filter(str.isdigit, os.listdir("/proc")):
        try: os.kill(int(name), signal.SIGCONT)
        except OSError: pass
    time.sleep(0.02)
"""
    shell = (await box.shell("echo $$")).strip()
    attack = await box.start("python3", "-I", "-S", "-c", storm, shell)
    results = await asyncio.gather(*(box.run("true") for _ in range(30)))
    assert {result.code for result in results} == {0}
    assert (await attack.end()).code == 0
    assert await box.shell("echo well") == "well\n"


@attempt("programs/kill-the-spawner")
async def test_who_kills_everything_does_not_reach_the_spawner(box: Beside) -> None:
    spawner = box.sandbox._spawner
    assert spawner is not None
    assert spawner._link is not None
    before = spawner._link.process.pid
    await box.run("sh", "-c", "kill -9 -1")
    assert (await box.run("echo", "well")).out == "well\n"
    assert spawner._link.process.pid == before
    async with asyncio.timeout(20):
        while await box.shell("echo well") != "well\n":
            pass


@attempt("programs/report-for-another")
async def test_what_is_left_of_an_ended_program_cannot_report_for_another(box: Beside) -> None:
    # It keeps every descriptor that there is; the end of the next one is still the kernel's word.
    await box.run("sh", "-c", "(setsid sh -c 'while echo 0; do sleep 0.01; done' >/dev/null 2>&1 &)")
    result = await box.run("sh", "-c", "echo mine; exit 42")
    assert (result.code, result.out) == (42, "mine\n")


@attempt("programs/fork-bomb")
async def test_a_fork_bomb_ends_at_the_limit_and_others_go_on() -> None:
    bomb = """
import os, time
count = 0
try:
    while True:
        if not os.fork(): time.sleep(1000)
        count += 1
except OSError: print(count, flush=True)
time.sleep(1000)
"""
    async with beside(Options(pool_size=0, limits=replace(machine_limits(), processes=40))) as own:
        reads, writes = os.pipe()
        attack = await own.start("python3", "-I", "-S", "-c", bomb, out=writes)
        os.close(writes)
        with os.fdopen(reads) as output:
            count = int(await asyncio.to_thread(output.readline))
        assert 10 < count < 40
        with pytest.raises(OSError, match="temporarily unavailable"):
            await own.run("true")
        assert await attack.process.signal_all(signal.SIGKILL) >= count
        await soon(lambda: not own.sandbox.has_jobs)
        assert (await own.run("echo", "well")).out == "well\n"
        await attack.end()
