"""A sandbox that is built as the daemon's are, runs next to nothing, and is gone again."""

from __future__ import annotations

import os
from pathlib import Path

from sandkasten.local import bubblewrap, host, seccomp
from sandkasten.local.files import Tree
from sandkasten.local.host import Identity
from sandkasten.local.newfile import StagingIn
from sandkasten.local.policy import SandboxPolicy


def try_a_sandbox(bwrap: str, policy: SandboxPolicy, identity: Identity) -> str | None:
    """Build one, whose workspace is made for it; what bubblewrap complains of, or None.

    Raises:
        IsolationError: bubblewrap does not run at all.
    """
    root = policy.workspace.parent
    Tree(root, StagingIn(root), identity, durable=False).create()
    filter_inside = seccomp.descriptor(policy.seccomp)
    try:
        command = [policy.shell, "-c", f"{policy.ulimit} && :"]
        descriptors = bubblewrap.Descriptors(filter_inside)
        argv = bubblewrap.arguments(bwrap, policy, command, descriptors)
        return host.try_isolation(argv, identity, [filter_inside])
    finally:
        os.close(filter_inside)


def probe_workspace(run_dir: Path) -> Path:
    """Where the workspace of such a sandbox is."""
    return run_dir / "probe" / "workspace"
