"""The protections that attempts run into, each with a way to build a sandbox without it."""

from __future__ import annotations

import os
import socket

from tests.local.isolation.arena.lab import Build, Layer


def _no_filter(build: Build) -> None:
    build.drop_with_value("--seccomp")


def _no_process_namespace(build: Build) -> None:
    build.drop("--unshare-pid")
    build.drop("--as-pid-1")
    build.swap(["--proc", "/proc"], ["--ro-bind", "/proc", "/proc"])


def _open_hands(build: Build) -> None:
    """A descriptor of the host's directory that was not closed."""
    descriptor = os.open(build.targets.base, os.O_RDONLY | os.O_DIRECTORY)
    build.pass_fds.append(descriptor)


def _inherited_socket(build: Build) -> None:
    ours, theirs = socket.socketpair()
    build.pass_fds.append(theirs.detach())
    build.ours.append(ours)


def _visible(*paths: str) -> Layer:
    """Mount what is on the host: a path, or the name of one of the targets' directories."""

    def remove(build: Build) -> None:
        for path in paths:
            whole = path if path.startswith("/") else str(getattr(build.targets, path))
            build.add("--ro-bind", whole, whole)

    return Layer(f"the host's {', '.join(paths)} not being mounted", remove)


def _capability(name: str) -> Layer:
    """A capability over the sandbox's namespaces. They belong to an outer user namespace of bubblewrap's,
    in which nobody inside has any, so `--cap-add` alone would give nothing."""

    def remove(build: Build) -> None:
        _root_inside(build)
        build.add("--cap-add", name)

    return Layer(f"the loss of {name}", remove)


def _writable(build: Build) -> None:
    shared = str(build.targets.shared)
    build.swap(["--ro-bind", shared, "/opt/shared"], ["--bind", shared, "/opt/shared"])


def _writable_etc(build: Build) -> None:
    build.argv[build.argv.index("/etc") - 2] = "--bind"


def _writable_environment(build: Build) -> None:
    packages = str(build.targets.environment / "lib")
    build.swap(["--ro-bind", packages, packages], ["--bind", packages, packages])


def _without(*words: str) -> Layer:
    return Layer(" ".join(words), lambda build: build.drop(*words))


def _own_dev_only(build: Build) -> None:
    at = build.argv.index("--dev")
    build.argv[at : at + 2] = ["--dev-bind", "/dev", "/dev"]


def _root_inside(build: Build) -> None:
    for option in ("--uid", "--gid"):
        at = build.argv.index(option)
        build.argv[at + 1] = "0"


def _stay_root(build: Build) -> None:
    build.root = True


FILTER = Layer("the filter of system calls", _no_filter)
NETWORK = _without("--unshare-net")
IPC = _without("--unshare-ipc")
PROCESSES = Layer("the process namespace", _no_process_namespace)
ENVIRONMENT = _without("--clearenv")
READ_ONLY_ROOT = _without("--remount-ro", "/")
HIDDEN_COMMAND_LINE = _without("--ro-bind", "/dev/null", "/proc/cmdline")
READ_ONLY_PROC = _without("--remount-ro", "/proc")
READ_ONLY_DEV = _without("--remount-ro", "/dev")
READ_ONLY_IMAGE = Layer("read-only mounts", _writable)
READ_ONLY_ETC = Layer("a read-only /etc", _writable_etc)
READ_ONLY_ENVIRONMENT = Layer("a read-only environment", _writable_environment)
SMALL_TMP = Layer("--size", lambda build: build.drop_with_value("--size"))
CLOSED_DESCRIPTORS = Layer("closed descriptors", _open_hands)
NO_INHERITED_SOCKET = Layer("closed sockets", _inherited_socket)
OWN_DEVICES = Layer("a /dev of its own", _own_dev_only)

ROOT_DROPS = Layer("another user than root", _stay_root)

HIDDEN_FILES = _visible("base")
HIDDEN_SOCKETS = _visible("sockets")
HIDDEN_SYS = _visible("/sys")
HIDDEN_PASSWD = Layer(
    "an /etc of its own",
    lambda build: build.add(
        "--ro-bind", "/etc/passwd", "/etc/passwd", "--ro-bind", "/etc/hosts", "/etc/hosts"
    ),
)
HIDDEN_SHM = _visible("/dev/shm")

NO_ADMIN = _capability("CAP_SYS_ADMIN")
NO_CHROOT = _capability("CAP_SYS_CHROOT")
NO_NET_ADMIN = _capability("CAP_NET_ADMIN")
NO_NET_RAW = _capability("CAP_NET_RAW")
NO_SETFCAP = _capability("CAP_SETFCAP")
