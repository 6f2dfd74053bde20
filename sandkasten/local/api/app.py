"""The application: who may ask, which handler answers, and errors as the wire has them.

It knows requests and no sessions. `routes.py` has the rows of a daemon that holds its sessions itself; rows
whose handlers pass the requests on would do as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sandkasten.local.api.asgi import ApiMiddleware, Guard, answer_error
from sandkasten.local.api.execs import lost_error
from sandkasten.local.errors import ApiError, SandboxLostError
from sandkasten.local.observe.observer import Observer


@dataclass(frozen=True)
class Row:
    """A request, by its method and the template of its path, and the handler that answers it."""

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]


def make_app(rows: Iterable[Row], guard: Guard, observer: Observer) -> Starlette:
    """Return the application that answers those whom the guard lets in; of two rows the first goes first."""
    routes = [Route(row.path, row.handler, methods=[row.method]) for row in rows]
    templates = {route.endpoint: route.path for route in routes}
    return Starlette(
        routes=routes,
        middleware=[Middleware(ApiMiddleware, guard=guard, observer=observer, routes=templates)],
        exception_handlers={
            ApiError: _on_api_error,
            SandboxLostError: _on_sandbox_lost,
            ClientDisconnect: _on_client_gone,
            HTTPException: _on_http_exception,
        },
    )


# --- errors, as the wire has them


async def _on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return answer_error(error)


async def _on_sandbox_lost(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SandboxLostError)
    return answer_error(lost_error(error))


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "INVALID_REQUEST")
    return answer_error(ApiError(error.status_code, code, str(error.detail)))
