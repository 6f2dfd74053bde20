"""The handlers of sessions and workspaces, and of what is asked about the daemon itself."""

from __future__ import annotations

import asyncio
from typing import Any

from sandkasten._protocol import ALREADY_DESTROYED, EXTENSIONS, Extension
from sandkasten._version import __version__
from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import answer
from sandkasten.local.api.creations import Creation
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.keys import Keys, key_of
from sandkasten.local.api.slow import answer_in_time
from sandkasten.local.observe.metrics import CONTENT_TYPE
from sandkasten.local.observe.observer import Observer
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.session import Session

_NEED_PROCESSES = {Extension.PROCESSES, Extension.PYTHON}


class Sessions:
    """The handlers."""

    def __init__(self, manager: Manager, observer: Observer) -> None:
        """Serve a manager's sessions."""
        self._manager = manager
        self._observer = observer
        self._creations = Keys[Creation]()

    async def health(self, _request: Request) -> Response:
        """Say what this is; needs no key."""
        offered = dict.fromkeys(_NEED_PROCESSES, self._manager.can_spawn)
        offered[Extension.ENVIRONMENTS] = self._manager.has_environments
        offered[Extension.PACKAGES] = self._manager.can_install
        names = [name for name in EXTENSIONS if offered.get(name, True)]
        return answer(
            {"status": "ok", "server": "sandkasten-local", "version": __version__, "extensions": names}
        )

    async def metrics(self, _request: Request) -> Response:
        """Return the metrics."""
        numbers = self._observer.metrics.render(
            sessions_running=len(self._manager.list()), pool_ready=self._manager.pool_ready
        )
        return Response(numbers.encode(), media_type=CONTENT_TYPE)

    async def node(self, _request: Request) -> Response:
        """Return what this daemon has and takes, for a gateway before several."""
        return answer({"version": __version__, **await self._manager.facts()})

    # --- sessions

    async def create(self, request: Request) -> Response:
        """Make a session; one only for all requests of one key."""
        return await answer_in_time(request, self._create(request))

    async def _create(self, request: Request) -> Response:
        body, key = await bodies.create_body(request), key_of(request.headers.get("idempotency-key"))
        asked = repr(body).encode()
        creation = self._creations.find("", key, asked)
        if creation is None:
            creation = Creation(self._manager, self._manager.create(body))
            self._creations.add("", key, asked, creation)
        try:
            info = await creation.wait(request.receive, is_final=key is None)
        except BaseException:
            self._creations.forget("", key)
            raise
        self._creations.end("", key, 0)
        return answer(info, 201)

    async def cancel_creation(self, request: Request) -> Response:
        """End a session whose client was interrupted while it was made."""
        creation = self._creations.look("", request.path_params["key"])
        return answer({"cancelled": creation is not None and await creation.cancel()})

    async def list(self, _request: Request) -> Response:
        """List the running sessions."""
        return answer([session.info for session in self._manager.list()])

    async def get(self, request: Request) -> Response:
        """Return the description of a session."""
        return answer(self._session(request).info)

    async def destroy(self, request: Request) -> Response:
        """End one; clients written for the Go daemon rely on that it may be done twice."""
        was_there = await self._manager.destroy(request.path_params["session_id"])
        return answer({"ok": True} if was_there else {"ok": True, ALREADY_DESTROYED: True})

    async def stats(self, request: Request) -> Response:
        """Return the resources that a session uses."""
        usage = await asyncio.to_thread(self._session(request).usage)
        limit = {} if usage.memory_limit is None else {"memory_limit": usage.memory_limit}
        return answer({"memory_bytes": usage.memory_bytes, "cpu_usage_usec": usage.cpu_usage_usec} | limit)

    async def renew(self, request: Request) -> Response:
        """Count a session's lifetime from now on, which may get longer or shorter."""
        session, ttl_seconds = self._session(request), await bodies.renew_body(request)
        session.lifetime.renew(ttl_seconds)
        return answer(session.info)

    async def install(self, request: Request) -> Response:
        """Give a session more packages."""
        return await answer_in_time(request, self._install(request))

    async def _install(self, request: Request) -> Response:
        session, packages = self._session(request), await bodies.packages_body(request)
        await self._manager.install(session, packages)
        return answer(_packages_of(session))

    async def packages(self, request: Request) -> Response:
        """List the packages that a session was given."""
        return answer(_packages_of(self._session(request)))

    async def interrupt(self, request: Request) -> Response:
        """Stop the command that runs."""
        return answer({"interrupted": self._session(request).interrupt()})

    # --- workspaces

    async def list_workspaces(self, _request: Request) -> Response:
        """List all workspaces."""
        rows = await asyncio.to_thread(self._manager.workspaces.list)
        found = [{"id": name, "created_at": created_at.isoformat()} for name, created_at in rows]
        return answer({"workspaces": found})

    async def delete_workspace(self, request: Request) -> Response:
        """Delete one that no session uses."""
        await self._manager.delete_workspace(request.path_params["workspace_id"])
        return answer({"ok": True})

    def _session(self, request: Request) -> Session:
        return self._manager.get(request.path_params["session_id"])


def _packages_of(session: Session) -> dict[str, Any]:
    installed = () if session.packages is None else session.packages.installed
    return {"packages": [{"name": name, "version": version} for name, version in installed]}
