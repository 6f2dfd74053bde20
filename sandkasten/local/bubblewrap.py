"""From a policy to bubblewrap's arguments; pure.

The sandbox is a set of Linux namespaces: its own users, processes, mounts, network (none), IPC and
host name. It sees the image read-only, a /tmp, /home and /dev of its own, and the one workspace. It
runs as an ordinary user without capabilities, and bubblewrap sets no_new_privs.

Two rules that arguments added here must keep:

* Nothing is created *below* the workspace. Bubblewrap before 0.12 follows symlinks of the host when
  it makes a mount point below a directory that sandboxed code can write (CVE-2026-87766).
* Nothing of the host's is writable but the workspace, and nothing of /etc is bound as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from sandkasten.local.policy import HOME, INSIDE_UID, STATE_DIR, WORKSPACE, SandboxPolicy

_NAMESPACES = (
    "--unshare-user",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-uts",
    "--unshare-cgroup-try",
)
_STATE_BYTES = 1024 * 1024


def arguments(bwrap: str, policy: SandboxPolicy, command: list[str]) -> list[str]:
    """The whole command line that runs `command` as process 1 of a new sandbox."""
    return [
        bwrap,
        *_NAMESPACES,
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
        *_file_systems(policy),
        *_environment(policy),
        "--chdir",
        WORKSPACE,
        "--",
        *command,
    ]


def _file_systems(policy: SandboxPolicy) -> Iterator[str]:
    for host_path, path in policy.image.read_only.items():
        yield from ("--ro-bind", host_path, path)
    for path, target in policy.image.links.items():
        yield from ("--symlink", target, path)
    for name, host_path in policy.etc.items():
        yield from ("--ro-bind", host_path, f"/etc/{name}")
    yield from ("--proc", "/proc")
    yield from ("--dev", "/dev")
    yield from ("--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108  (the sandbox's own)
    yield from ("--perms", "0700", "--tmpfs", HOME)
    yield from ("--perms", "0700", "--size", str(_STATE_BYTES), "--tmpfs", STATE_DIR)
    yield from ("--bind", str(policy.workspace), WORKSPACE)
    yield from ("--remount-ro", "/")


def _environment(policy: SandboxPolicy) -> Iterator[str]:
    yield "--clearenv"
    for name, value in policy.environment.items():
        yield from ("--setenv", name, value)
