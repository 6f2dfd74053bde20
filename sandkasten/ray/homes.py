"""The home of a workspace: the node that has its files, noted once in Ray's own store."""

from __future__ import annotations

import secrets

from ray.experimental import internal_kv

from sandkasten._protocol import Code
from sandkasten.local.errors import ApiError
from sandkasten.ray import cluster
from sandkasten.ray.rules import routing

_SPACE = "sandkasten-workspaces"


def home_of(workspace_id: str) -> str:
    """Return the node that has a workspace; the first one who asks for a workspace gives it a home. Blocks.

    Raises:
        ApiError: WORKSPACE_NOT_FOUND, its node is gone; NODE_UNREACHABLE, there are no nodes.
    """
    nodes = cluster.sandbox_nodes()
    noted = _read(workspace_id)
    if noted is None:
        if not nodes:
            raise routing.no_nodes()
        _write_if_absent(workspace_id, secrets.choice(sorted(nodes)))
        noted = _read(workspace_id)
    home = "" if noted is None else noted.decode()
    if home not in nodes:
        says = f"The node that has the workspace {workspace_id!r} is gone. Take another workspace."
        raise ApiError(404, Code.WORKSPACE_NOT_FOUND, says)
    return home


# Ray's store has no other names than these.
_get, _put = internal_kv._internal_kv_get, internal_kv._internal_kv_put  # pyright: ignore[reportPrivateUsage]


def _read(workspace_id: str) -> bytes | None:
    return _get(workspace_id, namespace=_SPACE)


def _write_if_absent(workspace_id: str, node_id: str) -> None:
    _put(workspace_id, node_id, overwrite=False, namespace=_SPACE)
