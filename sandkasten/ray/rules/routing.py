"""The way of a request to its daemon: by the session's id, with the headers that may pass; pure.

Only what is known passes. A header that the daemon does not ask for cannot change what it reads, and a path
that two programs could read in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sandkasten._protocol import FILE_MODE_HEADER, KEEP_ALIVE_HEADER, TAGGED_SESSION_ID, Code
from sandkasten.local.errors import ApiError, invalid_request

Headers = Iterable[tuple[bytes, bytes]]

# The headers of a request that a daemon reads, and those by which traces go on.
_FORWARDED = frozenset({
    "accept", "content-length", "content-type", "idempotency-key", "if-range", "last-event-id", "range",
    "x-request-id", KEEP_ALIVE_HEADER.lower(), FILE_MODE_HEADER.lower(), "baggage", "traceparent",
    "tracestate",
})  # fmt: skip
# The headers of an answer that are about one connection, or that the gateway gives itself.
_NOT_RETURNED = frozenset({
    b"connection", b"date", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"server", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"x-request-id",
})  # fmt: skip
_NODE_ID = re.compile(r"[0-9a-f]{8,}")
_TAG_CHARS = 8
# No path of the protocol needs an escape: files are named in queries and bodies.
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")


def tag_of_node(node_id: str) -> str:
    """Return the tag of the node that Ray knows by an id."""
    if not _NODE_ID.fullmatch(node_id):
        raise ValueError(f"{node_id!r} is not the id of a node.")
    return f"n{node_id[:_TAG_CHARS]}"


def tag_of_session(session_id: str) -> str | None:
    """Return the tag of a session's node; None: it is a name, or an id that no node made."""
    tagged = TAGGED_SESSION_ID.fullmatch(session_id)
    return None if tagged is None else tagged[1]


def target_of(raw_path: bytes, query: bytes) -> str:
    """Return the target of a request as it goes on to the daemon.

    Raises:
        ApiError: INVALID_REQUEST for a path that could be read in two ways.
    """
    try:
        path = raw_path.decode("ascii")
    except UnicodeDecodeError:
        path = ""
    segments = path.split("/")[1:]
    is_plain = path.startswith("/") and all(
        _SEGMENT.fullmatch(segment) and segment.strip(".") for segment in segments
    )
    if not is_plain:
        raise invalid_request("The path has empty or dotted segments, or escapes. Send the path as it is.")
    return f"{path}?{query.decode('latin-1')}" if query else path


def forwarded(headers: Headers, key: str, *, has_body: bool = True) -> dict[str, str]:
    """Return the headers that go to a daemon, with the cluster's key in place of the client's.

    Args:
        headers: those of the request.
        key: the cluster's.
        has_body: whether the request's body goes along.

    Raises:
        ApiError: INVALID_REQUEST, where one of them comes twice.
    """
    passed: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name not in _FORWARDED or (name.startswith("content-") and not has_body):
            continue
        if name in passed:
            raise invalid_request(f"The request has more than one header {name!r}. Send one.")
        passed[name] = raw_value.decode("latin-1")
    return {**passed, "authorization": f"Bearer {key}"}


def returned(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers of a daemon's answer that go to the client."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {
        part.strip().lower() for name, value in lowered if name == b"connection" for part in value.split(b",")
    }
    return [(name, value) for name, value in lowered if name not in _NOT_RETURNED and name not in named]


def node_gone(session_id: str) -> ApiError:
    """Return the error for a session whose machine is gone, and its processes and files with it."""
    says = f"The node of the session {session_id[:64]!r} is gone, and the session with it. Make a new one."
    return ApiError(404, Code.SESSION_NOT_FOUND, says)


def no_such_session(session_id: str) -> ApiError:
    """Return the error for an id that no node of this cluster made."""
    return ApiError(404, Code.SESSION_NOT_FOUND, f"There is no session {session_id[:64]!r}.")


def node_silent(tag: str) -> ApiError:
    """Return the error for a node that is there, as far as Ray knows, and does not answer."""
    says = f"The node {tag} does not answer. Try again; its sessions end if it stays silent."
    return ApiError(503, Code.NODE_UNREACHABLE, says)


def no_nodes() -> ApiError:
    """Return the error of a cluster in which no node serves sandboxes."""
    says = "No node of this cluster serves sandboxes. Its operator can look: python -m sandkasten.ray status"
    return ApiError(503, Code.NODE_UNREACHABLE, says)
