"""The MCP server, asked by the protocol's own client, in both eras of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent, TextResourceContents

from sandkasten import SandboxClient, SandkastenInputError, Session, SessionNotFoundError
from sandkasten.integrations import mcp as module
from sandkasten.integrations._sandboxes import Sandboxes
from sandkasten.integrations._verbs import VERBS
from sandkasten.integrations.mcp import SandboxServer
from sandkasten.local.launch import LocalDaemon
from tests.integrations.test_langchain import FIGURE

KEY = "k" * 40
HEADERS = {
    "Authorization": f"Bearer {KEY}",
    "Accept": "application/json, text/event-stream",
    "Host": "127.0.0.1:1",
}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


class Server(SandboxServer):
    """A server that notes the sessions it makes."""

    def __init__(self, client: SandboxClient, **options: Any) -> None:
        """Make no sandbox yet."""
        self.sessions: list[Session] = []

        async def create() -> Session:
            self.sessions.append(await client.create_session())
            return self.sessions[-1]

        super().__init__(client, create, **options)


@pytest.fixture
async def server(client: SandboxClient) -> AsyncIterator[Server]:
    async with Server(client) as server:
        yield server


@pytest.fixture(params=["legacy", "auto"])
async def mcp(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with Client(server.server, mode=request.param) as mcp:
        yield mcp


def text_of(result: CallToolResult) -> str:
    [content] = result.content
    assert isinstance(content, TextContent)
    return content.text


async def run(mcp: Client, command: str) -> str:
    result = await mcp.call_tool("exec", {"command": command})
    assert not result.is_error, result
    return text_of(result).partition("\n")[2]


async def test_the_tools_are_the_verbs_and_say_which_only_look(mcp: Client) -> None:
    tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
    assert list(tools) == [verb.tool_name for verb in VERBS]
    for verb in VERBS:
        tool = tools[verb.tool_name]
        assert tool.description
        assert tool.input_schema["type"] == "object"
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is verb.is_read_only
    assert not {"exec", "write"} & {name for name, tool in tools.items() if tool.annotations.read_only_hint}
    assert tools["read"].annotations.read_only_hint
    assert "sandbox" in (mcp.instructions or "")


async def test_the_sandbox_is_made_when_it_is_needed_remembers_and_ends_with_the_server(
    client: SandboxClient,
) -> None:
    async with Server(client) as server, Client(server.server) as mcp:
        await mcp.list_tools()
        assert server.sessions == []
        assert await run(mcp, "cd /tmp; x=1; echo hello") == "hello\n"
        assert await run(mcp, "echo $x $PWD") == "1 /tmp\n"
        [session] = server.sessions
    with pytest.raises(SessionNotFoundError):
        await session.info()


async def test_figures_are_pictures_beside_the_text(mcp: Client) -> None:
    shown = await mcp.call_tool("run_python", {"code": FIGURE})
    assert [each.type for each in shown.content] == ["text", "image"]


async def test_what_goes_wrong_comes_to_the_model_as_text(mcp: Client, server: Server) -> None:
    failed = await mcp.call_tool("exec", {"command": "exit 3"})
    assert not failed.is_error
    assert text_of(failed).startswith("exit code 3")
    for name, arguments, sentence in (
        ("exec", {"cmd": "ls"}, "command: Field required"),
        ("read", {"path": "missing"}, "'missing' does not exist"),
        ("exec", {"command": "echo before; sleep 60", "timeout_seconds": 1}, "before"),
    ):
        result = await mcp.call_tool(name, arguments)
        assert result.is_error
        assert sentence in text_of(result)
    with pytest.raises(MCPError, match="no tool nonsense"):
        await mcp.call_tool("nonsense", {})
    [session] = server.sessions
    await session.destroy()
    gone = await mcp.call_tool("exec", {"command": "ls"})
    assert gone.is_error
    assert "has ended. The next call gets a new one" in text_of(gone)
    assert await run(mcp, "echo new") == "new\n"


async def test_a_server_may_offer_some_tools_only(client: SandboxClient) -> None:
    async with Server(client, only=["exec", "read"]) as server, Client(server.server) as mcp:
        assert [tool.name for tool in (await mcp.list_tools()).tools] == ["exec", "read"]
        with pytest.raises(MCPError, match="no tool write"):
            await mcp.call_tool("write", {"path": "x", "content": ""})
        assert server.sessions == []


async def test_a_server_may_let_a_model_install_packages(package_daemon: LocalDaemon) -> None:
    target = package_daemon.target
    async with (
        SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client,
        Server(client, only=["exec", "install_packages"], allow_install=True) as server,
        Client(server.server) as mcp,
    ):
        assert [tool.name for tool in (await mcp.list_tools()).tools] == ["exec", "install_packages"]
        result = await mcp.call_tool("install_packages", {"packages": ["six"]})
        assert text_of(result) == "installed: six 1.0"
        refused = await mcp.call_tool("install_packages", {"packages": ["nosuch"]})
        assert refused.is_error
        assert text_of(refused) == "error: The package index has no package nosuch. Look at its spelling."


async def test_output_has_a_bound(client: SandboxClient) -> None:
    async with Server(client, max_output_chars=1000) as server, Client(server.server) as mcp:
        result = await mcp.call_tool("exec", {"command": "head -c 10000000 /dev/zero | tr '\\0' x"})
        assert len(text_of(result)) <= 1000
    with pytest.raises(SandkastenInputError):
        SandboxServer(client, max_output_chars=1)


async def test_a_call_that_is_cancelled_stops_its_command(mcp: Client, server: Server) -> None:
    await run(mcp, "mkfifo started")
    call = asyncio.create_task(mcp.call_tool("exec", {"command": "echo > started; sleep 7741"}))
    # Another way to look, since the shell is in use.
    [session] = server.sessions
    assert (await session.run("read < started; until pgrep -f '[s]leep 7741'; do :; done")).ok
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await run(mcp, "pgrep -f '[s]leep 7741' | wc -l") == "0\n"


async def test_a_client_that_wants_to_know_hears_that_a_long_call_goes_on(
    mcp: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PROGRESS_SECONDS", 0.01)
    await run(mcp, "mkfifo go")
    [session] = server.sessions
    heard: list[tuple[float, str | None]] = []

    async def hear(progress: float, _total: float | None, message: str | None) -> None:
        heard.append((progress, message))
        if len(heard) == 2:
            await session.run("echo > go")

    await mcp.call_tool("exec", {"command": "read < go"}, progress_callback=hear)
    assert heard[1][0] > heard[0][0] > 0
    assert heard[0][1] == "exec goes on"


async def test_files_are_resources(mcp: Client) -> None:
    await run(mcp, "echo text > 'a b.txt'; printf '\\xff\\x00' > picture.png; mkdir d; echo deep > d/x")
    files = {file.name: file for file in (await mcp.list_resources()).resources}
    assert {(file.name, file.mime_type, file.size) for file in files.values()} == {
        ("a b.txt", "text/plain", 5),
        ("picture.png", "image/png", 2),
    }
    [text] = (await mcp.read_resource(files["a b.txt"].uri)).contents
    assert isinstance(text, TextResourceContents)
    assert text.text == "text\n"
    [blob] = (await mcp.read_resource(files["picture.png"].uri)).contents
    assert (getattr(blob, "blob", None), blob.mime_type) == ("/wA=", "image/png")
    [template] = (await mcp.list_resource_templates()).resource_templates
    deep = template.uri_template.replace("{+path}", "workspace/d/x")
    [found] = (await mcp.read_resource(deep)).contents
    assert getattr(found, "text", None) == "deep\n"
    await run(mcp, "head -c 9000000 /dev/zero > large")
    for uri, sentence in {
        "file:///etc/passwd": "no file of the sandbox",
        "sandbox://host/workspace/x": "no file of the sandbox",
        "sandbox:///workspace/%00": "no file of the sandbox",
        "sandbox:///workspace/missing": "does not exist",
        "sandbox:///workspace/d": "directory",
        "sandbox:///workspace/large": "larger than",
    }.items():
        with pytest.raises(MCPError, match=sentence):
            await mcp.read_resource(uri)


# --- over HTTP


@asynccontextmanager
async def http_client(server: SandboxServer) -> AsyncIterator[httpx.AsyncClient]:
    """Ask the application itself, with its lifespan around."""
    app = server.http_app(KEY)
    inner: Any = server.server.session_manager
    async with (
        inner.run(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:1") as client,
    ):
        yield client


async def call(client: httpx.AsyncClient, headers: dict[str, str], command: str) -> str:
    body = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "exec", "arguments": {"command": command}},
    }
    answer = await client.post("/mcp", json=body, headers=HEADERS | headers)
    assert answer.status_code == 200, answer.text
    return answer.text


async def begin(client: httpx.AsyncClient) -> dict[str, str]:
    answer = await client.post("/mcp", json=INITIALIZE, headers=HEADERS)
    headers = {"Mcp-Session-Id": answer.headers["mcp-session-id"]}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await client.post("/mcp", json=ready, headers=HEADERS | headers)
    return headers


async def test_over_http_each_client_has_a_sandbox_that_ends_with_it(server: Server) -> None:
    async with http_client(server) as client:
        first, second = await begin(client), await begin(client)
        await call(client, first, "x=first")
        await call(client, second, "x=second")
        assert "got first" in await call(client, first, "echo got $x")
        assert "got second" in await call(client, second, "echo got $x")
        await client.delete("/mcp", headers=HEADERS | first)
        assert (await server.sessions[1].exec("true")).ok
        with pytest.raises(SessionNotFoundError):
            await server.sessions[0].info()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer " + "x" * 40}, 401),
        ({"Authorization": KEY}, 401),
        ({"Host": "evil.example:1"}, 421),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
async def test_over_http_nobody_else_is_let_in(server: Server, change: dict[str, str], status: int) -> None:
    async with http_client(server) as client:
        answer = await client.post("/mcp", json=INITIALIZE, headers=HEADERS | change)
        assert answer.status_code == status
    assert server.sessions == []


async def test_a_key_that_everybody_knows_is_refused(client: SandboxClient) -> None:
    with pytest.raises(SandkastenInputError):
        SandboxServer(client).http_app("")


# --- sandboxes by name


async def test_the_number_of_sandboxes_is_bounded_and_those_that_ended_do_not_count(
    client: SandboxClient,
) -> None:
    async with AsyncExitStack() as stack:
        sandboxes = await stack.enter_async_context(Sandboxes(client, client.create_session, 2))
        first, second = await asyncio.gather(sandboxes.get("a"), sandboxes.get("b"))
        assert await sandboxes.get("a") is first
        with pytest.raises(SandkastenInputError, match="2 sandboxes already"):
            await sandboxes.get("c")
        await second.destroy()
        assert (await (await sandboxes.get("c")).exec("true")).ok
    with pytest.raises(SessionNotFoundError):
        await first.info()


async def test_a_sandbox_that_has_ended_does_not_keep_others_from_their_end(client: SandboxClient) -> None:
    async with Sandboxes(client, client.create_session) as sandboxes:
        first, second, third = [await sandboxes.get(name) for name in "abc"]
        await second.destroy()
    for session in (first, third):
        with pytest.raises(SessionNotFoundError):
            await session.info()


async def test_two_calls_at_once_make_one_sandbox_and_one_that_fails_leaves_nothing(
    client: SandboxClient,
) -> None:
    made = 0

    async def create() -> Session:
        nonlocal made
        made += 1
        if made == 1:
            raise SandkastenInputError("Not now.", "Try again.")
        return await client.create_session()

    async with Sandboxes(client, create) as sandboxes:
        with pytest.raises(SandkastenInputError):
            await sandboxes.get("a")
        one, other = await asyncio.gather(sandboxes.get("a"), sandboxes.get("a"))
        assert one is other
    assert made == 2
