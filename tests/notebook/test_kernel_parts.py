"""The parts of kernels in sandboxes, with messages, frames and relays as hostile code makes them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import hmac
import json
import os
import re
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sandkasten.client import SandboxClient
from sandkasten.errors import SandkastenError
from sandkasten.local.launch import LocalDaemon
from sandkasten.notebook.kernels.copying import packed
from sandkasten.notebook.kernels.frames import MAX_BYTES, BrokenFramesError, Frame, Kind, Reader
from sandkasten.notebook.kernels.messages import Keys, bundle_to_show
from sandkasten.notebook.kernels.sandboxed import Choice
from sandkasten.notebook.kernels.specs import specification
from sandkasten.notebook.kernels.tunnel import Tunnel

OUTSIDE, INSIDE = b"outside", b"inside"
KEYS = Keys(OUTSIDE, INSIDE)


def message(kind: str, content: Any, key: bytes = INSIDE, metadata: Any = None) -> list[bytes]:
    parts = [json.dumps(part).encode() for part in ({"msg_type": kind}, {}, metadata or {}, content)]
    signature = hmac.new(key, b"".join(parts), hashlib.sha256).hexdigest().encode()
    return [b"client", b"<IDS|MSG>", signature, *parts]


def shown(kind: str, content: Any) -> Any:
    """Return what clients get of a message, signed by their key."""
    found = KEYS.outward(message(kind, content))
    if found is None:
        return None
    assert found[:3] == message(kind, json.loads(found[6]), OUTSIDE)[:3]
    return json.loads(found[6])


def test_each_side_has_its_own_key_and_what_is_not_signed_is_dropped() -> None:
    assert KEYS.inward(message("execute_request", {"code": "1"}, OUTSIDE)) == message(
        "execute_request", {"code": "1"}
    )
    assert KEYS.inward(message("execute_request", {}, INSIDE)) is None
    assert KEYS.outward(message("status", {}, OUTSIDE)) is None
    for broken in (
        [],
        [b"<IDS|MSG>"],
        [b"x"],
        message("status", {})[:5],
        [b"<IDS|MSG>", b"", b"", b"", b"", b""],
    ):
        assert KEYS.outward(broken) is None
        assert KEYS.outward(broken, anything=True) is None


@pytest.mark.parametrize("kind", ["comm_open", "comm_msg", "debug_event", "data_pub", "new", None, 7])
def test_unknown_messages_and_those_of_widgets_are_dropped(kind: Any) -> None:
    assert shown(kind, {"target_name": "jupyter.widget"}) is None
    assert KEYS.outward(message(kind, {}), anything=True) is not None


def test_contents_that_make_no_sense_are_dropped_or_empty() -> None:
    for content in (
        [],
        "x",
        None,
        1,
        {"data": [], "metadata": 3, "transient": "x"},
        {"data": {"text/plain": 1}},
    ):
        assert shown("display_data", content)["data"].get("text/plain", "[Not shown").startswith("[Not shown")
        assert shown("execute_reply", content)["payload"] == []
    deep = message("display_data", {})
    deep[6] = b'{"data":' * 100_000
    assert KEYS.outward(deep) is None
    many = [b"x"] * 50 + message("status", {})
    assert KEYS.outward(many) is None


def test_a_reply_brings_no_page_link_or_other_display() -> None:
    script = {"text/html": "<script>alert(1)</script>", "text/plain": "text"}
    reply = shown(
        "execute_reply",
        {
            "status": "ok",
            "payload": [{"source": "page", "data": script}, {"source": "edit_magic", "filename": "/etc"}, 3],
            "user_expressions": {"a": {"status": "ok", "data": script}, "b": 1},
        },
    )
    assert reply["payload"] == [
        {"source": "page", "data": {"text/plain": "text"}, "start": 0},
        {"source": "none"},
        {"source": "none"},
    ]
    assert '<iframe sandbox=""' in reply["user_expressions"]["a"]["data"]["text/html"]
    info = shown(
        "kernel_info_reply", {"help_links": [{"url": "javascript:1"}], "language_info": {"version": "3"}}
    )
    assert info["help_links"] == []
    assert (info["language_info"]["name"], info["language_info"]["version"]) == ("python", "3")
    assert shown("inspect_reply", {"found": True, "data": script})["data"] == {"text/plain": "text"}


def test_a_bundle_keeps_text_pictures_and_framed_pages() -> None:
    png = "iVBORw0KGgo="
    bundle = bundle_to_show(
        {
            "text/plain": "<x>", "image/png": f"{png}\n",
            "image/jpeg": '"><script>', "image/svg+xml": "<svg/>",
            "text/html": "<p>", "application/javascript": "x",
            "application/json": [1], "text/markdown": "<b>",
        }
    )  # fmt: skip
    assert bundle.keys() == {"text/plain", "image/png", "text/html", "application/json"}
    assert (bundle["text/plain"], bundle["image/png"]) == ("<x>", png)
    drawing = bundle_to_show({"image/svg+xml": "<svg onload=alert(1)></svg>"})["text/html"]
    assert re.fullmatch(r'<img src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]+" [^<>]*>', drawing)
    assert bundle_to_show({"application/vnd.x": {}})["text/plain"].startswith(
        "[Not shown: application/vnd.x."
    )


def test_frames_come_in_pieces_of_any_size_and_others_are_refused() -> None:
    frames = [Frame(Kind.DATA, 7, b"x" * 1000), Frame(Kind.CLOSE, 7), Frame(Kind.DATA, 65535, b"")]
    text, reader = b"".join(map(bytes, frames)), Reader()
    assert [frame for at in range(len(text)) for frame in reader.feed(text[at : at + 1])] == frames
    for broken in (Frame(Kind.OPEN, 1, b"\1"), Frame(Kind.DATA, 1, b"x" * (MAX_BYTES + 1))):
        with pytest.raises(BrokenFramesError):
            list(Reader().feed(bytes(broken)))


@pytest.mark.parametrize(
    "program",
    [
        "head -c 100000 /dev/urandom",
        "printf '\\2\\0\\1\\377\\377\\377\\377'",
        "true",
        "printf '\\4\\0\\0\\0\\0\\0\\1\\1'",
    ],
)
async def test_a_relay_that_is_none_ends_the_tunnel(
    daemon: LocalDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    target, broken = daemon.target, asyncio.Event()
    async with (
        SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client,
        await client.create_session(image="base") as session,
    ):
        tunnel = Tunnel(await session.start(program, stdin=True), lambda _: broken.set())
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        await tunnel.start(Path("s"), range(1, 2))
        await asyncio.wait_for(broken.wait(), 20)
        await tunnel.close()
        assert tunnel.ready.done()
        assert (tunnel.ready.exception() is None) == program.startswith("printf '\\4")


class SilentRelay:
    """In place of a relay's process: it takes all and says nothing."""

    async def write(self, data: bytes) -> None:
        pass

    def __aiter__(self) -> SilentRelay:
        return self

    async def __anext__(self) -> Any:
        await asyncio.Event().wait()


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_ends_with_the_tunnel_that_is_just_accepting_it(turns: int, tmp_path: Path) -> None:
    async def close_it_soon(client: socket.socket) -> None:
        relay: Any = SilentRelay()
        tunnel = Tunnel(relay, lambda _: None)
        await tunnel.start(tmp_path / "s", range(1, 2))
        client.connect(str(tmp_path / "s-1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await tunnel.close()

    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        asyncio.run(close_it_soon(client))
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    gc.collect()  # a connection that was left open is an error of this test


@pytest.mark.parametrize("is_early", [False, True])
def test_a_connection_ends_with_the_tunnel_however_new_it_is(is_early: bool, tmp_path: Path) -> None:
    """A task that is cancelled before its first step never runs, nor does what would close its connection."""

    class Watched(Tunnel):
        begun: asyncio.Event

        def _begin(self, channel: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if is_early:
                self.begun.set()  # wakes the test before the task that serves the connection
            super()._begin(channel, reader, writer)
            self.begun.set()

    async def close_it_at_once(client: socket.socket) -> None:
        relay: Any = SilentRelay()
        tunnel = Watched(relay, lambda _: None)
        tunnel.begun = asyncio.Event()
        await tunnel.start(tmp_path / "s", range(1, 2))
        client.connect(str(tmp_path / "s-1"))
        await tunnel.begun.wait()
        await tunnel.close()

    with socket.socket(socket.AF_UNIX) as client:
        asyncio.run(close_it_at_once(client))
        assert client.recv(1) == b""
    gc.collect()  # a connection that was left open is an error of this test


def test_a_directory_is_packed_without_hidden_files_and_links_and_only_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.csv", "sub/b.csv", ".env", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    with tarfile.open(fileobj=packed(tmp_path)) as tar:
        assert tar.getnames() == ["a.csv", "sub/b.csv"]
    monkeypatch.setattr("sandkasten.notebook.kernels.copying._MAX_FILES", 1)
    with pytest.raises(SandkastenError, match="more than 1 files"):
        packed(tmp_path)


def test_a_specification_names_the_provisioner_and_what_it_was_given() -> None:
    made: Any = specification(Choice(environment="/e", copies_files=True), "Name")
    provisioner = made["metadata"]["kernel_provisioner"]
    assert (provisioner["provisioner_name"], made["argv"][0]) == ("sandkasten", "python")
    config = provisioner["config"]
    assert config == {
        "environment": "/e", "image": "python", "workspace": "", "copy_files": True, "show_anything": False,
    }  # fmt: skip
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'sandkasten = "sandkasten.notebook.kernels.provisioner:SandboxProvisioner"' in text
