"""Who sees what happens in a daemon: counts it, and logs it without a word of what clients run or store."""

from __future__ import annotations

from sandkasten.local.observe.logs import tell
from sandkasten.local.observe.metrics import Metrics
from sandkasten.local.sessions.command import Outcome

# The manager's words for the end of a session, and the labels that are counted.
_REASONS = {
    "expired": "expired",
    "it was destroyed": "destroyed",
    "its sandbox ended": "lost",
    "the daemon stopped": "stopped",
}
# What machines ask every few seconds is counted, but not logged.
_POLLED = frozenset({"/healthz", "/metrics"})


class Observer:
    """Sees sessions, commands, files and requests of one daemon."""

    def __init__(self) -> None:
        """Start with all counters at zero."""
        self.metrics = Metrics()

    def session_created(self, session_id: str, image: str, source: str) -> None:
        """A client has a new session."""
        self.metrics.session_created(source)
        tell("session.created", session_id=session_id, image=image, source=source)

    def session_ended(self, session_id: str, reason: str) -> None:
        """It ended."""
        label = _REASONS.get(reason, "other")
        self.metrics.session_ended(label)
        tell("session.ended", session_id=session_id, reason=label)

    def exec_ended(self, outcome: Outcome | None) -> None:
        """A command ended; None: with its sandbox."""
        seconds = None if outcome is None else outcome.duration_ms / 1000
        self.metrics.exec_ended(_named(outcome), seconds)

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


def _named(outcome: Outcome | None) -> str:
    if outcome is None:
        return "lost"
    if outcome.timed_out:
        return "timeout"
    if outcome.over_quota:
        return "over_quota"
    return "ok" if outcome.exit_code == 0 else "failed"
