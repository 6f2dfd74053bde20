"""The home of a workspace: the node that has its files, noted once in Ray's own store."""

from __future__ import annotations

import random

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from sandkasten._protocol import Code
from sandkasten.local.errors import ApiError
from sandkasten.ray import cluster, routing

_SPACE = "sandkasten-workspaces"


def home_of(workspace_id: str) -> str:
    """Return the node that has a workspace; the first one who asks for a workspace gives it a home. Blocks.

    Raises:
        ApiError: WORKSPACE_NOT_FOUND, its node is gone; NODE_UNREACHABLE, there are no nodes.
    """
    nodes = cluster.sandbox_nodes()
    noted = _internal_kv_get(workspace_id, namespace=_SPACE)
    if noted is None:
        if not nodes:
            raise routing.no_nodes()
        _internal_kv_put(workspace_id, random.choice(sorted(nodes)), overwrite=False, namespace=_SPACE)
        noted = _internal_kv_get(workspace_id, namespace=_SPACE)
    home = "" if noted is None else noted.decode()
    if home not in nodes:
        says = f"The node that has the workspace {workspace_id!r} is gone. Take another workspace."
        raise ApiError(404, Code.WORKSPACE_NOT_FOUND, says)
    return home
