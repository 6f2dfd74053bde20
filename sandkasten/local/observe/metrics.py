"""Numbers for Prometheus, in its text format: counters, one histogram, and what is measured when asked."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from sandkasten.local.endings import EndReason, JobEnd
from sandkasten.local.records import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a builtin of the shell to the longest deadline.
_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)
_HISTOGRAM = "sandkasten_exec_seconds"


@dataclass(frozen=True)
class _Family:
    """A counter.

    Attributes:
        says: what it counts.
        labels: the labels' names.
        known: values for which it is shown from the beginning, so that a rate is known from the first.
    """

    says: str
    labels: tuple[str, ...]
    known: tuple[tuple[str, ...], ...] = ()


_COUNTERS: Mapping[str, _Family] = {
    "sandkasten_sessions_created_total": _Family(
        "Sessions that were made, by where they came from.", ("source",), (("cold",), ("pool",))
    ),
    "sandkasten_sessions_ended_total": _Family(
        "Sessions that ended, by why.", ("reason",), tuple((reason,) for reason in EndReason)
    ),
    "sandkasten_execs_total": _Family(
        "Commands that ended, by what came of them.",
        ("outcome",),
        tuple((end,) for end in JobEnd),
    ),
    "sandkasten_processes_total": _Family(
        "Processes beside the shell that ended, by what came of them.",
        ("outcome",),
        tuple((end,) for end in JobEnd),
    ),
    "sandkasten_python_total": _Family(
        "Code that ran in interpreters that remember and ended, by what came of it.",
        ("outcome",),
        tuple((end,) for end in JobEnd),
    ),
    "sandkasten_requests_total": _Family("Requests that were answered.", ("method", "route", "status")),
    "sandkasten_file_bytes_total": _Family(
        "Bytes of files that clients wrote (in) and read (out).", ("direction",), (("in",), ("out",))
    ),
}
_GAUGES: Mapping[str, str] = {
    "sandkasten_sessions_running": "Sessions that run now.",
    "sandkasten_pool_ready": "Sessions that are ready before anybody asked.",
}


class Metrics:
    """A daemon's counters."""

    def __init__(self) -> None:
        """Start at zero."""
        self._counted: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
        self._in_bucket = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0

    def session_created(self, source: str) -> None:
        """Count a session, by where it came from."""
        self._count("sandkasten_sessions_created_total", source)

    def session_ended(self, reason: EndReason) -> None:
        """Count a session's end, by its reason."""
        self._count("sandkasten_sessions_ended_total", reason)

    def exec_ended(self, end: JobEnd, seconds: float | None) -> None:
        """Count a command, and how long it ran if that is known."""
        self._count("sandkasten_execs_total", end)
        if seconds is not None:
            self._in_bucket[bisect_left(_BUCKETS, seconds)] += 1
            self._seconds += seconds

    def process_ended(self, end: JobEnd) -> None:
        """Count a process beside the shell."""
        self._count("sandkasten_processes_total", end)

    def python_ended(self, end: JobEnd) -> None:
        """Count code that ran in an interpreter that remembers."""
        self._count("sandkasten_python_total", end)

    def request_ended(self, method: str, route: str, status: int) -> None:
        """Count an answer."""
        self._count("sandkasten_requests_total", method, route, str(status))

    def file_bytes(self, direction: str, count: int) -> None:
        """Count what was written or read."""
        self._count("sandkasten_file_bytes_total", direction, by=count)

    def render(self, *, sessions_running: int, pool_ready: int) -> str:
        """Return all metrics as text, with the values of now."""
        gauges = {"sandkasten_sessions_running": sessions_running, "sandkasten_pool_ready": pool_ready}
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _count(self, name: str, *labels: str, by: int = 1) -> None:
        self._counted[name][labels] += by

    def _lines(self, gauges: Mapping[str, int]) -> Iterator[str]:
        for name, value in gauges.items():
            yield from _head(name, _GAUGES[name], "gauge")
            yield f"{name} {value}"
        for name, family in _COUNTERS.items():
            yield from _head(name, family.says, "counter")
            for labels, value in sorted((dict.fromkeys(family.known, 0) | self._counted[name]).items()):
                yield f"{name}{_labels(family.labels, labels)} {value}"
        yield from self._histogram()

    def _histogram(self) -> Iterator[str]:
        yield from _head(_HISTOGRAM, "How long commands ran.", "histogram")
        total = 0
        for limit, count in zip((*map(str, _BUCKETS), "+Inf"), self._in_bucket, strict=True):
            total += count
            yield f'{_HISTOGRAM}_bucket{{le="{limit}"}} {total}'
        yield f"{_HISTOGRAM}_sum {self._seconds:.6f}"
        yield f"{_HISTOGRAM}_count {total}"


def _head(name: str, says: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {says}"
    yield f"# TYPE {name} {kind}"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
