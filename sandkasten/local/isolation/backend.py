"""What this machine isolates with, tried by the daemon and by the doctor alike, so that both agree."""

from __future__ import annotations

import itertools
import os
import platform
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sandkasten.local.errors import IsolationError
from sandkasten.local.identity import Identity, has_user, missing_capabilities
from sandkasten.local.images.built_in import find_images
from sandkasten.local.isolation import bwrap_binary, causes, mounttable, seccomp
from sandkasten.local.isolation.closedbash import with_closed_bash
from sandkasten.local.isolation.etc import make_etc
from sandkasten.local.isolation.names import HostNames
from sandkasten.local.isolation.policy import Launcher, SandboxPolicy
from sandkasten.local.isolation.trial import probe_workspace, try_a_sandbox
from sandkasten.local.limits.cgroups import find_cgroups
from sandkasten.local.limits.limits import clamped, rlimits, ulimit_command
from sandkasten.local.linux.kernel import kernel_version
from sandkasten.local.linux.syscalls import check_openat2
from sandkasten.local.options import Options
from sandkasten.local.sessions.settings import Settings

_TRIAL = "trial"


def prepare(directory: Path, identity: Identity, options: Options) -> Settings:
    """Find out what this machine can do, and make sure that it isolates.

    Args:
        directory: for what ends with this process.
        identity: whom sandboxes run as.
        options: the daemon's.

    Raises:
        IsolationError: it does not; the text says what fixes it.
    """
    _check_identity(identity)
    check_openat2(directory)
    limits = options.limits
    cgroups = find_cgroups()
    try:
        cgroups.cleanup_stale()
        settings = Settings(
            bwrap=bwrap_binary.find_bwrap(identity, directory),
            launcher=Launcher(),
            etc=make_etc(_made(directory / "etc", identity)),
            names=HostNames(directory / "names", identity),
            images=find_images(),
            identity=identity,
            run_dir=directory,
            seccomp=seccomp.program(platform.machine()),
            limits=limits,
            ulimit=ulimit_command(clamped(rlimits(limits, cgroups.bounded, kernel_version()))),
            cgroups=cgroups,
            default_ttl_seconds=options.default_ttl_seconds,
            max_sessions=options.max_sessions,
            pool_size=options.pool_size,
            allow_host_network=options.allow_host_network,
        )
        _made(directory / "sessions", identity)
        return _tried(settings)
    except BaseException:
        cgroups.close()
        raise


def _check_identity(identity: Identity) -> None:
    """Make sure that this process may do to sandboxes, as another user's, what it has to.

    Raises:
        IsolationError: there is no such user here, or this root has not all of root's rights.
    """
    if not has_user(identity.uid):
        raise IsolationError(causes.unmapped(identity.uid), causes.UNMAPPED_FIX)
    missing = missing_capabilities(identity)
    if missing:
        raise IsolationError(causes.powerless(missing), causes.powerless_fix(missing))


def _tried(settings: Settings) -> Settings:
    """Return the settings that sandboxes can be built with."""
    closed = with_closed_bash(settings.images, settings.run_dir)
    complaint = None
    # Where the copy may not be run, or no namespace made but by bubblewrap (AppArmor): without.
    launchers = mounttable.launchers(_memory(settings), settings.limits.tmp_bytes)
    for images, launcher in itertools.product((closed, settings.images), launchers):
        candidate = replace(settings, images=images, launcher=launcher)
        complaint = _try(candidate)
        if complaint is None:
            return candidate
    raise IsolationError(*causes.explain(str(complaint), os.geteuid()), complaint=complaint)


def _memory(settings: Settings) -> Path | None:
    """Where file systems in memory are mounted, if nothing else bounds the number of their files."""
    if "memory" in settings.cgroups.bounded:
        return None
    return _made(settings.run_dir / "memory", settings.identity)


def _try(settings: Settings) -> str | None:
    policy = SandboxPolicy(
        settings.images["base"],
        probe_workspace(settings.run_dir),
        settings.etc,
        settings.seccomp,
        settings.ulimit,
        tmp_bytes=settings.limits.tmp_bytes,
        launcher=settings.launcher,
    )
    try:
        group = settings.cgroups.create(_TRIAL, settings.limits)
    except OSError as error:
        raise IsolationError(
            f"A sandbox's control group cannot be made: {error.strerror} ({error.filename}).",
            "Look at it: python -m sandkasten.local doctor",
        ) from error
    try:
        return try_a_sandbox(settings.bwrap, policy, settings.identity, group.add)
    finally:
        group.kill()
        with suppress(OSError):  # a TimeoutError as well; what is left, the next daemon removes
            group.remove()


def _made(directory: Path, identity: Identity) -> Path:
    directory.mkdir(exist_ok=True)
    identity.let_pass(directory)
    return directory
