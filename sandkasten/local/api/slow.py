"""Answers that take long, for clients that must hear something meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from functools import partial
from typing import Any

from sandkasten.local.api import bodies
from sandkasten.local.api.asgi import EventStream, late_answer
from sandkasten.local.api.execs import lost_error
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.errors import ApiError, SandboxLostError


async def answer_in_time(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """Answer with what work brings, at the end of a stream if the client must hear something before.

    Args:
        request: may have the header `X-Keep-Alive-Ms`.
        work: goes on if the client leaves.

    Raises:
        ApiError: the header makes no sense, or the work ended so.
        SandboxLostError: the work ended so.
    """
    try:
        pause_seconds = bodies.keep_alive_seconds(request)
    except ApiError:
        work.close()
        raise
    if pause_seconds is None:
        return await work
    task = asyncio.ensure_future(work)
    if not await _outlasts(task, pause_seconds):
        return task.result()
    left = asyncio.Event()
    waits = partial(_outlasts, task, pause_seconds, left)
    return EventStream(late_answer(waits, partial(_answered, task)), request.receive, left.set)


async def _outlasts(
    task: asyncio.Future[Response], pause_seconds: float | None, left: asyncio.Event | None = None
) -> bool:
    """Return whether work goes on, and somebody waits for it, after a while."""
    await asyncio.wait({task}, timeout=pause_seconds)
    return not task.done() and (left is None or not left.is_set())


def _answered(task: asyncio.Future[Response]) -> dict[str, Any] | None:
    if not task.done():
        # Nobody is there who could read how it ends.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return None
    try:
        response = task.result()
    except ApiError as error:
        return {"status": error.status, "body": error.body}
    except SandboxLostError as error:
        lost = lost_error(error)
        return {"status": lost.status, "body": lost.body}
    return {"status": response.status, "body": json.loads(response.body)}
