"""The status of paths, in sessions and workspaces, on daemons with the extension and without."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from sandkasten.errors import (
    ExtensionMissingError,
    InvalidRequestError,
    SandboxFileNotFoundError,
    SandboxNotADirectoryError,
    SandkastenError,
    SandkastenInputError,
    SessionNotFoundError,
    WorkspaceNotFoundError,
)
from sandkasten.models import FileStat
from tests.go_daemon import GoDaemon

from .seam import SandboxClient, Session

SETUP = r"""
cd /workspace && mkdir -p d/e && printf 123456 >d/f && chmod 751 d/f && chmod 1777 d/e && mkfifo pipe
touch -d '2001-02-03 04:05:06 UTC' d/f
ln -s d/f link; ln -s d to-d; ln -s nowhere dangling; ln -s loop loop; ln -s $'odd\nna:me' odd
"""
MOMENT = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture
async def go_client(go_daemon: GoDaemon) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client:
        yield client


@pytest.fixture(params=["with the extension", "without"])
async def any_session(
    request: pytest.FixtureRequest, client: SandboxClient, go_client: SandboxClient
) -> AsyncIterator[Session]:
    chosen = go_client if request.param == "without" else client
    async with await chosen.create_session(workspace_id="what-paths-are") as session:
        (await session.exec(f"rm -rf /workspace/*; {SETUP}")).check()
        yield session


async def test_kind_size_mode_and_time_of_what_a_path_leads_to(any_session: Session) -> None:
    file = FileStat("d/f", "file", 6, 0o751, MOMENT)
    assert await any_session.stat("d/f") == file
    assert await any_session.stat(PurePosixPath("/workspace/d/../d/f/")) == FileStat(
        "/workspace/d/../d/f", "file", 6, 0o751, MOMENT
    )
    for path, kind, mode in (
        ("d/e", "directory", 0o1777),
        ("pipe", "other", 0o644),
        (".", "directory", None),
    ):
        found = await any_session.stat(path)
        assert (found.path, found.kind, found.is_dir) == (path, kind, kind == "directory")
        assert mode in {None, found.mode}
        assert found.modified_at is not None
        assert found.link_target is None


async def test_symlinks_are_followed_unless_it_is_said_otherwise(any_session: Session) -> None:
    for path, kind in (("link", "file"), ("to-d", "directory"), ("to-d/f", "file")):
        assert (await any_session.stat(path)).kind == kind
    for path, target in (
        ("link", "d/f"), ("to-d", "d"), ("dangling", "nowhere"), ("loop", "loop"), ("odd", "odd\nna:me"),
    ):  # fmt: skip
        found = await any_session.stat(path, follow_symlinks=False)
        assert (found.kind, found.link_target) == ("symlink", target)
    below = await any_session.stat("to-d/f", follow_symlinks=False)
    assert (below.kind, below.size_bytes, below.link_target) == ("file", 6, None)


async def test_what_is_not_there_is_not_found(any_session: Session) -> None:
    for path in ("missing", "missing/f", "dangling"):
        with pytest.raises(SandboxFileNotFoundError):
            await any_session.stat(path)
    with pytest.raises(SandboxNotADirectoryError) as caught:
        await any_session.stat("d/f/g")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOTDIR, "d/f/g")
    for path in ("missing", "to-d/missing"):
        with pytest.raises(SandboxFileNotFoundError):
            await any_session.stat(path, follow_symlinks=False)
    with pytest.raises(SandkastenError):
        await any_session.stat("loop")


@pytest.mark.parametrize("path", ["/proc", "../proc/1", "a/../../dev/null", "/sys"])
async def test_paths_outside_are_refused(any_session: Session, path: str) -> None:
    with pytest.raises(InvalidRequestError):
        await any_session.stat(path)


async def test_a_path_must_be_one(any_session: Session) -> None:
    for path in ("", "a\0b"):
        with pytest.raises(SandkastenInputError):
            await any_session.stat(path)


async def test_names_and_targets_may_be_any_bytes(session: Session) -> None:
    await session.exec(r"echo > $'caf\xe9'; ln -s $'caf\xe9' link")
    assert await session.stat("caf\udce9") == await session.stat("caf\udce9", follow_symlinks=False)
    assert (await session.stat("link", follow_symlinks=False)).link_target == "caf\udce9"
    assert (await session.stat("caf\udce9")).path == "caf\udce9"


async def test_a_session_says_it_while_a_command_runs(session: Session) -> None:
    async with session.exec_stream("echo > f; echo begun; sleep 100") as stream:
        async for _ in stream:
            assert (await session.stat("f")).size_bytes == 1
            break


async def test_of_a_session_that_is_gone_nothing_is_said(client: SandboxClient) -> None:
    session = await client.create_session()
    await session.destroy()
    with pytest.raises(SessionNotFoundError):
        await session.stat("f")


async def test_a_workspace_says_it_without_a_session(client: SandboxClient) -> None:
    workspace = client.workspace("paths-without-a-session")
    with pytest.raises(WorkspaceNotFoundError):
        await workspace.stat("d/f")
    await workspace.write("d/f", b"123456")
    found = await workspace.stat("/workspace/d/f")
    assert (found.kind, found.size_bytes, found.mode) == ("file", 6, 0o644)
    assert (await workspace.stat(".")).is_dir
    with pytest.raises(SandboxFileNotFoundError):
        await workspace.stat("missing")
    await workspace.delete()


async def test_of_a_workspace_without_the_extension_the_kind_is_known(go_client: SandboxClient) -> None:
    workspace = go_client.workspace("kinds-without-a-session")
    await workspace.write("d/f", b"123456")
    assert await workspace.stat("/workspace/d/f") == FileStat("/workspace/d/f", "file")
    for path in ("d", ".", "/workspace"):
        assert await workspace.stat(path) == FileStat(path, "directory")
    with pytest.raises(SandboxFileNotFoundError):
        await workspace.stat("missing")
    with pytest.raises(ExtensionMissingError, match="Create a session with this workspace_id"):
        await workspace.stat("d/f", follow_symlinks=False)
    await workspace.delete()
