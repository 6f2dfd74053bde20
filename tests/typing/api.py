"""The whole public API, as a type checker sees it; this file is checked and never run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

import sandkasten
import sandkasten_sync
from sandkasten import (
    DirEntry,
    ExecChunk,
    ExecResult,
    FileStat,
    Health,
    ReadResult,
    SandkastenAPIError,
    SessionInfo,
    SessionStats,
    WorkspaceInfo,
)


async def of_async(path: Path) -> None:
    async with sandkasten.SandboxClient(base_url="http://localhost:8080", api_key="k", timeout=5) as client:
        assert_type(client, sandkasten.SandboxClient)
        assert_type(await client.health(), Health)
        assert_type(await client.list_sessions(), list[SessionInfo])
        assert_type(await client.list_workspaces(), list[WorkspaceInfo])
        assert_type(await client.get_session("id"), sandkasten.Session)
        async with await client.create_session(image="base", ttl_seconds=1, workspace_id="ws") as session:
            assert_type(session, sandkasten.Session)
            assert_type(session.id, str)
            assert_type(await session.exec("true", timeout_ms=1, raw_output=True), ExecResult)
            async with session.exec_stream("true") as stream:
                assert_type(stream, sandkasten.ExecStream)
                async for chunk in stream:
                    assert_type(chunk, ExecChunk)
                assert_type(stream.result, ExecResult)
            assert_type(await session.write("a", b"b"), None)
            assert_type(await session.read("a", max_bytes=1), ReadResult)
            assert_type(await session.upload(path, dest_path="d", filename="f"), list[str])
            with path.open("rb") as file:
                await session.upload(file, on_progress=print)
            assert_type(await session.download("a", path, max_bytes=1, on_progress=print), Path)
            assert_type(await session.stats(), SessionStats)
            assert_type(await session.info(), SessionInfo)
            assert_type(await session.destroy(), None)
        workspace = client.workspace("ws")
        assert_type(await workspace.list("dir"), list[DirEntry])
        assert_type(await workspace.stat("dir", follow_symlinks=False), FileStat)
        assert_type(await workspace.read("a"), ReadResult)
        await workspace.delete()
        await client.delete_workspace("ws")
        await client.close()


def of_blocking(path: Path) -> None:
    with sandkasten_sync.SandboxClient(local=sandkasten_sync.LocalOptions(data_dir=path)) as client:
        assert_type(client, sandkasten_sync.SandboxClient)
        with client.create_session() as session:
            assert_type(session, sandkasten_sync.Session)
            assert_type(session.exec("true"), ExecResult)
            assert_type(session.exec("true").check().ok, bool)
            for chunk in session.exec_stream("true"):
                assert_type(chunk.exit_code, int | None)
                assert_type(chunk.timestamp, datetime)
            assert_type(session.upload(path), list[str])
            assert_type(session.download("a", "b"), Path)
        assert_type(client.workspace("ws").list(), list[DirEntry])


def of_errors(error: SandkastenAPIError) -> None:
    assert_type(error.status_code, int)
    assert_type(error.error_code, str | None)
    assert_type(error.details, Mapping[str, Any])
    if isinstance(error, sandkasten.ExecTimeoutError):
        assert_type(error.output, str)
        assert_type(error.cwd, str | None)
        assert_type(error.shell_restarted, bool)
