"""Attempts to put more into a workspace than its quota, by hiding it or by outliving what is killed.

Each is real: where the limit is far away, the same program keeps all it wrote.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from tests.local.box import Box, boxes, until
from tests.local.isolation.arena.registry import attempt
from tests.processes import processes_with

MIB = 1024**2
QUOTA_BYTES = 8 * MIB
# It waits until it is stopped, or for a word that it may end.
PRELUDE = """
import ctypes, os, threading, time
SIZE = 24 * 1024**2
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
def write(descriptor):
    for _ in range(24): os.write(descriptor, bytes(range(256)) * 4096)
def mapped(descriptor):  # Python's own mmap keeps a descriptor
    return libc.mmap(None, ctypes.c_size_t(SIZE), 3, 1, descriptor, ctypes.c_long(0))
def kept():
    open('kept', 'w').close()
    while not os.path.exists('end'): time.sleep(0.05)
    print('kept', flush=True)
"""
HIDING = {
    "deleted": "f = os.open('x', os.O_CREAT | os.O_RDWR); os.unlink('x'); write(f); kept()",
    "never-named": "f = os.open('.', os.O_TMPFILE | os.O_RDWR); write(f); kept()",
    "mapped": (
        "f = os.open('x', os.O_CREAT | os.O_RDWR); os.unlink('x'); os.ftruncate(f, SIZE)\n"
        "m = mapped(f); os.close(f); ctypes.memset(m, 120, SIZE); kept()"
    ),
    "in-a-threads-own-table": (
        "def work():\n"
        "    libc.unshare(0x400)\n"
        "    f = os.open('x', os.O_CREAT | os.O_RDWR); os.unlink('x'); write(f); kept()\n"
        "t = threading.Thread(target=work); t.start(); t.join()"
    ),
    "without-a-first-thread": (
        "def work():\n"
        "    f = os.open('x', os.O_CREAT | os.O_RDWR); os.unlink('x'); write(f); kept(); os._exit(0)\n"
        "threading.Thread(target=work).start(); libc.pthread_exit(None)"
    ),
    "mapped-without-a-first-thread": (
        "def work():\n"
        "    f = os.open('x', os.O_CREAT | os.O_RDWR); os.unlink('x'); os.ftruncate(f, SIZE)\n"
        "    m = mapped(f); os.close(f); ctypes.memset(m, 120, SIZE); kept(); os._exit(0)\n"
        "threading.Thread(target=work).start(); libc.pthread_exit(None)"
    ),
    "by-a-process-that-cannot-be-traced": (
        "libc.prctl(4, 0)\nf = os.open('x', os.O_CREAT | os.O_RDWR); os.unlink('x'); write(f); kept()"
    ),
    "by-a-child-that-lives-on": (
        "f = os.open('x', os.O_CREAT | os.O_RDWR); os.unlink('x'); write(f)\n"
        "if os.fork() == 0: os.setsid(); kept(); os._exit(0)\n"
        "os.close(f); os.wait()"
    ),
    "in-a-directory-that-cannot-be-read": (
        "os.mkdir('d'); f = os.open('d/x', os.O_CREAT | os.O_RDWR); os.chmod('d', 0o300)\n"
        "write(f); os.close(f); kept()"
    ),
    "in-a-directory-that-cannot-be-searched": (
        "os.mkdir('d'); f = os.open('d/x', os.O_CREAT | os.O_RDWR); os.chmod('d', 0o400)\n"
        "write(f); os.close(f); kept()"
    ),
    "by-many-names-of-one-file": (
        "f = os.open('x', os.O_CREAT | os.O_RDWR); write(f)\n"
        "for n in range(50): os.link('x', f'y{n}')\n"
        "os.close(f); kept()"
    ),
}


@pytest.fixture(scope="module")
def narrow(data_dir: Path) -> Iterator[LocalDaemon]:
    daemon = start_daemon(
        LocalOptions(data_dir=data_dir, limits={"workspace_bytes": QUOTA_BYTES}, pool_size=0)
    )
    yield daemon
    daemon.stop()


@pytest.fixture
def make_narrow(narrow: LocalDaemon) -> Iterator[Callable[..., Box]]:
    with boxes(narrow) as make:
        yield make


def is_stopped(box: Box, command: str) -> None:
    answer = box.ask(command)
    assert answer.status_code == 507, answer.text
    assert answer.json()["error_code"] == "INSUFFICIENT_STORAGE"


@pytest.mark.parametrize("name", HIDING)
def test_what_is_hidden_counts(
    make_narrow: Callable[..., Box], make_box: Callable[..., Box], name: str
) -> None:
    program = PRELUDE + HIDING[name]
    box = make_narrow()
    box.write("program.py", program)
    is_stopped(box, "python3 program.py")
    box.run("chmod -R u+rwX .; rm -rf d x y*; echo usable")
    free = make_box()
    free.write("program.py", program)
    waiting = free.exec_in_background("python3 program.py")
    until((free.workspace / "kept").exists)
    free.write("end", "")
    assert waiting.answer().json()["output"] == "kept\n"


for hidden in HIDING:
    attempt(f"quota/{hidden}")(test_what_is_hidden_counts)


def test_a_program_that_closes_itself_is_let_live(make_narrow: Callable[..., Box]) -> None:
    """As agents that hold keys do. It lives long enough to be looked at some times."""
    code = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0); time.sleep(2)"
    make_narrow().run(f"python3 -c '{code}'")


@attempt("quota/by-another-session-of-the-workspace")
def test_what_one_session_hides_counts_for_all_of_its_workspace(make_narrow: Callable[..., Box]) -> None:
    """Each of them stays below; whichever looks first stops its own part of what is too much together."""
    sessions = [make_narrow(workspace_id="quota-of-both") for _ in range(2)]
    sessions[0].write("program.py", PRELUDE.replace("range(24)", "range(6)") + HIDING["never-named"])
    waiting = [session.exec_in_background("python3 program.py") for session in sessions]
    until(lambda: any(one.is_over for one in waiting))
    sessions[0].write("end", "")
    assert 507 in {one.answer().status_code for one in waiting}


@attempt("quota/in-the-shells-own-group")
@pytest.mark.parametrize("options", ["set +m", "set -m", "trap '' HUP TERM INT"])
def test_what_runs_in_the_shells_own_group_does_not_write_on(
    make_narrow: Callable[..., Box], options: str
) -> None:
    box = make_narrow()
    mark = f"forever-{secrets.token_hex(8)}"
    box.write(mark, "import time\nwhile True:\n  open('x', 'ab').write(bytes(65536)); time.sleep(0.01)")
    box.exec(f"{options}; python3 {mark} & disown")
    until((box.workspace / "x").exists)  # it has begun
    until(lambda: processes_with(mark) == [])
    taken = sum(file.stat().st_size for file in box.workspace.iterdir())
    assert taken > QUOTA_BYTES, "it ended for another reason"


THREAD = r"""
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
static void *work(void *nothing) {
    static char part[65536] = "x";
    int file = open("/workspace/x", O_CREAT | O_WRONLY | O_APPEND, 0600);
    for (;;) { if (write(file, part, sizeof part) < 0) usleep(1000); usleep(2000); }
}
static int begin(void *words) {
    pthread_t thread;
    return pthread_create(&thread, 0, work, 0);
}
/* As bash's builtins.h has it. */
struct builtin { char *name; int (*function)(void *); int flags; char **text; char *usage; char *handle; };
static char *text[] = {"begin", 0};
struct builtin begin_struct = {"begin", begin, 1, text, "begin", 0};
"""


@pytest.fixture(scope="module")
def library() -> Iterator[bytes]:
    """A library that begins to write in whatever process loads it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("this machine has no C compiler")
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "thread.c"
        source.write_text(THREAD)
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-pthread", "-o", f"{directory}/thread.so", source], check=True
        )
        yield (Path(directory) / "thread.so").read_bytes()


@attempt("quota/by-a-thread-of-the-shell")
def test_a_thread_of_the_shell_does_not_write_on(make_narrow: Callable[..., Box], library: bytes) -> None:
    """The thread is not among the processes that are killed, and goes on when its command ended."""
    box = make_narrow()
    box.write("thread.so", library)
    shell = box.run("echo $$")

    def is_another_shell() -> bool:
        answer = box.ask("echo $$")  # stopped, if it runs while the disk is found to be full
        assert answer.status_code in (200, 507), answer.text
        return answer.status_code == 200 and answer.json()["output"] != shell

    box.ask("enable -f ./thread.so begin && begin")
    until(lambda: (box.workspace / "x").exists() and (box.workspace / "x").stat().st_size > MIB)  # it is real
    until(is_another_shell, seconds=40)
    box.run("rm x")
    assert not (box.workspace / "x").exists()
