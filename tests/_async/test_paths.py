"""Changes of paths, in sessions and workspaces, on daemons with the extension and without."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from functools import partial
from pathlib import PurePosixPath

import pytest

from sandkasten.errors import (
    ExtensionMissingError,
    InvalidRequestError,
    SandboxDirectoryNotEmptyError,
    SandboxFileExistsError,
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandboxNotADirectoryError,
    SandboxPermissionError,
    SandkastenInputError,
    WorkspaceNotFoundError,
)
from tests.go_daemon import GoDaemon

from .seam import SandboxClient, Session

SETUP = r"""
cd /workspace && mkdir -p d/e empty && printf 123456 >d/f && chmod 751 d/f && printf x >d/e/g
ln -s d/f link; ln -s d to-d; ln -s nowhere dangling; mkfifo pipe
"""


@pytest.fixture
async def go_client(go_daemon: GoDaemon) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client:
        yield client


@pytest.fixture(params=["with the extension", "without"])
async def any_session(
    request: pytest.FixtureRequest, client: SandboxClient, go_client: SandboxClient
) -> AsyncIterator[Session]:
    chosen = go_client if request.param == "without" else client
    async with await chosen.create_session(workspace_id="changed-paths") as session:
        (await session.exec(f"chmod -R u+rwX /workspace; rm -rf /workspace/*; {SETUP}")).check()
        yield session


async def found(session: Session) -> str:
    result = await session.exec(r"cd /workspace; find . -mindepth 1 -printf '%P '")
    return " ".join(sorted(result.output.split()))


async def test_what_is_there_exists(any_session: Session) -> None:
    for path in ("d", "d/f", "link", "to-d/e", ".", PurePosixPath("/workspace/pipe")):
        assert await any_session.exists(path)
    for path in ("missing", "missing/f", "d/f/g", "dangling"):
        assert not await any_session.exists(path)
    assert await any_session.exists("dangling", follow_symlinks=False)
    with pytest.raises(InvalidRequestError):
        await any_session.exists("/proc")


async def test_directories_are_made_with_their_parents(any_session: Session) -> None:
    await any_session.mkdir("a/b/c")
    await any_session.mkdir("/workspace/to-d/new", parents=False)
    assert (await any_session.stat("d/new")).is_dir
    for path in ("a/b/c", "d/f", "dangling", "to-d"):
        with pytest.raises(SandboxFileExistsError) as caught:
            await any_session.mkdir(path)
    assert caught.value.errno == errno.EEXIST
    for path in ("a/b/c", "to-d", "/workspace"):
        await any_session.mkdir(path, exist_ok=True)
    with pytest.raises(SandboxFileExistsError):
        await any_session.mkdir("d/f", exist_ok=True)
    with pytest.raises(SandboxFileNotFoundError):
        await any_session.mkdir("x/y", parents=False)
    with pytest.raises(SandboxNotADirectoryError):
        await any_session.mkdir("d/f/g", parents=False)


async def test_files_links_and_empty_directories_are_removed(any_session: Session) -> None:
    for path in ("d/f", "dangling", "to-d", "empty", "pipe"):
        await any_session.remove(path)
    assert await found(any_session) == "d d/e d/e/g link"
    with pytest.raises(SandboxFileNotFoundError):
        await any_session.remove("d/f")
    await any_session.remove("d/f", missing_ok=True)
    with pytest.raises(SandboxDirectoryNotEmptyError):
        await any_session.remove("d")


async def test_a_directory_goes_with_all_that_is_in_it_and_nothing_that_links_lead_to(
    any_session: Session,
) -> None:
    await any_session.exec("mkdir kept && touch kept/f && ln -s ../kept d/e/link && ln -s /etc d/e/etc")
    await any_session.remove("d", recursive=True)
    assert await found(any_session) == "dangling empty kept kept/f link pipe to-d"


async def test_the_workspace_itself_stays(any_session: Session) -> None:
    for path in (".", "/workspace", "d/.."):
        with pytest.raises(InvalidRequestError):
            await any_session.remove(path, recursive=True)
        with pytest.raises(InvalidRequestError):
            await any_session.move(path, "elsewhere")
        with pytest.raises(InvalidRequestError):
            await any_session.copy("d", path, overwrite=True)
    assert await any_session.exists("d/e/g")


async def test_files_and_directories_are_moved(any_session: Session) -> None:
    await any_session.move("d/f", "new/place/f")
    assert (await any_session.read("new/place/f")).content == b"123456"
    await any_session.move("d", "new/d")
    await any_session.move("dangling", "moved-link")
    assert (await any_session.stat("moved-link", follow_symlinks=False)).link_target == "nowhere"
    assert await any_session.exists("new/d/e/g")
    with pytest.raises(SandboxFileNotFoundError):
        await any_session.move("d", "x")
    with pytest.raises(InvalidRequestError):
        await any_session.move("new", "new/place/below")


async def test_nothing_is_replaced_unless_that_is_wanted(any_session: Session) -> None:
    await any_session.write("other", "new")
    for verb in (any_session.move, any_session.copy):
        for to in ("d/f", "empty", "dangling"):
            with pytest.raises(SandboxFileExistsError):
                await verb("other", to)
        for directory in ("d", "empty"):
            with pytest.raises(SandboxIsDirectoryError):
                await verb("other", directory, overwrite=True)
        with pytest.raises(SandboxNotADirectoryError):
            await verb("empty", "d/f", overwrite=True)
        with pytest.raises(SandboxDirectoryNotEmptyError):
            await verb("empty", "d", overwrite=True)
    await any_session.copy("other", "d/f", overwrite=True)
    await any_session.move("other", "link", overwrite=True)
    await any_session.copy("d", "empty", overwrite=True)
    assert (await any_session.read("link")).content == (await any_session.read("empty/f")).content == b"new"
    assert (await any_session.stat("link", follow_symlinks=False)).kind == "file"


async def test_copies_keep_permissions_and_links_and_are_their_own(any_session: Session) -> None:
    await any_session.exec("ln -s f d/to-f; ln -s /etc d/etc; mkdir -m 555 d/locked; chmod 750 d")
    await any_session.copy("to-d", "copies/d")
    await any_session.copy("link", "copies/f")
    await any_session.write("d/f", "changed")
    assert (await any_session.read("copies/d/f")).content == b"123456"
    assert (await any_session.stat("copies/d/f")).mode == (await any_session.stat("copies/f")).mode == 0o751
    assert (await any_session.stat("copies/d")).mode == 0o750
    assert (await any_session.stat("copies/d/locked")).mode == 0o555
    assert (await any_session.stat("copies/d/etc", follow_symlinks=False)).link_target == "/etc"
    assert (await any_session.stat("copies/f", follow_symlinks=False)).kind == "file"
    await any_session.copy("d", "d/itself")
    everything = await found(any_session)
    assert "d/itself/e/g" in everything
    assert ".sandkasten" not in everything


async def test_a_write_goes_through_links_and_sets_permissions(any_session: Session) -> None:
    await any_session.write("link", "new", mode=0o600)
    assert (await any_session.stat("link", follow_symlinks=False)).kind == "symlink"
    assert (await any_session.read("d/f")).content == b"new"
    assert (await any_session.stat("d/f")).mode == 0o600
    await any_session.write("d/script", b"", mode=0o755)
    assert (await any_session.stat("d/script")).mode == 0o755
    for mode in (0o1000, -1):
        with pytest.raises(SandkastenInputError):
            await any_session.write("d/f", "x", mode=mode)


async def test_a_write_may_take_the_place_of_a_link(session: Session) -> None:
    await session.exec("echo old > f; ln -s f link; ln -s /etc/nowhere out")
    for content in ("new", b"x" * 3_000_000):
        await session.write("link", content, follow_symlinks=False)
        assert (await session.stat("link", follow_symlinks=False)).kind == "file"
        await session.exec("ln -sf f link")
    assert (await session.read("f")).content == b"old\n"
    with pytest.raises(SandboxPermissionError, match="read-only"):
        await session.write("out", "x")


async def test_a_file_is_read_from_any_place_on(any_session: Session) -> None:
    content = bytes(range(256)) * 20_000
    await any_session.write("big", content)
    for offset, max_bytes in ((0, 10), (5, 10), (1_000_000, None), (len(content) - 3, 10), (7, 4_000_000)):
        result = await any_session.read("big", offset=offset, max_bytes=max_bytes)
        end = len(content) if max_bytes is None else offset + max_bytes
        assert (result.content, result.truncated) == (content[offset:end], end < len(content))
    for offset in (len(content), len(content) + 1, 2**40):
        assert not (await any_session.read("big", offset=offset)).content
        assert not (await any_session.read("big", offset=offset, max_bytes=1)).truncated
    await any_session.write("none", "")
    assert (await any_session.read("none", offset=3)).content == b""
    for offset in (-1, 0.5):
        with pytest.raises(SandkastenInputError):
            await any_session.read("big", offset=offset)  # type: ignore[arg-type]
    with pytest.raises(SandboxFileNotFoundError):
        await any_session.read("missing", offset=3)
    with pytest.raises(SandboxIsDirectoryError):
        await any_session.read("d", offset=3)


async def test_what_is_appended_comes_at_the_end(any_session: Session) -> None:
    await any_session.append("log", "one\n")
    await any_session.append("log", b"")
    await any_session.append("link", b"\x00" * 3_000_000)
    await any_session.append("log", "zwei \u00e4\n")
    assert (await any_session.read("log")).text == "one\nzwei \u00e4\n"
    assert (await any_session.read("d/f")).content == b"123456" + bytes(3_000_000)
    assert (await any_session.stat("d/f")).mode == 0o751
    with pytest.raises(SandboxIsDirectoryError):
        await any_session.append("d", "x")
    assert ".sandkasten" not in await found(any_session)


async def test_nothing_is_appended_to_what_is_no_file(session: Session) -> None:
    await session.exec("mkfifo pipe; touch closed; chmod 444 closed; ln -s /etc/passwd out")
    with pytest.raises(InvalidRequestError, match="not a plain file"):
        await session.append("pipe", "x")
    with pytest.raises(SandboxPermissionError):
        await session.append("closed", "x")
    with pytest.raises(SandboxPermissionError, match="read-only"):
        await session.append("out", "x")


async def test_permissions_are_set_through_links(any_session: Session) -> None:
    await any_session.chmod("link", 0o600)
    await any_session.chmod("d/e", 0o1777)
    assert (await any_session.stat("d/f")).mode == 0o600
    assert (await any_session.stat("d/e")).mode == 0o1777
    with pytest.raises(SandboxFileNotFoundError):
        await any_session.chmod("dangling", 0o600)
    for mode in (-1, 0o2000, True, "755"):
        with pytest.raises(SandkastenInputError):
            await any_session.chmod("d/f", mode)  # type: ignore[arg-type]


async def test_permissions_hold_for_these_verbs_too(any_session: Session) -> None:
    """Whatever user the daemon has: what the session's own user may not do is not done."""
    await any_session.exec("chmod 555 d; mkdir closed; touch closed/f; chmod 0 closed")
    for call in (
        partial(any_session.stat, "closed/f"),
        partial(any_session.chmod, "closed/f", 0o600),
        partial(any_session.remove, "d/f"),
        partial(any_session.move, "d/f", "f"),
        # Before these a daemon of an ordinary user measures the disk, and opens directories for that.
        partial(any_session.copy, "d/f", "d/new"),
        partial(any_session.mkdir, "d/new"),
    ):
        with pytest.raises(SandboxPermissionError):
            await call()
    await any_session.exec("chmod 755 closed")


@pytest.mark.parametrize("path", ["/proc/new", "../sys", "a/../../dev"])
async def test_paths_outside_are_refused(any_session: Session, path: str) -> None:
    for call in (
        partial(any_session.mkdir, path),
        partial(any_session.remove, path, recursive=True),
        partial(any_session.move, "d", path),
        partial(any_session.move, path, "x"),
        partial(any_session.copy, path, "x"),
        partial(any_session.copy, "d", path),
        partial(any_session.chmod, path, 0o700),
    ):
        with pytest.raises((InvalidRequestError, SandkastenInputError)):
            await call()


async def test_a_path_must_be_one(any_session: Session) -> None:
    for path in ("", "a\0b"):
        with pytest.raises(SandkastenInputError):
            await any_session.mkdir(path)
        with pytest.raises(SandkastenInputError):
            await any_session.move("d", path)


async def test_names_may_be_any_bytes(session: Session) -> None:
    await session.mkdir("caf\udce9")
    await session.move("caf\udce9", "a\udcff/\udcfe")
    await session.copy("a\udcff", "b\n")
    await session.chmod("b\n/\udcfe", 0o700)
    assert (await session.exec(r"test -d $'b\n'/$'\xfe' -a -d $'a\xff'/$'\xfe'")).ok
    with pytest.raises(SandboxFileNotFoundError) as caught:
        await session.remove("gone\udce9")
    assert caught.value.filename == "gone\udce9"
    await session.remove("a\udcff", recursive=True)


async def test_a_workspace_is_changed_without_a_session(client: SandboxClient) -> None:
    workspace = client.workspace("changed-without-a-session")
    assert not await workspace.exists("d")
    with pytest.raises(WorkspaceNotFoundError):
        await workspace.remove("d")
    with pytest.raises(WorkspaceNotFoundError):
        await workspace.move("d", "e")
    await workspace.mkdir("d/e")
    await workspace.write("d/f", "x")
    await workspace.copy("d", "c")
    await workspace.move("/workspace/d", "m")
    await workspace.remove("c", recursive=True)
    assert [entry.name for entry in await workspace.list()] == ["m"]
    await workspace.delete()


async def test_a_workspace_of_other_daemons_needs_a_session(go_client: SandboxClient) -> None:
    workspace = go_client.workspace("changed-with-a-session-only")
    await workspace.write("f", "x")
    assert await workspace.exists("f")
    for call in (
        partial(workspace.mkdir, "d"),
        partial(workspace.remove, "f"),
        partial(workspace.copy, "f", "g"),
    ):
        with pytest.raises(ExtensionMissingError, match="Create a session with this workspace_id"):
            await call()
    await workspace.delete()
