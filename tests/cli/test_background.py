"""`up`, `down` and `status`: one daemon for one user, found by later commands, and by nobody else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandkasten.cli.output.failures import CommandLineError
from sandkasten.cli.parsing.place import choose
from tests.cli.program import Home
from tests.local.box import until
from tests.processes import has_ended


def status(home: Home, expect: int = 0) -> dict[str, object]:
    """Return the report of `status`."""
    found: dict[str, object] = json.loads(home.run("status", "--json", expect=expect).text)
    return found


def pid_of(home: Home) -> int:
    pid = status(home)["pid"]
    assert isinstance(pid, int)
    return pid


def test_up_is_found_by_later_commands_until_down(home: Home) -> None:
    assert status(home, expect=1) == {"running": False}
    assert "sandkasten up" in home.run("new", expect=125).sentence
    up = home.run("up")
    assert up.text == f"unix://{home.runtime}/sandkasten/daemon.sock\n"
    pid = pid_of(home)
    assert f"process {pid}" in up.stderr
    session = home("new").strip()
    assert home("exec", session, "--", "echo works") == "works\n"
    assert status(home)["sessions"] == 1
    assert home.run("down").stderr == "The daemon ended.\n"
    assert has_ended(pid)
    assert "No daemon" in home.run("down").stderr
    assert status(home, expect=1) == {"running": False}
    assert sorted(path.name for path in (home.runtime / "sandkasten").iterdir()) == ["log"]


def test_up_twice_is_one_daemon(home: Home) -> None:
    processes = [home.start("up") for _ in range(3)]
    urls = {process.communicate(timeout=40)[0] for process in processes}
    assert len(urls) == 1
    assert [process.returncode for process in processes] == [0, 0, 0]
    pid = pid_of(home)
    assert f"already (process {pid})" in home.run("up").stderr
    assert pid_of(home) == pid
    home("down")


def test_a_daemon_that_was_killed_is_just_not_there(home: Home) -> None:
    home("up")
    session = home("new").strip()
    pid = pid_of(home)
    os.kill(pid, signal.SIGKILL)
    until(lambda: has_ended(pid))
    assert (home.runtime / "sandkasten" / "daemon.sock").exists()
    assert status(home, expect=1) == {"running": False}
    assert "sandkasten up" in home.run("exec", session, "--", "true", expect=125).sentence
    home("up")
    assert pid_of(home) != pid
    assert "no session" in home.run("info", session, expect=125).sentence
    home("down")


def test_a_daemon_that_is_killed_under_a_command_is_told(home: Home) -> None:
    home("up")
    session = home("new").strip()
    pid = pid_of(home)
    with home.start("stats", session, "--watch", "--interval", "0.1") as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(pid, signal.SIGKILL)
        stderr = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 125
    assert stderr.endswith("Start it again: sandkasten up.\n")
    home("down")


def test_it_goes_on_without_the_terminal_and_keeps_no_directory(home: Home) -> None:
    place = home.directory / "home" / "gone"
    place.mkdir()
    for name in ("json", "queue", "typing"):  # none is a module of the daemon's: they may be a sandbox's
        (place / f"{name}.py").write_text("raise SystemExit('taken over')\n")
    home.run("up", cwd=place)
    pid = pid_of(home)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    home("down")


def test_socket_key_and_log_are_the_users_alone(cli: Home) -> None:
    directory = cli.runtime / "sandkasten"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes == {"daemon.sock": 0o600, "key": 0o600, "log": 0o600}
    key = (directory / "key").read_text().strip()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert key.encode() not in path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_two_homes_do_not_mix(make_home: Callable[[], Home], cli: Home, session: str) -> None:
    other = make_home()
    assert "sandkasten up" in other.run("ls", expect=125).sentence
    other("up")
    assert json.loads(other("ls", "--json")) == []
    assert "no session" in other.run("exec", session, "--", "true", expect=125).sentence
    assert pid_of(other) != pid_of(cli)
    url = str(status(cli)["url"])
    assert "--api-key-file" in other.run("--url", url, "ls", expect=125).sentence
    key_file = str(status(cli)["key_file"])
    assert session in other("--url", url, "--api-key-file", key_file, "ls")
    environ = {"SANDKASTEN_BASE_URL": url, "SANDKASTEN_API_KEY": Path(key_file).read_text().strip()}
    assert session in other("ls", "-q", env=environ)
    assert session in other("run", "--", "true; echo ran", env=environ) + other("ls", "-q", env=environ)
    other("down")
    assert json.loads(cli("status", "--json"))["running"] is True


def test_without_a_runtime_directory_it_is_below_the_users_state(home: Home) -> None:
    environ = {"XDG_RUNTIME_DIR": ""}
    assert (
        home("up", env=environ) == f"unix://{home.directory}/home/.local/state/sandkasten/run/daemon.sock\n"
    )
    directory = home.directory / "home/.local/state/sandkasten/run"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert json.loads(home("status", "--json", env=environ))["running"] is True
    assert status(home, expect=1) == {"running": False}
    home("down", env=environ)


def test_a_directory_that_others_can_enter_is_not_used(home: Home) -> None:
    directory = home.runtime / "sandkasten"
    directory.mkdir()
    directory.chmod(0o755)
    assert "only you can enter" in home.run("up", expect=125).sentence
    assert "only you can enter" in home.run("ls", expect=125).sentence
    directory.chmod(0o700)
    directory.rename(home.runtime / "elsewhere")
    directory.symlink_to("elsewhere")
    assert "XDG_RUNTIME_DIR" in home.run("up", expect=125).sentence


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_a_directory_of_another_user_is_not_used(home: Home) -> None:
    directory = home.runtime / "sandkasten"
    directory.mkdir(0o700)
    os.chown(directory, 65534, 65534)
    assert "only you can enter" in home.run("up", expect=125).sentence
    os.chown(home.runtime, 65534, 65534)  # as with sudo, which keeps the variable
    assert "/home/.local/state/" in home("up")
    home("down")


def test_a_directory_that_others_could_replace_is_not_used(home: Home) -> None:
    home.runtime.chmod(0o777)
    assert f"{home.runtime} can be changed by every user" in home.run("up", expect=125).sentence
    home.runtime.chmod(0o1777)
    home("up")
    home("down")


def test_a_path_that_is_too_long_for_a_socket_is_told(home: Home) -> None:
    runtime = home.runtime / ("x" * 100)
    runtime.mkdir(0o700)
    assert "too long" in home.run("up", expect=125, env={"XDG_RUNTIME_DIR": str(runtime)}).sentence


def test_a_daemon_that_cannot_start_says_why(home: Home) -> None:
    (home.directory / "file").touch()
    done = home.run("up", expect=None, env={"TMPDIR": "/nonexistent", "PYTHONPATH": str(broken(home))})
    assert done.code == 125
    assert "no sandboxes today" in done.sentence
    assert status(home, expect=1) == {"running": False}


def broken(home: Home) -> Path:
    """A directory for PYTHONPATH that breaks the daemon, and it alone."""
    directory = home.directory / "broken"
    (directory / "uvicorn").mkdir(parents=True)
    (directory / "uvicorn/__init__.py").touch()  # the daemon loads only parts of it
    (directory / "uvicorn/_types.py").write_text("raise RuntimeError('no sandboxes today')\n")
    return directory


@pytest.fixture
def runtime() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    yield path
    shutil.rmtree(path)


def test_the_place_follows_from_the_environment(runtime: Path) -> None:
    uid = os.geteuid()
    state = {"XDG_STATE_HOME": "/state"}
    assert choose({"XDG_RUNTIME_DIR": str(runtime)} | state, uid).directory == runtime / "sandkasten"
    assert choose({"XDG_RUNTIME_DIR": str(runtime)} | state, uid + 1).directory == Path(
        "/state/sandkasten/run"
    )
    assert choose({"XDG_RUNTIME_DIR": "relative"} | state, uid).directory == Path("/state/sandkasten/run")
    assert choose(state, uid).url == "unix:///state/sandkasten/run/daemon.sock"
    assert issubclass(CommandLineError, Exception)
