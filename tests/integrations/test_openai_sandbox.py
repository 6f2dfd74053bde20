"""Sandboxes of the OpenAI Agents SDK's own sandbox agents, against the real embedded daemon."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from agents.sandbox import (
    LocalSnapshotSpec,
    Manifest,
    SandboxPathGrant,
    User,
)
from agents.sandbox.entries import File
from agents.sandbox.errors import (
    ApplyPatchDiffError,
    ConfigurationError,
    ExecTimeoutError,
    ExecTransportError,
    ExposedPortUnavailableError,
    InvalidManifestPathError,
    PtySessionNotFoundError,
    WorkspaceArchiveReadError,
    WorkspaceArchiveWriteError,
    WorkspaceReadNotFoundError,
)
from agents.sandbox.sandboxes.unix_local import UnixLocalSandboxClient
from agents.sandbox.session import SandboxSession

from sandkasten import SandboxClient, Session
from sandkasten.integrations.openai_agents.sandbox import (
    SandkastenSandboxClient,
    SandkastenSandboxClientOptions,
    SandkastenSandboxSessionState,
)
from tests.go_daemon import GoDaemon


@pytest.fixture
def sandboxes(client: SandboxClient) -> SandkastenSandboxClient:
    return SandkastenSandboxClient(client)


@pytest.fixture
async def box(sandboxes: SandkastenSandboxClient) -> AsyncIterator[SandboxSession]:
    session = await sandboxes.create()
    await session.start()
    yield session
    await session.shutdown()


async def ours(box: SandboxSession, client: SandboxClient) -> Session:
    """The session below, by its id, as another program would find it."""
    return await client.get_session(sandbox_id(box))


def sandbox_id(box: SandboxSession) -> str:
    assert isinstance(box.state, SandkastenSandboxSessionState)
    return box.state.sandbox_id


async def output(box: SandboxSession, command: str) -> str:
    result = await box.exec(command)
    assert result.ok(), result.stderr
    return result.stdout.decode()


async def write(box: SandboxSession, path: str, content: bytes) -> None:
    await box.write(Path(path), io.BytesIO(content))


async def read(box: SandboxSession, path: str) -> bytes:
    return cast("bytes", (await box.read(Path(path))).read())


# --- commands


async def test_a_timeout_leaves_nothing_and_has_the_output(box: SandboxSession) -> None:
    with pytest.raises(ExecTimeoutError) as caught:
        await box.exec("echo out; echo err >&2; sleep 313 & sleep 313", timeout=0.5)
    assert (caught.value.context["stdout"], caught.value.context["stderr"]) == ("out\n", "err\n")
    assert (await box.exec("pgrep", "-fx", "sleep 313", shell=False)).exit_code == 1


@pytest.mark.parametrize("way", ["exec", "pty_exec_start"])
async def test_a_cancelled_command_stops(box: SandboxSession, way: str) -> None:
    command = asyncio.create_task(getattr(box, way)("sleep 314"))
    while (await box.exec("pgrep", "-fx", "sleep 314", shell=False)).exit_code:
        pass
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert (await box.exec("pgrep", "-fx", "sleep 314", shell=False)).exit_code == 1


@pytest.mark.parametrize("way", ["exec", "pty_exec_start"])
async def test_a_command_that_is_cancelled_while_it_starts_leaves_nothing(
    box: SandboxSession, way: str
) -> None:
    for turns in range(0, 40, 2):
        command = asyncio.create_task(getattr(box, way)("sleep 317"))
        for _ in range(turns):
            await asyncio.sleep(0)
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command
    assert (await box.exec("pgrep", "-fx", "sleep 317", shell=False)).exit_code == 1


async def test_ten_megabytes_come_whole_and_a_model_gets_head_and_tail(
    box: SandboxSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = await box.exec("head", "-c", "10000000", "/dev/zero", shell=False)
    assert result.stdout == bytes(10_000_000)
    update = await box.pty_exec_start("seq 1500000", yield_time_s=30)
    assert update.exit_code == 0
    assert len(update.output) < 1_100_000
    assert update.output.startswith(b"1\n2\n")
    assert update.output.endswith(b"\n1500000\n")
    assert b"bytes left out" in update.output
    few = await box.pty_exec_start("seq 1500000", yield_time_s=30, max_output_tokens=100)
    assert len(few.output) < 2000
    assert few.original_token_count
    monkeypatch.setattr("sandkasten.integrations.openai_agents.session.MOST_OUTPUT_BYTES", 100_000)
    with pytest.raises(ExecTransportError, match="Let it write to a file"):
        await box.exec("yes")


async def test_programs_that_cannot_be_started_are_results(box: SandboxSession) -> None:
    missing = await box.exec("no-such-program", shell=False)
    assert (missing.exit_code, b"no-such-program" in missing.stderr) == (127, True)
    assert (await box.exec("/etc/passwd", shell=False)).exit_code == 126
    update = await box.pty_exec_start("no-such-program", shell=False)
    assert (update.exit_code, update.process_id) == (127, None)
    assert b"no-such-program" in update.output


async def test_a_terminal_is_typed_into_and_its_program_interrupted(box: SandboxSession) -> None:
    update = await box.pty_exec_start("stty -echo; test -t 0 && stty size; cat", tty=True, yield_time_s=0)
    assert update.exit_code is None
    number = update.process_id
    assert number is not None
    seen = update.output
    while b"24 80" not in seen:
        seen += (await box.pty_write_stdin(session_id=number, chars="")).output
    seen = (await box.pty_write_stdin(session_id=number, chars="ä☃\n", yield_time_s=0)).output
    while "ä☃".encode() not in seen:
        seen += (await box.pty_write_stdin(session_id=number, chars="\n", yield_time_s=0)).output
    last = await box.pty_write_stdin(session_id=number, chars="\x03", yield_time_s=30)
    assert (last.exit_code, last.process_id) == (130, None)
    with pytest.raises(PtySessionNotFoundError):
        await box.pty_write_stdin(session_id=number, chars="")


async def test_a_command_without_a_terminal_goes_on_and_is_read_later(box: SandboxSession) -> None:
    update = await box.pty_exec_start(
        "until test -e go; do sleep 0.02; done; echo went; exit 4", yield_time_s=0
    )
    number = update.process_id
    assert number is not None
    with pytest.raises(RuntimeError, match="stdin is not available for this process"):
        await box.pty_write_stdin(session_id=number, chars="x")
    await write(box, "go", b"")
    last = await box.pty_write_stdin(session_id=number, chars="")
    assert (last.output, last.exit_code) == (b"went\n", 4)
    await box.pty_exec_start("sleep 315", yield_time_s=0)
    await box.pty_terminate_all()
    assert (await box.exec("pgrep", "-fx", "sleep 315", shell=False)).exit_code == 1


async def test_another_user_and_ports_are_refused_in_words(
    sandboxes: SandkastenSandboxClient, box: SandboxSession
) -> None:
    for attempt in (
        box.exec("id", user="root"),
        box.pty_exec_start("id", user=User(name="root")),
        box.read(Path("x"), user="root"),
        box.write(Path("x"), io.BytesIO(), user="root"),
        sandboxes.create(manifest=Manifest(users=[User(name="ada")])),
    ):
        with pytest.raises(ConfigurationError, match="one user"):
            await attempt
    grant = SandboxPathGrant(path="/data", host_path="/etc")
    with pytest.raises(ConfigurationError, match="LocalDir"):
        await sandboxes.create(manifest=Manifest(extra_path_grants=(grant,)))
    with pytest.raises(ExposedPortUnavailableError):
        await box.resolve_exposed_port(8000)


# --- files


async def test_files_of_any_kind(box: SandboxSession, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256))
    await write(box, "a/ä ☃.bin", content)
    assert await read(box, "a/ä ☃.bin") == content
    assert await read(box, "/workspace/a/ä ☃.bin") == content
    assert await box.read_bounded(Path("a/ä ☃.bin"), max_bytes=3) == b"\0\1\2"
    assert [entry.path for entry in await box.ls("a")] == ["/workspace/a/ä ☃.bin"]
    await box.write(Path("text"), io.StringIO("ä"))  # type: ignore[arg-type]
    assert await read(box, "text") == "ä".encode()
    with pytest.raises(WorkspaceReadNotFoundError):
        await box.read(Path("absent"))
    with pytest.raises(WorkspaceArchiveReadError):
        await box.read(Path("a"))
    await output(box, "chmod 400 text")
    with pytest.raises(WorkspaceArchiveWriteError):
        await write(box, "text", b"")
    for path in ("../etc/passwd", "/etc/passwd"):
        with pytest.raises(InvalidManifestPathError):
            await box.read(Path(path))
    await output(box, "ln -s /etc out")
    with pytest.raises(InvalidManifestPathError):
        await box.read(Path("out/passwd"))
    monkeypatch.setattr("sandkasten.integrations.openai_agents.session.MOST_FILE_BYTES", 255)
    with pytest.raises(WorkspaceArchiveReadError):
        await box.read(Path("a/ä ☃.bin"))


async def test_patches_and_archives(box: SandboxSession) -> None:
    await box.apply_patch({"type": "create_file", "path": "src/a.txt", "diff": "+one\n+two\n"})
    await box.apply_patch({"type": "update_file", "path": "src/a.txt", "diff": " one\n-two\n+zwei\n"})
    assert await read(box, "src/a.txt") == b"one\nzwei"
    with pytest.raises(ApplyPatchDiffError):
        await box.apply_patch({"type": "update_file", "path": "src/a.txt", "diff": " nine\n-x\n+y\n"})
    await box.apply_patch({"type": "delete_file", "path": "src/a.txt"})
    assert await output(box, "ls src") == ""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in/b.txt", "zipped")
    packed.seek(0)
    await box.extract("x/pack.zip", packed)
    assert await read(box, "x/in/b.txt") == b"zipped"


# --- snapshots


async def test_a_lost_sandbox_goes_on_in_another_one_with_its_files(
    client: SandboxClient, sandboxes: SandkastenSandboxClient, tmp_path: Path
) -> None:
    manifest = Manifest(entries={"kept": File(content=b"1"), "new": File(content=b"2", ephemeral=True)})
    box = await sandboxes.create(manifest=manifest, snapshot=LocalSnapshotSpec(base_path=tmp_path))
    async with box:
        await output(box, "for name in kept new; do echo changed > $name; done; chmod 750 kept")
        await output(box, "mkdir -p d/new; ln -s ../kept d/link; mkfifo pipe; touch \"d/$(printf '\\377')\"")
    with tarfile.open(next(tmp_path.glob("*.tar"))) as archive:
        assert "new" not in {member.name.removeprefix("./") for member in archive}
    payload = sandboxes.serialize_session_state(box.state)
    again = await sandboxes.resume(sandboxes.deserialize_session_state(payload))
    assert sandbox_id(again) != sandbox_id(box)
    async with again:
        assert await output(again, "cat kept new d/link; stat -c %a kept; ls d | wc -l; test -d d/new") == (
            "changed\n2changed\n750\n3\n"
        )
        # Found while it lives, it keeps what was not in the snapshot.
        await output(again, "echo later > kept; touch /tmp/here")
        await again.stop()
        same = await sandboxes.resume(again.state)
        await same.start()
        assert sandbox_id(same) == sandbox_id(again)
        assert await output(same, "cat kept; ls /tmp/here") == "later\n/tmp/here\n"
    await sandboxes.delete(again)  # it is gone already


async def test_a_workspace_keeps_the_files_without_a_snapshot(
    client: SandboxClient, sandboxes: SandkastenSandboxClient
) -> None:
    name = f"agents-{secrets.token_hex(6)}"
    options = SandkastenSandboxClientOptions(workspace_id=name, image="base", limits={"processes": 40})
    box = await sandboxes.create(options=options, manifest=Manifest(entries={"a": File(content=b"1")}))
    async with box:
        await output(box, "echo 2 > a")
    again = await sandboxes.resume(box.state)
    async with again:
        assert await output(again, "cat a") == "2\n"
    await client.delete_workspace(name)


async def test_a_hostile_archive_is_refused(box: SandboxSession) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../tmp/out"))
    archive.seek(0)
    with pytest.raises(WorkspaceArchiveWriteError):
        await box.hydrate_workspace(archive)
    assert (await box.exec("ls /tmp/out")).exit_code


async def test_the_state_and_the_session_of_another_client_are_refused(
    sandboxes: SandkastenSandboxClient,
) -> None:
    other = await UnixLocalSandboxClient().create()
    with pytest.raises(TypeError, match="UnixLocal"):
        await sandboxes.resume(other.state)
    with pytest.raises(TypeError, match="unix_local"):
        await sandboxes.delete(other)
    await UnixLocalSandboxClient().delete(other)


async def test_it_works_with_other_daemons_as_far_as_they_go(go_daemon: GoDaemon) -> None:
    async with SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client:
        sandboxes = SandkastenSandboxClient(client)
        box = await sandboxes.create(options=SandkastenSandboxClientOptions(exposed_ports=(8000,)))
        await box.start()
        assert await output(box, "echo $((6 * 7)); pwd") == "42\n/workspace\n"
        await write(box, "a", b"\xff")
        assert await read(box, "a") == b"\xff"
        with pytest.raises(ExecTransportError) as caught:
            await box.pty_exec_start("true")
        assert caught.value.context["retry_safe"] is True
        with pytest.raises(ExposedPortUnavailableError):
            await box.resolve_exposed_port(8000)
        await box.shutdown()
    assert os.environ.get("SANDKASTEN_BASE_URL") is None
