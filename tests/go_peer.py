"""The peers of the tests about the Go daemon: the stand-in, and a real one if it is named.

    SANDKASTEN_GO_URL=http://localhost:8080 SANDKASTEN_GO_KEY=sk-... python -m pytest -k go_daemon

It needs an image `base`, `workspace.enabled`, and sessions whose /workspace is read-only unless they have a
workspace, which is its default. Workspaces that the tests make have names that begin with `go-test-`.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

URL, KEY = "SANDKASTEN_GO_URL", "SANDKASTEN_GO_KEY"
NAMED = os.environ.get(URL)
PEERS = ["stand-in", *(["real"] if NAMED else [])]


@dataclass(frozen=True)
class GoPeer:
    """A daemon's address and key."""

    url: str
    api_key: str


def real_peer() -> GoPeer:
    """Return the one that the environment names."""
    return GoPeer(NAMED or "", os.environ.get(KEY, ""))


def new_workspace_id() -> str:
    """Return the id of a workspace that nobody else uses."""
    return f"go-test-{secrets.token_hex(6)}"
