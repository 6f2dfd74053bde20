"""The tools of one agent's session; `sandkasten.integrations.anthropic` says more."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from sandkasten._cut import CappedText
from sandkasten.client import SandboxClient
from sandkasten.errors import ExecTimeoutError
from sandkasten.integrations._missing import missing
from sandkasten.session import Session

try:
    from anthropic import beta_async_tool
    from anthropic.lib.tools import ToolError
    from anthropic.lib.tools.agent_toolset import AgentToolContext
    from anthropic.types import beta as shapes
except ModuleNotFoundError as error:
    raise missing(error, "anthropic") from None

from sandkasten.integrations._adapters.making import made
from sandkasten.integrations._adapters.whole import GONE
from sandkasten.integrations._text import FIXABLE

__all__ = ["SandkastenToolset"]

_DEFAULT_TIMEOUT_MS, _MOST_TIMEOUT_MS = 110_000, 600_000
_KEEP_BYTES = 100 * 1024
_MOST_TEXT_BYTES = 256 * 1024
_MOST_PATHS = 200
# By the end of a name: the kind of block, its media type, and the size of the largest file, in bytes.
_BLOCKS = {
    ".png": ("image", "image/png", 3_900_000),
    ".jpg": ("image", "image/jpeg", 3_900_000),
    ".jpeg": ("image", "image/jpeg", 3_900_000),
    ".gif": ("image", "image/gif", 3_900_000),
    ".webp": ("image", "image/webp", 3_900_000),
    ".pdf": ("document", "application/pdf", 20 * 1024 * 1024),
}


class SandkastenToolset:
    """A factory of tools, which the worker calls once for each session of an agent."""

    def __init__(self, client: SandboxClient, **options: Any) -> None:
        """Send nothing yet; `options` are those of `SandboxClient.create_session`."""
        self._client = client
        self._options = options

    def __call__(self, env: AgentToolContext) -> list[Any]:
        """Return the tools for one session; the first call makes a sandbox, and the worker ends it.

        The agent's skills, which the worker downloads, are copied into the sandbox.
        """
        place = _Place(self._client, self._options, Path(env.workdir))
        tools = [
            beta_async_tool(name=name, input_schema=shape)(_checked(name, getattr(place, name)))
            for name, shape in (
                ("bash", shapes.BetaManagedAgentsAgentToolset20260401BashInput),
                ("read", shapes.BetaManagedAgentsAgentToolset20260401ReadInput),
                ("write", shapes.BetaManagedAgentsAgentToolset20260401WriteInput),
                ("edit", shapes.BetaManagedAgentsAgentToolset20260401EditInput),
                ("glob", shapes.BetaManagedAgentsAgentToolset20260401GlobInput),
                ("grep", shapes.BetaManagedAgentsAgentToolset20260401GrepInput),
            )
        ]
        for tool in tools:
            tool.aclose = place.close  # the worker calls it, whichever tool was used
        return tools


class _Place:
    """The sandbox of one session, and its tools."""

    def __init__(self, client: SandboxClient, options: dict[str, Any], workdir: Path) -> None:
        self._client = client
        self._options = options
        self._workdir = workdir
        self._session: Session | None = None
        self._lock = asyncio.Lock()

    async def session(self) -> Session:
        async with self._lock:
            if self._session is None:
                making = self._client.create_session(**self._options)
                self._session = await made(making, Session.destroy)
                skills = self._workdir / "skills"
                if await asyncio.to_thread(skills.is_dir):
                    await self._session.upload(skills)
            return self._session

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(*GONE):  # gone is what was wanted
                await session.destroy()

    async def bash(
        self, command: str | None = None, restart: bool | None = None, timeout_ms: int | None = None
    ) -> str:
        """Run a command in a bash that remembers."""
        session = await self.session()
        if restart:
            await session.exec("exit 0")  # a new shell takes its place
            return "bash session restarted"
        if not command:
            raise ToolError("bash: command is required")
        limit_ms = min(timeout_ms or _DEFAULT_TIMEOUT_MS, _MOST_TIMEOUT_MS)
        try:
            result = await session.exec(command, timeout_ms=limit_ms)
        except ExecTimeoutError as error:
            raise ToolError(_after(error.output, f"bash: stopped after {limit_ms} ms")) from error
        if result.exit_code:
            raise ToolError(_after(result.output, f"exit code {result.exit_code}"))
        return _short(result.output)

    async def read(self, file_path: str, view_range: list[int] | None = None) -> Any:
        """Read a text file, a picture or a PDF."""
        session = await self.session()
        kind, media_type, most_bytes = _BLOCKS.get(
            PurePosixPath(file_path).suffix.lower(), ("text", "", _MOST_TEXT_BYTES)
        )
        if view_range:
            if len(view_range) != 2 or kind != "text":
                raise ToolError("read: view_range is [start_line, end_line], of a text file")
            first, last = max(1, view_range[0]), "$" if view_range[1] <= 0 else str(view_range[1])
            done = await session.run(
                ["sed", "-n", f"{first},{last}p", "--", file_path], keep_bytes=_MOST_TEXT_BYTES
            )
            if not done.ok:
                raise ToolError(f"read: {done.stderr.strip()}")
            return done.stdout
        found = await session.read(file_path, max_bytes=most_bytes)
        if found.truncated:
            raise ToolError(f"read: {file_path} has more than {most_bytes:,} bytes; use view_range")
        if kind == "text":
            return found.content.decode()
        data = base64.b64encode(found.content).decode()
        return [{"type": kind, "source": {"type": "base64", "media_type": media_type, "data": data}}]

    async def write(self, file_path: str, content: str) -> str:
        """Write a file, and missing directories."""
        await (await self.session()).write(file_path, content)
        return f"wrote {len(content.encode())} bytes to {file_path}"

    async def edit(
        self, file_path: str, old_string: str, new_string: str, replace_all: bool | None = None
    ) -> str:
        """Replace a text in a file."""
        session = await self.session()
        found = await session.read(file_path, max_bytes=_MOST_TEXT_BYTES)
        if found.truncated:
            raise ToolError(f"edit: {file_path} has more than {_MOST_TEXT_BYTES:,} bytes")
        text = found.content.decode()
        count = text.count(old_string) if old_string else 0
        if not count or (count > 1 and not replace_all):
            raise ToolError(f"edit: old_string is {count} times in {file_path}")
        await session.write(file_path, text.replace(old_string, new_string))
        return f"edited {file_path} ({count} replacements)"

    async def glob(self, pattern: str, path: str | None = None) -> str:
        """Find files by a pattern."""
        found = await (await self.session()).glob(pattern, path or "/workspace")
        return "\n".join(found[:_MOST_PATHS]) or "no matches"

    async def grep(self, pattern: str, path: str | None = None) -> str:
        """Search in files for a regular expression."""
        found = await (await self.session()).search(pattern, path or "/workspace")
        lines = (f"{each.path}:{each.line_number}:{each.line}" for each in found.matches)
        return _short("\n".join(lines)) or "no matches"


def _checked(name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a tool whose errors that a model can fix are texts for it."""

    @functools.wraps(method)
    async def tool(*args: Any, **given: Any) -> Any:
        try:
            return await method(*args, **given)
        except UnicodeDecodeError as error:
            raise ToolError(f"{name}: it is no UTF-8 text") from error
        except FIXABLE as error:
            raise ToolError(f"{name}: {error}") from error

    return tool


def _after(output: str, sentence: str) -> str:
    return f"{_short(output).rstrip()}\n{sentence}".removeprefix("\n")


def _short(text: str) -> str:
    kept = CappedText(_KEEP_BYTES)
    kept.add(text)
    return kept.text()
