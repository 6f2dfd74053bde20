"""The observer of a daemon: it counts events, and logs them without a word of what clients run or store."""

from __future__ import annotations

from sandkasten.local.endings import EndReason, JobEnd
from sandkasten.local.observe.logs import tell
from sandkasten.local.observe.metrics import Metrics

# What machines ask every few seconds is counted, but not logged.
_POLLED = frozenset({"/healthz", "/metrics", "/v1/node"})


class Observer:
    """Sees sessions, commands, files and requests of one daemon."""

    def __init__(self) -> None:
        """Start with all counters at zero."""
        self.metrics = Metrics()

    def session_created(self, session_id: str, image: str, source: str) -> None:
        """A client has a new session."""
        self.metrics.session_created(source)
        tell("session.created", session_id=session_id, image=image, source=source)

    def session_ended(self, session_id: str, reason: EndReason) -> None:
        """Count and log a session's end."""
        self.metrics.session_ended(reason)
        tell("session.ended", session_id=session_id, reason=str(reason))

    def exec_ended(self, end: JobEnd, seconds: float | None) -> None:
        """A command ended; None: nobody knows how long it ran."""
        self.metrics.exec_ended(end, seconds)

    def process_ended(self, end: JobEnd) -> None:
        """A process beside the shell ended."""
        self.metrics.process_ended(end)

    def python_ended(self, end: JobEnd) -> None:
        """Code in an interpreter that remembers ended."""
        self.metrics.python_ended(end)

    def request_ended(
        self, method: str, route: str, status: int, seconds: float, *, request_id: str, session_id: str
    ) -> None:
        """A request was answered; `route` is a template, so that it names no files or workspaces."""
        self.metrics.request_ended(method, route, status)
        if route in _POLLED and status == 200:
            return
        tell(
            "request",
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 1),
            request_id=request_id,
            **({"session_id": session_id} if session_id else {}),
        )

    def refused(self, status: int) -> None:
        """Count a peer that sent no request that could be answered; see `Connections` for the log."""
        self.metrics.request_ended("none", "none", status)
