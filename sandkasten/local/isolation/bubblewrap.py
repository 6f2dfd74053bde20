"""From a policy to bubblewrap's arguments; pure.

The sandbox is a set of Linux namespaces: its own users, processes, mounts, network (none), IPC and
host name. It sees the image read-only, a /tmp, /home and /dev of its own, and the one workspace. It
runs as an ordinary user without capabilities, under a filter of system calls (`seccomp`), and
bubblewrap sets no_new_privs. docs/security.md says what is promised, and what is not.

Two rules that arguments added here must keep:

* Nothing is created *below* the workspace. Bubblewrap before 0.12 follows symlinks of the host when
  it makes a mount point below a directory that sandboxed code can write (CVE-2026-87766).
* Nothing of the host's is writable but the workspace, and the host's /etc is not bound as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from sandkasten.local.isolation.policy import (
    CLOSED_BASH,
    HOME,
    INSIDE_UID,
    MEMORY,
    PACKAGES,
    PREPARED,
    WORKSPACE,
    PackagePlaces,
    SandboxPolicy,
    size_in_memory,
)
from sandkasten.local.records import dataclass

_NAMESPACES = (
    "--unshare-user",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-uts",
    "--unshare-cgroup-try",
)


@dataclass(frozen=True)
class Descriptors:
    """The descriptors that bubblewrap itself uses while it builds a sandbox.

    Attributes:
        seccomp: gives the filter, to its end.
        info: takes a JSON object with `child-pid`, when process 1 exists; None without a gate.
        block: process 1 waits here for a byte before it runs anything; None without a gate.
        beside: path inside to the descriptor of what is mounted there, in place of its path.
    """

    seccomp: int
    info: int | None = None
    block: int | None = None
    beside: Mapping[str, int] = field(default_factory=dict[str, int])


def arguments(bwrap: str, policy: SandboxPolicy, command: list[str], descriptors: Descriptors) -> list[str]:
    """The whole command line that runs `command` as process 1 of a new sandbox."""
    return [
        *policy.carrier,
        *policy.launcher.words,
        bwrap,
        *_NAMESPACES,
        *(() if policy.host_network else ("--unshare-net",)),
        "--uid",
        str(INSIDE_UID),
        "--gid",
        str(INSIDE_UID),
        "--hostname",
        "sandbox",
        "--die-with-parent",  # with the daemon, however that ends
        "--new-session",
        "--as-pid-1",
        "--cap-drop",
        "ALL",
        *_file_systems(policy, descriptors.beside),
        *_environment(policy),
        *_descriptors(descriptors),
        "--chdir",
        WORKSPACE,
        "--",
        *command,
    ]


def _file_systems(policy: SandboxPolicy, beside: Mapping[str, int]) -> Iterator[str]:
    for host_path, path in policy.image.read_only.items():
        yield from ("--ro-bind", host_path, path)
    yield from _usual_places(policy)
    for path, target in policy.image.links.items():
        yield from ("--symlink", target, path)
    for name, host_path in policy.etc.items():
        yield from ("--ro-bind", host_path, f"/etc/{name}".rstrip("/"))
    for name, target in policy.etc_links.items():
        yield from ("--symlink", target, f"/etc/{name}")
    if policy.image.closed_bash is not None:
        yield from ("--ro-bind", policy.image.closed_bash, CLOSED_BASH)
    yield from ("--proc", "/proc")
    # The settings of its own namespaces would be writable there, which nobody needs.
    yield from ("--ro-bind", "/proc/sys", "/proc/sys")
    for path in policy.hidden_directories:
        yield from (*_new_memory(path, "0555", None), "--remount-ro", path)
    for path in policy.hidden:
        yield from ("--ro-bind", "/dev/null", path)
    # Processes would take back what makes them go before the host's when memory runs out.
    yield from ("--remount-ro", "/proc")
    yield from ("--dev", "/dev")
    yield from _memory("/dev/shm", policy)  # noqa: S108  (the sandbox's own)
    yield from ("--remount-ro", "/dev")  # bubblewrap leaves it writable, and as large as half the memory
    for path in MEMORY:
        if not path.startswith("/dev/"):
            yield from _memory(path, policy)
    yield from _beside(policy, beside)
    yield from _packages(policy.packages)
    yield from ("--bind", str(policy.workspace), WORKSPACE)
    yield from ("--remount-ro", "/")


def _usual_places(policy: SandboxPolicy) -> Iterator[str]:
    """Yield what programs expect to be there; an image with such directories has them as they are."""
    tops = {*policy.image.read_only, *policy.image.links}
    if "/opt" not in tops:
        yield from ("--dir", "/opt")
    if "/var" not in tops:
        yield from ("--dir", "/var", "--symlink", "/tmp", "/var/tmp")  # noqa: S108  (the sandbox's own)


def _beside(policy: SandboxPolicy, descriptors: Mapping[str, int]) -> Iterator[str]:
    """Yield what comes after the memory that it may be in; nothing of the session has run there yet."""
    for path, host_path in policy.image.beside.items():
        if path in descriptors:
            yield from ("--ro-bind-fd", str(descriptors[path]), path)
        else:
            yield from ("--ro-bind", host_path, path)


def _packages(places: PackagePlaces | None) -> Iterator[str]:
    if places is None:
        return
    yield from ("--ro-bind", places.session, PACKAGES)
    if places.prepared is not None:
        yield from ("--ro-bind", places.prepared, PREPARED)
    for path, target in places.links.items():  # into a new file system, in which nothing has run yet
        yield from ("--symlink", target, f"{HOME}/{path}")


def _memory(path: str, policy: SandboxPolicy) -> Iterator[str]:
    if path in policy.launcher.memory:
        yield from ("--bind", policy.launcher.memory[path], path)
    else:
        yield from _new_memory(path, MEMORY[path], size_in_memory(path, policy.tmp_bytes))


def _new_memory(path: str, permissions: str, size_bytes: int | None) -> Iterator[str]:
    if size_bytes is not None:
        yield from ("--size", str(size_bytes))
    yield from ("--perms", permissions, "--tmpfs", path)


def _descriptors(descriptors: Descriptors) -> Iterator[str]:
    yield from ("--seccomp", str(descriptors.seccomp))
    if descriptors.info is not None:
        yield from ("--info-fd", str(descriptors.info))
    if descriptors.block is not None:
        yield from ("--block-fd", str(descriptors.block))


def _environment(policy: SandboxPolicy) -> Iterator[str]:
    yield "--clearenv"
    for name, value in policy.environment.items():
        yield from ("--setenv", name, value)
