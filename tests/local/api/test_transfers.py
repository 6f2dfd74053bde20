"""Files and directories as plain bytes: complete or not at all, in constant memory, whatever happens."""

# ruff: noqa: PT017  (in a race, both outcomes are right)

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import socket
import subprocess
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest
import uvicorn

from sandkasten._tar import END, Kind, Member, header, padding
from sandkasten.local.api import bodystream
from sandkasten.local.api.app import make_app
from sandkasten.local.api.asgi import open_guard
from sandkasten.local.api.routes import file_rows
from sandkasten.local.errors import ApiError
from sandkasten.local.files import tarballs
from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.quota import WorkspaceQuotas
from sandkasten.local.files.tarballs import TreeSink, pack
from sandkasten.local.files.tree import Tree
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.identity import Identity
from sandkasten.local.launch import LocalDaemon, LocalOptions, start_daemon
from sandkasten.local.linux.scratch import remove_tree
from sandkasten.local.observe.observer import Observer
from sandkasten.local.sessions.manager import Manager
from tests.local.box import Box, boxes, connect, until
from tests.local.files.test_files import ATTACKS, Place, Swapping
from tests.processes import descriptors_of

MIB = 1024 * 1024


def put(box: Box, path: str, content: Any, **query: Any) -> httpx.Response:
    return box.client.put(f"{box.url}/fs/raw", params={"path": path} | query, content=content)


def get(box: Box, path: str, **headers: str) -> httpx.Response:
    return box.client.get(f"{box.url}/fs/raw", params={"path": path}, headers=headers)


def archive(*members: tuple[Member, bytes]) -> bytes:
    parts = [header(member) + content + padding(len(content)) for member, content in members]
    return b"".join([*parts, END])


def put_tar(box: Box, path: str, content: bytes) -> httpx.Response:
    return box.client.put(f"{box.url}/fs/tar", params={"path": path}, content=content)


def get_tar(box: Box, path: str) -> httpx.Response:
    return box.client.get(f"{box.url}/fs/tar", params={"path": path})


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


# --- files


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 3])
def test_a_file_comes_back_as_it_was_put(box: Box, size: int) -> None:
    content = os.urandom(size)
    answer = put(box, "d/x", content)
    assert answer.json() == {"ok": True, "path": "/workspace/d/x", "size_bytes": size}
    answer = get(box, "d/x")
    assert (answer.status_code, answer.content == content) == (200, True)
    assert answer.headers["content-length"] == str(size)
    assert box.run("wc -c < d/x").strip() == str(size)


def test_a_body_of_unknown_length_is_stored_to_its_end(box: Box) -> None:
    content = os.urandom(3 * MIB)
    assert put(box, "x", (content[at : at + 77_777] for at in range(0, len(content), 77_777))).is_success
    assert get(box, "x").content == content


def test_permissions_are_set_if_they_are_said_and_kept_if_not(box: Box) -> None:
    put(box, "x", b"", mode="755")
    put(box, "x", b"new")
    assert box.run("stat -c %a x") == "755\n"
    assert get(box, "x").headers["x-file-mode"] == "755"
    put(box, "x", b"new", mode="0600")
    assert box.run("stat -c %a x") == "600\n"
    box.run("chmod 6711 x")
    assert get(box, "x").headers["x-file-mode"] == "711"
    put(box, "x", b"new")
    assert box.run("stat -c %a x") == "711\n"


@pytest.mark.parametrize("mode", ["8", "1000", "4755", "-1", "rwx", "0o755", "00755"])
def test_a_mode_that_is_none_is_refused(box: Box, mode: str) -> None:
    assert code_of(put(box, "x", b"", mode=mode)) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("asked", "status", "content", "described"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=9-9", 206, b"9", "bytes 9-9/10"),
        ("bytes=0-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=-3", 200, b"0123456789", None),
        ("bytes=3-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-3", 200, b"0123456789", None),
        ("bytes=10-", 416, None, None),
    ],
)
def test_a_range_gets_a_part(
    box: Box, asked: str, status: int, content: bytes | None, described: str | None
) -> None:
    put(box, "x", b"0123456789")
    answer = get(box, "x", Range=asked)
    assert answer.status_code == status
    if content is not None:
        assert answer.content == content
        assert answer.headers.get("content-range") == described


def test_a_range_of_a_file_that_changed_gets_all_of_it(box: Box) -> None:
    put(box, "x", b"0123456789")
    etag = get(box, "x").headers["etag"]
    assert get(box, "x", Range="bytes=5-", **{"If-Range": etag}).content == b"56789"
    box.run("printf abcdefghij > x; touch -d 2001-01-01 x")
    assert get(box, "x", Range="bytes=5-", **{"If-Range": etag}).content == b"abcdefghij"
    assert get(box, "x").headers["etag"] != etag


def test_a_range_of_an_empty_file_is_the_file(box: Box) -> None:
    put(box, "x", b"")
    assert get(box, "x", Range="bytes=0-9").status_code == 200


def test_the_head_of_a_large_file_is_all_that_head_gets(box: Box) -> None:
    put(box, "x", b"x" * 3 * MIB)
    answer = box.client.head(f"{box.url}/fs/raw", params={"path": "x"})
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(3 * MIB))
    assert answer.content == b""
    assert get(box, "x").content == b"x" * 3 * MIB


def test_what_is_not_a_plain_file_has_its_own_error(box: Box) -> None:
    box.run("mkdir d; mkfifo p; ln -s /etc/missing out; mkdir -m 0 closed")
    assert code_of(get(box, "missing")) == (404, "FILE_NOT_FOUND")
    assert code_of(get(box, "out")) == (404, "FILE_NOT_FOUND")
    assert code_of(get(box, "d")) == (400, "IS_DIRECTORY")
    assert code_of(get(box, "p")) == (400, "INVALID_REQUEST")
    assert code_of(put(box, "d", b"x")) == (400, "IS_DIRECTORY")
    assert code_of(put(box, "d", b"x" * 3 * MIB)) == (400, "IS_DIRECTORY")
    assert code_of(get(box, "../proc/version")) == (400, "INVALID_REQUEST")
    assert code_of(put(box, "/etc/passwd", b"x")) == (403, "PERMISSION_DENIED")
    assert code_of(get_tar(box, "missing")) == (404, "FILE_NOT_FOUND")
    assert code_of(put_tar(box, "/proc", END)) == (400, "INVALID_REQUEST")
    assert box.run("ls -A").split() == ["closed", "d", "out", "p"]


def test_workspaces_have_the_same_calls(client: httpx.Client) -> None:
    url = "/v1/workspaces/raw-files/fs"
    assert client.get(f"{url}/raw?path=x").json()["error_code"] == "WORKSPACE_NOT_FOUND"
    content = os.urandom(3 * MIB)
    assert client.put(f"{url}/raw?path=x", content=content).is_success
    assert client.get(f"{url}/raw?path=x").content == content
    assert client.put(f"{url}/tar?path=d", content=archive((Member(("f",), Kind.FILE, 1), b"1"))).is_success
    assert b"f" in client.get(f"{url}/tar?path=d").content
    client.delete("/v1/workspaces/raw-files")


def test_requests_are_logged_by_their_route(client: httpx.Client, box: Box) -> None:
    def counted() -> list[str]:
        lines = client.get("/metrics").text.splitlines()
        return [line for line in lines if "fs/raw" in line or "file_bytes" in line]

    def bytes_of(direction: str) -> int:
        (line,) = [line for line in counted() if f'"{direction}"' in line]
        return int(line.split()[-1])

    into, out = bytes_of("in"), bytes_of("out")
    put(box, "secret-name", b"x" * 3 * MIB)
    get(box, "secret-name")
    get(box, "secret-name", Range="bytes=0-9")
    assert bytes_of("in") - into == 3 * MIB
    assert bytes_of("out") - out == 3 * MIB + 10
    assert any("/v1/sessions/{session_id}/fs/raw" in line for line in counted())
    assert not any("secret-name" in line for line in counted())


# --- complete or not at all


def begin_put(box: Box, path: str, length: int, sent: bytes, kind: str = "raw") -> socket.socket:
    """Announce a body, and send a part of it."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(box.daemon.target.socket_path or "")
    client.sendall(
        f"PUT {box.url}/fs/{kind}?path={quote(path)} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {box.daemon.target.api_key}\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    client.sendall(sent)
    return client


def half_made(box: Box) -> list[Path]:
    """The files of a session that are not complete."""
    return list(box.directory.glob("staging/*"))


@pytest.mark.parametrize("sent", [0, 10, 4 * MIB])
def test_a_client_that_breaks_off_leaves_nothing(box: Box, sent: int) -> None:
    put(box, "x", b"old")
    client = begin_put(box, "x", 10 * MIB, b"x" * sent)
    if sent > MIB:
        until(lambda: half_made(box))
        assert box.run("ls -A") == "x\n"  # nothing of it is seen inside
        assert get(box, "x").content == b"old"
    client.close()
    until(lambda: not half_made(box))
    assert box.run("ls -A") == "x\n"
    assert get(box, "x").content == b"old"


def test_a_client_that_breaks_off_an_archive_leaves_whole_files_only(box: Box) -> None:
    whole = archive(
        (Member(("a",), Kind.FILE, MIB), b"a" * MIB), (Member(("b",), Kind.FILE, 4 * MIB), b"b" * 4 * MIB)
    )
    client = begin_put(box, "d", len(whole), whole[: 3 * MIB], "tar")
    until(lambda: half_made(box))
    client.close()
    until(lambda: not half_made(box))
    assert box.run("ls -A d") == "a\n"
    assert get(box, "d/a").content == b"a" * MIB


def test_a_session_that_is_destroyed_ends_its_transfers(make_box: Callable[..., Box]) -> None:
    box = make_box()
    client = begin_put(box, "x", 10 * MIB, b"x" * 4 * MIB)
    until(lambda: half_made(box))
    box.destroy()
    client.settimeout(10)
    client.sendall(b"x" * 6 * MIB)
    answer = b""
    while b"SESSION_NOT_FOUND" not in answer:
        answer += client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 404 ")
    client.close()


def test_a_reader_that_goes_away_ends_the_reading(box: Box) -> None:
    box.run("truncate -s 3G x")
    with box.client.stream("GET", f"{box.url}/fs/raw", params={"path": "x"}) as answer:
        assert answer.status_code == 200
        parts = answer.iter_raw()  # kept: it closes the connection when it is garbage
        next(parts)
        until(lambda: open_files(box) == 1)
    until(lambda: open_files(box) == 0)


def open_files(box: Box) -> int:
    """The number of a session's files that the daemon holds open."""
    return sum(f"{box.id}/root/workspace/" in target for target in descriptors_of(box.daemon.pid))


@pytest.mark.parametrize("kind", ["raw", "tar"])
def test_a_file_that_becomes_shorter_is_broken_off_and_not_taken_for_whole(box: Box, kind: str) -> None:
    box.run("mkdir d; truncate -s 300M d/x")
    path = "d/x" if kind == "raw" else "d"
    with (
        pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)),
        box.client.stream("GET", f"{box.url}/fs/{kind}", params={"path": path}) as answer,
    ):
        assert answer.status_code == 200
        for number, _ in enumerate(answer.iter_raw()):
            if number == 0:
                box.run("truncate -s 2M d/x")


def test_a_file_that_grows_is_sent_as_it_was(box: Box) -> None:
    box.run("truncate -s 20M x")
    with box.client.stream("GET", f"{box.url}/fs/raw", params={"path": "x"}) as answer:
        parts = answer.iter_raw()
        size = len(next(parts))
        box.run("truncate -s 90M x")
        assert size + sum(map(len, parts)) == 20 * MIB


# --- directories


def test_a_directory_is_merged_into_what_is_there_file_by_file(box: Box) -> None:
    box.run("mkdir -p d/sub; echo kept > d/kept; echo old > d/f; ln -s /etc d/link; chmod 600 d/f")
    answer = put_tar(
        box,
        "d",
        archive(
            (Member((), Kind.DIRECTORY), b""),
            (Member(("f",), Kind.FILE, 3, 0o755), b"new"),
            (Member(("sub", "deep", "g"), Kind.FILE, 0), b""),
            (Member(("link",), Kind.SYMLINK, target="f"), b""),
            (Member(("empty",), Kind.DIRECTORY), b""),
            (Member(("bad\udcff",), Kind.FILE, 1), b"1"),
        ),
    )
    assert answer.json() == {"ok": True, "path": "/workspace/d", "files": 3}
    assert box.run("cat d/kept d/f d/link; ls -A d | wc -l; stat -c %a d/f") == "kept\nnewnew6\n755\n"
    assert box.run("stat -c %U d/f d/sub/deep d/empty d/link | sort -u").count("\n") == 1
    assert box.run("ls -A d | LC_ALL=C cat -v | grep bad") == "badM-^?\n"


def test_python_can_read_a_directory_and_what_it_writes_can_be_put(box: Box, tmp_path: Path) -> None:
    box.run("mkdir -p d/e; echo text > d/e/f; chmod 750 d/e/f; ln -s e/f d/l; mkfifo d/p; ln d/e/f d/g")
    with tarfile.open(fileobj=io.BytesIO(get_tar(box, "d").content)) as tar:
        assert sorted(tar.getnames()) == ["e", "e/f", "g", "l"]
        assert tar.getmember("e/f").mode == 0o750
        assert tar.getmember("l").linkname == "e/f"
        assert tar.getmember("g").isreg()
        assert abs(tar.getmember("g").mtime - time.time()) < 3600
    (tmp_path / "n").write_text("new")
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        tar.add(tmp_path, arcname=".")
    assert put_tar(box, "other", written.getvalue()).is_success
    assert box.content("other/n") == b"new"


BAD_ARCHIVES: dict[str, bytes] = {
    "no archive": b"x" * 2048,
    "cut off": archive((Member(("f",), Kind.FILE, 600), b"x" * 600))[:1000],
    "without its end": archive((Member(("f",), Kind.FILE, 1), b"x"))[:-1024],
    "empty": b"",
    "name that leads out": archive((Member(("a", "..", "..", "x"), Kind.FILE), b"")),
    "absolute name": archive((Member(("", "etc", "x"), Kind.FILE), b"")),
    "hard link": archive((Member(("h",), Kind.HARD_LINK, target="f"), b"")),
    "device": archive((Member(("d",), Kind.SPECIAL), b"")),
    "name that is too long": archive((Member(("n" * 256,), Kind.FILE), b"")),
    "path that is too long": archive((Member(("n" * 200,) * 30, Kind.FILE), b"")),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_an_archive_that_makes_no_sense_is_a_clear_error(box: Box, name: str) -> None:
    answer = put_tar(box, "d", BAD_ARCHIVES[name])
    assert code_of(answer) == (400, "INVALID_REQUEST")
    assert 20 < len(answer.json()["message"]) < 500
    assert box.run("find . -name '.sandkasten*' -o -name x").strip() == ""


@pytest.mark.parametrize("name", ATTACKS)
def test_no_link_leads_an_archive_to_the_host(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path)
    path = ATTACKS[name](place)
    members = [
        Member(("secret",), Kind.FILE, 4),
        Member(("d", "secret"), Kind.FILE, 4),
        Member(("l",), Kind.SYMLINK, target="/"),
    ]
    for each in (path, os.path.dirname(path)):
        for member in members:
            try:
                sink = TreeSink(place.tree, each or ".")
                sink.begin(member)
                if member.kind is Kind.FILE:
                    sink.write(memoryview(b"evil"))
                    sink.end()
            except ApiError as error:
                assert error.status in {400, 403, 404}
        try:
            packed = b"".join(pack(place.tree, each or "."))
        except ApiError as error:
            assert error.status in {400, 403, 404}
        else:
            assert b"the host's secret" not in packed
    place.assert_host_is_untouched()


@pytest.mark.parametrize("target", ["host", "above"])
def test_a_directory_that_is_swapped_with_a_link_is_packed_and_filled_inside(
    tmp_path: Path, target: str
) -> None:
    place = Place(tmp_path)
    directory, link = place.inside / "top" / "d", place.inside / "top" / "link"
    (directory / "deep").mkdir(parents=True)
    (directory / "deep" / "secret").write_bytes(b"harmless")
    link.symlink_to({"host": str(place.host), "above": "../../../host"}[target])
    outcomes = {"packed": 0, "filled": 0, "refused": 0}
    with Swapping(directory, link):
        for number in range(150):
            packed = b"".join(pack(place.tree, "top"))
            assert b"the host's secret" not in packed
            outcomes["packed"] += b"harmless" in packed
            sink = TreeSink(place.tree, "top")
            try:
                sink.begin(Member(("d", f"new-{number}", "f"), Kind.FILE, 4))
                sink.write(memoryview(b"evil"))
                sink.end()
                sink.begin(Member(("d", "made"), Kind.DIRECTORY))
                outcomes["filled"] += 1
            except ApiError as error:
                assert error.status in {400, 404}
                outcomes["refused"] += 1
            sink.discard()
    assert outcomes["packed"]
    assert outcomes["filled"]
    place.assert_host_is_untouched()


def test_what_cannot_be_packed_is_said_in_the_archive(tmp_path: Path) -> None:
    place = Place(tmp_path)
    here = os.open(place.inside, os.O_RDONLY)
    for _ in range(25):  # deeper than a path can say
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    packed = b"".join(pack(place.tree, "."))
    assert b"SANDKASTEN.error" in packed
    assert b"is too long" in packed
    assert not packed.endswith(END)
    remove_tree(place.root)


def test_a_deep_and_wide_tree_is_packed_without_a_whole_path_for_each_directory(tmp_path: Path) -> None:
    place = Place(tmp_path)
    here = os.open(place.inside, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    for number in range(2000):  # whose paths, as tuples, would weigh 8 MB
        os.mkdir(str(number), dir_fd=here)
    os.close(here)
    tracemalloc.start()
    try:
        size = sum(map(len, pack(place.tree, ".")))
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 2000 * 1000
    assert peak < 4 * MIB
    remove_tree(place.root)


def test_directories_that_wait_to_be_packed_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tarballs, "MAX_WAITING", 10)
    place = Place(tmp_path)
    for number in range(10):
        (place.inside / f"{number}" / "below").mkdir(parents=True)
    assert b"".join(pack(place.tree, ".")).endswith(END)
    (place.inside / "one-more").mkdir()
    assert b"SANDKASTEN.error" in b"".join(pack(place.tree, "."))


def test_an_archive_of_four_thousand_files_goes_in_and_out(box: Box) -> None:
    members = [(Member((f"d{n % 20}", f"file-{n}"), Kind.FILE, 4), b"%04d" % n) for n in range(4_000)]
    assert put_tar(box, "many", archive(*members)).json()["files"] == 4_000
    assert box.run("find many -type f | wc -l") == "4000\n"
    with tarfile.open(fileobj=io.BytesIO(get_tar(box, "many").content)) as tar:
        assert sum(member.isreg() for member in tar) == 4_000


# --- space

QUOTA = 12 * MIB


@pytest.fixture(scope="module")
def narrow(data_dir: Path) -> Iterator[LocalDaemon]:
    daemon = start_daemon(
        LocalOptions(
            data_dir=data_dir, limits={"workspace_bytes": QUOTA, "file_bytes": 100 * MIB}, pool_size=0
        )
    )
    yield daemon
    daemon.stop()


@pytest.fixture
def narrow_box(narrow: LocalDaemon) -> Iterator[Box]:
    with boxes(narrow) as make:
        yield make()


def endless() -> Iterator[bytes]:
    for _ in range(100):
        yield b"x" * MIB


@pytest.mark.parametrize("kind", ["raw", "tar"])
def test_the_quota_holds_for_what_is_streamed(narrow_box: Box, kind: str) -> None:
    box = narrow_box
    body = (
        endless()
        if kind == "raw"
        else (part for part in (header(Member(("f",), Kind.FILE, 100 * MIB)), *endless()))
    )
    answer = box.client.put(f"{box.url}/fs/{kind}", params={"path": "x"}, content=body)
    assert code_of(answer) == (507, "INSUFFICIENT_STORAGE")
    assert "Delete files" in answer.json()["message"]
    assert box.run("find . -type f") == ""
    assert put(box, "y", b"x" * 10 * MIB).is_success


def test_what_is_announced_to_be_too_large_is_refused_at_once(narrow_box: Box) -> None:
    client = begin_put(narrow_box, "x", QUOTA + 1, b"")
    client.settimeout(10)
    answer = b""
    while b"INSUFFICIENT_STORAGE" not in answer:
        answer += client.recv(65536)
    client.close()


def test_many_small_files_fill_the_quota_as_well(narrow_box: Box) -> None:
    answers = [put(narrow_box, f"f{number}", b"x" * MIB).status_code for number in range(18)]
    assert set(answers) == {200, 507}
    assert 8 <= answers.count(200) <= 12
    narrow_box.run("rm f*")
    assert put(narrow_box, "x", b"x" * MIB).is_success


def test_a_file_that_is_replaced_again_and_again_takes_no_more_than_its_space(narrow_box: Box) -> None:
    for _ in range(12):
        assert put(narrow_box, "x", b"x" * 4 * MIB).is_success


def test_what_a_command_wrote_counts_for_what_is_put(narrow_box: Box) -> None:
    narrow_box.run("head -c 8M /dev/zero > x; sleep 0.7")
    assert code_of(put(narrow_box, "y", b"x" * 6 * MIB)) == (507, "INSUFFICIENT_STORAGE")


def send(client: httpx.Client, url: str, way: str, path: str, size: int) -> httpx.Response:
    """Send a file by one of the four routes."""
    content = b"x" * size
    if way == "write":
        body = {"path": path, "content_base64": base64.b64encode(content).decode()}
        return client.post(f"{url}/fs/write", json=body)
    if way == "upload":
        return client.post(f"{url}/fs/upload", files=[("file", (path, content))])
    if way == "tar":
        body = archive((Member((path,), Kind.FILE, size), content))
        return client.put(f"{url}/fs/tar", params={"path": "."}, content=body)
    return client.put(f"{url}/fs/raw", params={"path": path}, content=content)


WAYS = ["write", "upload", "raw", "tar"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("owner", ["session", "workspace"])
def test_the_quota_is_one_for_all_routes(narrow_box: Box, owner: str, way: str) -> None:
    workspace_id = f"quota-{way}"
    url = narrow_box.url if owner == "session" else f"/v1/workspaces/{workspace_id}"
    client = narrow_box.client
    assert send(client, url, way, "fits", 8 * MIB).is_success
    refused = send(client, url, way, "too-large", 5 * MIB)
    assert code_of(refused) == (507, "INSUFFICIENT_STORAGE")
    assert [entry["name"] for entry in client.get(f"{url}/fs").json()["entries"]] == ["fits"]
    assert send(client, url, way, "small", MIB).is_success
    assert send(client, url, way, "fits", MIB).is_success, "a file that is replaced makes room"
    assert send(client, url, way, "more", 8 * MIB).is_success
    if owner == "workspace":
        assert client.delete(url).is_success


def test_files_that_are_written_at_once_do_not_pass_the_quota_together(narrow_box: Box) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(
                lambda n: send(narrow_box.client, narrow_box.url, "write", f"f{n}", 5 * MIB), range(4)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200, 200, 507, 507]
    assert int(narrow_box.run("du -sm . | cut -f1")) <= QUOTA // MIB


def test_what_sessions_left_in_a_workspace_counts_for_what_is_written_without_one(
    narrow: LocalDaemon, narrow_box: Box
) -> None:
    url, client = "/v1/workspaces/filled-before", narrow_box.client
    assert send(client, url, "write", "small", 10).is_success
    with boxes(narrow) as make:
        make(workspace_id="filled-before").run("head -c 9M /dev/zero > large")
        assert code_of(send(client, url, "write", "more", 5 * MIB))[0] == 507
    assert code_of(send(client, url, "write", "more", 5 * MIB))[0] == 507
    assert client.delete(url).is_success
    assert send(client, url, "write", "more", 5 * MIB).is_success
    assert client.delete(url).is_success


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    root = tmp_path / "full"
    root.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", root], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        tree = Tree(root, StagingIn(root / "staging"), Identity.of_this_process(), durable=True)
        tree.create()
        with pytest.raises(ApiError) as caught, tree.new_file("x") as file:
            for _ in range(8):
                file.write(b"x" * MIB)
        assert caught.value.code == "INSUFFICIENT_STORAGE"
        assert os.listdir(tree.workspace) == []
    finally:
        subprocess.run(["umount", root], check=True)


# --- memory


def memory_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def test_a_large_file_takes_no_memory(data_dir: Path) -> None:
    daemon = start_daemon(LocalOptions(data_dir=data_dir, pool_size=0))
    try:
        with boxes(daemon) as make:
            box = make()
            put(box, "x", b"x" * 3 * MIB)
            get(box, "x")
            before = memory_of(daemon.pid)
            put(box, "x", (b"%07d\n" % n * (MIB // 8) for n in range(96)))
            digest, size = hashlib.sha256(), 0
            with box.client.stream("GET", f"{box.url}/fs/raw", params={"path": "x"}) as answer:
                for part in answer.iter_raw():
                    digest.update(part)
                    size += len(part)
            assert size == 96 * MIB
            assert box.run("sha256sum < x")[:64] == digest.hexdigest()
            assert memory_of(daemon.pid) - before < 24 * MIB
    finally:
        daemon.stop()


# --- clients that stall


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Only the files of workspaces, in this process, so that its clock can be set."""
    workspaces = Workspaces(directory / "workspaces", Identity.of_this_process())
    quotas = WorkspaceQuotas(None)
    manager = cast("Manager", SimpleNamespace(workspaces=workspaces, quota_of=quotas.get))
    observer = Observer()
    application = make_app(file_rows(manager, observer), open_guard, observer)
    path = str(directory / "s")
    server = uvicorn.Server(
        uvicorn.Config(application, uds=path, http="httptools", log_config=None, lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield path
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


def open_in_this_process(name: str) -> bool:
    for number in os.listdir("/proc/self/fd"):
        try:
            if name in os.readlink(f"/proc/self/fd/{number}"):
                return True
        except FileNotFoundError:
            continue
    return False


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("write", 'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"path": '),
        ("write", "Content-Type: application/json\r\nContent-Length: 9000000\r\n\r\n{"),
        ("upload", "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 100\r\n\r\n--B\r\n"),
    ],
)
def test_a_body_that_does_not_come_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, more: str
) -> None:
    monkeypatch.setattr(bodystream, "IDLE_SECONDS", 0.05)
    with served(tmp_path) as path, socket.socket(socket.AF_UNIX) as writer:
        writer.connect(path)
        writer.sendall(f"POST /v1/workspaces/ab/fs/{verb} HTTP/1.1\r\nHost: localhost\r\n{more}".encode())
        assert writer.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_stalls_holds_no_file_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodystream, "IDLE_SECONDS", 0.5)
    with served(tmp_path) as path:
        transport = httpx.HTTPTransport(uds=path, verify=False)
        with httpx.Client(transport=transport, base_url="http://localhost") as client:
            client.put("/v1/workspaces/ab/fs/raw?path=large", content=b"x" * 40 * MIB).raise_for_status()
        writer, reader = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        with writer, reader:
            for each in (writer, reader):
                each.connect(path)
                each.settimeout(10)
            head = "/v1/workspaces/ab/fs/raw?path={} HTTP/1.1\r\nHost: localhost\r\n"
            writer.sendall(
                f"PUT {head.format('x')}Content-Length: {9 * MIB}\r\n\r\n".encode() + b"x" * 2 * MIB
            )
            reader.sendall(f"GET {head.format('large')}\r\n".encode())
            until(lambda: open_in_this_process("/workspace/large"))
            until(lambda: list(tmp_path.glob("workspaces/.writing-*/ab/*")))
            answer = b""
            while b"REQUEST_TIMEOUT" not in answer:
                answer += writer.recv(65536)
            assert answer.startswith(b"HTTP/1.1 408 ")
            until(lambda: not list(tmp_path.glob("workspaces/.writing-*/ab/*")))
            until(lambda: not open_in_this_process("/workspace/large"))
            received = 0
            with pytest.raises(ConnectionResetError):  # broken off, not ended
                while part := reader.recv(MIB):
                    received += len(part)
                raise ConnectionResetError
            assert received < 40 * MIB
    assert os.listdir(tmp_path / "workspaces" / "ab" / "workspace") == ["large"]


def test_nothing_answers_without_the_key(daemon: LocalDaemon) -> None:
    with connect(daemon) as client:
        del client.headers["authorization"]
        for method in ("GET", "PUT"):
            for kind in ("raw", "tar"):
                answer = client.request(method, f"/v1/sessions/x/fs/{kind}", params={"path": "x"})
                assert code_of(answer) == (401, "UNAUTHORIZED")
