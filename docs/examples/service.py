"""An HTTP service that gives each of its users a sandbox.

    pip install '.[local]'
    python docs/examples/service.py 8000
    curl -H 'X-User: ada' -d 'cd /tmp; pwd' http://127.0.0.1:8000/exec

A user's sandbox is made at their first request and kept: the shell remembers. Their files outlive it, and
the service. SIGTERM ends the service with all sandboxes, even while commands run.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from typing import TypedDict

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandkasten import (
    ExecTimeoutError,
    SandboxClient,
    SandkastenError,
    Session,
    SessionExpiredError,
    SessionNotFoundError,
)
from sandkasten.integrations.users import workspace_id_for_user

IDLE_SECONDS = 900
MAX_COMMAND_MS = 30_000


class Sandboxes:
    """One session a user, made when it is needed; as a context manager it ends them all."""

    def __init__(self, client: SandboxClient) -> None:
        """Have none yet."""
        self._client = client
        self._sessions: dict[str, asyncio.Task[Session]] = {}

    async def of(self, user_id: str) -> Session:
        """The user's session; requests that come at the same time get the same one."""
        task = self._sessions.get(user_id)
        if task is None or (task.done() and task.exception()):
            task = self._sessions[user_id] = asyncio.create_task(self._make(user_id))
        return await asyncio.shield(task)  # a request that is cancelled leaves it to the others

    def forget(self, user_id: str) -> None:
        """Make a new one at the user's next request."""
        self._sessions.pop(user_id, None)

    async def _make(self, user_id: str) -> Session:
        return await self._client.create_session(
            workspace_id=workspace_id_for_user(user_id), ttl_seconds=IDLE_SECONDS
        )

    async def __aenter__(self) -> Sandboxes:
        return self

    async def __aexit__(self, *_error: object) -> None:
        for made in await asyncio.gather(*self._sessions.values(), return_exceptions=True):
            if isinstance(made, Session):
                with contextlib.suppress(SandkastenError):  # it may have ended by itself
                    await made.destroy()


class State(TypedDict):
    """The values that requests find in `request.state`."""

    sandboxes: Sandboxes


@contextlib.asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[State, None]:
    """Hold one client for the life of the service."""
    async with SandboxClient() as client, Sandboxes(client) as sandboxes:
        yield {"sandboxes": sandboxes}


async def execute(request: Request) -> Response:
    """Run the body as a command in the user's shell."""
    user_id = request.headers.get("x-user", "")  # put your own authentication here
    if not user_id:
        return JSONResponse({"error": "Send your name in the header X-User."}, status_code=401)
    command = (await request.body()).decode("utf-8", "replace")
    if not command.strip():
        return JSONResponse({"error": "Send a command as the body."}, status_code=400)
    sandboxes: Sandboxes = request.state.sandboxes
    try:
        result = await (await sandboxes.of(user_id)).exec(command, timeout_ms=MAX_COMMAND_MS)
    except (SessionExpiredError, SessionNotFoundError):
        sandboxes.forget(user_id)
        return JSONResponse({"error": "Your shell was idle and has ended. Try again."}, status_code=409)
    except ExecTimeoutError as error:
        return JSONResponse({"error": error.message, "output": error.output}, status_code=408)
    except asyncio.CancelledError:  # the service ends, and waited long enough
        return JSONResponse({"error": "The service ends. Try again."}, status_code=503)
    return JSONResponse({"exit_code": result.exit_code, "cwd": result.cwd, "output": result.output})


app = Starlette(routes=[Route("/exec", execute, methods=["POST"])], lifespan=lifespan)

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    # Without a limit, uvicorn would wait for every command that runs.
    uvicorn.run(app, host="127.0.0.1", port=port, timeout_graceful_shutdown=2)
