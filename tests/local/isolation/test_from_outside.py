"""Attempts on whoever handles the sandbox's files from outside: the file calls, and images' archives.

To show that they are real, openat2 is taken away: the same path is joined and opened.
"""

from __future__ import annotations

import io
import os
import secrets
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandkasten.local.errors import ApiError
from sandkasten.local.identity import Identity
from sandkasten.local.images.archives import Budget, Limits
from sandkasten.local.images.unpack import Unpacker, unpack_tar
from sandkasten.local.launch import LocalDaemon
from tests.local.box import Box, until
from tests.local.isolation.arena.asked import Asked
from tests.local.isolation.arena.registry import attempt

REFUSED = {400, 403, 404, 409}

SWAP = """
import ctypes, os, sys, time
os.mkdir("d"); os.mkdir("real"); open("real/f", "w").write("inside"); open("d/f", "w").write("inside")
os.symlink(sys.argv[1], "link")
exchange, end = ctypes.CDLL(None).renameat2, time.time() + 240
open("ready", "w").close()
while time.time() < end and not os.path.exists("stop"):
    exchange(-100, b"d", -100, b"link", 2)
"""


@pytest.fixture
def hosts() -> Iterator[Path]:
    """A directory of the host's that every process on it may change, with a secret."""
    with tempfile.TemporaryDirectory(prefix="sk-isolation-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o777)
        (path / "f").write_text("the host's secret")
        (path / "f").chmod(0o666)
        yield path


def is_refused(box: Box, path: str) -> bool:
    answer = box.read(path)
    return answer.status_code in REFUSED and "content_base64" not in answer.json()


@attempt("file-calls/read-through-a-link")
def test_reading_through_a_link(box: Box, daemon: LocalDaemon, hosts: Path) -> None:
    box.run(f"ln -s {hosts}/f link; ln -s {hosts} d; ln -s ../../../../../../..{hosts} up")
    naive = box.workspace
    for path in ("link", "d/f", "up/f"):
        assert is_refused(box, path), path
    for path in ("link", "d/f"):
        assert (naive / path).read_text() == "the host's secret"


@attempt("file-calls/read-through-the-kernels-links")
def test_reading_through_links_of_the_kernels(box: Box, daemon: LocalDaemon, hosts: Path) -> None:
    box.run("ln -s /proc/self/root root; ln -s /proc/1/root one; ln -s /proc/self/fd fd")
    naive = box.workspace
    for path in (f"root{hosts}/f", f"one{hosts}/f", "fd/0", "fd/3"):
        assert is_refused(box, path), path
    assert Path(f"{naive}/root{hosts}/f").read_text() == "the host's secret"


@attempt("file-calls/read-by-dot-dot")
def test_reading_by_dot_dot(box: Box, daemon: LocalDaemon, hosts: Path) -> None:
    box.run("mkdir -p a/b; ln -s .. up")
    naive = str(box.workspace)
    paths = ("../" * 12 + f"{hosts}/f".lstrip("/"), "a/../../../../../../../../../.." + f"{hosts}/f")
    assert box.content("up/etc/hosts").decode() == box.run("cat /etc/hosts"), "the sandbox's own"
    for path in (*paths, f"{hosts}/f", "up/up/up/up/up/up/up/up" + f"{hosts}/f"):
        assert is_refused(box, path), path
    for path in paths:
        assert Path(os.path.join(naive, path)).read_text() == "the host's secret"


@attempt("file-calls/write-through-a-link")
def test_writing_through_a_link(box: Box, daemon: LocalDaemon, hosts: Path) -> None:
    box.run(f"ln -s {hosts}/f link; ln -s {hosts} d; ln -s {hosts}/new new")
    for path in ("d/f", "d/g/h", "d/e", "link", "new"):
        assert box.write(path, "evil").status_code in REFUSED, path
    for path in ("link", "new"):
        answer = box.client.put(
            f"{box.url}/fs/raw", params={"path": path, "follow_symlinks": "false"}, content=b"good"
        )
        assert answer.status_code == 200
        assert box.content(path) == b"good"
    assert os.listdir(hosts) == ["f"]
    assert (hosts / "f").read_text() == "the host's secret"
    with open(box.workspace / "d" / "f", "w") as naive:
        naive.write("evil")
    assert (hosts / "f").read_text() == "evil"


@attempt("file-calls/upload-a-name-with-a-path")
def test_uploading_a_name_with_a_path(box: Box, daemon: LocalDaemon, hosts: Path) -> None:
    names = (f"../../../../../../../../..{hosts}/new", "../new", "..", f"{hosts}/new", "a/../../new")
    for name in names:
        answer = box.client.post(f"{box.url}/fs/upload", files={"file": (name, b"evil")})
        assert answer.status_code in REFUSED or all(
            path.startswith("/workspace/") and ".." not in path for path in answer.json()["paths"]
        ), answer.text
    for place in ("..", "/", str(hosts), "/workspace/../.."):
        answer = box.client.post(f"{box.url}/fs/upload", data={"path": place}, files={"file": ("new", b"x")})
        # The sandbox has a /tmp of its own.
        assert answer.status_code in REFUSED or box.run(f"cat {hosts}/new") == "x", place
    assert os.listdir(hosts) == ["f"]
    with open(os.path.join(box.workspace, names[0]), "w") as naive:
        naive.write("evil")
    assert (hosts / "new").exists()


@attempt("file-calls/list-through-a-link")
def test_listing_through_a_link(make_box: Callable[..., Box], data_dir: Path, hosts: Path) -> None:
    box = make_box(workspace_id="isolation-listing")
    box.run(f"ln -sfn {hosts} d; ln -sfn / root")
    url = "/v1/workspaces/isolation-listing/fs"
    for path in ("d", f"root{hosts}", "root/etc"):
        assert box.client.get(url, params={"path": path}).status_code in REFUSED, path
    answer = box.client.get(url, params={"path": "root"})  # a directory of the daemon's, which root's closes
    assert answer.status_code in REFUSED or [row["name"] for row in answer.json()["entries"]] == ["workspace"]
    naive = data_dir / "workspaces" / "isolation-listing" / "workspace" / "d"
    assert os.listdir(naive) == ["f"]


@pytest.fixture(params=["session", "workspace"])
def ask_files(
    request: pytest.FixtureRequest, make_box: Callable[..., Box], data_dir: Path
) -> Callable[[], Asked]:
    """Makes sessions, or sessions with a workspace, whose files are asked for by that workspace."""

    def make() -> Asked:
        if request.param == "session":
            box = make_box()
            return Asked(box, box.url, box.workspace)
        name = f"isolation-{secrets.token_hex(4)}"
        box = make_box(workspace_id=name)
        return Asked(box, f"/v1/workspaces/{name}", data_dir / "workspaces" / name / "workspace")

    return make


@pytest.fixture
def asked(ask_files: Callable[[], Asked]) -> Asked:
    return ask_files()


@attempt("file-calls/stat-through-a-link")
def test_asking_what_is_behind_a_link(asked: Asked, hosts: Path) -> None:
    links = f"ln -s {hosts}/f link; ln -s {hosts} d; ln -s ../../../../../../..{hosts} up; ln -s / root"
    asked.box.run(f"{links}; ln -s {hosts}/g nowhere")
    for path in asked.own_only("root", "root/etc/passwd", "link", "d", "d/f", "up/f", f"root{hosts}/f"):
        for follow_symlinks in (True, False):
            if "/" in path or follow_symlinks:
                answer = asked.stat(path, follow_symlinks=follow_symlinks)
                assert answer.status_code in REFUSED, path
                said = answer.json()
                assert said.keys() - {"details"} == {"error_code", "message"}
                assert said.get("details", {"path": path}) == {"path": path}, "only as it was asked for"
    for path, nowhere in (("link", "nowhere"), *((f"{d}/f", f"{d}/g") for d in ("d", "up", f"root{hosts}"))):
        asked.assert_no_oracle(path, nowhere)
    own = asked.stat("link", follow_symlinks=False).json()  # of the link itself all is known inside, too
    assert (own["kind"], own["link_target"]) == ("symlink", f"{hosts}/f")
    assert os.stat(asked.naive / "link").st_size == len("the host's secret")


@attempt("file-calls/stat-through-the-kernels-links")
def test_asking_what_is_behind_links_of_the_kernels(asked: Asked, hosts: Path) -> None:
    kernels = {"root": "self/root", "one": "1/root", "fd": "self/fd", "exe": "self/exe"}
    asked.box.run("; ".join(f"ln -s /proc/{there} {name}" for name, there in kernels.items()))
    for path in (f"root{hosts}/f", f"one{hosts}/f", "root", "one", "exe", "fd/0", "fd/3"):
        assert asked.stat(path).status_code in REFUSED, path
    for path in ("fd/0", "root/proc/self/exe"):
        assert asked.stat(path, follow_symlinks=False).status_code in REFUSED, path
    asked.assert_no_oracle(f"root{hosts}/f", f"root{hosts}/g")
    asked.assert_no_oracle("exe", "fd/1000000")
    assert os.stat(f"{asked.naive}/root{hosts}/f").st_size == len("the host's secret")


@attempt("file-calls/stat-by-dot-dot")
def test_asking_by_dot_dot(asked: Asked, hosts: Path) -> None:
    asked.box.run("mkdir -p a/b; ln -s .. up")
    paths = ("../" * 12 + f"{hosts}/f".lstrip("/"), "a/../../../../../../../../../.." + f"{hosts}/f")
    own = asked.own_only("..", "/etc/hosts", "up")
    for path in (*own, *paths, f"{hosts}/f", "up/up/up/up/up/up/up/up" + f"{hosts}/f"):
        assert asked.stat(path).status_code in REFUSED, path
    ups = "up/up/up/up/up/up/up/up"
    asked.assert_no_oracle(f"{ups}{hosts}/f", f"{ups}{hosts}/g")
    assert os.stat(os.path.join(asked.naive, paths[0])).st_size == len("the host's secret")


@pytest.mark.timeout(240)  # some hundred calls beside a program that never rests
@attempt("file-calls/race-a-stat")
def test_asking_about_what_is_swapped_meanwhile(asked: Asked, hosts: Path) -> None:
    swap(asked.box, hosts)
    answers = [asked.stat("d/f") for _ in range(100)]
    sizes = {answer.json()["size_bytes"] for answer in answers if answer.status_code == 200}
    assert sizes == {len("inside")}
    assert {answer.status_code for answer in answers} <= {200, 404}, "a refusal shows that something is there"
    naive = asked.naive / "d" / "f"
    until(lambda: reads(naive) == "the host's secret")
    asked.box.write("stop", "")


@attempt("sessions/ask-for-anothers-files")
def test_asking_for_files_of_another_session(ask_files: Callable[[], Asked]) -> None:
    """Both are one user to the host, and the path from one to the other is known."""
    one, other = ask_files(), ask_files()
    other.box.run("echo the other one > file")
    there = os.path.relpath(other.naive, one.naive)
    one.box.run(f"ln -s {other.naive} absolute; ln -s {there} relative; ln -s {there}/file file")
    for path in ("absolute/file", "relative/file", "file", f"{there}/file", f"{other.naive}/file"):
        assert os.path.samefile(one.naive / path, other.naive / "file")
        for call in ("fs/stat", "fs/read", "fs/raw"):
            answer = one.ask(call, path)
            assert answer.status_code in REFUSED, (call, path)
            assert "the other one" not in answer.text
    for path in ("absolute", "relative", there, str(other.naive)):
        for call in ("fs", "fs/tar", "fs/stat"):
            assert one.ask(call, path).status_code in REFUSED, (call, path)
    for path in ("absolute", "relative"):
        one.assert_no_oracle(f"{path}/file", f"{path}/nothing")
        assert one.box.write(f"{path}/new", "evil").status_code in REFUSED, path
    assert other.box.run("ls -A") == "file\n"


@pytest.mark.timeout(240)  # some hundred calls beside a program that never rests
@attempt("file-calls/race-a-read")
def test_reading_what_is_swapped_meanwhile(box: Box, daemon: LocalDaemon, hosts: Path) -> None:
    swap(box, hosts)
    for _ in range(300):
        answer = box.read("d/f")
        if answer.status_code == 200:
            assert box.content("real/f") == b"inside"
            assert answer.json()["content_base64"] == "aW5zaWRl"
    naive = box.workspace / "d" / "f"
    until(lambda: reads(naive) == "the host's secret")
    box.write("stop", "")


@pytest.mark.timeout(240)  # some hundred calls beside a program that never rests
@attempt("file-calls/race-a-write")
def test_writing_to_what_is_swapped_meanwhile(box: Box, daemon: LocalDaemon, hosts: Path) -> None:
    swap(box, hosts)
    codes = {box.write(f"d/{number % 7}/new", "evil").status_code for number in range(200)}
    codes |= {box.write("d/f", "evil").status_code for _ in range(200)}
    assert codes <= {200, *REFUSED}
    assert 200 in codes
    assert os.listdir(hosts) == ["f"]
    assert (hosts / "f").read_text() == "the host's secret"
    naive = box.workspace / "d" / "f"

    def lands() -> bool:
        try:
            with open(naive, "r+") as file:
                file.write("evil")
        except OSError:
            pass
        return (hosts / "f").read_text() != "the host's secret"

    until(lands)
    box.write("stop", "")


def swap(box: Box, hosts: Path) -> None:
    """Let the sandbox exchange a directory and a link to the host's, over and over."""
    box.write("swap.py", SWAP)
    box.run(f"python3 swap.py {hosts} & until [[ -e ready ]]; do sleep 0.01; done")


def reads(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# --- archives of images


def archive(*members: tuple[str, bytes, str]) -> io.BytesIO:
    """Names, kinds and link targets; files hold "evil"."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o755
            content = b"evil" if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    file.seek(0)
    return file


def unpacked(source: io.BytesIO, place: Path) -> bool:
    """Return whether our own unpacking takes it."""
    for name in ("root", "trash"):
        (place / name).mkdir()
    unpacker = Unpacker(place / "root", place / "trash", Identity.of_this_process())
    try:
        unpack_tar(unpacker, source, Budget(Limits()), layer=False)
    except ApiError:
        return False
    finally:
        unpacker.close()
        source.seek(0)
    return True


@attempt("archives/dot-dot")
def test_unpacking_dot_dot(tmp_path: Path) -> None:
    source = archive(("../outside", tarfile.REGTYPE, ""))
    unpacked(source, tmp_path)
    assert not (tmp_path / "outside").exists()
    naive(source, tmp_path)
    assert (tmp_path / "outside").read_text() == "evil"


@attempt("archives/absolute-name")
def test_unpacking_an_absolute_name(tmp_path: Path) -> None:
    source = archive((f"{tmp_path}/outside", tarfile.REGTYPE, ""))
    unpacked(source, tmp_path)
    assert not (tmp_path / "outside").exists()
    naive(source, tmp_path)
    assert (tmp_path / "outside").read_text() == "evil"


@attempt("archives/through-a-link")
def test_unpacking_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    source = archive(
        ("d", tarfile.SYMTYPE, str(tmp_path / "host")),
        ("d/outside", tarfile.REGTYPE, ""),
    )
    unpacked(source, tmp_path)
    assert os.listdir(tmp_path / "host") == []
    naive(source, tmp_path)
    assert (tmp_path / "host" / "outside").read_text() == "evil"


@attempt("archives/hard-link-to-outside")
def test_unpacking_a_hard_link_to_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the host's secret")
    source = archive(("copy", tarfile.LNKTYPE, "../secret"))
    unpacked(source, tmp_path)
    assert not (tmp_path / "root" / "copy").exists()
    naive(source, tmp_path)
    assert (tmp_path / "root" / "copy").read_text() == "the host's secret"


@attempt("archives/setuid")
def test_unpacking_a_setuid_file(tmp_path: Path) -> None:
    source = archive(("program", tarfile.REGTYPE, ""))
    data = bytearray(source.getvalue())
    data[100:108] = b"0006755\0"
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    source = io.BytesIO(bytes(data))
    assert unpacked(source, tmp_path)
    assert (tmp_path / "root" / "program").stat().st_mode & 0o7000 == 0
    naive(source, tmp_path)
    assert (tmp_path / "root" / "program").stat().st_mode & 0o7000 == 0o6000


def naive(source: io.BytesIO, place: Path) -> None:
    """Unpack an archive as a trusting program does."""
    with tarfile.open(fileobj=source) as tar:
        if hasattr(tarfile, "fully_trusted_filter"):
            tar.extraction_filter = tarfile.fully_trusted_filter
        tar.extractall(place / "root")
