"""The directory of a gateway: addresses of nodes, read from Ray when they are needed and kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from sandkasten.local.errors import ApiError
from sandkasten.ray import cluster, homes
from sandkasten.ray.rules import leases, routing

_TAGS_SECONDS = 2.0
_SUSPECT_SECONDS = 30.0
_ADDRESS_SECONDS = 3.0


class Directory:
    """The addresses of the daemons."""

    def __init__(self, *, shares_workspaces: bool) -> None:
        """Know none."""
        self._shares_workspaces = shares_workspaces
        self._urls: dict[str, str] = {}
        self._tags: tuple[float, list[str]] | None = None
        self._suspects: dict[str, float] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def tags(self) -> list[str]:
        """Return the tags of all nodes."""
        if self._tags is None or time.monotonic() - self._tags[0] > _TAGS_SECONDS:
            self._tags = time.monotonic(), await asyncio.to_thread(cluster.node_tags)
        return self._tags[1]

    async def address(self, tag: str) -> str:
        """Return the URL of a node's daemon.

        Raises:
            ApiError: NODE_UNREACHABLE, there is no such node, or it does not answer.
        """
        if tag not in self._urls:
            url = await asyncio.to_thread(_ask_for_address, tag)
            if url is None:
                raise routing.node_silent(tag)
            self._urls[tag] = url
        return self._urls[tag]

    async def of_session(self, session_id: str) -> tuple[str, str]:
        """Return tag and URL of the node that a session is on, by its id or its name.

        Raises:
            ApiError: SESSION_NOT_FOUND, also for a session whose node is gone; NODE_UNREACHABLE.
        """
        tag = routing.tag_of_session(session_id)
        if tag is None:
            node_id = await asyncio.to_thread(cluster.node_of_lease, leases.name_of(session_id))
            if node_id is None:
                raise routing.no_such_session(session_id)
            tag = routing.tag_of_node(node_id)
        try:
            return tag, await self.address(tag)
        except ApiError:
            if await self.is_alive(tag):
                raise
            raise routing.node_gone(session_id) from None

    async def of_workspace(self, workspace_id: str) -> tuple[str, str]:
        """Return tag and URL of a node that has a workspace, or is to have it.

        Raises:
            ApiError: WORKSPACE_NOT_FOUND, its node is gone; NODE_UNREACHABLE.
        """
        node_id = await self.home_of(workspace_id)
        tags = [routing.tag_of_node(node_id)] if node_id else await self.tags()
        for tag in tags:
            try:
                return tag, await self.address(tag)
            except ApiError:
                continue
        raise routing.no_nodes()

    async def home_of(self, workspace_id: str | None) -> str | None:
        """Return the node that has a workspace; None: any may, or there is no workspace.

        Raises:
            ApiError: WORKSPACE_NOT_FOUND, its node is gone.
        """
        if workspace_id is None or self._shares_workspaces:
            return None
        return await asyncio.to_thread(homes.home_of, workspace_id)

    async def is_alive(self, tag: str) -> bool:
        """Return whether Ray knows a live node by a tag."""
        nodes = await asyncio.to_thread(cluster.sandbox_nodes)
        return any(routing.tag_of_node(node_id) == tag for node_id in nodes)

    def look_again(self, tag: str) -> None:
        """Ask Ray anew for a node's address, beside all else: of a dead node it learns late.

        Until then the old address stays. Nobody listens there, which says that the sessions are gone.
        """
        if tag not in self._looking:
            task = asyncio.ensure_future(self._look_again(tag))
            self._looking[tag] = task
            task.add_done_callback(lambda _: self._looking.pop(tag, None))

    async def _look_again(self, tag: str) -> None:
        url = await asyncio.to_thread(_ask_for_address, tag)
        if url is not None:
            self._urls[tag] = url

    def suspect(self, node_id: str) -> None:
        """Avoid a node for a while: it may be dead, and Ray has not noticed yet."""
        self.look_again(routing.tag_of_node(node_id))
        self._suspects[node_id] = time.monotonic() + _SUSPECT_SECONDS

    @property
    def suspects(self) -> Collection[str]:
        """The nodes to be avoided."""
        now = time.monotonic()
        self._suspects = {node_id: until for node_id, until in self._suspects.items() if until > now}
        return list(self._suspects)


def _ask_for_address(tag: str) -> str | None:
    actor = cluster.find(cluster.node_actor_name(tag))
    url = cluster.ask(actor, "address", seconds=_ADDRESS_SECONDS)
    return url if isinstance(url, str) else None
