"""The settings of a daemon: from this machine, and from its options."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from sandkasten.local.clock import Clock
from sandkasten.local.identity import Identity
from sandkasten.local.isolation.backend import Backend
from sandkasten.local.limits.cgroups import Cgroups
from sandkasten.local.limits.limits import Limits
from sandkasten.local.options import PackageRules
from sandkasten.local.records import dataclass


@dataclass(frozen=True)
class Settings:
    """The parts that a manager is made of.

    Attributes:
        isolation: what builds sandboxes; it was tried.
        identity: whom sandboxes run as.
        run_dir: for what ends with the daemon.
        limits: what each session may take.
        cgroups: what enforces these limits, beside what `isolation` has of them.
        default_ttl_seconds: of sessions that ask for none.
        max_sessions: how many there may be at once.
        pool_size: how many are kept ready, per image that was asked for.
        allow_host_network: whether a session may have the host's network.
        environments: the environments of Python that sessions may have; None: any of this machine.
        packages: the rules for packages; None: sessions get none.
        node_tag: with what the ids of sessions begin; None: they are only ids.
        clock: the time by which sessions live.
    """

    isolation: Backend
    identity: Identity
    run_dir: Path
    limits: Limits
    cgroups: Cgroups
    default_ttl_seconds: int
    max_sessions: int
    pool_size: int
    allow_host_network: bool
    environments: tuple[Path, ...] | None = ()
    packages: PackageRules | None = None
    node_tag: str | None = None
    clock: Clock = field(default_factory=Clock)
