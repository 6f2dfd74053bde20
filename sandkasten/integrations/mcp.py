"""A server of the Model Context Protocol, whose tools are the verbs of a sandbox; needs the extra `mcp`.

The command `sandkasten mcp` is all that most clients need. In a program of your own::

    from mcp.client import Client

    from sandkasten import SandboxClient
    from sandkasten.integrations.mcp import SandboxServer

    async with SandboxClient() as client, SandboxServer(client) as server, Client(server.server) as mcp:
        result = await mcp.call_tool("exec", {"command": "python3 --version"})

Each client of the server has a sandbox of its own, made at its first call and ended with it. Errors come to
the model as the text of a result whose `is_error` is true. A call that is cancelled stops its command.
"""

from __future__ import annotations

import asyncio
import hmac
import mimetypes
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from sandkasten._version import __version__
from sandkasten.client import SandboxClient
from sandkasten.errors import (
    SandkastenError,
    SandkastenInputError,
    SessionExpiredError,
    SessionNotFoundError,
)
from sandkasten.integrations._missing import missing
from sandkasten.session import Session

try:
    import mcp_types as types
    from mcp.server import Server
    from mcp.server.context import ServerRequestContext
    from mcp.server.stdio import stdio_server
    from mcp.shared.exceptions import MCPError
    from pydantic import ValidationError
except ModuleNotFoundError as error:
    raise missing(error, "mcp") from None

from sandkasten.integrations._sandboxes import Sandboxes
from sandkasten.integrations._text import error_text, one_line
from sandkasten.integrations._verbs import (
    DEFAULT_MAX_OUTPUT_CHARS,
    DEFAULT_TIMEOUT_MS,
    Options,
    Verb,
    arguments_text,
    chosen,
)

__all__ = ["SandboxServer"]

_INSTRUCTIONS = (
    "A Linux sandbox of your own: run code and keep files in it, nothing outside it can be harmed. "
    "Its shell remembers directory, variables and background jobs from call to call. Files are in "
    "/workspace. As a rule it has no network."
)
_GONE = "The sandbox has ended. The next call gets a new one, without the files and processes of this one."
_SCHEME = "sandbox"
_URI_TEMPLATE = f"{_SCHEME}:///{{+path}}"
_MOST_LISTED = 1000
_MOST_RESOURCE_BYTES = 8 * 1024 * 1024
_PROGRESS_SECONDS = 2.0
# For clients of the protocol without sessions (2026-07-28), over HTTP: the sandbox that is meant.
_SANDBOX_HEADER = "sandkasten-sandbox"
_MOST_NAME_CHARS = 200

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_Context = ServerRequestContext[Any, Any]


class SandboxServer:
    """An MCP server with a sandbox for each client; its sandboxes end with the `with` block.

    Attributes:
        server: the server of the `mcp` package, for transports of your own.
    """

    def __init__(
        self,
        client: SandboxClient,
        create: Callable[[], Awaitable[Session]] | None = None,
        *,
        max_output_chars: int = DEFAULT_MAX_OUTPUT_CHARS,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        only: Collection[str] | None = None,
        allow_install: bool = False,
    ) -> None:
        """Make no sandbox yet.

        Args:
            client: makes the sandboxes.
            create: makes one of them; by default `client.create_session()` does.
            max_output_chars: the length of the longest text that the model gets, at least 1000; what is
                longer loses its middle.
            timeout_ms: the time limit of a command for which the model sets none, in milliseconds.
            only: the names of the tools to offer; None offers all of them.
            allow_install: whether there is the tool `install_packages`; the daemon decides which it may.

        Raises:
            SandkastenInputError: a limit is out of range, or no tool has such a name.
        """
        self._verbs = chosen(only, allow_install=allow_install)
        self._options = Options(max_output_chars, timeout_ms)
        self._sandboxes = Sandboxes(client, create or client.create_session)
        self.server = Server[Any](
            "sandkasten",
            version=__version__,
            title="Sandkasten",
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_resource_templates,
            on_read_resource=self._read_resource,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._sandboxes.__aexit__(exc_type, exc, traceback)

    async def serve_stdio(self) -> None:
        """Serve one client by standard input and output, until the input ends."""
        async with stdio_server() as (reading, writing):
            await self.server.run(reading, writing, self.server.create_initialization_options())

    def http_app(self, api_key: str, host: str = "127.0.0.1") -> App:
        """Return an ASGI application that serves clients at `/mcp`, by the transport *streamable HTTP*.

        Args:
            api_key: the bearer token that each request must have.
            host: the address that it is going to listen on. On one of loopback only requests are answered
                that name it as their host, so that no web page reaches it.
        """
        return _Guarded(self.server.streamable_http_app(host=host), api_key, self._sandboxes.end)

    # --- tools

    async def _list_tools(
        self, _context: _Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(verb) for verb in self._verbs])

    async def _call_tool(
        self, context: _Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        verb = next((verb for verb in self._verbs if verb.tool_name == params.name), None)
        if verb is None:
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {one_line(params.name, 100)}.")
        try:
            call = verb.model_validate(params.arguments or {})
        except ValidationError as error:
            return _text_result(arguments_text(error), is_error=True)
        async with _progress(context, verb.tool_name):
            return await self._perform(_client_of(context), call)

    async def _perform(self, client_name: str, call: Verb) -> types.CallToolResult:
        try:
            session = await self._sandboxes.get(client_name)
            try:
                result = await call.start(session, self._options)
            except (SessionNotFoundError, SessionExpiredError):
                self._sandboxes.forget(client_name, session)
                return _text_result(f"error: {_GONE}", is_error=True)
        except SandkastenError as error:
            return _text_result(error_text(error, self._options.max_output_chars), is_error=True)
        answer = call.answer(result, self._options, session.first_info)
        pictures = [types.ImageContent(data=each.base64, mime_type=each.kind) for each in answer.pictures]
        return types.CallToolResult(content=[types.TextContent(text=answer.text), *pictures])

    # --- resources

    async def _list_resource_templates(
        self, _context: _Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        description = "A file of the sandbox, such as sandbox:///workspace/data.csv."
        template = types.ResourceTemplate(name="file", uri_template=_URI_TEMPLATE, description=description)
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def _list_resources(
        self, context: _Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        with _resource_errors():
            session = await self._sandboxes.get(_client_of(context))
            entries = await session.list("/workspace")
        files = [entry for entry in entries if entry.kind == "file"][:_MOST_LISTED]
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    name=one_line(entry.name),
                    uri=f"{_SCHEME}:///workspace/{quote(entry.name, safe='', errors='surrogateescape')}",
                    mime_type=_media_type(entry.name),
                    size=entry.size_bytes,
                )
                for entry in files
            ]
        )

    async def _read_resource(
        self, context: _Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        path = _path_of(params.uri)
        with _resource_errors():
            session = await self._sandboxes.get(_client_of(context))
            found = await session.read(path, max_bytes=_MOST_RESOURCE_BYTES)
        if found.truncated:
            problem = f"The file is larger than {_MOST_RESOURCE_BYTES} bytes. Read a part of it with a tool."
            raise MCPError(types.INVALID_PARAMS, problem)
        return types.ReadResourceResult(contents=[_contents(params.uri, path, found.content)])


def _contents(uri: str, path: str, content: bytes) -> types.TextResourceContents | types.BlobResourceContents:
    media_type = _media_type(path)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        blob = b64encode(content).decode()
        return types.BlobResourceContents(uri=uri, mime_type=media_type, blob=blob)
    return types.TextResourceContents(uri=uri, mime_type=media_type or "text/plain", text=text)


def _tool(verb: type[Verb]) -> types.Tool:
    schema = verb.model_json_schema()
    del schema["description"]  # it is the tool's
    annotations = types.ToolAnnotations(
        read_only_hint=verb.is_read_only,
        destructive_hint=not verb.is_read_only,
        idempotent_hint=verb.is_read_only,
        open_world_hint=False,
    )
    return types.Tool(
        name=verb.tool_name, description=verb.about(None), input_schema=schema, annotations=annotations
    )


def _text_result(text: str, *, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=is_error)


def _client_of(context: _Context) -> str:
    """Return the name of the client that asks: the same for all of its requests.

    By standard input there is one. Over HTTP a client has the id of its session; in the protocol without
    sessions it may name a sandbox in a header, and all those that do not have one in common.
    """
    headers = getattr(context.request, "headers", None)
    if headers is None:
        return "stdio"
    if session_id := headers.get("mcp-session-id"):
        return f"session {session_id}"
    name = headers.get(_SANDBOX_HEADER, "")
    if len(name) > _MOST_NAME_CHARS:
        sentence = f"{_SANDBOX_HEADER} has more than {_MOST_NAME_CHARS} characters. Choose a shorter name."
        raise MCPError(types.INVALID_PARAMS, sentence)
    return f"named {name}"


@asynccontextmanager
async def _progress(context: _Context, name: str) -> AsyncGenerator[None, None]:
    """Say every now and then that a call goes on, to a client that wants to know."""

    async def report() -> None:
        seconds = 0.0
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            seconds += _PROGRESS_SECONDS
            await context.session.report_progress(seconds, message=f"{name} goes on")

    task = asyncio.create_task(report())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def _resource_errors() -> Generator[None, None, None]:
    """Turn errors of a sandbox into those of the protocol."""
    try:
        yield
    except SandkastenError as error:
        raise MCPError(types.INVALID_PARAMS, one_line(str(error), 1000)) from error


def _path_of(uri: str) -> str:
    parts = urlsplit(uri)
    path = unquote(parts.path, errors="surrogateescape")
    if parts.scheme != _SCHEME or parts.netloc or not path.startswith("/") or "\0" in path:
        sentence = (
            f"{one_line(uri, 200)} is no file of the sandbox. Ask for one such as sandbox:///workspace/x."
        )
        raise MCPError(types.INVALID_PARAMS, sentence)
    return path


def _media_type(path: str) -> str | None:
    return mimetypes.guess_type(PurePosixPath(path).name)[0]


class _Guarded:
    """An application for those who have the key; it hears of clients that end their session."""

    def __init__(self, app: App, api_key: str, end: Callable[[str], Awaitable[None]]) -> None:
        if not api_key:
            raise SandkastenInputError("api_key is empty.", "Give one that nobody can guess.")
        self._app = app
        self._expected = f"Bearer {api_key}".encode()
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            await _refuse(send)
            return
        session_id = headers.get(b"mcp-session-id", b"").decode("latin-1")
        if scope["method"] == "DELETE" and session_id:
            send = partial(self._watch, send, session_id)
        await self._app(scope, receive, send)

    async def _watch(self, send: Send, session_id: str, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] < 300:
            with suppress(SandkastenError):
                await self._end(f"session {session_id}")
        await send(message)


async def _refuse(send: Send) -> None:
    body = b'{"error": "The key is missing or wrong. Send it as: Authorization: Bearer KEY"}'
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
