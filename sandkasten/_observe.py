"""The traces of each request: a line in the log `sandkasten`, and a span if OpenTelemetry is installed.

Neither ever holds a key, a command or a file's content or name: a request is named by its route.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from types import TracebackType
from typing import Any

from sandkasten._version import __version__
from sandkasten._wire import Call

log = logging.getLogger("sandkasten")


def new_request_id() -> str:
    """An id for `X-Request-ID`."""
    return os.urandom(8).hex()


class Observed:
    """Watches one request as a context manager, which logs the status that it is given, and the time."""

    __slots__ = ("_call", "_daemon", "_request_id", "_span", "_started", "status")

    def __init__(self, call: Call[Any], daemon: str, request_id: str) -> None:
        """Name what is watched."""
        self.status: int | None = None
        self._call, self._daemon, self._request_id = call, daemon, request_id
        self._span: Any = None
        self._started = 0.0

    def __enter__(self) -> Observed:
        self._started = time.perf_counter()
        trace = _trace()
        if trace is not None:
            attributes = {
                "http.request.method": self._call.method,
                "url.template": self._call.route.partition(" ")[2],
                "server.address": self._daemon,
                "sandkasten.request_id": self._request_id,
            }
            tracer = trace.get_tracer("sandkasten", __version__)
            self._span = tracer.start_span(
                self._call.route, kind=trace.SpanKind.CLIENT, attributes=attributes
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        outcome = exc_type.__name__ if exc_type else str(self.status)
        if log.isEnabledFor(logging.DEBUG):
            duration_ms = (time.perf_counter() - self._started) * 1000
            log.debug(
                "%s: %s in %.1f ms, request %s", self._call.route, outcome, duration_ms, self._request_id
            )
        if self._span is not None:
            _end(self._span, self.status, exc_type)


def _end(span: Any, status: int | None, exc_type: type[BaseException] | None) -> None:
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    failure = exc_type.__name__ if exc_type else str(status) if status and status >= 400 else None
    if failure:
        span.set_attribute("error.type", failure)
        span.set_status(_trace().StatusCode.ERROR)
    span.end()


@functools.cache
def _trace() -> Any:
    try:
        from opentelemetry import trace  # noqa: PLC0415
    except ImportError:
        return None
    return trace
