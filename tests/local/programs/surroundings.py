"""Uses the embedded daemon in surroundings that people have; prints the outcome of each case as a JSON line.

Each case is a function that changes the process it is in, and that process is a fork of this one: so all of
them share one start of Python. The arguments are a directory for the daemons' data, and names of cases.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import multiprocessing
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import sandkasten
from sandkasten.errors import SandkastenError
from sandkasten_sync import LocalOptions, SandboxClient

PATIENCE_SECONDS = 40
DATA_DIR = Path(sys.argv[1])
CASES: dict[str, Callable[[], Any]] = {}

# What a program in a sandbox has from its surroundings, and what the daemon has.
INSIDE = (
    "umask; ulimit -Sn; ulimit -t; nice; env | sort; echo ~; "
    "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/$$/fd /proc/self/fd; "
    "cut -d ' ' -f 41 /proc/self/stat"
)
OF_THE_DAEMON = ("SigBlk", "SigIgn", "Umask")


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    CASES[function.__name__] = function
    return function


def use(**options: Any) -> dict[str, Any]:
    """Start a daemon, run commands in a session of it, and end it."""
    began = time.monotonic()
    found: dict[str, Any] = {}
    try:
        with (
            SandboxClient(local=LocalOptions(**{"pool_size": 0, **options})) as client,
            client.create_session(image="base") as session,
        ):
            found["inside"] = session.exec(INSIDE).output
            found["exit_code"] = session.exec("(exit 3)").exit_code
            found["printed"] = session.exec("sleep 0; echo printed").output
            found["daemon"] = daemon_state(client._connection._daemon.pid)  # type: ignore[union-attr]
        found["outcome"] = "works"
    except SandkastenError as error:
        found["outcome"] = f"{type(error).__name__}: {error}"
    found["seconds"] = time.monotonic() - began
    return found


def daemon_state(pid: int) -> dict[str, str]:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    variables = Path(f"/proc/{pid}/environ").read_bytes()
    loaded = [name for name in (b"LD_PRELOAD", b"LD_DEBUG", b"MALLOC_") if name in variables]
    return {name: status[name] for name in OF_THE_DAEMON} | {"loader": str(loaded)}


@case
def plain() -> Any:
    return use()


# --- signals, descriptors, limits, priorities


@case
def ignored_signals() -> Any:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    return use()


@case
def ignored_sigchld() -> Any:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    return use()


@case
def blocked_signals() -> Any:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return use()


@case
def default_sigpipe() -> Any:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return use()


@case
def many_descriptors() -> Any:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for _ in range(1100):
        os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
    return use()


@case
def few_descriptors() -> Any:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    return use()


@case
def low_soft_limits() -> Any:
    for limit in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (60, resource.getrlimit(limit)[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return use()


@case
def odd_umask() -> Any:
    os.umask(0o777)
    return use()


@case
def without_standard_streams() -> Any:
    for descriptor in range(3):
        os.close(descriptor)
    return use()


# --- the environment


@case
def other_locale() -> Any:
    os.environ.update(
        {"LC_ALL": "tr_TR.ISO-8859-9", "LANG": "ja_JP.SJIS", "LANGUAGE": "de", "TZ": "Asia/Tokyo"}
    )
    return use()


@case
def preloaded_library() -> Any:
    os.environ.update({"LD_PRELOAD": "/nowhere/lib.so", "LD_DEBUG": "files", "MALLOC_TRACE": "/nowhere"})
    return use()


@case
def strange_environment() -> Any:
    os.environ.update(
        {"BASH_ENV": "/nowhere", "ENV": "/nowhere", "SHELLOPTS": "xtrace", "PS4": "x", "POSIXLY_CORRECT": "1"}
    )
    os.environ.update({"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere"})
    return use()


@case
def no_environment() -> Any:
    os.environ.clear()
    return use(data_dir=DATA_DIR / "none")


@case
def broken_certificates() -> Any:
    os.environ.update(
        {"SSL_CERT_FILE": "/nowhere.pem", "SSL_CERT_DIR": "/nowhere", "SSLKEYLOGFILE": "/nowhere/keys"}
    )

    async def asynchronous() -> None:
        async with sandkasten.SandboxClient(local=sandkasten.LocalOptions(pool_size=0)) as client:
            await client.health()

    asyncio.run(asynchronous())
    return use()


@case
def proxies() -> Any:
    os.environ.update(
        {
            "HTTP_PROXY": "http://127.0.0.1:1",
            "ALL_PROXY": "socks5://127.0.0.1:1",
            "NO_PROXY": "[::1],fe80::/10",
        }
    )
    return use()


# --- directories


@case
def no_home() -> Any:
    os.environ.pop("HOME", None)
    os.environ.pop("SANDKASTEN_DATA_DIR")
    return use(data_dir=DATA_DIR / "no-home")


@case
def read_only_home() -> Any:
    del os.environ["SANDKASTEN_DATA_DIR"]
    os.environ["HOME"] = "/proc/self"
    return use()


@case
def home_in_the_data_dir() -> Any:
    os.environ.update({"HOME": str(DATA_DIR / "home"), "SANDKASTEN_DATA_DIR": "~/tilde"})
    (DATA_DIR / "home").mkdir()
    with SandboxClient(local=LocalOptions(pool_size=0)) as client:
        client.workspace("mine").write("a", "b")
    return use() | {"made": (DATA_DIR / "home" / "tilde" / "workspaces").is_dir(), "odd": Path("~").exists()}


@case
def no_temporary_directory_of_the_clients() -> Any:
    tempfile.tempdir = "/proc"
    return use()


@case
def odd_temporary_directory() -> Any:
    os.environ["TMPDIR"] = "/proc"
    return use()


@case
def current_directory_gone() -> Any:
    directory = tempfile.mkdtemp()
    os.chdir(directory)
    os.rmdir(directory)
    sys.path.insert(0, "relative")
    return use()


@case
def relative_data_dir_gone() -> Any:
    directory = tempfile.mkdtemp()
    os.chdir(directory)
    os.rmdir(directory)
    return use(data_dir="relative")


@case
def no_executable() -> Any:
    sys.executable = None  # type: ignore[assignment]
    return use()


@case
def executable_of_another_program() -> Any:
    sys.executable = "/bin/false"
    return use()


@case
def no_python_at_all() -> Any:
    sys.executable = sys._base_executable = ""  # type: ignore[attr-defined]
    sys.exec_prefix = sys.base_exec_prefix = "/nowhere"
    return use()


# --- processes


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def ended(pid: int, seconds: float) -> bool:
    """Wait until a process has ended, which is not a child of this one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def started() -> tuple[SandboxClient, int]:
    client = SandboxClient(local=LocalOptions(pool_size=0))
    client.health()
    daemon = client._connection._daemon
    assert daemon is not None
    return client, daemon.pid


def child_that(does: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            does()
        finally:
            os._exit(0)
    return pid


@case
def forked_child_lives_on() -> Any:
    """The owner ends its daemon while a forked child holds all that the owner had open."""
    client, daemon = started()
    child = child_that(signal.pause)
    began = time.monotonic()
    client.close()
    seconds = time.monotonic() - began
    result = {"outcome": "works", "closed": not alive(daemon), "seconds": seconds, "child": alive(child)}
    os.kill(child, signal.SIGKILL)
    return result


@case
def owner_ends_with_forks() -> Any:
    """The owner ends without a word while forked children of it live."""
    read, write = os.pipe()

    def own() -> None:
        _client, daemon = started()
        os.write(write, f"{daemon} {child_that(signal.pause)} {child_that(signal.pause)}\n".encode())

    os.waitpid(child_that(own), 0)
    daemon, *children = map(int, os.read(read, 100).split())
    result = {
        "outcome": "works",
        "ended": ended(daemon, PATIENCE_SECONDS),
        "children": all(map(alive, children)),
    }
    for child in children:
        os.kill(child, signal.SIGKILL)
    return result


@case
def owners_thread_ends() -> Any:
    """The thread that started the daemon ends, and the process goes on."""
    clients: list[SandboxClient] = []
    thread = threading.Thread(target=lambda: clients.append(started()[0]))
    thread.start()
    thread.join()
    with clients[0] as client, client.create_session(image="base") as session:
        return {"outcome": "works", "printed": session.exec("echo printed").output}


@case
def child_uses_and_drops_the_client() -> Any:
    """A forked child uses, closes and collects its parent's client; the parent's daemon goes on."""
    client, _daemon = started()
    session = client.create_session(image="base")
    read, write = os.pipe()

    def misuse() -> None:
        nonlocal client, session
        try:
            session.exec("true")
        except SandkastenError as error:
            os.write(write, str(error).encode())
        client.close()
        del client, session
        gc.collect()
        atexit._run_exitfuncs()

    os.waitpid(child_that(misuse), 0)
    os.close(write)
    said = os.read(read, 1000).decode()
    with client:
        return {"outcome": "works", "said": said, "printed": session.exec("echo printed").output}


@case
def prefork() -> Any:
    """A service that made its client before it forked its workers, and uses it only in them."""
    client = SandboxClient(local=LocalOptions(pool_size=0))
    read, write = os.pipe()

    def work() -> None:
        with client, client.create_session(image="base") as session:
            os.write(write, session.exec("echo printed").output.encode())

    for pid in [child_that(work) for _ in range(2)]:
        os.waitpid(pid, 0)
    os.close(write)
    return {"outcome": "works", "printed": os.read(read, 1000).decode()}


def in_a_process(_number: int) -> str:
    with (
        SandboxClient(local=LocalOptions(pool_size=0)) as client,
        client.create_session(image="base") as session,
    ):
        session.exec("echo printed; exit 4").check()
    return "no error"


def pooled(method: str) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        error = pool.submit(in_a_process, 1).exception()
    assert error is not None
    output = getattr(getattr(error, "result", None), "output", "")
    return {"outcome": "works", "error": type(error).__name__, "printed": output}


@case
def pool_by_fork() -> Any:
    return pooled("fork")


@case
def pool_by_forkserver() -> Any:
    return pooled("forkserver")


@case
def pool_by_spawn() -> Any:
    return pooled("spawn")


@case
def two_loops() -> Any:
    """One client in two event loops, one after the other, and closed in a third."""
    client = sandkasten.SandboxClient(local=sandkasten.LocalOptions(pool_size=0))

    async def work() -> str:
        async with await client.create_session(image="base") as session:
            return (await session.exec("echo printed")).output

    printed = asyncio.run(work())
    daemon = client._connection._daemon
    assert daemon is not None
    try:
        said = asyncio.run(work())
    except SandkastenError as error:
        said = str(error)
    asyncio.run(client.close())
    return {"outcome": "works", "printed": printed, "said": said, "closed": not alive(daemon.pid)}


@case
def two_daemons_on_one_directory() -> Any:
    with SandboxClient() as one, SandboxClient() as other:
        for client in (one, other):
            with client.create_session(image="base", workspace_id="shared") as session:
                session.exec("echo printed >> file")
        return {"outcome": "works", "printed": other.workspace("shared").read("file").text}


# --- the driver


def outcome_of(function: Callable[[], Any]) -> Any:
    """Run a case in a child, which has a while for it."""
    answer = os.memfd_create("answer")
    pid = os.fork()
    if pid == 0:
        try:
            text = json.dumps(function())
        except BaseException as error:
            text = json.dumps({"outcome": f"{type(error).__module__}.{type(error).__name__}: {error}"})
        os.pwrite(answer, text.encode(), 0)
        os._exit(0)
    if not ended(pid, PATIENCE_SECONDS):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    text = os.pread(answer, os.fstat(answer).st_size, 0)
    os.close(answer)
    return json.loads(text) if text else {"outcome": "it hung, or was killed"}


def main() -> None:
    os.environ["SANDKASTEN_DATA_DIR"] = str(DATA_DIR / "data")
    subprocess.run(["true"], check=True)  # what that imports, no case must find without a current directory
    for name in sys.argv[2:] or CASES:
        print(json.dumps([name, outcome_of(CASES[name])]), flush=True)


if __name__ == "__main__":
    main()
