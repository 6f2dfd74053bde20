"""The embedded daemon and the process that owns it, however that process ends."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sandkasten_sync
from sandkasten.errors import LocalDaemonError
from sandkasten.local.files import rundir
from sandkasten.local.identity import Identity
from sandkasten.local.isolation.bwrap_binary import find_bwrap
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from tests.processes import processes_with

# An argument of `sleep` that no other run has.
MARKER = f"3{secrets.randbelow(10**8):08d}"

OWNER = """
import json, os, signal, sys, threading
from sandkasten_sync import SandboxClient
from tests.processes import processes_with

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in the background

client = SandboxClient()
session = client.create_session()
session.exec("sleep {marker}8 & setsid sleep {marker}8 & (trap '' HUP INT TERM; sleep {marker}8) &")
daemon = client._connection._daemon
threading.Thread(target=lambda: session.exec("sleep {marker}9"), daemon=True).start()
print(json.dumps([daemon.pid, daemon.target.socket_path]), flush=True)
{then}
"""

ENDINGS = {
    "killed": ("threading.Event().wait()", signal.SIGKILL),
    "terminated": ("threading.Event().wait()", signal.SIGTERM),
    "interrupted": ("threading.Event().wait()", signal.SIGINT),
    "ended": ("sys.stdin.readline(); os._exit(0)", None),
    "closed": ("sys.stdin.readline(); client.close(); os._exit(0)", None),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_left_when_the_owner_is(ending: str) -> None:
    then, signal_number = ENDINGS[ending]
    with subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then, marker=MARKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        daemon_pid, socket_path = json.loads(owner.stdout.readline())
        run_dir = Path(socket_path).parent.parent
        assert Path(socket_path).is_socket()
        assert eventually(lambda: len(processes_with(f"sleep\0{MARKER}8")) == 3)
        try:
            if signal_number is None:
                owner.stdin.write(b"\n")
                owner.stdin.flush()
            else:
                owner.send_signal(signal_number)
            owner.wait(20)
        finally:
            owner.kill()
    assert eventually(lambda: not Path(f"/proc/{daemon_pid}").exists())
    assert eventually(
        lambda: not processes_with(f"sleep\0{MARKER}8") and not processes_with(f"sleep\0{MARKER}9")
    )
    assert eventually(lambda: not processes_with(str(run_dir)))
    assert not run_dir.exists()
    assert str(run_dir) not in Path("/proc/self/mounts").read_text()


def test_sandboxes_end_with_a_daemon_that_is_killed(data_dir: Path) -> None:
    daemon = start_daemon(LocalOptions(data_dir=data_dir))
    url = f"unix://{daemon.target.socket_path}"
    with sandkasten_sync.SandboxClient(base_url=url, api_key=daemon.target.api_key, max_retries=0) as client:
        client.create_session().exec(f"sleep {MARKER}7 & setsid sleep {MARKER}7 &")
        assert eventually(lambda: len(processes_with(f"sleep\0{MARKER}7")) == 2)
        os.kill(daemon.pid, signal.SIGKILL)
        assert eventually(lambda: not processes_with(f"sleep\0{MARKER}7"))
        with pytest.raises(sandkasten_sync.SandkastenConnectionError):
            client.health()
    daemon.stop()
    gc.collect()  # a socket that was left behind would complain here
    run_dir = Path(daemon.target.socket_path or "").parent.parent
    start_daemon(LocalOptions(data_dir=data_dir)).stop()
    assert not run_dir.exists()


def test_a_daemon_that_does_not_end_is_killed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = start_daemon(LocalOptions(data_dir=data_dir))
    os.kill(daemon.pid, signal.SIGSTOP)
    monkeypatch.setattr("sandkasten.local.launch._STOP_SECONDS", 0.01)
    daemon.stop()
    assert not Path(f"/proc/{daemon.pid}").exists()


def test_what_was_building_a_sandbox_for_a_dead_daemon_is_ended_by_the_next_one(tmp_path: Path) -> None:
    identity = Identity.of_this_process()
    bwrap = find_bwrap(identity, tmp_path)
    kept, left = tmp_path / "sandkasten-run-00kept00", tmp_path / "sandkasten-run-00left00"
    processes = []
    for directory in (kept, left):
        directory.mkdir(mode=0o700)
        (directory / ".lock").touch()
        argv = [bwrap, "--dev-bind", "/", "/", "--setenv", "X", f"{directory}/x", "sleep", "60"]
        processes.append(subprocess.Popen(argv))
    lock = os.open(kept / ".lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert eventually(lambda: len(processes_with(f"{left}/x")) > 0)
        rundir.sweep(tmp_path)
        assert processes[1].wait(10) == -signal.SIGKILL
        assert not left.exists()
        assert processes[0].poll() is None
        assert kept.exists()
    finally:
        os.close(lock)
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    "name", ["sandkasten", "sandkasten-tests-abcd1234", "sandkasten-run-notes", "sandkasten-run-20261127"]
)
def test_what_others_called_alike_is_not_swept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").write_text("precious")
    rundir.sweep(tmp_path)
    assert (tmp_path / name / "file").read_text() == "precious"


def test_a_directory_is_not_swept_while_somebody_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir, "run_dir_base", lambda identity: str(tmp_path))
    identity = Identity(os.geteuid(), drops=False)
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            rundir.sweep(tmp_path)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(300):
            with rundir.run_dir(identity) as directory:
                (directory / "file").write_text("kept")
                time.sleep(0.002)
                assert (directory / "file").read_text() == "kept"
    finally:
        done.set()
        sweeper.join()
    assert list(tmp_path.iterdir()) == []


def test_the_socket_is_private(daemon: LocalDaemon) -> None:
    path = Path(daemon.target.socket_path or "")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_key_is_in_no_command_line_and_no_environment(daemon: LocalDaemon) -> None:
    key = (daemon.target.api_key or "").encode()
    assert len(key) >= 32
    for name in ("cmdline", "environ"):
        assert key not in Path(f"/proc/{daemon.pid}/{name}").read_bytes()


def test_a_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandkasten.local.launch._NEEDED", ("no_such_module_anywhere",))
    with pytest.raises(LocalDaemonError, match=r"no_such_module_anywhere.*pip install 'sandkasten\[local\]'"):
        start_daemon()


def test_another_system_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(LocalDaemonError, match=r"Linux only .*base_url"):
        start_daemon()


def test_a_daemon_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandkasten.local.interpreter._BOOT", "raise RuntimeError('broken on purpose')")
    with pytest.raises(LocalDaemonError, match="broken on purpose"):
        start_daemon()


def test_modules_beside_a_script_do_not_become_the_daemons(tmp_path: Path) -> None:
    for name in ("queue", "resource", "secrets", "signal"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not the standard one')")
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "here = sys.path.pop(0)\n"
        "import secrets, select, signal, subprocess, tempfile\n"
        "from sandkasten.local.launch import start_daemon\n"
        "sys.path.insert(0, here)\n"
        "start_daemon().stop()\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    subprocess.run([sys.executable, tmp_path / "script.py"], env=environment, check=True, timeout=30)


def eventually(condition: Callable[[], bool]) -> bool:
    """Return whether it becomes true within half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
