"""The gateway's handlers: which daemon a request is for, and what is asked of all of them.

A gateway remembers addresses for a while, and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Any

from sandkasten._protocol import Code
from sandkasten._version import __version__
from sandkasten.local.api.app import Row
from sandkasten.local.api.asgi import answer, answer_error
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.jsonbodies import CREATION_BYTES, read_json
from sandkasten.local.api.keys import key_of
from sandkasten.local.errors import ApiError
from sandkasten.local.observe.metrics import CONTENT_TYPE
from sandkasten.ray import cluster
from sandkasten.ray.creation import Creation
from sandkasten.ray.directory import Directory
from sandkasten.ray.pipes import Answered, Body, DaemonGoneError, Daemons, State, passed_on, pipe
from sandkasten.ray.rules import leases, merging, routing

SERVER = "sandkasten-ray"
MISSING = b"x-sandkasten-missing-nodes"
# The parts of the longest path of the protocol, after the session's id.
_DEEPEST = 3
_HEALTH_SECONDS = 5.0


class Gateway:
    """The handlers."""

    def __init__(self, daemons: Daemons, directory: Directory, queue_seconds: float) -> None:
        """Pipe requests to the daemons that a directory finds."""
        self._daemons = daemons
        self._directory = directory
        self._queue_seconds = queue_seconds
        self._health: tuple[float, dict[str, Any]] | None = None

    def rows(self) -> Iterator[Row]:
        """Yield what can be asked, most frequent first."""
        session, workspace = "/v1/sessions/{session_id}", "/v1/workspaces/{workspace_id}"
        for method, depth in itertools.product(("POST", "GET", "PUT", "DELETE"), range(1, _DEEPEST + 1)):
            yield Row(method, session + "/{part}" * depth, self._of_session)
            yield Row(method, workspace + "/{part}" * depth, self._of_workspace)
        yield Row("GET", "/healthz", self._healthz)
        yield Row("GET", "/metrics", self._metrics)
        yield Row("POST", "/v1/sessions", self._create)
        yield Row("GET", "/v1/sessions", self._list)
        yield Row("DELETE", "/v1/creations/{key}", self._cancel_creation)
        yield Row("GET", session, self._of_session)
        yield Row("DELETE", session, self._destroy)
        yield Row("GET", "/v1/workspaces", self._workspaces)
        yield Row("DELETE", workspace, self._of_workspace)

    async def close(self) -> None:
        """Close the connections to daemons; sessions go on."""
        await self._daemons.close()

    # --- one session

    async def _of_session(self, request: Request) -> Response:
        session_id = request.path_params["session_id"]
        return await self._pipe(request, *await self._directory.of_session(session_id), session_id)

    async def _destroy(self, request: Request) -> Response:
        """End a session, and free its room at once."""
        session_id = request.path_params["session_id"]
        tag, url = await self._directory.of_session(session_id)
        own = routing.forwarded(request.scope["headers"], self._daemons.key, has_body=False)
        try:
            found = await self._daemons.fetch("GET", f"{url}/v1/sessions/{session_id}", own)
            done = await self._daemons.fetch("DELETE", f"{url}/v1/sessions/{session_id}", own)
        except DaemonGoneError as gone:
            raise await self._gone(tag, url, session_id, gone) from gone
        lease_id = leases.lease_of(found.json) if found.status == 200 else None
        if lease_id is not None and done.status == 200:
            await asyncio.to_thread(cluster.release, lease_id)
        return passed_on(done)

    async def _pipe(self, request: Request, tag: str, url: str, session_id: str) -> Response:
        scope = request.scope
        target = routing.target_of(scope["raw_path"], scope["query_string"])
        body = Body(request.receive)
        content = await body.begin()
        has_body = not isinstance(content, bytes) or bool(content)
        headers = routing.forwarded(scope["headers"], self._daemons.key, has_body=has_body)
        try:
            return await pipe(
                self._daemons, scope["method"], url + target, headers=headers, content=content, body=body
            )
        except DaemonGoneError as gone:
            response = answer_error(await self._gone(tag, url, session_id, gone))
            if not body.is_complete:  # nobody reads the rest of it
                response.headers.append((b"connection", b"close"))
            return response

    async def _gone(self, tag: str, url: str, session_id: str, gone: DaemonGoneError) -> ApiError:
        """Return the error of a request whose daemon did not answer.

        Where nobody listens any more, the daemon is gone with its sessions, whatever Ray knows so far.
        """
        state = State.GONE if gone.refused else await self._daemons.state(url)
        if state is State.ANSWERS:
            return ApiError(
                502, Code.NODE_UNREACHABLE, f"The connection to the node {tag} was lost. Try again."
            )
        self._directory.look_again(tag)
        if state is State.GONE or not await self._directory.is_alive(tag):
            return routing.node_gone(session_id)
        return routing.node_silent(tag)

    # --- new sessions

    async def _create(self, request: Request) -> Response:
        """Find room for a session, and have the daemon there make it."""
        key = key_of(request.headers.get("idempotency-key"))
        body = await read_json(request, CREATION_BYTES, dict, may_be_empty=True)
        headers = routing.forwarded(request.scope["headers"], self._daemons.key)
        wanted = leases.wanted(body, key)
        leases.with_lease(body, "")  # which refuses labels that are none, before there is a lease
        seconds = self._queue_seconds
        making = Creation(self._daemons, self._directory, seconds, wanted=wanted, body=body, headers=headers)
        return await making.make(request.receive)

    async def _cancel_creation(self, request: Request) -> Response:
        """End a session that is being made; its lease's name says where, unless the session has a name."""
        key = request.path_params["key"]
        target = routing.target_of(request.scope["raw_path"], b"")
        node_id = await asyncio.to_thread(cluster.node_of_lease, leases.key_of(key))
        tags = await self._directory.tags() if node_id is None else [routing.tag_of_node(node_id)]
        answers = await self._ask_all(target, tags, method="DELETE")
        return answer({"cancelled": any(each.json["cancelled"] for each in answers.values())})

    # --- all nodes

    async def _ask_all(
        self, target: str, tags: list[str] | None = None, *, method: str = "GET"
    ) -> dict[str, Answered]:
        """Ask all daemons, and return the answers of those that gave one."""

        async def one(tag: str) -> tuple[str, Answered | None]:
            try:
                url = await self._directory.address(tag)
            except ApiError:
                return tag, None
            return tag, await self._daemons.fetch_soon(url + target, method=method)

        tags = await self._directory.tags() if tags is None else tags
        found = dict(await asyncio.gather(*map(one, tags)))
        for tag in (tag for tag, got in found.items() if got is None):
            self._directory.look_again(tag)
        return {tag: got for tag, got in found.items() if got is not None and got.status == 200}

    async def _list(self, _request: Request) -> Response:
        """List the sessions of all nodes; a header names those that did not answer."""
        tags = await self._directory.tags()
        answers = await self._ask_all("/v1/sessions", tags)
        rows = [row for _tag, got in sorted(answers.items()) for row in got.json]
        response = answer(sorted(rows, key=lambda row: str(row.get("created_at"))))
        if missing := sorted(set(tags) - set(answers)):
            response.headers.append((MISSING, ",".join(missing).encode()))
        return response

    async def _metrics(self, _request: Request) -> Response:
        answers = await self._ask_all("/metrics")
        texts = {tag: got.body.decode("utf-8", "replace") for tag, got in answers.items()}
        return Response(merging.merged_metrics(texts).encode(), media_type=CONTENT_TYPE)

    async def _healthz(self, _request: Request) -> Response:
        """Say what all nodes can; asked at most every few seconds, since it needs no key."""
        if self._health is None or time.monotonic() - self._health[0] > _HEALTH_SECONDS:
            answers = [got.json for got in (await self._ask_all("/healthz")).values()]
            if not answers:
                raise routing.no_nodes()
            self._health = time.monotonic(), merging.merged_health(answers, SERVER, __version__)
        return answer(self._health[1])

    # --- workspaces

    async def _workspaces(self, _request: Request) -> Response:
        answers = await self._ask_all("/v1/workspaces")
        return answer(merging.merged_workspaces(got.json for got in answers.values()))

    async def _of_workspace(self, request: Request) -> Response:
        workspace_id = request.path_params["workspace_id"]
        tag, url = await self._directory.of_workspace(workspace_id)
        return await self._pipe(request, tag, url, workspace_id)
