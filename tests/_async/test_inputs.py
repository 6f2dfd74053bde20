"""Arguments that no daemon could accept: a clear error, and nothing is sent."""

from __future__ import annotations

import httpx
import pytest

from sandkasten.errors import SandkastenError, SandkastenInputError
from sandkasten.local.launch import LocalOptions

from .seam import SandboxClient, Session

# Nothing listens there, so whatever is sent ends in another error than the one that is expected.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
async def unconnected() -> Session:
    return Session(SandboxClient(base_url=NOWHERE)._connection, "deadbeef-123")


@pytest.mark.parametrize("cmd", ["", "  \n", "a\0b", "\ud800", None, b"true"])
async def test_commands_that_cannot_be_sent_are_refused(unconnected: Session, cmd: str) -> None:
    with pytest.raises(SandkastenInputError, match="cmd"):
        await unconnected.exec(cmd)
    with pytest.raises(SandkastenInputError, match="cmd"):
        unconnected.exec_stream(cmd)


@pytest.mark.parametrize("timeout_ms", [-1, 600_001, 1.5, True, "1000", None])
async def test_timeouts_out_of_range_are_refused(unconnected: Session, timeout_ms: int) -> None:
    with pytest.raises(SandkastenInputError, match=r"timeout_ms.*from 0 to 600000"):
        await unconnected.exec("true", timeout_ms=timeout_ms)
    with pytest.raises(SandkastenInputError, match="timeout_ms"):
        unconnected.exec_stream("true", timeout_ms=timeout_ms)


@pytest.mark.parametrize("keep_bytes", [-1, 1.5, True, None])
async def test_a_stream_keeps_a_whole_number_of_bytes(unconnected: Session, keep_bytes: int) -> None:
    with pytest.raises(SandkastenInputError, match=r"keep_bytes.*from 0 to"):
        unconnected.exec_stream("true", keep_bytes=keep_bytes)


@pytest.mark.parametrize("path", ["", "a\0b", "\ud800", None, 7, "x" * 70_000])
async def test_paths_that_cannot_be_sent_are_refused(unconnected: Session, path: str) -> None:
    with pytest.raises(SandkastenInputError, match="path"):
        await unconnected.write(path, "text")
    with pytest.raises(SandkastenInputError, match="path"):
        await unconnected.read(path)


@pytest.mark.parametrize("url", ["http://a\nb", "http://\udcffx", "http://a\tb"])
async def test_urls_that_cannot_be_sent_are_refused(url: str) -> None:
    with pytest.raises(SandkastenInputError, match="base_url"):
        SandboxClient(base_url=url)


async def test_a_password_in_a_url_is_refused_and_not_told() -> None:
    with pytest.raises(SandkastenInputError, match="as api_key=") as caught:
        SandboxClient(base_url="http://user:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


async def test_options_of_the_embedded_daemon_are_for_that_alone() -> None:
    with pytest.raises(SandkastenInputError, match="about another"):
        SandboxClient(base_url=NOWHERE, local=LocalOptions())
    with pytest.raises(SandkastenInputError, match="type dict"):
        SandboxClient(local={"max_sessions": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, 7, ["text"], "\ud800"])
async def test_contents_that_are_neither_text_nor_bytes_are_refused(
    unconnected: Session, content: str
) -> None:
    with pytest.raises(SandkastenInputError, match="content"):
        await unconnected.write("path", content)


@pytest.mark.parametrize("max_bytes", [0, -1, 4 * 1024**3 + 1, 1.0, True])
async def test_sizes_out_of_range_are_refused(unconnected: Session, max_bytes: int) -> None:
    with pytest.raises(SandkastenInputError, match="max_bytes"):
        await unconnected.read("path", max_bytes=max_bytes)


@pytest.mark.parametrize("workspace_id", ["", "a", "-ab", "ab-", "A-B", "a/b", "ä" * 3, "a" * 65, "ab\n", 7])
async def test_workspace_ids_that_are_not_well_formed_are_refused(workspace_id: str) -> None:
    client = SandboxClient(base_url=NOWHERE)
    with pytest.raises(SandkastenInputError, match="workspace_id"):
        await client.create_session(workspace_id=workspace_id)
    with pytest.raises(SandkastenInputError, match="workspace_id"):
        await client.delete_workspace(workspace_id)
    with pytest.raises(SandkastenInputError, match="workspace_id"):
        client.workspace(workspace_id)


@pytest.mark.parametrize("session_id", ["", "../workspaces", "a/b", "a b", "a?b", ".", None])
async def test_session_ids_that_would_change_the_url_are_refused(session_id: str) -> None:
    with pytest.raises(SandkastenInputError, match="session_id"):
        await SandboxClient(base_url=NOWHERE).get_session(session_id)


@pytest.mark.parametrize("ttl_seconds", [-1, 86_401, 1.5])
async def test_lifetimes_out_of_range_are_refused(ttl_seconds: int) -> None:
    with pytest.raises(SandkastenInputError, match="ttl_seconds"):
        await SandboxClient(base_url=NOWHERE).create_session(ttl_seconds=ttl_seconds)


async def test_an_empty_image_is_refused() -> None:
    with pytest.raises(SandkastenInputError, match="image"):
        await SandboxClient(base_url=NOWHERE).create_session(image="")


@pytest.mark.parametrize(
    "base_url", ["", "localhost:8080", "ftp://host", "http://", "http://[bad", "http://h:0"]
)
def test_urls_that_cannot_be_meant_are_refused(base_url: str) -> None:
    with pytest.raises(SandkastenInputError, match="base_url"):
        SandboxClient(base_url=base_url)


@pytest.mark.parametrize("api_key", ["", "two words", "line\nbreak", "schlüssel"])
def test_keys_that_cannot_stand_in_a_header_are_refused_without_being_shown(api_key: str) -> None:
    with pytest.raises(SandkastenInputError, match="api_key") as caught:
        SandboxClient(base_url=NOWHERE, api_key=api_key)
    assert not api_key or api_key not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), True, "10"])
def test_client_timeouts_that_are_no_time_are_refused(timeout: float) -> None:
    with pytest.raises(SandkastenInputError, match="timeout"):
        SandboxClient(timeout=timeout)


def test_input_errors_are_value_errors_and_httpx_errors() -> None:
    assert issubclass(SandkastenInputError, ValueError)
    assert issubclass(SandkastenError, httpx.HTTPError)


async def test_the_names_in_errors_are_those_of_the_arguments(unconnected: Session) -> None:
    with pytest.raises(SandkastenInputError, match=r"^input is of type int"):
        await unconnected.exec("cat", input=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(SandkastenInputError, match=r"^content is of type int"):
        await unconnected.process("0" * 32).write(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(SandkastenInputError, match=r"^stdin is 'text'.*Process.write"):
        await unconnected.start("cat", stdin="text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(SandkastenInputError, match=r"cmd is \['ls'\].*run\(\) takes a list"):
        await unconnected.exec(["ls"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(SandkastenInputError, match=r"base_url is of type int"):
        SandboxClient(base_url=8080)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_patterns_that_can_match_nothing_are_refused(unconnected: Session) -> None:
    with pytest.raises(SandkastenInputError, match=r"pattern is '/workspace/\*'.*path="):
        await unconnected.glob("/workspace/*")
    with pytest.raises(SandkastenInputError, match=r"glob is '/src/\*'.*path="):
        await unconnected.search("x", glob="/src/*")
    with pytest.raises(SandkastenInputError, match="must be a str"):
        await unconnected.glob(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
