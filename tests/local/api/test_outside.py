"""Files of a session that are not in its workspace: what works, what is refused, and hostile sandboxes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandkasten.local.errors import ApiError
from sandkasten.local.files.outside import OutsideTree
from sandkasten.local.files.resolving import inside_path
from sandkasten.local.isolation.programs import CannotSpawnError
from sandkasten.local.launch import LocalDaemon
from tests.local.box import Box, boxes
from tests.local.files.place import Place

SWAP = """
import ctypes, os, sys
one, other = (os.fsencode(word) for word in sys.argv[1:])
exchange = ctypes.CDLL(None).renameat2
while not os.path.exists("/tmp/stop"):
    exchange(-100, one, -100, other, 2)
"""


@pytest.fixture(scope="module")
def shared(daemon: LocalDaemon) -> Iterator[Box]:
    with boxes(daemon) as make:
        box = make()
        box.write("swap.py", SWAP)
        yield box


def run(box: Box, cmd: str) -> str:
    """Run a command in /workspace, wherever the last one went."""
    return box.run(f"cd /workspace; {cmd}")


def put(box: Box, path: str, content: bytes, **query: Any) -> httpx.Response:
    return box.client.put(f"{box.url}/fs/raw", params={"path": path} | query, content=content)


def call(box: Box, verb: str, path: str, **query: Any) -> httpx.Response:
    return box.client.post(f"{box.url}/fs/{verb}", params={"path": path} | query)


def stat(box: Box, path: str, **query: Any) -> httpx.Response:
    return box.client.get(f"{box.url}/fs/stat", params={"path": path} | query)


def is_done(answer: httpx.Response) -> bool:
    assert answer.status_code == 200, answer.text
    return True


def refusal(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "INVALID_REQUEST"
    message: str = answer.json()["message"]
    return message


# --- what works


@pytest.mark.parametrize("top", ["/tmp", "/home/sandbox", "/dev/shm"])
def test_files_are_made_changed_and_removed(shared: Box, top: str) -> None:
    place = f"{top}/own/deep"
    assert put(shared, f"{place}/f", b"one\n", mode="750").json()["path"] == f"{place}/f"
    assert run(shared, f"cat {place}/f; stat -c '%U %a' {place}/f") == "one\nsandbox 750\n"
    assert is_done(shared.write(f"{place}/f", "two\n"))
    assert run(shared, f"cat {place}/f; stat -c %a {place}/f") == "two\n750\n"
    assert is_done(shared.client.post(f"{shared.url}/fs/append", params={"path": f"{place}/f"}, content=b"3"))
    assert shared.content(f"{place}/f") == b"two\n3"
    assert is_done(call(shared, "chmod", f"{place}/f", mode="600"))
    assert stat(shared, f"{place}/f").json()["mode"] == 0o600
    assert is_done(call(shared, "copy", place, to=f"{top}/own/copy"))
    assert is_done(call(shared, "move", f"{top}/own/copy/f", to=f"{top}/own/g"))
    assert is_done(call(shared, "mkdir", f"{top}/own/new"))
    assert (
        run(shared, f"cd {top}/own; find . | sort; cat g")
        == ".\n./copy\n./deep\n./deep/f\n./g\n./new\ntwo\n3"
    )
    listed = shared.client.get(f"{shared.url}/fs", params={"path": f"{top}/own"}).json()["entries"]
    assert [entry["name"] for entry in listed] == ["copy", "deep", "g", "new"]
    assert is_done(call(shared, "remove", f"{top}/own", recursive="true"))
    assert stat(shared, f"{top}/own").status_code == 404
    # The link by which Python finds packages is there from the beginning.
    assert run(shared, f"ls -A {top}") in {"", ".local\n"}


def test_the_image_can_be_read_and_not_changed(shared: Box) -> None:
    assert shared.content("/etc/passwd").decode() == run(shared, "cat /etc/passwd")
    assert stat(shared, "/usr/bin/env").json()["kind"] == "file"
    names = [
        entry["name"]
        for entry in shared.client.get(f"{shared.url}/fs", params={"path": "/"}).json()["entries"]
    ]
    assert {"etc", "tmp", "usr", "workspace"} <= set(names)
    for path in ("/etc/passwd", "/usr/new", "/new"):
        assert shared.write(path, "evil").status_code == 403, path
    assert call(shared, "chmod", "/etc/passwd", mode="777").status_code == 403
    assert call(shared, "remove", "/etc/passwd").status_code == 403


def test_trees_go_both_ways(shared: Box) -> None:
    run(
        shared,
        "mkdir -p /tmp/from/d; echo x >/tmp/from/d/f; ln -s /etc/passwd /tmp/from/l; mkfifo /tmp/from/p",
    )
    archive = shared.client.get(f"{shared.url}/fs/tar", params={"path": "/tmp/from"})
    assert is_done(archive)
    assert is_done(
        shared.client.put(f"{shared.url}/fs/tar", params={"path": "/tmp/to"}, content=archive.content)
    )
    assert (
        run(shared, "cd /tmp/to; cat d/f; readlink l; ls -A; rm -r /tmp/to /tmp/from")
        == "x\n/etc/passwd\nd\nl\n"
    )
    found = shared.client.get(f"{shared.url}/fs/find", params={"path": "/", "depth": "5"}).json()["entries"]
    assert not any(entry["name"].startswith("proc/") for entry in found)
    for path in ("fs/tar", "fs/search"):
        says = refusal(shared.client.get(f"{shared.url}/{path}", params={"path": "/", "pattern": "x"}))
        assert "/ as a whole" in says


def test_links_lead_where_they_lead_inside(shared: Box) -> None:
    run(
        shared,
        "mkdir l; echo far >/tmp/far; ln -s /tmp l/d; ln -s /tmp/far l/f; ln -s ../../tmp/new l/n;"
        "ln -s / l/top; ln -s /workspace/l/made l/own; ln -s /workspace /tmp/back",
    )
    assert [shared.content(f"l/{path}") for path in ("d/far", "f", "top/tmp/far")] == [b"far\n"] * 3
    for path in ("l/d/one", "l/f", "l/n", "l/top/tmp/two", "l/own", "l/top/workspace/l/three"):
        assert is_done(shared.write(path, path)), path
    assert run(shared, "cd /tmp; cat one far new two; cd /workspace/l; cat made three") == (
        "l/d/onel/fl/nl/top/tmp/twol/ownl/top/workspace/l/three"
    )
    assert shared.content("/tmp/back/l/made") == b"l/own"
    # A link itself is in the workspace, wherever it leads.
    assert stat(shared, "l/f", follow_symlinks="false").json()["link_target"] == "/tmp/far"
    assert is_done(call(shared, "move", "l/f", to="l/g"))
    assert is_done(call(shared, "remove", "l/g"))
    assert is_done(put(shared, "l/n", b"a file", follow_symlinks="false"))
    assert run(shared, "cat l/n /tmp/far; rm -r /workspace/l /tmp/*") == "a filel/f"


def test_the_room_is_that_of_the_file_system(shared: Box) -> None:
    run(
        shared,
        "echo kept >/tmp/f; fallocate -l $(($(df --output=avail -B1 /tmp | tail -1) - 65536)) /tmp/big",
    )
    content = b"x" * 1024 * 1024
    for answer in (
        shared.write("/tmp/f", content),
        put(shared, "/tmp/f", content),
        put(shared, "/tmp/g", content),
    ):
        assert (answer.status_code, answer.json()["error_code"]) == (507, "INSUFFICIENT_STORAGE")
    assert run(shared, "rm /tmp/big; cat /tmp/*; ls -A /tmp; rm /tmp/f") == "kept\nf\n"


def test_the_limit_of_the_workspace_does_not_count(make_box: Any) -> None:
    box = make_box(limits={"workspace_bytes": 1024 * 1024})
    big = b"x" * 2 * 1024 * 1024
    assert put(box, "f", big).status_code == 507
    assert is_done(put(box, "/tmp/f", big))
    box.run("ln -s /workspace /tmp/back; ln -s /workspace/f /tmp/f2; ln -s /tmp/f2 f2")
    for path in ("/tmp/back/f", "/tmp/back/d/f"):
        assert "back into /workspace" in refusal(put(box, path, big))
    assert put(box, "/tmp/f2", big).status_code == 400
    assert put(box, "f2", big).status_code in {400, 507}
    assert box.run("ls -A") == "f2\n"


# --- what is refused


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/proc",
            "/proc/version",
            "/proc/1/environ",
            "/proc/self/root/etc/passwd",
            "/sys",
            "/dev",
            "/dev/null",
        ),
        *("/dev/pts/0", "/dev/shm/../null", "../proc/1", "//proc/version"),
    ],
)
def test_the_kernels_files_are_not_touched(shared: Box, path: str) -> None:
    for answer in (
        shared.read(path), shared.write(path, "x"), stat(shared, path),
        shared.client.get(f"{shared.url}/fs", params={"path": path}), call(shared, "chmod", path, mode="777"),
        call(shared, "remove", path), call(shared, "mkdir", f"{path}/x"), put(shared, path, b"x"),
    ):  # fmt: skip
        assert "kernel's files" in refusal(answer)


def test_links_to_the_kernels_files_are_refused_as_well(shared: Box) -> None:
    kernels = {
        "root": "/proc/self/root", "one": "/proc/1/root", "fd": "/proc/self/fd", "cwd": "/proc/1/cwd",
        "p": "/proc", "d": "/dev", "s": "/sys", "null": "/dev/null", "exe": "/proc/1/exe",
    }  # fmt: skip
    run(shared, "mkdir /tmp/k k; for d in /tmp/k k; do " + "".join(
        f"ln -s {target} $d/{name};" for name, target in kernels.items()
    ) + "done")  # fmt: skip
    paths = (
        "root/etc/passwd",
        "one/etc/passwd",
        "fd/0",
        "cwd/f",
        "p/version",
        "p/1/environ",
        "d/null",
        "null",
        "exe",
    )
    for top in ("/tmp/k", "k"):
        for path in paths:
            for answer in (
                shared.read(f"{top}/{path}"), stat(shared, f"{top}/{path}"),
                shared.write(f"{top}/{path}", "x"),
                shared.client.get(f"{shared.url}/fs/tar", params={"path": f"{top}/{path}"}),
            ):  # fmt: skip
                assert answer.status_code in {400, 403, 404}, (top, path, answer.text)
    assert run(shared, "test -c /dev/null; rm -r k /tmp/k") == ""


def test_what_is_no_plain_file_is_never_opened(shared: Box) -> None:
    """The other end of a FIFO waits until somebody opens it, which is how it would show."""
    run(
        shared,
        "cd /tmp; mkfifo p; (echo opened >p; echo opened >>seen) & (cat p >>seen) & sleep 0;"
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'; ln -s /tmp/p /workspace/p",
    )
    run(shared, "wait; cat /tmp/seen; rm /tmp/seen; (echo opened >/tmp/p; touch /tmp/seen) & sleep 0")
    for path in ("/tmp/p", "p", "/tmp/s"):
        for answer in (
            shared.read(path),
            shared.client.get(f"{shared.url}/fs/raw", params={"path": path}),
            call(shared, "copy", path, to="/tmp/copy"),
            call(shared, "chmod", path, mode="777"),
        ):
            assert "plain file" in refusal(answer) or "neither" in refusal(answer)
    assert shared.client.get(f"{shared.url}/fs/tar", params={"path": "/tmp"}).status_code == 200
    assert run(shared, "ls /tmp; cat /tmp/p; rm -f p /tmp/*") == "p\ns\nopened\n"


def test_a_workspace_without_a_session_keeps_to_itself(daemon: LocalDaemon, make_box: Any) -> None:
    box = make_box(workspace_id="outside-one")
    box.run("ln -s /tmp t; echo secret >/tmp/f")
    box.url = "/v1/workspaces/outside-one"
    assert "outside /workspace" in refusal(box.read("../etc/passwd"))
    assert box.read("t/f").status_code == 404
    assert box.write("t/g", "x").status_code == 404


# --- hostile


def test_files_of_another_session_are_out_of_reach(make_box: Any) -> None:
    one, other = make_box(), make_box()
    other.run("echo the other one | tee /tmp/file /workspace/file")
    one.run(f"ln -s {other.workspace} w; ln -s {other.workspace}/file /tmp/f; ln -s {other.directory} /tmp/d")
    for path in ("w/file", "/tmp/f", "/tmp/d/root/workspace/file", f"{other.workspace}/file", "/tmp/file"):
        assert os.path.exists(other.workspace / "file")
        for answer in (one.read(path), stat(one, path)):
            assert answer.status_code == 404, (path, answer.text)
    assert one.write("w/new", "evil").status_code in {400, 404}
    assert put(one, f"{other.workspace}/new", b"mine").status_code == 200  # in its own /tmp
    assert other.run("ls /workspace /tmp") == "/tmp:\nfile\n\n/workspace:\nfile\n"


def test_places_that_are_swapped_meanwhile(shared: Box) -> None:
    """A directory of /tmp against links to the workspace and to the kernel's files."""
    run(
        shared,
        "mkdir -p /tmp/d /workspace/caught; echo inside >/tmp/d/f; ln -s /workspace/caught /tmp/w;"
        "ln -s /proc/1 /tmp/k; python3 swap.py /tmp/d /tmp/w & python3 swap.py /tmp/d /tmp/k &",
    )
    codes = {put(shared, "/tmp/d/new", b"evil").status_code for _ in range(150)}
    codes |= {put(shared, "/tmp/d/x/new", b"evil").status_code for _ in range(50)}
    contents = {shared.read("/tmp/d/f").text for _ in range(100)}
    contents |= {shared.read("/tmp/d/environ").text for _ in range(50)}
    run(shared, "touch /tmp/stop; wait")
    assert codes <= {200, 400, 403, 404, 409}
    assert {200, 400} <= codes, "the swapping has no effect"
    assert all(
        "content_base64" not in each or json.loads(each)["content_base64"] == "aW5zaWRlCg=="
        for each in contents
    )
    assert run(shared, "ls -A caught; rm -r /tmp/* caught") == ""


def test_a_copy_that_is_swapped_for_a_link_while_it_is_made(shared: Box) -> None:
    """Copies in /tmp are made beside their place, where the sandbox sees them."""
    run(
        shared,
        "mkdir -p /tmp/from/d /tmp/to; for n in {1..50}; do echo x >/tmp/from/$n; done; chmod 600 swap.py;"
        "cat >/tmp/catch.py <<'END'\n"
        "import os\n"
        "while not os.path.exists('/tmp/stop'):\n"
        "    for name in os.listdir('/tmp/to'):\n"
        "        if name.startswith('.sandkasten'):\n"
        "            try:\n"
        "                os.rename('/tmp/to/' + name, '/tmp/to/x' + name)\n"
        "                os.symlink('/workspace/swap.py', '/tmp/to/' + name)\n"
        "            except OSError:\n"
        "                pass\n"
        "END\n"
        "python3 /tmp/catch.py &",
    )
    codes = {call(shared, "copy", "/tmp/from", to=f"/tmp/to/{number}").status_code for number in range(60)}
    assert codes <= {200, 400, 403, 404, 409}
    assert run(shared, "touch /tmp/stop; wait; stat -c %a swap.py; rm -rf /tmp/*") == "600\n"


# --- parts


def test_the_reason_is_given_where_nothing_outside_can_be_reached() -> None:
    error = CannotSpawnError("Processes beside the shell cannot be started: so and so.")
    with pytest.raises(ApiError, match=r"'/tmp/x' is outside /workspace. Processes .* so. Reach other"):
        inside_path("/tmp/x", str(error))


def test_links_are_followed_by_their_text_as_the_kernel_does(tmp_path: Any) -> None:
    place = Place(tmp_path)
    (place.inside / "a" / "b").mkdir(parents=True)
    for name, target in {
        "loop": "loop", "gone": "/workspace/a/gone", "up": "..", "out": "/tmp/x", "far": "../../../tmp",
        "near": "a/b/..",
        "back": "/tmp/../workspace/a", "two": "out", "three": "/workspace/two",
    }.items():  # fmt: skip
        (place.inside / name).symlink_to(target)

    def leads_out(path: str, *, follow_symlinks: bool = True) -> bool:
        return place.tree.leads_out(path, follow_symlinks=follow_symlinks)

    assert all(map(leads_out, ("up", "up/tmp", "out", "out/y", "far", "far/z", "two", "three")))
    assert not any(
        map(leads_out, ("a", "a/x", "new/x", "loop", "gone", "near", "near/b", "up/workspace/a", "."))
    )
    assert not leads_out("out", follow_symlinks=False)
    assert leads_out("far/out", follow_symlinks=False)


def test_a_root_that_was_closed_names_nothing(tmp_path: Any) -> None:
    place = Place(tmp_path)
    root = os.open(tmp_path, os.O_PATH)
    tree = OutsideTree(root, place.tree)
    os.close(root)
    assert stat_kind(tree, "/host") == "directory"
    tree.close()
    tree.close()
    with pytest.raises(Exception, match="the session ended"):
        stat_kind(tree, "/host")


def stat_kind(tree: OutsideTree, path: str) -> str:
    return tree.stat(path, follow_symlinks=True).kind
