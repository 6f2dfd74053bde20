"""The application: who may ask, which handler answers, and errors as the wire has them.

It knows requests and no sessions. `routes.py` has the rows of a daemon that holds its sessions itself; rows
whose handlers pass the requests on would do as well.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from sandkasten.local.api.asgi import Guard, answer_error
from sandkasten.local.api.execs import lost_error
from sandkasten.local.api.http.messages import ClientLeftError, Receive, Request, Response, Scope, Send
from sandkasten.local.errors import ApiError, SandboxLostError
from sandkasten.local.observe.observer import Observer
from sandkasten.local.records import dataclass

log = logging.getLogger("sandkasten.local")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_OPEN_PATHS = {"/healthz"}
_NO_ROUTE = "none"


@dataclass(frozen=True)
class Row:
    """A request, by its method and the template of its path, and the handler that answers it."""

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]


class Table:
    """The rows, found by method and path.

    A part of a path that a template has a name for may be any text except the empty one. Where a path fits
    two templates, the one with fewer names goes first.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        """Take the rows; of two that are alike the first goes first."""
        self._rows: dict[str, dict[_Shape, tuple[Row, Sequence[str]]]] = {}
        places = set[tuple[int, ...]]()
        for row in rows:
            parts = row.path.split("/")
            named = tuple(at for at, part in enumerate(parts) if part.startswith("{"))
            names = [parts[at][1:-1] for at in named]
            places.add(named)
            self._rows.setdefault(row.method, {}).setdefault(_shape(parts, named), (row, names))
        self._places = sorted(places, key=len)

    def find(self, method: str, path: str) -> tuple[Row, Mapping[str, str]] | None:
        """Return a request's row, and the parts of its path that have names; HEAD is answered as GET."""
        rows = self._rows.get("GET" if method == "HEAD" else method, {})
        parts = path.split("/")
        for named in self._places:
            if named and named[-1] >= len(parts):
                continue
            found = rows.get(_shape(parts, named))
            if found is not None and all(parts[at] for at in named):
                row, names = found
                return row, dict(zip(names, (parts[at] for at in named), strict=True))
        return None

    def methods_of(self, path: str) -> list[str]:
        """Return the methods by which something can be asked of a path."""
        return [method for method in self._rows if self.find(method, path) is not None]


_Shape = tuple[tuple[int, ...], str]


def _shape(parts: Sequence[str], named: tuple[int, ...]) -> _Shape:
    """Return the places of the parts that have names, and the path without them."""
    return named, "/".join([part for at, part in enumerate(parts) if at not in named])


class App:
    """Checks the key, finds the handler, gives each answer its request id, and reports to the observer."""

    def __init__(self, rows: Iterable[Row], guard: Guard, observer: Observer) -> None:
        """Answer those whom the guard lets in."""
        self._table = Table(rows)
        self._guard = guard
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        started = time.monotonic()
        request = Request(scope, receive)
        asked = request.headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        status = 0  # until it is answered
        try:
            response = await self._answer(request, request_id)
            response.headers.append((b"x-request-id", request_id.encode()))
            status = response.status
            await response(scope, receive, send)
        except Exception:  # the connection breaks off, lest half an answer is taken for a whole one
            log.exception("An answer failed unexpectedly (request %s).", request_id)
            raise
        finally:
            self._observer.request_ended(
                scope["method"],
                request.route or _NO_ROUTE,
                status,
                time.monotonic() - started,
                request_id=request_id,
                session_id=request.path_params.get("session_id", "")[:64],
            )

    async def _answer(self, request: Request, request_id: str) -> Response:
        try:
            return await self._handle(request)
        except ApiError as error:
            return answer_error(error)
        except SandboxLostError as error:
            return answer_error(lost_error(error))
        except ClientLeftError:
            return Response(status=499)
        except Exception:
            log.exception("A request failed unexpectedly (request %s).", request_id)
            return answer_error(ApiError(500, "INTERNAL_ERROR", "The daemon failed; its log says more."))

    async def _handle(self, request: Request) -> Response:
        method, path = request.scope["method"], request.scope["path"]
        if path not in _OPEN_PATHS and not self._guard(request.headers):
            raise ApiError(401, "UNAUTHORIZED", "The API key is missing or wrong.")
        found = self._table.find(method, path)
        if found is None:
            return self._unknown(path)
        row, request.path_params = found
        request.route = row.path
        return await row.handler(request)

    def _unknown(self, path: str) -> Response:
        methods = self._table.methods_of(path)
        if not methods:
            return answer_error(ApiError(404, "NOT_FOUND", "This daemon has nothing at this path."))
        sentence = f"This path is for {', '.join(methods)} only."
        response = answer_error(ApiError(405, "METHOD_NOT_ALLOWED", sentence))
        response.headers.append((b"allow", ", ".join(methods).encode()))
        return response


def make_app(rows: Iterable[Row], guard: Guard, observer: Observer) -> App:
    """Return the application that answers those whom the guard lets in; of two rows the first goes first."""
    return App(rows, guard, observer)
