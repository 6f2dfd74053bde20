"""All that must be there before the first session: found, made, and tried once.

A daemon prepares when it starts. So does the doctor, which reports what a daemon would meet.
"""

from __future__ import annotations

from pathlib import Path

from sandkasten.local.identity import Identity
from sandkasten.local.images.built_in import find_images
from sandkasten.local.isolation import backend
from sandkasten.local.limits.cgroups import find_cgroups
from sandkasten.local.options import Options
from sandkasten.local.sessions.settings import Settings
from sandkasten.local.sessions.trial import try_in_group


def prepare(directory: Path, identity: Identity, options: Options) -> Settings:
    """Find out what this machine can do, and make sure that it isolates.

    Args:
        directory: for what ends with this process.
        identity: whom sandboxes run as.
        options: the daemon's.

    Raises:
        IsolationError: it does not; the text says what fixes it.
    """
    backend.check(directory, identity)
    limits = options.limits
    cgroups = find_cgroups()
    try:
        cgroups.cleanup_stale()
        isolation = backend.prepare(directory, identity, find_images(), limits, cgroups.bounded)
        sessions = directory / "sessions"
        sessions.mkdir(exist_ok=True)
        identity.let_pass(sessions)
        return Settings(
            isolation=isolation.tried(lambda way: try_in_group(way, directory, identity, cgroups, limits)),
            identity=identity,
            run_dir=directory,
            limits=limits,
            cgroups=cgroups,
            default_ttl_seconds=options.default_ttl_seconds,
            max_sessions=options.max_sessions,
            pool_size=options.pool_size,
            allow_host_network=options.allow_host_network,
            environments=None if options.any_environment else options.environments,
            packages=options.package_rules,
            node_tag=options.node_tag,
        )
    except BaseException:
        cgroups.close()
        raise
