"""Attempts through the real daemon: on itself, on other sessions, on its clients."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from sandkasten.local.identity import Identity, popen_identity
from sandkasten.local.isolation import mounttable, syscalls
from sandkasten.local.isolation.policy import Launcher
from sandkasten.local.launch import LocalDaemon
from tests.local.box import Box, until
from tests.local.isolation.arena.lab import Lab
from tests.local.isolation.arena.registry import attempt
from tests.processes import processes_with

# Prints "found" if a word is in any file that it may read in these places.
SEARCH = r"""
import hashlib, os, re, sys
wanted, places = sys.argv[1], sys.argv[2:]
def files():
    for place in places:
        if os.path.isdir(place):
            for directory, _, names in os.walk(place):
                yield from (os.path.join(directory, name) for name in names)
    for name in filter(str.isdigit, os.listdir("/proc")):
        yield from (f"/proc/{name}/{kind}" for kind in ("environ", "cmdline", "maps", "mountinfo"))
    yield from ("/proc/net/unix", "/proc/keys", "/proc/self/mountinfo")
def words():
    for path in files():
        yield from re.findall(rb"[A-Za-z0-9_-]+", os.fsencode(path))
        try: yield from re.findall(rb"[A-Za-z0-9_-]{8,}", open(path, "rb").read(1 << 20))
        except OSError: pass
print("found" if any(hashlib.sha256(w).hexdigest() == wanted for w in words()) else "nothing")
"""
PLACES = "/workspace /tmp /home /run /dev/shm /etc/sandkasten /dev/mqueue /var /root"


def searched(box: Box, word: str, places: str = PLACES) -> bool:
    """Return whether a session finds a word, of which it gets only the hash."""
    box.write("search.py", SEARCH)
    said = box.run(f"python3 search.py {hashlib.sha256(word.encode()).hexdigest()} {places}")
    assert said in {"found\n", "nothing\n"}, said
    return said == "found\n"


@attempt("daemon/find-the-key")
def test_the_key_is_not_found(box: Box, daemon: LocalDaemon) -> None:
    key = str(daemon.target.api_key)
    assert not searched(box, key)
    box.run(f"export KEY={key}")
    assert searched(box, key)


@attempt("daemon/find-the-socket")
def test_the_socket_is_not_found(box: Box, daemon: LocalDaemon) -> None:
    name = Path(daemon.target.socket_path or "").name
    look = f"find / -name '{name}' 2>/dev/null; cat /proc/net/unix /proc/self/mountinfo /proc/self/maps; true"
    assert name not in box.run(look.replace(name, name[:-1] + "[k]"))
    assert name in Path("/proc/net/unix").read_text()


@attempt("daemon/connect-to-the-socket")
def test_the_socket_cannot_be_connected_to(box: Box, daemon: LocalDaemon) -> None:
    path = daemon.target.socket_path or ""
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    result = box.exec(f'python3 -c "{code}"')
    assert "FileNotFoundError" in result["output"]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


@attempt("daemon/connect-from-the-hosts-network")
def test_the_socket_is_out_of_reach_from_the_hosts_network(
    make_box: Callable[..., Box], daemon: LocalDaemon
) -> None:
    """The host's network brings its abstract sockets along, but no files."""
    path = daemon.target.socket_path or ""
    box = make_box(network="host")
    result = box.exec(f"python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{path}')\"")
    assert "FileNotFoundError" in result["output"]
    assert "daemon.sock" in box.run("cat /proc/net/unix"), "it is the host's network"


@attempt("daemon/other-users-of-the-host")
def test_the_socket_and_the_key_are_closed_to_other_users(daemon: LocalDaemon) -> None:
    path = Path(daemon.target.socket_path or "")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    for file in ("environ", "cmdline"):
        assert str(daemon.target.api_key).encode() not in Path(f"/proc/{daemon.pid}/{file}").read_bytes()


@attempt("daemon/without-the-key")
def test_nothing_is_done_without_the_key(box: Box, daemon: LocalDaemon) -> None:
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=daemon.target.socket_path, verify=False),
        base_url=daemon.target.base_url,
    ) as stranger:
        key = str(daemon.target.api_key)
        for words in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {key[:-1]}"}):
            headers: dict[str, str] = words
            assert stranger.post(f"{box.url}/exec", json={"cmd": "id"}, headers=headers).status_code == 401
    assert box.run("id -un") == "sandbox\n"


@attempt("network/by-a-session")
def test_a_session_has_no_network(make_box: Callable[..., Box]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected"
        assert "connected" not in make_box().exec(f"( {code} ) 2>&1")["output"]
        assert "connected" in make_box(network="host").exec(f"( {code} ) 2>&1")["output"]


@attempt("sessions/files")
def test_a_session_does_not_find_anothers_files(make_box: Callable[..., Box]) -> None:
    one, other, word = make_box(), make_box(), f"sk-{secrets.token_hex(8)}"
    one.run(f"echo {word} > /workspace/file; echo {word} > ~/{word}")
    assert not searched(other, word)
    assert searched(one, word)


@attempt("sessions/tmp-and-shared-memory")
def test_a_session_does_not_find_anothers_memory_files(make_box: Callable[..., Box]) -> None:
    one, other, word = make_box(), make_box(), f"sk-{secrets.token_hex(8)}"
    one.run(f"echo {word} > /tmp/file; echo {word} > /dev/shm/file; echo {word} > /run/sandkasten/file")
    assert not searched(other, word)
    for place in ("/tmp", "/dev/shm", "/run/sandkasten"):
        assert searched(one, word, place)


@attempt("sessions/processes")
def test_a_session_does_not_find_anothers_processes(make_box: Callable[..., Box]) -> None:
    one, other, word = make_box(), make_box(), f"sk-{secrets.token_hex(8)}"
    one.run(f"bash -c 'exec -a {word} sleep 100' & disown")
    until(lambda: searched(one, word))
    assert not searched(other, word)


@attempt("sessions/kill")
def test_a_session_does_not_kill_anothers_processes(make_box: Callable[..., Box]) -> None:
    one, other = make_box(), make_box()
    mark = f"18{secrets.randbelow(10**9):09d}"
    one.run(f"sleep {mark} & disown")
    (pid,) = until(lambda: processes_with(f"sleep\0{mark}"))
    inside = one.run("pgrep -x sleep").split()[0]
    other.exec(f"for pid in {inside} {{3..300}} {pid}; do kill -9 $pid; done 2>/dev/null; kill -9 -1")
    assert processes_with(f"sleep\0{mark}") == [pid]
    one.exec(f"kill -9 {inside}")
    until(lambda: not processes_with(f"sleep\0{mark}"))


@attempt("sessions/abstract-socket")
def test_a_session_does_not_reach_anothers_abstract_socket(make_box: Callable[..., Box]) -> None:
    one, other, name = make_box(), make_box(), f"sk-{secrets.token_hex(8)}"
    listen = f"s=__import__('socket').socket(1); s.bind('\\0{name}'); s.listen(); input()"
    one.run(f'sleep 100 | python3 -c "{listen}" & disown; until grep -q {name} /proc/net/unix; do :; done')
    connect = f"python3 -c \"__import__('socket').socket(1).connect('\\0{name}')\""
    assert "ConnectionRefusedError" in other.exec(connect)["output"]
    assert one.exec(connect)["exit_code"] == 0


@attempt("sessions/system-v-ipc")
def test_a_session_does_not_find_anothers_system_v_memory(make_box: Callable[..., Box]) -> None:
    one, other, key = make_box(), make_box(), secrets.randbits(30)
    get = "python3 -c \"print(__import__('ctypes').CDLL(None).shmget({}, 4096, {}))\""
    assert int(one.run(get.format(key, 0o1666))) >= 0
    assert int(other.run(get.format(key, 0))) == -1
    assert int(one.run(get.format(key, 0))) >= 0


@attempt("sessions/message-queues")
def test_a_session_does_not_find_anothers_message_queue(make_box: Callable[..., Box]) -> None:
    one, other, name = make_box(), make_box(), f"/sk-{secrets.token_hex(8)}"
    call = "python3 -c \"print(__import__('ctypes').CDLL(None).mq_open(b'{}', {}, 0o666, None))\""
    create = call.format(name, os.O_RDWR | os.O_CREAT)
    assert int(one.run(create)) >= 0
    assert int(other.run(call.format(name, os.O_RDWR))) == -1
    assert int(one.run(call.format(name, os.O_RDWR))) >= 0


TAKE = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
def timer(_):
    return libc.timer_create(0, None, ctypes.byref(ctypes.c_void_p()))
def queue(number):
    name, kind = b"/sk-%d-%d" % (os.getpid(), number), (ctypes.c_long * 8)(0, 10, 8192)
    opened = libc.mq_open(name, os.O_RDWR | os.O_CREAT, 0o600, ctypes.byref(kind))
    libc.mq_unlink(name)  # it counts as long as it is open
    return opened
taken = 0
while taken < 5000 and globals()[sys.argv[1]](taken) >= 0: taken += 1
print(taken)
"""


@pytest.mark.parametrize(("what", "most"), [("timer", 2048), ("queue", 2)])
@attempt("counts/of-a-user")
def test_a_session_takes_a_part_of_what_its_user_may(box: Box, what: str, most: int) -> None:
    box.write("take.py", TAKE)
    assert 1 <= int(box.run(f"python3 take.py {what}")) <= most
    outside = subprocess.run(
        ["/usr/bin/python3", "-c", TAKE, what],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
        **popen_identity(Identity.of_this_process()),
    )
    assert int(outside.stdout) > most


@attempt("end/outlive-the-session")
def test_nothing_outlives_its_session(make_box: Callable[..., Box]) -> None:
    box, mark = make_box(), f"17{secrets.randbelow(10**9):09d}"
    box.run(
        f"(trap '' HUP TERM INT; setsid nohup bash -c 'trap \"\" HUP TERM INT; (sleep {mark}; :) & wait')"
        f" >/dev/null 2>&1 & setsid sleep {mark} & disown -a"
    )
    until(lambda: len(processes_with(f"sleep\0{mark}")) == 2)
    box.destroy()
    assert processes_with(mark) == []


@attempt("end/leave-files")
def test_no_files_outlive_their_session(make_box: Callable[..., Box], daemon: LocalDaemon) -> None:
    box = make_box()
    directory = box.directory
    box.run("mkdir -p a/b; touch a/b/c; chmod 0 a/b a; echo x > closed; chmod 0 closed")
    assert (box.workspace / "closed").exists()
    box.destroy()
    assert not directory.exists()


@attempt("results/forge-by-a-program")
def test_a_result_is_not_forged_by_a_program(box: Box) -> None:
    program = box.put_program("forge.py")
    result = box.exec(f'IDS="$__sk_id" python3 {program}; (exit 7)')
    assert (result["exit_code"], result["cwd"]) == (7, "/workspace")
    # Meanwhile bash keeps the channel, for itself and closed to programs; the shell may break its own.
    result = box.exec(
        "for i in 10 11; do printf 'result\\0%s\\0%s\\0%s\\0' \"$__sk_id\" 0 /forged >&$i; done 2>/dev/null;"
        " (exit 7)"
    )
    assert (result["exit_code"], result["cwd"]) == (0, "/forged")


@attempt("results/forge-by-printing")
def test_a_result_is_not_forged_by_printing(box: Box) -> None:
    result = box.exec(
        "for i in 1 2; do printf '\\0result\\0%s\\0%s\\0%s\\0' \"$__sk_id\" 0 /forged >&$i; done; (exit 7)"
    )
    assert (result["exit_code"], result["cwd"]) == (7, "/workspace")


@attempt("results/forge-through-the-shells-memory")
def test_the_shells_memory_is_closed_to_its_children(box: Box) -> None:
    code = "import os; os.close(os.open(f'/proc/{pid}/mem', os.O_RDWR)); print('opened')"
    for pid in ("1", "{os.getppid()}"):
        result = box.exec(f'python3 -c "{code.replace("{pid}", pid)}"')
        assert "opened" not in result["output"], f"process {pid}"


@attempt("results/read-the-shells-variables")
def test_the_shells_descriptors_and_variables_are_closed_to_its_children(box: Box) -> None:
    look = "for pid in 1 $PPID; do cat /proc/$pid/{environ,maps} && ls /proc/$pid/fd && echo looked; done"
    closed = box.exec(f"bash -c '{look}' 2>&1")
    assert "looked" not in closed["output"]
    assert closed["output"].count("Permission denied") == 4
    # An ordinary bash is open to its children.
    assert "looked" in box.run(f"bash -c 'bash -c \"{look.replace('$', chr(92) + '$')}\"; true' 2>/dev/null")


@attempt("results/forge-from-the-background")
def test_a_result_is_not_forged_by_a_subshell_that_an_earlier_command_left_behind(box: Box) -> None:
    """The subshell may take a command, which its deadline then stops, but cannot report an outcome."""
    steal = "IFS= read -t 8 -r -d '' frame <&$fd"
    forge = "printf '\\0result\\0%s\\0%s\\0%s\\0' \"${frame:0:16}\" 0 /forged >&$fd"
    box.exec(
        f"( for fd in 10 11; do {{ {steal} && {forge} && echo $frame >>forged; }} & done; wait ) 2>/dev/null"
        " & disown"
    )

    def is_tried() -> bool:
        answer = box.ask("(exit 7)", timeout_ms=500)
        if answer.status_code == 200:
            assert (answer.json()["exit_code"], answer.json()["cwd"]) == (7, "/workspace")
        else:
            assert answer.json()["error_code"] == "COMMAND_TIMEOUT"
            assert answer.json()["details"]["cwd"] == "/workspace"
        return box.read("forged").status_code == 200

    until(is_tried)
    until(lambda: box.ask("true", timeout_ms=500).status_code == 200)


@attempt("results/keep-the-next-shell-away")
def test_the_next_shell_is_not_kept_away_by_a_subshell_that_reads_all_there_is(box: Box) -> None:
    """It may take what bash would read, which is then missed; but not what lets the next shell come."""
    box.exec(
        "( for fd in {3..63}; do while read -N 1 -u $fd; do :; done & done; touch reading; wait )"
        " 2>/dev/null & disown"
    )
    until(lambda: box.read("reading").status_code == 200)
    answer = box.ask("exec true", timeout_ms=2_000)
    if answer.status_code == 200:
        assert answer.json()["shell_restarted"]
    else:
        assert answer.json()["error_code"] == "COMMAND_TIMEOUT"
    box.ask("kill -9 $$", timeout_ms=2_000)
    assert box.ask("true", timeout_ms=500).status_code in (200, 504)


@attempt("results/forge-a-shell")
def test_a_shell_is_not_forged_by_a_subshell_that_the_last_one_left_behind(box: Box) -> None:
    said = r"'\0ended\0id\0%s\0\0\0ready\0id\0\0/forged\0\0ready\0\0\0/forged\0'"
    box.exec(
        f"( for fd in 10 11 12; do {{ while printf {said} 1 >&$fd; do echo >>tried; done; }} & done; wait )"
        " 2>/dev/null & disown"
    )
    until(lambda: box.read("tried").status_code == 200)
    for status in (3, 4, 5):
        result = box.exec(f"exit {status}")
        assert (result["exit_code"], result["cwd"], result["shell_restarted"]) == (status, "/workspace", True)
        assert box.run("echo $((6 * 7)); pwd") == "42\n/workspace\n"


@attempt("host-files/names-of-keys")
def test_the_names_of_the_users_keys_are_not_seen(box: Box) -> None:
    name = f"sk-{secrets.token_hex(8)}"
    number, control = (
        syscalls.NOT_PERMITTED[call][platform.machine() == "aarch64"] for call in ("add_key", "keyctl")
    )
    code = (
        "import ctypes; libc = ctypes.CDLL(None)\n"
        f"key = libc.syscall({number}, b'user', b'{name}', b'x', 1, -4)\n"  # in the user's keyring
        f"libc.syscall({control}, 15, key, 60)\n"  # for a minute
        "print(open('/proc/keys').read())"
    )
    on_host = subprocess.run(
        ["/usr/bin/python3", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
        **popen_identity(Identity.of_this_process()),
    ).stdout
    if name not in on_host:
        pytest.skip("there are no keys on this machine")
    assert name not in box.run("cat /proc/keys || true")


@attempt("mounts/that-come-later")
def test_what_the_host_mounts_later_does_not_come_along(laboratory: Lab) -> None:
    if "the-hosts" not in laboratory.with_a_later_mount(Launcher()).split(" [")[0]:
        pytest.skip("what is mounted later does not come along on this machine")
    (launcher,) = mounttable.private_table()
    said = laboratory.with_a_later_mount(launcher)
    assert "Read-only file system" in said
    assert said.split(" [")[1].strip() == "'the-hosts']", said


@attempt("host-name/of-the-host")
def test_the_hosts_name_stays(box: Box) -> None:
    before = socket.gethostname()
    assert box.exec("hostname evil")["exit_code"] != 0
    with suppress(OSError):
        box.exec("echo evil > /proc/sys/kernel/hostname")
    assert socket.gethostname() == before != box.run("uname -n").strip() == "sandbox"


@attempt("root-drops/owner-of-files")
def test_its_files_are_not_roots(box: Box, daemon: LocalDaemon) -> None:
    box.run("touch file; chmod 6755 file")
    path = box.workspace / "file"
    assert path.stat().st_uid == (60_777 if os.geteuid() == 0 else os.geteuid()) != 0
