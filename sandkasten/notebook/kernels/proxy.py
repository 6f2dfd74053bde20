"""The sockets that a notebook's clients connect to, joined with those of a kernel in a sandbox.

Jupyter's clients trust what has the kernel's key. The key that they have is not the one inside, and each
message passes `messages` in both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

from sandkasten.notebook.kernels.messages import Keys

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
# Of one part of a message; a kernel that sends more loses its connection. And how many messages wait here.
_MAX_PART_BYTES = 64 * 1024 * 1024
_MAX_WAITING = 16
_RECONNECT_MS = 20

Rewrite = Callable[[Sequence[bytes]], "list[bytes] | None"]


class Proxy:
    """Passes messages on, until it is closed."""

    def __init__(self, keys: Keys, *, anything: bool) -> None:
        """Sign by two keys; with `anything`, what a kernel displays goes through as it is."""
        self._keys = keys
        self._anything = anything
        self._context = zmq.asyncio.Context()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, urls: Mapping[str, str], prefix: Path) -> None:
        """Listen at a URL for each channel, and connect to the sockets whose paths begin with `prefix`.

        Raises:
            zmq.ZMQError: an address cannot be had.
        """
        # What the kernel asks goes to the client whose request it runs: by the same name on both channels.
        name = secrets.token_hex(8).encode()
        for number, channel in enumerate(CHANNELS, 1):
            is_published = channel == "iopub"
            front = self._context.socket(zmq.PUB if is_published else zmq.ROUTER)
            back = self._context.socket(zmq.SUB if is_published else zmq.DEALER)
            front.linger = back.linger = 0
            back.setsockopt(zmq.MAXMSGSIZE, _MAX_PART_BYTES)
            back.setsockopt(zmq.RCVHWM, _MAX_WAITING)
            back.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
            if is_published:
                back.setsockopt(zmq.SUBSCRIBE, b"")
            else:
                front.setsockopt(zmq.ROUTER_HANDOVER, 1)
                back.setsockopt(zmq.IDENTITY, name)
            front.bind(urls[channel])
            back.connect(f"ipc://{prefix}-{number}")
            is_plain = channel == "hb"
            if not is_published:
                self._pass(front, back, list if is_plain else self._keys.inward)
            self._pass(back, front, list if is_plain else self._outward)

    async def close(self) -> None:
        """Close all sockets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._context.destroy(linger=0)

    def _outward(self, frames: Sequence[bytes]) -> list[bytes] | None:
        return self._keys.outward(frames, anything=self._anything)

    def _pass(self, source: Any, target: Any, rewrite: Rewrite) -> None:
        async def work() -> None:
            while True:
                frames = rewrite(await source.recv_multipart())
                if frames is not None:
                    with contextlib.suppress(zmq.ZMQError):  # the client is gone
                        await target.send_multipart(frames)

        running: Coroutine[Any, Any, None] = work()
        self._tasks.append(asyncio.create_task(running))
