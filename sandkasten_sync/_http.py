# Made from sandkasten/_http.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""The thin shell around the wire: it waits, and decides nothing that does not need waiting."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import httpx
from httpx_sse import ServerSentEvent

from sandkasten._answers import check_stream, check_success, is_stream, no_answer
from sandkasten._brief import interrupts_in_brief
from sandkasten._config import Target, environment_error
from sandkasten._events import late_answer
from sandkasten._observe import Observed, new_request_id
from sandkasten._protocol import Extension
from sandkasten._retry import RetryPolicy
from sandkasten._wire import Call, cancel, health, receive, understood
from sandkasten.errors import (
    ExtensionMissingError,
    SandkastenAPIError,
    SandkastenConnectionError,
    SandkastenError,
    SandkastenResponseError,
)
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from sandkasten.models import Health

from ._carriers import ByHTTPX, Direct
from ._seam import (
    Action,
    HTTPClient,
    close_response,
    events_of,
    make_lock,
    open_client,
    open_transport,
    parts_of,
    run_in_thread,
    running_loop,
    uninterrupted,
)

T = TypeVar("T")

# How long somebody who was interrupted waits for the daemon to hear of it.
_CANCEL_SECONDS = 1.0


def was_interrupted(exc: BaseException | None) -> bool:
    """Return whether a block ended by an interrupt or a cancellation."""
    return not isinstance(exc, Exception | None)


@contextmanager
def ending(exc: BaseException | None, seconds: float) -> Generator[None, None, None]:
    """Let something be ended with a block, for so many seconds even if the caller was interrupted.

    Args:
        exc: what ended the block; it says more than an error of the end, which is not raised then.
        seconds: how long somebody who was interrupted waits.
    """
    try:
        with uninterrupted(seconds) if was_interrupted(exc) else nullcontext():
            yield
    except SandkastenError:
        if exc is None:
            raise


class Connection:
    """The way to one daemon; without an address it starts the embedded daemon at the first call."""

    def __init__(
        self,
        target: Target | None,
        local: LocalOptions | None,
        timeout_seconds: float,
        retries: RetryPolicy,
        http_client: HTTPClient | None,
    ) -> None:
        """Remember where to go; nothing is opened yet. A given HTTP client stays its owner's to close."""
        self._target = target
        self._local = local
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._given = http_client
        self._carrier: ByHTTPX | Direct | None = None
        self._daemon: LocalDaemon | None = None
        self._health: Health | None = None
        self._opening, self._asking = make_lock(), make_lock()
        self._opened_in: tuple[int, object] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return self._name

    def call(self, call: Call[T]) -> T:
        """Send a call and read its answer; more than once, where `_retry` allows it.

        Raises:
            SandkastenError: see `sandkasten.errors`, which draws the tree.
        """
        call = self._understood(call)
        try:
            return self._persist(call, partial(self._answer_to, call))
        except BaseException as error:
            if _gave_up(error):
                self.cancel(call)
            raise

    def has(self, extension: str) -> bool:
        """Return whether the daemon has an extension; a daemon that does not list extensions has none.

        Raises:
            SandkastenConnectionError: it cannot be reached.
        """
        health = self._known_health()
        return extension in health.extensions

    def names_itself(self) -> bool:
        """Return whether the daemon says which server it is, as the Go daemon does not.

        Raises:
            SandkastenConnectionError: it cannot be reached.
        """
        health = self._known_health()
        return bool(health.server)

    def require(self, extension: str) -> None:
        """Make sure that the daemon has an extension; it is asked once.

        Raises:
            ExtensionMissingError: it does not list it.
            SandkastenError: it could not be asked.
        """
        health = self._ask_for_health()
        if extension not in health.extensions:
            raise ExtensionMissingError(
                f"{self._name} does not have the extension {extension!r}.",
                "Use the embedded daemon, or one that has it.",
            )

    def open_stream(self, call: Call[Any]) -> httpx.Response:
        """Send a call whose answer is a stream of events, read by `events`; the caller closes the response.

        Raises:
            SandkastenError: as `call` does, for an answer that is not a stream.
        """
        call = self._understood(call)
        return self._persist(call, partial(self._opened, call, check_stream))

    def open_body(self, call: Call[Any]) -> httpx.Response:
        """Send a call whose answer's bytes are read by `parts`; the caller closes the response.

        Raises:
            SandkastenError: as `call` does.
        """
        return self._persist(call, partial(self._opened, call, check_success))

    def events(self, response: httpx.Response) -> Iterator[ServerSentEvent]:
        """Iterate over an open stream's events; it just ends where the connection ends.

        Raises:
            SandkastenTimeoutError: nothing came for longer than the call allows.
        """
        try:
            with interrupts_in_brief():
                for event in events_of(response):
                    yield event
        except (httpx.TimeoutException, httpx.DecodingError) as error:
            raise self._no_answer(error) from None
        except httpx.TransportError:
            return  # whoever reads the events knows whether that was the end

    def parts(self, response: httpx.Response) -> Iterator[bytes]:
        """Iterate over the bytes of an open body.

        Raises:
            SandkastenConnectionError: the connection was lost before the body's end.
        """
        try:
            with interrupts_in_brief():
                for part in parts_of(response):
                    yield part
        except httpx.RequestError as error:
            raise self._no_answer(error) from None

    def cancel(self, call: Call[Any]) -> None:
        """Report to the daemon that nobody waits for a command any more; never raise, and never take long.

        A daemon without keys needs no report: there a command ends with its connection.
        """
        if (
            call.cancel_path is None
            or self._health is None
            or Extension.IDEMPOTENCY not in self._health.extensions
        ):
            return
        with uninterrupted(_CANCEL_SECONDS):
            try:
                self._send(cancel(call, _CANCEL_SECONDS))
            except SandkastenError:
                return  # then it finds out by itself, a little later

    def close(self) -> None:
        """Close the connections, and end the embedded daemon if this client started it."""
        self._closed = True
        with self._opening:
            carrier, self._carrier = self._carrier, None
            daemon, self._daemon = self._daemon, None
        is_here = self._opened_in in {None, (os.getpid(), running_loop())}
        try:
            if carrier is not None and is_here:
                carrier.close()
        finally:
            if daemon is not None:
                run_in_thread(daemon.stop)

    @property
    def max_retries(self) -> int:
        """The number of attempts that there may be after the first."""
        return self._retries.max_retries

    # --- one call, once or several times

    def _understood(self, call: Call[T]) -> Call[T]:
        """Return the call as this daemon understands it; the daemon is only asked where that matters."""
        if call.key is None and call.unnamed is None and not call.in_line:
            return call
        return understood(call, self._known_health(), self._timeout_seconds)

    def _persist(self, call: Call[Any], action: Action[T]) -> T:
        failures: list[SandkastenError] = []
        try:
            return action(False)
        except SandkastenError as error:
            if not self._retries.pause(error, call):
                raise
            failures.append(error)
        for attempt in self._retries.attempts(call):
            with attempt:
                if failures:  # the first of these attempts was made above
                    raise failures.pop()
                return action(True)
        raise AssertionError("an attempt either returns or raises")

    def _answer_to(self, call: Call[T], is_repetition: bool) -> T:
        try:
            return receive(call, (self._late(call) if call.is_kept_alive else self._send(call)))
        except SandkastenError as error:
            if is_repetition and call.already_done is not None and isinstance(error, call.already_done):
                return call.parse({})  # the attempt whose answer was lost did it
            raise

    def _opened(
        self, call: Call[Any], check: Callable[[httpx.Response], None], _is_repetition: bool
    ) -> httpx.Response:
        response = self._send(call, stream=True)
        try:
            if not response.is_success:
                self._read(response)
            check(response)
        except BaseException:
            close_response(response)
            raise
        return response

    def _late(self, call: Call[Any]) -> httpx.Response:
        """Get an answer that may come as the last event of a stream."""
        response = self._send(call, stream=True)
        answer: httpx.Response | None = None
        try:
            if not is_stream(response):
                self._read(response)
                return response
            for event in self.events(response):
                answer = late_answer(event, response) or answer
        finally:
            close_response(response)
        if answer is None:
            raise self._no_answer(httpx.ReadError("the stream was cut", request=response.request))
        return answer

    def _read(self, response: httpx.Response) -> None:
        try:
            carrier = self._open()
            carrier.read(response, self._timeout_seconds)
        except httpx.RequestError as error:
            raise self._no_answer(error) from None

    def _send(self, call: Call[Any], *, stream: bool = False) -> httpx.Response:
        carrier = self._open()
        silence_seconds = call.timeout_seconds or self._timeout_seconds
        total_seconds = None if call.is_transfer else silence_seconds + call.wait_ms / 1000
        request_id = new_request_id()
        url = self._base_url + call.path + call.query
        request = carrier.request(call, url, self._headers(call, request_id), silence_seconds)
        with Observed(call, self._name, request_id) as observed:
            try:
                with interrupts_in_brief():
                    response = carrier.send(request, total_seconds, stream=stream)
            except httpx.RequestError as error:  # its long story is told in its text
                raise self._no_answer(error, in_line=call.in_line and not call.is_kept_alive) from None
            observed.status = response.status_code
        return response

    def _known_health(self) -> Health:
        """Return what the daemon says of itself; nothing, if it cannot say."""
        try:
            return self._health if self._health is not None else self._ask_for_health()
        except (SandkastenAPIError, SandkastenResponseError):
            return Health(status="")

    def _ask_for_health(self) -> Health:
        with self._asking:  # many at once would all ask
            if self._health is None:
                self._health = self.call(health())
            return self._health

    def _open(self) -> ByHTTPX | Direct:
        self._check_place()
        if self._carrier is not None:
            return self._carrier
        with self._opening:
            if self._closed:
                raise SandkastenError("This client is closed.", "Make a new SandboxClient.")
            if self._carrier is None:
                if self._target is None:
                    self._daemon = run_in_thread(partial(start_daemon, self._local))
                    self._target = self._daemon.target
                self._opened_in = (os.getpid(), running_loop())
                self._carrier = self._opened_carrier(self._target)
            return self._carrier

    def _opened_carrier(self, target: Target) -> ByHTTPX | Direct:
        if self._given is not None:
            return ByHTTPX(self._given, is_own=False)
        transport = open_transport(target)
        if transport is not None:
            return Direct(transport, target.base_url)
        try:
            return ByHTTPX(open_client(target, self._timeout_seconds), is_own=True)
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
            raise environment_error(error, os.environ) from None

    def _check_place(self) -> None:
        """Make sure that the connections are used where they were opened."""
        if self._opened_in is None:
            return
        process, loop = self._opened_in
        if process != os.getpid():  # two processes would read each other's answers
            raise SandkastenError(
                "This client was used before the fork.", "Make a new SandboxClient after it."
            )
        if loop is not running_loop():
            raise SandkastenError(
                "This client was used in another event loop, to which its connections belong.",
                "Make a new SandboxClient in this one.",
            )

    def _no_answer(self, error: httpx.RequestError, *, in_line: bool = False) -> SandkastenError:
        return no_answer(error, self._name, is_embedded=self._daemon is not None, in_line=in_line)

    def _headers(self, call: Call[Any], request_id: str) -> dict[str, str]:
        headers = {"X-Request-ID": request_id, **(call.headers or {})}
        if self._target is not None and self._target.api_key:
            headers["Authorization"] = f"Bearer {self._target.api_key}"
        if call.key is not None:
            headers["Idempotency-Key"] = call.key
        return headers

    @property
    def _base_url(self) -> str:
        assert self._target is not None
        return self._target.base_url

    @property
    def _name(self) -> str:
        return self._target.name if self._target else "the embedded daemon"


def _gave_up(error: BaseException) -> bool:
    """Return whether the daemon may still be busy with what nobody waits for any more."""
    if isinstance(error, SandkastenConnectionError):
        return not error.never_sent
    return not isinstance(error, Exception)
