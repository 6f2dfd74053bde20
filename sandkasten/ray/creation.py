"""A session that is made through the gateway: first room for it, then the session on the node that has it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from sandkasten.local.api.http.messages import Receive, Response
from sandkasten.local.errors import ApiError
from sandkasten.ray import cluster
from sandkasten.ray.directory import Directory
from sandkasten.ray.pipes import Body, DaemonGoneError, Daemons, pipe
from sandkasten.ray.rules import leases, routing

# Nodes that are tried, where one after the other turns out to be gone before Ray knows.
_ATTEMPTS = 3
log = logging.getLogger("sandkasten.local")


class Creation:
    """A request for a session."""

    def __init__(
        self,
        daemons: Daemons,
        directory: Directory,
        queue_seconds: float,
        *,
        wanted: leases.Wanted,
        body: Mapping[str, Any],
        headers: dict[str, str],
    ) -> None:
        """Make what was asked for."""
        self._daemons = daemons
        self._directory = directory
        self._queue_seconds = queue_seconds
        self._wanted = wanted
        self._body = body
        self._passed = {**headers, "content-type": "application/json"}
        self._releasing = set[asyncio.Task[None]]()

    async def make(self, receive: Receive) -> Response:
        """Return the daemon's answer.

        Raises:
            ApiError: CAPACITY_EXCEEDED and others, see `cluster.take`; NODE_UNREACHABLE.
            ClientLeftError: the client has gone.
        """
        body = Body(receive, was_read=True)
        for _attempt in range(_ATTEMPTS):
            taken = await body.while_there(self._take())
            try:
                response = await self._make(taken, body)
            except DaemonGoneError:
                tag = routing.tag_of_node(taken.node_id)
                log.warning("The node %s does not take sessions now; another one is looked for.", tag)
                self._directory.suspect(taken.node_id)
                await asyncio.to_thread(cluster.release, taken.id)
                body = Body(receive, was_read=True)
                continue
            if response.status >= 400 and taken.is_new:  # of an earlier request it is not this one's
                self._release(taken)
            return response
        raise routing.no_nodes()

    async def _make(self, taken: cluster.Taken, body: Body) -> Response:
        try:
            url = await self._directory.address(routing.tag_of_node(taken.node_id))
        except ApiError as error:
            raise DaemonGoneError(refused=False) from error
        content = json.dumps(leases.with_lease(self._body, taken.id)).encode()
        headers = dict(self._passed)
        return await pipe(
            self._daemons, "POST", f"{url}/v1/sessions", headers=headers, content=content, body=body
        )

    async def _take(self) -> cluster.Taken:
        """Take a lease; one that comes when the client has gone is given back."""
        home = await self._directory.home_of(self._wanted.workspace_id)
        avoid = self._directory.suspects
        work = partial(cluster.take, self._wanted, self._queue_seconds, node_id=home, avoid=avoid)
        taking = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._give_back)
            raise

    def _give_back(self, taking: asyncio.Future[cluster.Taken]) -> None:
        with contextlib.suppress(Exception):  # then there is none
            taken = taking.result()
            if taken.is_new:
                self._release(taken)

    def _release(self, taken: cluster.Taken) -> None:
        task = asyncio.ensure_future(asyncio.to_thread(cluster.release, taken.id))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)
