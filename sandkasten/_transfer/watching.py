"""The call of the extension `watch`, and what its events say."""

from __future__ import annotations

from typing import Any

import httpx
from attrs import frozen
from httpx_sse import ServerSentEvent

from sandkasten._answers import structure
from sandkasten._events import data_of, failure_of
from sandkasten._names import from_json
from sandkasten._transfer.calls import FilesOf
from sandkasten._wire import Call
from sandkasten.errors import SandkastenStreamError

# A tree of thousands of directories is gone through before the first event.
_WAIT_MS = 60_000


@frozen
class FileChange:
    """A change below a directory that is watched.

    Attributes:
        kind: `created`, `modified`, `deleted`, `moved`, or `overflow`: changes were lost, look for yourself.
        path: what changed, as a path below the directory; empty: the directory itself, or an overflow.
        is_dir: whether it is a directory.
        old_path: its path before, of one that moved within the directory.
    """

    kind: str
    path: str = ""
    is_dir: bool = False
    old_path: str | None = None


def watch(of: FilesOf, path: str, *, recursive: bool) -> Call[None]:
    """`GET {owner}/fs/watch`."""
    params = {"path": path, "recursive": "true" if recursive else "false"}
    return Call(
        "GET",
        f"{of.path}/fs/watch",
        _unread,
        params=params,
        wait_ms=_WAIT_MS,
        is_transfer=True,
        idempotent=True,
    )


def _unread(_answer: Any) -> None:
    """A stream's answer is its events."""


def change_of(event: ServerSentEvent, response: httpx.Response) -> FileChange | None:
    """Return the change that an event reports, or None for an event of another kind.

    Raises:
        SandkastenAPIError: the daemon reports a failure, by its class.
        SandkastenResponseError: it cannot be read.
    """
    if event.event == "error":
        raise failure_of(event, response)
    if event.event != "change":
        return None
    return structure(from_json("old_path", from_json("path", data_of(event))), FileChange)


def cut_short() -> SandkastenStreamError:
    """Return the error for a watch whose connection broke."""
    return SandkastenStreamError(
        "The connection of the watch broke, so changes may have been missed.",
        "Watch again, and look for yourself at what there is.",
    )
