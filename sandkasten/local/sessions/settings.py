"""What a daemon works with: what this machine offers, and what its options say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandkasten.local.clock import Clock
from sandkasten.local.identity import Identity
from sandkasten.local.isolation.names import HostNames
from sandkasten.local.isolation.policy import Image, Launcher
from sandkasten.local.limits.cgroups import Cgroups
from sandkasten.local.limits.limits import Limits


@dataclass(frozen=True)
class Settings:
    """What a manager is made of.

    Attributes:
        bwrap: bubblewrap's path.
        launcher: what starts it.
        etc: what is mounted below /etc, see `SandboxPolicy`.
        names: what a sandbox with the host's network finds host names by.
        images: this machine's own, by name.
        identity: whom sandboxes run as.
        run_dir: for what ends with the daemon.
        seccomp: the filter of system calls, see `SandboxPolicy`.
        limits: what each session may take.
        ulimit: the part of that which the session's first process sets itself, as bash words.
        cgroups: what enforces the rest.
        default_ttl_seconds: of sessions that ask for none.
        max_sessions: how many there may be at once.
        pool_size: how many are kept ready, per image that was asked for.
        allow_host_network: whether a session may have the host's network.
        clock: the time by which sessions live.
    """

    bwrap: str
    launcher: Launcher
    etc: Mapping[str, str]
    names: HostNames
    images: Mapping[str, Image]
    identity: Identity
    run_dir: Path
    seccomp: bytes
    limits: Limits
    ulimit: str
    cgroups: Cgroups
    default_ttl_seconds: int
    max_sessions: int
    pool_size: int
    allow_host_network: bool
    clock: Clock = field(default_factory=Clock)
