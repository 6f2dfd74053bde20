"""The outcome of each fault in each verb: one table, from which the tests and the page are made.

A cell is the right result, one class of errors, or the reason why the two cannot meet. Each has two
sides: a daemon that has the extensions `idempotency`, `resume`, `files`, `processes`, `python` and
`packages`, and one that has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandkasten.testing import Fault, faults

VERBS = (
    "exec",
    "stream",
    "run",
    "start",
    "follow",
    "feed",
    "python",
    "python_stream",
    "install",
    "wait",
    "signal",
    "read",
    "write",
    "upload",
    "download",
    "stat",
    "move",
    "append",
    "watch",
    "create",
    "destroy",
)

OK = "ok"
LOST = "SandkastenConnectionError"
SILENT = "SandkastenTimeoutError"
NONSENSE = "SandkastenResponseError"
CUT = "SandkastenStreamError"
REFUSED = "SandkastenAPIError"
FULL = "CapacityExceededError"
GONE = "SessionNotFoundError"


@dataclass(frozen=True)
class Never:
    """The reason why a fault cannot occur there."""

    reason: str


Outcome = str | Never


@dataclass(frozen=True)
class Cell:
    """The outcome of a fault: where the daemon has the extensions, and where it has none."""

    able: Outcome
    plain: Outcome


@dataclass(frozen=True)
class Row:
    """A fault.

    Attributes:
        text: what it is, for people.
        cells: what comes of it, by verb.
        fault: how an answer is spoilt; None where it is the address or the daemon that is bad.
        times: how many answers in a row.
    """

    text: str
    cells: Mapping[str, Cell]
    fault: Fault | None = None
    times: int = 1


def everywhere(outcome: Outcome, **others: Cell) -> dict[str, Cell]:
    """Return the same outcome for all verbs, except the given ones."""
    cells = {verb: others.get(verb, Cell(outcome, outcome)) for verb in VERBS}
    return cells | {verb: Cell(cells[verb].able, reason) for verb, reason in NEVER_PLAIN.items()}


def repeated(error: str, **others: Cell) -> dict[str, Cell]:
    """Return cells of faults that another attempt repairs, except for calls that need keys to be repeated."""
    keyed = dict.fromkeys(("exec", "stream", "run", "create"), Cell(OK, error))
    once = dict.fromkeys(("signal", "move", "append"), Cell(error, error))
    return everywhere(OK, **{**keyed, **once, **others})


NO_HANDLES = Never(
    "only a daemon with the extension `processes` starts processes and lets them be followed and fed"
)
NO_PYTHON = Never("only a daemon with the extension `python` has interpreters that remember")
NO_PACKAGES = Never("only a daemon with the extension `packages` gives packages to sessions")
NO_EVENTS = Never("only a stream has events")
BY_COMMAND = Never("without the extension `files` it is a command, and ends as `exec` does")
NO_WATCH = Never("only a daemon with the extension `watch` watches")
NEVER_PLAIN = {
    **dict.fromkeys(("start", "follow", "feed", "wait", "signal"), NO_HANDLES),
    **dict.fromkeys(("stat", "move", "append"), BY_COMMAND),
    **dict.fromkeys(("python", "python_stream"), NO_PYTHON),
    "install": NO_PACKAGES,
    "watch": NO_WATCH,
}
BYTES = Never("the content comes as bytes, not as JSON")


def in_streams(cell: Cell) -> dict[str, Cell]:
    """A fault of streams alone."""
    return everywhere(NO_EVENTS, stream=cell, follow=cell, python_stream=cell, watch=Cell(CUT, CUT))


def in_json(error: str, **others: Cell) -> dict[str, Cell]:
    """A fault of JSON, which files are not where the daemon has the extension for them."""
    reads = dict.fromkeys(("read", "download"), Cell(BYTES, error))
    return everywhere(error, **{**reads, **others})


TABLE: Mapping[str, Row] = {
    "refused": Row("nothing listens at the address", everywhere(LOST)),
    "dns": Row("the host's name is not known", everywhere(LOST)),
    "tls": Row("TLS fails", everywhere(LOST)),
    "reset": Row("the connection is reset before the headers", repeated(LOST), faults.reset()),
    "reset-body": Row(
        "the connection is reset within the body",
        repeated(LOST, stream=Cell(OK, CUT), watch=Cell(CUT, CUT)),
        faults.reset_mid_body(),
    ),
    "cut-event": Row(
        "the connection is closed within an event",
        in_streams(Cell(OK, CUT)),
        faults.cut_mid_event(after_events=0),
    ),
    "cut-end": Row(
        "the connection is closed after the last chunk, before `done`",
        in_streams(Cell(OK, CUT)),
        faults.cut_before_done(),
    ),
    "cut-quietly": Row(
        "a proxy ends the stream in good order before `done`",
        in_streams(Cell(OK, CUT)),
        faults.cut_before_done(in_good_order=True),
    ),
    "trickle": Row("the answer comes in a slow trickle", everywhere(OK), faults.trickle(piece_bytes=100)),
    "429-after": Row(
        "429 with `Retry-After`",
        repeated(FULL),
        faults.status(429, retry_after=0.05, error_code="CAPACITY_EXCEEDED"),
    ),
    "429": Row("429 without `Retry-After`", repeated(REFUSED), faults.status(429)),
    "408": Row("408, the daemon waited too long for the body", repeated(REFUSED), faults.status(408)),
    "502": Row("502 with a proxy's HTML page", repeated(REFUSED), faults.bad_gateway()),
    "503": Row("503, twice in a row", repeated(REFUSED), faults.status(503), times=2),
    "garbage": Row("JSON that breaks off", in_json(NONSENSE), faults.garbage_json()),
    "missing": Row(
        "JSON without its fields",
        # Of what a write, a move or a destruction answers nothing is needed.
        in_json(
            NONSENSE,
            write=Cell(OK, OK),
            upload=Cell(NONSENSE, OK),
            move=Cell(OK, OK),
            destroy=Cell(OK, OK),
        ),
        faults.missing_fields(),
    ),
    "type": Row(
        "an answer declared as text",
        everywhere(
            OK, **dict.fromkeys(("stream", "follow", "python_stream", "watch"), Cell(NONSENSE, NONSENSE))
        ),
        faults.wrong_content_type(),
    ),
    "half-open": Row("the connection stays open, and nothing comes", everywhere(SILENT), faults.silence()),
    "killed": Row(
        "the daemon is killed during an exec, and started again",
        # The embedded daemon's sandboxes end with it; those of the other daemon do not.
        {
            **dict.fromkeys(VERBS, Cell(GONE, OK)),
            **{verb: Cell(GONE, reason) for verb, reason in NEVER_PLAIN.items()},
            "exec": Cell(GONE, LOST),
            "stream": Cell(GONE, LOST),
            "create": Cell(OK, OK),
        },
    ),
}
