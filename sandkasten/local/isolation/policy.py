"""The parts of a sandbox: plain values, decided before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from sandkasten.local.limits.limits import Rlimit
from sandkasten.local.records import dataclass

# Inside, the code is an ordinary user of this id, whoever it is outside.
INSIDE_UID = 1000
HOME = "/home/sandbox"
WORKSPACE = "/workspace"
STATE_DIR = "/run/sandkasten"
BASH = "/bin/bash"
# Other names for programs of this machine, such as `python`, where programs are looked for last.
OTHER_NAMES = "/opt/sandkasten/bin"
CLOSED_BASH = "/etc/sandkasten/bash"
# A session's packages, and those that it has from the beginning; no image has a /run of its own.
PACKAGES = "/run/packages"
PREPARED = "/run/prepared"
# The file systems in memory, with their permissions.
MEMORY: Mapping[str, str] = {"/dev/shm": "1777", "/tmp": "1777", HOME: "0700", STATE_DIR: "0700"}  # noqa: S108
_STATE_BYTES = 1024 * 1024

ENVIRONMENT: Mapping[str, str] = {
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "LOGNAME": "sandbox",
    "PATH": (
        f"{HOME}/.local/bin:{PACKAGES}/now/bin:"
        f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{OTHER_NAMES}"
    ),
    "SHELL": BASH,
    "TMPDIR": "/tmp",  # noqa: S108  (the sandbox's own)
    "USER": "sandbox",
    # A terminal, so that programs write line by line; a dumb one, so that they neither colour nor
    # redraw what a program or a model is going to read. No pager: nobody could leave it.
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "SYSTEMD_PAGER": "cat",
    # Nor could anybody answer.
    "GIT_TERMINAL_PROMPT": "0",
    "DEBIAN_FRONTEND": "noninteractive",
    "QUOTING_STYLE": "literal",  # `ls` quotes names on a terminal
    "VIRTUAL_ENV_DISABLE_PROMPT": "1",
    # What is installed goes below HOME and with the session: /usr is read-only, so that the system's own pip
    # has nothing to break and need not refuse (PEP 668). HOME is in memory; no room for what was downloaded.
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_NO_CACHE_DIR": "1",
    "NPM_CONFIG_PREFIX": f"{HOME}/.local",
}


@dataclass(frozen=True)
class Image:
    """The programs that a sandbox finds installed.

    Attributes:
        name: the name for `create_session`.
        read_only: host path to path inside, mounted read-only.
        links: path inside to link target.
        closed_bash: host path of a copy of its bash that can be run but not read, see `closedbash`.
        has_own_etc: whether the image has an /etc, so that nothing of the host's is mounted there.
        beside: path inside to host path, mounted read-only where the sandbox has nothing of its own.
        variables: variables that its programs need, in place of those that all sandboxes have.
    """

    name: str
    read_only: Mapping[str, str]
    links: Mapping[str, str] = field(default_factory=dict[str, str])
    closed_bash: str | None = None
    has_own_etc: bool = False
    beside: Mapping[str, str] = field(default_factory=dict[str, str])
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Launcher:
    """The program that starts bubblewrap, see `mounttable`.

    Attributes:
        words: the words before bubblewrap's own.
        memory: path inside to the host path where these mount the file system in memory that belongs there;
            bubblewrap mounts the others.
    """

    words: tuple[str, ...] = ()
    memory: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class PackagePlaces:
    """The places where a sandbox has packages.

    Attributes:
        session: the host directory that is mounted at `PACKAGES`, read-only.
        prepared: the one that is mounted at `PREPARED`, read-only; None: nothing is.
        links: path below the home directory to link target.
    """

    session: str
    prepared: str | None = None
    links: Mapping[str, str] = field(default_factory=dict[str, str])


def size_in_memory(path: str, tmp_bytes: int | None) -> int | None:
    """Return how large a file system in memory is; None leaves it to the kernel."""
    return _STATE_BYTES if path == STATE_DIR else tmp_bytes


def files_to_hide() -> tuple[str, ...]:
    """Return files of the kernel that name keys of the host's user, or what the machine was started with."""
    told = ("/proc/keys", "/proc/key-users", "/proc/cmdline")
    return tuple(path for path in told if os.path.exists(path))


def directories_to_hide() -> tuple[str, ...]:
    """Return the mounts below /proc/sys, such as binfmt_misc, which would come along with it."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        points = dict.fromkeys(line.split()[4] for line in mounts)
    # Of a file there, such as a container's own boot_id, nothing more is to be seen.
    return tuple(point for point in points if point.startswith("/proc/sys/") and os.path.isdir(point))


@dataclass(frozen=True)
class SandboxPolicy:
    """One sandbox.

    Attributes:
        image: what is installed.
        workspace: the host directory that is writable at /workspace.
        etc: name below /etc to the host path that is mounted there, read-only; the name "" is /etc itself.
        etc_links: name below /etc to the target of the link that is there.
        seccomp: the filter of system calls.
        rlimits: the resource limits of each process.
        ulimit: the bash words that set them; the first thing that runs.
        tmp_bytes: the size of each file system in memory; None leaves it to the kernel.
        host_network: whether it shares the host's network; otherwise it has none.
        hidden: files of /proc that reveal facts about the host.
        hidden_directories: and directories.
        environment: all the variables it starts with.
        launcher: what starts bubblewrap.
        by_descriptor: whether bubblewrap gets what the image has beside as descriptors.
        carrier: the words before all others, run as root, which become the sandboxes' user, see `carrier`.
        packages: where it has packages; None: it takes none.
    """

    image: Image
    workspace: Path
    etc: Mapping[str, str]
    seccomp: bytes
    rlimits: Mapping[int, Rlimit] = field(default_factory=dict[int, Rlimit])
    ulimit: str = ":"
    tmp_bytes: int | None = None
    host_network: bool = False
    etc_links: Mapping[str, str] = field(default_factory=dict[str, str])
    hidden: tuple[str, ...] = field(default_factory=files_to_hide)
    hidden_directories: tuple[str, ...] = field(default_factory=directories_to_hide)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))
    launcher: Launcher = field(default_factory=Launcher)
    by_descriptor: bool = False
    carrier: tuple[str, ...] = ()
    packages: PackagePlaces | None = None

    @property
    def shell(self) -> str:
        """The bash that process 1 and the session's shell are, as a path inside."""
        return BASH if self.image.closed_bash is None else CLOSED_BASH
