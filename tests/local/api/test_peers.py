"""Clients that were written for the Go daemon are served: what they do, and that daemon accepts."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandkasten.errors import SessionNotFoundError
from sandkasten.local.launch import LocalDaemon
from sandkasten_sync import SandboxClient
from tests.local.box import Box


@pytest.fixture
def workspace(client: httpx.Client) -> Iterator[str]:
    """The path of a workspace of its own."""
    workspace = f"/v1/workspaces/peers-{secrets.token_hex(6)}"
    yield workspace
    client.delete(workspace)


def read(client: httpx.Client, owner: str, path: str) -> bytes:
    answer = client.get(f"{owner}/fs/read", params={"path": path}).raise_for_status().json()
    return base64.b64decode(answer["content_base64"])


def test_a_session_is_destroyed_as_often_as_one_likes(box: Box) -> None:
    answers = [box.destroy() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json() == {"ok": True}
    assert all(answer.json() == {"ok": True, "already_destroyed": True} for answer in answers[1:])
    assert box.client.get(box.url).status_code == 404


def test_a_session_that_never_was_cannot_be_destroyed(client: httpx.Client) -> None:
    assert client.delete("/v1/sessions/12345678-abc").json()["error_code"] == "SESSION_NOT_FOUND"


def test_a_second_destroy_by_this_library_is_an_error_all_the_same(daemon: LocalDaemon) -> None:
    target = daemon.target
    with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        session = client.create_session(image="base")
        session.destroy()
        with pytest.raises(SessionNotFoundError, match="destroyed before"):
            session.destroy()


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_base64_may_have_line_ends(box: Box, ends: str) -> None:
    content = bytes(range(256)) * 2
    lines = base64.encodebytes(content).decode().replace("\n", ends)
    body = {"path": "f", "content_base64": lines}
    assert box.client.post(f"{box.url}/fs/write", json=body).json() == {"ok": True}
    assert box.content("f") == content


@pytest.mark.parametrize("encoded", ["YW Jj", "YWJj\t", "YWJj\x0b", "YWJ", "Y\nW\nJ"])
def test_what_is_not_base64_is_refused_with_line_ends_or_without(box: Box, encoded: str) -> None:
    body = {"path": "f", "content_base64": encoded}
    assert box.client.post(f"{box.url}/fs/write", json=body).status_code == 400


def test_a_read_of_at_most_no_bytes_reads_all(box: Box) -> None:
    box.run("head -c 11000000 /dev/zero >large")  # more than without `max_bytes`
    answer = box.read("large", max_bytes=0).json()
    assert (len(base64.b64decode(answer["content_base64"])), answer["truncated"]) == (11_000_000, False)


def write(client: httpx.Client, owner: str, path: str, **more: Any) -> httpx.Response:
    return client.post(f"{owner}/fs/write", json={"path": path, "text": path}, **more)


def test_paths_in_a_workspace_may_be_seen_from_its_root(client: httpx.Client, workspace: str) -> None:
    for path in ("x", "/c", "/sub/y", "/workspace/w", "workspace/z", "//double"):
        assert write(client, workspace, path).json() == {"ok": True}
    found = {"c", "double", "sub", "w", "workspace", "x"}
    for path in ("/", ".", "/workspace", "//"):
        entries = client.get(f"{workspace}/fs", params={"path": path}).json()["entries"]
        assert {entry["name"] for entry in entries} == found
    assert read(client, workspace, "/c") == read(client, workspace, "c") == b"/c"
    assert read(client, workspace, "/workspace/workspace/z") == b"workspace/z"
    files = [("file", ("up", b"loaded"))]
    up = client.post(f"{workspace}/fs/upload", files=files, data={"path": "/sub"})
    assert up.json()["paths"] == ["/workspace/sub/up"]
    assert client.get(f"{workspace}/fs/raw", params={"path": "/sub/up"}).content == b"loaded"


@pytest.mark.parametrize("path", ["/../x", "/workspace/../x", "../x", "/a/../../x"])
def test_no_path_leads_out_of_a_workspace(client: httpx.Client, workspace: str, path: str) -> None:
    assert write(client, workspace, path).json()["error_code"] == "INVALID_REQUEST"


def test_in_a_session_the_root_is_not_the_workspace(box: Box) -> None:
    assert write(box.client, box.url, "/c").json()["error_code"] == "PERMISSION_DENIED"
