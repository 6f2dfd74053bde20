"""The thin shell around the wire: it waits, and decides nothing that does not need waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, TypeVar

import httpx
from httpx_sse import ServerSentEvent

from sandkasten._answers import error_from, no_answer, not_a_stream
from sandkasten._config import Target
from sandkasten._wire import Call, health, receive
from sandkasten.errors import ExtensionMissingError, SandkastenError
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon

from ._seam import (
    HTTPClient,
    close_client,
    close_response,
    events_of,
    make_lock,
    open_client,
    read_body,
    run_in_thread,
)

T = TypeVar("T")


class Connection:
    """The way to one daemon; without an address it starts the embedded daemon at the first call."""

    def __init__(self, target: Target | None, local: LocalOptions | None, timeout_seconds: float) -> None:
        """Remember where to go; nothing is opened yet."""
        self._target = target
        self._local = local
        self._timeout_seconds = timeout_seconds
        self._lock = make_lock()
        self._http: HTTPClient | None = None
        self._daemon: LocalDaemon | None = None
        self._extensions: tuple[str, ...] | None = None
        self._closed = False

    async def call(self, call: Call[T]) -> T:
        """Send a call and read its answer.

        Raises:
            SandkastenError: see `sandkasten.errors`, which draws the tree.
        """
        return receive(call, await self._send(call))

    async def require(self, extension: str) -> None:
        """Make sure that the daemon has an extension; it is asked once.

        Raises:
            ExtensionMissingError: it does not list it.
            SandkastenError: it could not be asked.
        """
        if self._extensions is None:
            self._extensions = (await self.call(health())).extensions
        if extension not in self._extensions:
            raise ExtensionMissingError(
                f"{self._name} does not have the extension {extension!r}. "
                "Use the embedded daemon, or one that has it."
            )

    async def open_stream(self, call: Call[Any]) -> httpx.Response:
        """Send a call whose answer is a stream of events; the caller closes the response.

        Raises:
            SandkastenError: as `call` does, for an answer that is not a stream.
        """
        response = await self._send(call, stream=True)
        if response.headers.get("content-type", "").startswith("text/event-stream") and response.is_success:
            return response
        try:
            await read_body(response)
            raise not_a_stream(response) if response.is_success else error_from(response)
        finally:
            await close_response(response)

    async def events(self, response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
        """Iterate over an open stream's events; it just ends where the connection ends.

        Raises:
            SandkastenTimeoutError: nothing came for longer than the call allows.
        """
        try:
            async for event in events_of(response):
                yield event
        except httpx.TimeoutException as error:
            raise self._no_answer(error) from None
        except httpx.TransportError:
            return  # whoever reads the events knows whether that was the end

    async def close(self) -> None:
        """Close the connections, and end the embedded daemon if this client started it."""
        self._closed = True
        async with self._lock:
            http, self._http = self._http, None
            daemon, self._daemon = self._daemon, None
        try:
            if http is not None:
                await close_client(http)
        finally:
            if daemon is not None:
                await run_in_thread(daemon.stop)

    async def _send(self, call: Call[Any], *, stream: bool = False) -> httpx.Response:
        http = await self._open()
        request = http.build_request(
            call.method,
            call.path,
            json=call.json,
            params=call.params,
            data=call.data,
            files={"file": call.file} if call.file else None,
            headers=self._headers,
            timeout=httpx.Timeout(self._timeout_seconds, read=self._timeout_seconds + call.wait_ms / 1000),
        )
        try:
            return await http.send(request, stream=stream)
        except httpx.RequestError as error:
            raise self._no_answer(error) from None  # whose long story is told in its text

    async def _open(self) -> HTTPClient:
        if self._http is not None:
            return self._http
        async with self._lock:
            if self._closed:
                raise SandkastenError("This client is closed. Make a new SandboxClient.")
            if self._http is None:
                if self._target is None:
                    self._daemon = await run_in_thread(partial(start_daemon, self._local))
                    self._target = self._daemon.target
                self._http = open_client(self._target, self._timeout_seconds)
            return self._http

    def __repr__(self) -> str:
        return self._name

    def _no_answer(self, error: httpx.RequestError) -> SandkastenError:
        return no_answer(error, self._name, is_embedded=self._daemon is not None)

    @property
    def _headers(self) -> dict[str, str]:
        key = self._target.api_key if self._target else None
        return {"Authorization": f"Bearer {key}"} if key else {}

    @property
    def _name(self) -> str:
        return self._target.name if self._target else "the embedded daemon"
