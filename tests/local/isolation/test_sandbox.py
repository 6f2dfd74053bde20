"""The view and the rights of code in a sandbox, found out by trying."""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.rundir import run_dir
from sandkasten.local.files.tree import Tree
from sandkasten.local.identity import Identity
from sandkasten.local.isolation.backend import Wanted
from sandkasten.local.isolation.sandbox import BubblewrapSandbox
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from sandkasten.local.options import Options
from sandkasten.local.sessions.preparing import prepare
from tests.local.box import Box, boxes, connect, until
from tests.processes import processes_with


@pytest.fixture(scope="module")
def seen(daemon: LocalDaemon) -> Iterator[dict[str, Any]]:
    """Yield the findings of `programs/look_around.py`, while the host listens wherever it could be heard."""
    name = f"sandkasten-{secrets.token_hex(8)}"
    with (
        boxes(daemon) as make,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind(f"\0{name}")
        abstract.listen()
        port = tcp.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), socket.socket(socket.AF_UNIX) as client:
            client.connect(f"\0{name}")  # on the host it works
        box = make()
        program = box.put_program("look_around.py")
        yield json.loads(box.run(f"python3 {program} {port} {name}"))


def test_there_is_no_network(seen: dict[str, Any]) -> None:
    assert seen["interfaces"] in (["lo"], [])
    attempts = seen["attempts"]
    for name in ("tcp", "tcp6", "abstract socket", "outside", "packet socket", "raw socket"):
        assert attempts[name] != "done", name


def test_the_hosts_abstract_sockets_are_not_there(seen: dict[str, Any]) -> None:
    assert seen["attempts"]["abstract socket"] == "Connection refused"


def test_nothing_that_takes_a_privilege_works(seen: dict[str, Any]) -> None:
    allowed = {"kill process 1"}  # the call is allowed; the kernel ignores it
    assert [
        name for name, result in seen["attempts"].items() if result == "done" and name not in allowed
    ] == []


def test_it_is_an_ordinary_user(seen: dict[str, Any]) -> None:
    uids, gids, groups = seen["ids"]
    assert (uids, gids) == ([1000] * 3, [1000] * 3)
    assert 0 not in groups


def test_there_are_no_capabilities_and_no_way_to_get_any(seen: dict[str, Any]) -> None:
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(seen["status"][kind], 16) == 0, kind
    assert seen["status"]["NoNewPrivs"] == "1"


def test_the_host_name_and_the_process_list_are_its_own(seen: dict[str, Any]) -> None:
    assert seen["host name"] == "sandbox" != socket.gethostname()
    assert len(seen["processes"]) < 8
    assert max(seen["processes"]) < 200


def test_a_command_has_three_descriptors_and_reads_nothing(seen: dict[str, Any]) -> None:
    descriptors = seen["descriptors"]
    assert descriptors.keys() <= {"0", "1", "2"}, f"something leaked: {descriptors}"
    assert descriptors["0"] == "/dev/null"


@pytest.mark.parametrize(
    "start",
    ["", "setsid -w ", "bash -c 'exec \"$@\"' -- ", "env -i "],
)
def test_no_child_of_a_command_inherits_more_than_three_descriptors(box: Box, start: str) -> None:
    shown = box.run(
        f"{start}/usr/bin/python3 -c 'import os; print(*sorted(map(int, os.listdir(\"/proc/self/fd\"))))'"
    )
    assert shown.splitlines()[-1] in {"0 1 2 3", "0 1 2"}, shown  # 3 is the listing itself


def test_a_background_job_inherits_no_more_than_three_descriptors(box: Box) -> None:
    box.run("{ ls /proc/self/fd > listed; touch done; } & wait; (ls /proc/self/fd) > also")
    assert box.content("listed").split() == [b"0", b"1", b"2", b"3"]
    assert box.content("also").split() == [b"0", b"1", b"2", b"3"]


def test_the_environment_is_the_sandboxes_own(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = secrets.token_hex(16)
    for name in (
        "HOST_MARKER",
        "LD_PRELOAD_MARKER",
        "AWS_SECRET_ACCESS_KEY",
        "BASH_FUNC_evil%%",
        "SANDKASTEN_API_KEY",
    ):
        monkeypatch.setenv(name, f"() {{ echo {marker}; }}" if "%%" in name else marker)
    daemon = start_daemon(LocalOptions(data_dir=data_dir))
    try:
        with boxes(daemon) as make:
            box = make()
            assert marker not in box.run("env; set; cat /proc/*/environ | tr '\\0' '\\n'; declare -f")
            assert marker not in box.run(
                "grep -rl . /proc/[0-9]*/environ 2>/dev/null | xargs cat | tr '\\0' '\\n'"
            )
    finally:
        daemon.stop()


def test_the_hosts_files_are_not_there(box: Box, host_secret: Path) -> None:
    assert host_secret.read_bytes()
    home = Path(os.path.expanduser("~"))
    for path in (
        host_secret,
        home / ".bashrc",
        home,
        Path(__file__),
        "/root",
        "/var/lib",
        "/srv",
        "/sys",
        "/boot",
        "/etc/shadow",
        "/etc/machine-id",
        "/etc/ssh",
        "/etc/sudoers",
        "/var/run",
        "/run/systemd",
    ):
        assert box.exec(f"test -e '{path}'")["exit_code"] == 1, path
    assert box.run("ls /home /tmp -A").split() == ["/home:", "sandbox", "/tmp:"]
    assert host_secret.name not in box.run("ls -A /tmp /workspace /")


def test_the_host_cannot_be_reached_through_proc(box: Box, host_secret: Path) -> None:
    for way in (
        "/proc/1/root",
        "/proc/self/root",
        "/proc/1/cwd",
        "/proc/self/cwd/../..",
        "/proc/$PPID/root",
        "/dev/fd/../root",
    ):
        assert box.exec(f"test -e {way}{host_secret}")["exit_code"] == 1, way


def test_a_link_to_the_hosts_file_leads_nowhere_inside_and_outside(box: Box, host_secret: Path) -> None:
    box.run(f"ln -s {host_secret} link; ln -s / root; ln -s /proc/self/root magic")
    assert box.exec("cat link")["exit_code"] != 0
    for path in ("link", f"root{host_secret}", f"magic{host_secret}"):
        answer = box.read(path)
        assert answer.status_code in {400, 403, 404}
        assert "secret" not in answer.json().get("content_base64", "")
    box.write("link", "evil")
    assert host_secret.read_bytes() == b"the host's secret"


def test_nothing_can_be_made_on_the_host_beside_a_workspace(box: Box, daemon: LocalDaemon) -> None:
    box.run("ln -s .. up; ln -s / root")
    for path in ("up/evil", "up/a/evil", "root/b/evil"):
        assert box.write(path, "evil").status_code in {400, 403, 404}, path
    name = f"made-{secrets.token_hex(8)}"
    assert box.write(f"root/tmp/{name}/evil", "evil").status_code == 200  # in the sandbox's own /tmp
    assert box.run(f"cat /tmp/{name}/evil") == "evil"
    assert not os.path.lexists(f"/tmp/{name}")
    assert os.listdir(box.workspace.parent) == ["workspace"]
    assert set(os.listdir(box.directory)) <= {"packages", "root", "staging"}
    assert list(box.directory.glob("staging/*")) == []


def test_the_daemons_socket_and_key_cannot_be_found(box: Box, daemon: LocalDaemon) -> None:
    assert box.exec(f"test -e {daemon.target.socket_path}")["exit_code"] == 1
    shown = box.run(
        "find / -xdev -type s 2>/dev/null; find /run /tmp /dev /home -type s 2>/dev/null; cat /proc/net/unix;"
        " cat /proc/*/environ /proc/*/cmdline /etc/sandkasten/* 2>/dev/null | tr '\\0' '\\n'; mount; set"
    )
    assert "daemon.sock" not in shown
    assert str(daemon.target.api_key) not in shown


def test_mounts_are_read_only_except_its_own(box: Box) -> None:
    mounts = [line.split() for line in box.run("cat /proc/self/mounts").splitlines()]
    own = {
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/console",
        "/tmp",
        "/home/sandbox",
        "/run/sandkasten",
        "/workspace",
        "/dev/shm",
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
    }
    seen = {path: words for _source, path, _kind, words, *_rest in mounts}  # the last one hides those below
    for path, words in seen.items():
        assert "nosuid" in words.split(","), path
        assert path in own or "ro" in words.split(","), path


BINFMT = (
    "/proc/sys/fs/binfmt_misc"  # elsewhere a mount would keep the kernel from giving a sandbox its own /proc
)


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.isdir(BINFMT), reason="only root mounts, and only there")
def test_what_the_host_mounted_below_proc_sys_is_not_seen(data_dir: Path) -> None:
    script = f"""
from sandkasten_sync import SandboxClient
with SandboxClient() as client, client.create_session() as session:
    print(session.exec("ls -A /proc/sys/fs {BINFMT}; touch {BINFMT}/x").output)
"""
    mount = f'mount -t tmpfs none {BINFMT} && echo >{BINFMT}/secret && exec "$@"'
    said = subprocess.check_output(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", script],
        env=os.environ | {"SANDKASTEN_DATA_DIR": str(data_dir)},
        text=True,
    )
    assert "file-max" in said
    assert "secret" not in said
    assert "Read-only file system" in said


def test_a_new_user_namespace_gives_no_hold_on_the_host(box: Box, host_secret: Path) -> None:
    for command in (
        "unshare -Ur mount -o remount,rw,bind /usr",
        "unshare -Ur mount -t sysfs none /tmp",
        "unshare -Urm sh -c 'mount --bind /tmp /usr && umount -l / '",
        "unshare -Ur sh -c 'echo x > /proc/sys/kernel/core_pattern'",
        f"unshare -Urm cat {host_secret}",
    ):
        assert box.exec(f"{command} 2>&1")["exit_code"] != 0, command
    assert box.exec("touch /usr/evil")["exit_code"] != 0


def test_on_the_host_its_processes_are_nobody_special(box: Box) -> None:
    marker = f"16{secrets.randbelow(10**9):09d}"
    # In a subshell `setsid` leads no group and need not fork, so no process goes that was just found.
    box.run(f"sleep {marker} & (setsid sleep {marker} &); disown -a")
    pids = until(lambda: len(found := processes_with(f"sleep\0{marker}")) == 2 and found)
    expected = "60777" if os.geteuid() == 0 else str(os.geteuid())
    for pid in pids:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert set(status["Uid"].split()) == {expected}
        assert expected != "0"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        for kind in ("user", "pid", "net", "mnt", "ipc", "uts"):
            assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_a_result_cannot_be_forged_by_a_child(box: Box) -> None:
    program = box.put_program("forge.py")
    result = box.exec(f"python3 {program}; (exit 7)")
    assert (result["exit_code"], result["cwd"]) == (7, "/workspace"), result
    assert result["output"] == "0 written:\n"


def test_a_result_cannot_be_forged_by_a_child_even_if_all_variables_are_exported(box: Box) -> None:
    program = box.put_program("forge.py")
    box.run("set -a")
    result = box.exec(f'IDS="$__sk_id $__sk_command"; python3 {program}; (exit 7)')
    assert (result["exit_code"], result["cwd"]) == (7, "/workspace"), result
    assert box.run("compgen -e __sk_ || true") == ""


def test_writing_to_whatever_descriptors_there_are_does_not_stop_later_results(
    make_box: Callable[..., Box],
) -> None:
    box = make_box(patience=4)
    noise = (
        "for fd in /proc/self/fd/*; do fd=${fd##*/}; [[ $fd -gt 2 ]] && printf 'a\\0b\\0' >&$fd; done"
        " 2>/dev/null; true"
    )
    box.ask(noise, timeout_ms=500)
    box.ask(f"bash -c '{noise}'".replace("'a\\0b\\0'", '"a\\0b\\0"'), timeout_ms=500)
    for number in range(3):
        result = box.exec(f"echo {number}; (exit {number})", timeout_ms=1000)
        assert (result["output"], result["exit_code"]) == (f"{number}\n", number)


def test_two_sessions_share_nothing(make_box: Callable[..., Box]) -> None:
    one, other = make_box(), make_box()
    marker = f"15{secrets.randbelow(10**9):09d}"
    one.run(
        f"touch /tmp/{marker} /workspace/{marker} ~/{marker} /dev/shm/{marker};"
        f" sleep {marker} & disown; export m={marker}"
    )
    shown = other.run(
        "ls -A /tmp /workspace ~ /dev/shm; ps -ef; cat /proc/*/cmdline | tr '\\0' ' '; env; ls -A /proc"
    )
    assert marker not in shown
    assert marker in one.run("ls /tmp; ps -ef")
    assert one.run("readlink /proc/self/ns/pid") != other.run("readlink /proc/self/ns/pid")
    assert one.run("readlink /proc/self/ns/ipc") != other.run("readlink /proc/self/ns/ipc")
    assert other.run("pgrep sleep; true") == ""
    assert one.read(marker).status_code == 200
    assert other.read(marker).status_code == 404


def test_two_sessions_of_one_workspace_share_its_files_and_nothing_else(make_box: Callable[..., Box]) -> None:
    workspace = f"w{secrets.token_hex(6)}"
    one, other = make_box(workspace_id=workspace), make_box(workspace_id=workspace)
    one.run("echo shared > file; touch /tmp/private")
    assert other.run("cat file; ls -A /tmp") == "shared\n"
    one.destroy()
    assert other.run("cat file") == "shared\n"


def test_a_workspace_outlives_its_session_with_what_is_in_it(make_box: Callable[..., Box]) -> None:
    workspace = f"w{secrets.token_hex(6)}"
    first = make_box(workspace_id=workspace)
    first.run("mkdir -p d; echo kept > d/file; ln -s /etc/passwd link; chmod 600 d/file")
    first.destroy()
    second = make_box(workspace_id=workspace)
    assert second.run("cat d/file; readlink link; stat -c %a d/file; id -un; stat -c %U d/file") == (
        "kept\n/etc/passwd\n600\nsandbox\nsandbox\n"
    )


def test_what_is_uploaded_belongs_to_the_sandbox(box: Box) -> None:
    box.write("deep/er/file", "x")
    assert box.run("stat -c '%U %a' deep deep/er deep/er/file; echo y >> deep/er/file; rm -r deep") == (
        "sandbox 755\nsandbox 755\nsandbox 644\n"
    )


def test_a_closed_file_cannot_be_got_around_by_the_one_who_asks(box: Box) -> None:
    """As root the daemon may read what the sandbox closed; it is the sandbox's own in any case."""
    box.run("echo x > closed; chmod 0 closed; mkdir d; echo y > d/f; chmod 0 d")
    assert box.read("closed").status_code in {200, 403}
    assert box.read("d/f").status_code in {200, 403}


def test_the_terminal_cannot_be_typed_into(box: Box) -> None:
    """TIOCSTI would put a command where bash reads its next."""
    code = (
        "import fcntl, os, termios\n"
        "fd = os.open('/dev/console', os.O_WRONLY)\n"
        "for c in 'echo typed > /workspace/typed\\n':\n"
        "    try: fcntl.ioctl(fd, termios.TIOCSTI, c.encode())\n"
        "    except OSError: pass\n"
    )
    box.write("type.py", code)
    box.run("python3 type.py")
    box.run("true")
    assert box.read("typed").status_code == 404


def test_no_process_outlives_the_daemon_even_when_it_is_killed(data_dir: Path) -> None:
    marker = f"14{secrets.randbelow(10**9):09d}"
    daemon = start_daemon(LocalOptions(data_dir=data_dir))
    run_dir = Path(daemon.target.socket_path or "").parent.parent
    try:
        with connect(daemon) as client:
            box = Box(daemon, client)
            box.run(f"sleep {marker} & setsid sleep {marker} & disown -a")
            program = {"id": "0" * 32, "cmd": f"(setsid sleep {marker} &); exec sleep {marker}"}
            assert client.post(f"{box.url}/processes", json=program).status_code == 200
        until(lambda: len(processes_with(f"sleep\0{marker}")) == 4)
        os.kill(daemon.pid, signal.SIGKILL)
        until(lambda: not processes_with(f"sleep\0{marker}"))
    finally:
        daemon.stop()
        shutil.rmtree(run_dir, ignore_errors=True)  # nobody was left to do it


def test_a_daemon_that_stops_leaves_neither_processes_nor_files(data_dir: Path) -> None:
    marker = f"13{secrets.randbelow(10**9):09d}"
    daemon = start_daemon(LocalOptions(data_dir=data_dir))
    run_dir = Path(daemon.target.socket_path or "").parent.parent
    try:
        with connect(daemon) as client:
            Box(daemon, client).run(f"mkdir -p a/b; chmod 0 a; sleep {marker} & disown")
    finally:
        daemon.stop()
    assert not processes_with(f"sleep\0{marker}")
    assert not run_dir.exists()


def test_it_ends_by_itself_if_its_daemon_is_gone_before_anything_runs_in_it() -> None:
    # The kernel ends sandboxes with the daemon, but not before bubblewrap asked for that. Here it never
    # does, as this process lives on: what must end the sandbox is that nobody holds the other ends.
    identity = Identity.of_this_process()
    with run_dir(identity) as directory:
        settings = prepare(directory, identity, Options())
        root = directory / "sessions"
        Tree(root, StagingIn(root), identity, durable=False).create()
        workspace = root / "workspace"
        isolation = settings.isolation
        sandbox = isolation.start(Wanted(isolation.images["base"], workspace))
        assert isinstance(sandbox, BubblewrapSandbox)
        assert asyncio.run(sandbox._gate.child_pid()) is not None
        try:
            sandbox.control.close()
            sandbox.tokens.close()
            sandbox._gate.close()  # which opens it
            sandbox._process.wait(10)  # the terminal stays: without it, nothing comes as far as this
        finally:
            sandbox._process.kill()
            sandbox._process.wait()
            os.close(sandbox.terminal)
            settings.cgroups.close()


@pytest.mark.skipif(shutil.which("pip3", path="/usr/bin:/bin") is None, reason="the image has no pip")
def test_what_pip_installs_works_and_ends_with_the_session(make_box: Callable[..., Box]) -> None:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        about = "sk_demo-1.0.dist-info"
        archive.writestr("sk_demo.py", "def main(): print('installed')\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: sk_demo\nVersion: 1.0\n")
        archive.writestr(f"{about}/entry_points.txt", "[console_scripts]\nsk-demo = sk_demo:main\n")
        archive.writestr(f"{about}/RECORD", "")
    workspace_id = f"pip-{secrets.token_hex(4)}"
    box = make_box(workspace_id=workspace_id)
    name = "sk_demo-1.0-py3-none-any.whl"
    assert box.write(name, wheel.getvalue()).status_code == 200
    box.run(f"pip install --no-index ./{name}", timeout_ms=60_000)
    assert box.run("sk-demo; python3 -c 'import sk_demo; sk_demo.main()'") == "installed\n" * 2
    box.destroy()
    assert make_box(workspace_id=workspace_id).exec("sk-demo")["exit_code"] == 127


@pytest.mark.skipif(shutil.which("npm", path="/usr/bin:/bin") is None, reason="the image has no npm")
def test_what_npm_installs_globally_works_and_ends_with_the_session(make_box: Callable[..., Box]) -> None:
    workspace_id = f"npm-{secrets.token_hex(4)}"
    box = make_box(workspace_id=workspace_id)
    about = {"name": "sk-demo", "version": "1.0.0", "bin": {"sk-demo": "main.js"}}
    assert box.write("demo/package.json", json.dumps(about)).status_code == 200
    assert box.write("demo/main.js", "#!/usr/bin/env node\nconsole.log('installed')\n").status_code == 200
    box.run("npm install -g --offline ./demo", timeout_ms=60_000)
    assert box.run("sk-demo") == "installed\n"
    box.destroy()
    assert make_box(workspace_id=workspace_id).exec("sk-demo")["exit_code"] == 127


def test_when_memory_runs_out_process_1_goes_last_whichever_shell_it_is(box: Box) -> None:
    for end in ("true", "exit 3", "kill -9 $$", "kill -STOP $$ 2>/dev/null & kill -9 $$"):
        box.exec(end)
        scores = box.run("cat /proc/{1,$$,self}/oom_score_adj; sleep 9 & cat /proc/$!/oom_score_adj; kill $!")
        assert scores.split() == ["300", "800", "800", "800"]
