"""The targets that the tests put on the host for attempts: files, sockets, a process; all of it is theirs."""

from __future__ import annotations

import ctypes
import os
import platform
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandkasten.local.identity import Identity, popen_identity
from sandkasten.local.isolation import syscalls

_libc = ctypes.CDLL(None, use_errno=True)

# Those that the filter does not mention: (x86_64, aarch64).
_MORE_NUMBERS = {
    "capset": (126, 91),
    "sched_setattr": (314, 274),
    "openat2": (437, 437),
}


@dataclass(frozen=True)
class Targets:
    """The targets; the attempts see `facts`."""

    base: Path
    secret: str
    secret_file: Path
    own: Path  # a directory of the sandboxes' user
    shared: Path  # likewise; mounted read-only at /opt/shared
    roots_directory: Path  # holds a file that only root may read, if the tests are root's
    roots_files: list[str]  # inside, and on the host
    environment: Path  # of Python, mounted as one; its project has other files, which are not
    sockets: Path
    port: int
    address: str
    abstract: str
    pid: int
    shm_key: int
    shm_name: str
    handle: bytes
    handle_type: int
    numbers: dict[str, int]

    def facts(self) -> dict[str, Any]:
        """Return the facts for a program; where finding the secret is the point, they hold only half of
        it."""
        return {
            "secret": self.secret,
            "path": str(self.secret_file),
            "own": str(self.own),
            "environment": str(self.environment),
            "roots_files": self.roots_files,
            "socket": str(self.sockets / "host.sock"),
            "port": self.port,
            "address": self.address,
            "abstract": self.abstract,
            "pid": self.pid,
            "shm_key": self.shm_key,
            "shm_name": self.shm_name,
            "handle": self.handle.hex(),
            "handle_type": self.handle_type,
            "numbers": self.numbers,
            "host_name": socket.gethostname(),
            "setuid": str(self.base / "setuid-id"),
        }


@contextmanager
def targets(base: Path, identity: Identity) -> Iterator[Targets]:
    """Make them, and take them away."""
    name = f"sk-isolation-{secrets.token_hex(8)}"
    with ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("", 0), backlog=64))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(tcp.getsockname())
        sockets = _directory(base / "sockets", None)
        _listen(stack, f"\0{name}")
        _listen(stack, str(sockets / "host.sock"))
        (sockets / "host.sock").chmod(0o666)

        secret = secrets.token_hex(16)
        secret_file = base / f"secret-{name}"
        secret_file.write_text(secret)
        secret_file.chmod(0o644)
        roots_directory = _directory(base / "roots", None)
        (roots_directory / "file").write_text(secret)
        (roots_directory / "file").chmod(0o600)
        (roots_directory / "closed").mkdir(mode=0o700)
        own = _directory(base / "own", identity)
        shared = _directory(base / "shared", identity)
        for directory in (own, shared):
            (directory / "file").write_text(secret)
            identity.own(directory / "file")
        if identity.drops:
            shutil.copy("/usr/bin/id", base / "setuid-id")  # says who it is, and nothing else
            (base / "setuid-id").chmod(0o4755)

        sleeper = _sleeper(stack, base, identity)
        shm_key = 0x5A000000 | secrets.randbits(24)
        shm_id = _libc.shmget(shm_key, 4096, 0o1666)
        assert shm_id >= 0
        stack.callback(_libc.shmctl, shm_id, 0, None)
        shm_file = Path("/dev/shm") / name
        shm_file.write_text(secret)
        shm_file.chmod(0o644)
        stack.callback(shm_file.unlink)
        handle_type, handle = _handle(secret_file)
        yield Targets(
            base=base,
            secret=secret,
            secret_file=secret_file,
            own=own,
            shared=shared,
            roots_directory=roots_directory,
            roots_files=(
                ["/opt/roots/file", str(roots_directory / "file")] if identity.drops else ["/etc/shadow"]
            ),
            environment=_environment(base / "project", secret_file, identity),
            sockets=sockets,
            port=tcp.getsockname()[1],
            address=_own_address(),
            abstract=name,
            pid=sleeper.pid,
            shm_key=shm_key,
            shm_name=name,
            handle=handle,
            handle_type=handle_type,
            numbers=_numbers(),
        )


def _environment(project: Path, secret_file: Path, identity: Identity) -> Path:
    """Make an environment in a project's own directory; parts and packages of it are links to the secret."""
    packages = project / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (project / "secret").write_text(secret_file.read_text())
    (project / "bin").mkdir()
    (project / "bin" / "python").symlink_to("/usr/bin/python3")
    (project / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    (project / "share").symlink_to(secret_file.parent)
    (project / "include").symlink_to(secret_file)
    (packages / "package").symlink_to(secret_file)
    (packages / "elsewhere.pth").write_text(f"{secret_file.parent}\n")
    (packages / "module.py").write_text("")
    identity.own(packages / "module.py")
    return project


def _listen(stack: ExitStack, address: str) -> None:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(address)
    listener.listen(64)


def _sleeper(stack: ExitStack, base: Path, identity: Identity) -> subprocess.Popen[bytes]:
    """Start a process of the sandboxes' user on the host."""
    sleeper = subprocess.Popen(
        ["/bin/sleep", "1800"], cwd=base, stdin=subprocess.DEVNULL, **popen_identity(identity)
    )
    stack.callback(sleeper.wait)
    stack.callback(sleeper.kill)
    return sleeper


def _directory(path: Path, owner: Identity | None) -> Path:
    path.mkdir()
    path.chmod(0o755)
    if owner is not None:
        owner.own(path)
    return path


def _own_address() -> str:
    """The address that others know this machine by; 127.0.0.2 if there is none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
    return "127.0.0.2"


def _numbers() -> dict[str, int]:
    column = ("x86_64", "aarch64").index(platform.machine())
    tables = (
        syscalls.NOT_PERMITTED,
        syscalls.NOT_THERE,
        syscalls.NOT_SUPPORTED,
        syscalls.CHECKED,
        _MORE_NUMBERS,
    )
    found = {name: numbers[column] for table in tables for name, numbers in table.items()}
    return {name: number for name, number in found.items() if number is not None}


def _handle(path: Path) -> tuple[int, bytes]:
    """The file's handle, as name_to_handle_at(2) gives it to everybody."""
    room = ctypes.create_string_buffer(8 + 128)
    ctypes.c_uint.from_buffer(room).value = 128
    mount_id = ctypes.c_int()
    if _libc.name_to_handle_at(-100, os.fsencode(path), room, ctypes.byref(mount_id), 0) != 0:
        return 0, b""
    size = ctypes.c_uint.from_buffer(room).value
    return ctypes.c_int.from_buffer(room, 4).value, room.raw[8 : 8 + size]
