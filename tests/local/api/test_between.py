"""Copies and moves from one file system of a session to another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.api.test_outside import call, is_done, refusal, run
from tests.local.box import Box, boxes


@pytest.fixture(scope="module")
def shared(daemon: LocalDaemon) -> Iterator[Box]:
    with boxes(daemon) as make:
        yield make()


@pytest.mark.parametrize(
    ("here", "there"),
    [("/workspace/x", "/tmp/y/z"), ("/tmp/x", "/workspace/y/z"), ("/tmp/x", "/home/sandbox/y/z")],
)
def test_things_go_from_one_file_system_to_another(shared: Box, here: str, there: str) -> None:
    describe = "find {} -printf '%P %y %m %T@ %l\\n' | sort"
    make = (
        f"mkdir -p {here}/d/e; echo one >{here}/d/f; chmod 640 {here}/d/f; chmod 755 {here} {here}/d;"
        f"ln -s /etc/passwd {here}/l; touch -d @1000 {here}/d/f {here}/d;" + describe.format(here)
    )
    made = run(shared, make)
    assert is_done(call(shared, "copy", here, to=there))
    assert run(shared, f"cat {there}/d/f; stat -c %a {there}/d/f; readlink {there}/l; ls {there}/d") == (
        "one\n640\n/etc/passwd\ne\nf\n"
    )
    for verb in ("copy", "move"):
        assert call(shared, verb, here, to=there).status_code == 409  # something is there
        assert call(shared, verb, f"{here}/gone", to=there).status_code == 404
    assert run(shared, f"rm -r {there}; {describe.format(here)}") == made
    assert is_done(call(shared, "move", here, to=there))
    assert run(shared, f"test -e {here}; echo $?; {describe.format(there)}") == f"1\n{made}"
    assert is_done(call(shared, "move", f"{there}/l", to=here))  # a link moves as itself
    assert is_done(call(shared, "move", f"{there}/d/f", to=here, overwrite="true"))
    assert is_done(call(shared, "copy", here, to=f"{there}/d/f"))
    run(shared, f"ln -s nowhere {there}/n")
    assert is_done(call(shared, "move", f"{there}/n", to=here, overwrite="true"))
    places = f"{here} {os.path.dirname(there)}"
    assert run(shared, f"readlink {here}; cat {there}/d/f; rm -r {places}; ls -A -I .local . /tmp ~") == (
        "nowhere\none\n.:\n\n/home/sandbox:\n\n/tmp:\n"
    )


def test_a_move_that_would_lose_something_does_nothing(shared: Box) -> None:
    run(shared, "mkdir p; mkfifo p/fifo; echo x >p/f; mkdir closed; echo x >closed/f; chmod 000 closed/f")
    assert "FIFO" in refusal(call(shared, "move", "p", to="/tmp/p"))
    assert "plain file" in refusal(call(shared, "move", "p/fifo", to="/tmp/p"))
    assert call(shared, "move", "closed", to="/tmp/p").status_code == 403
    for path in ("/usr/bin/env", "/usr/share", "/etc/hostname"):
        answer = call(shared, "move", path, to="taken")
        assert answer.status_code in {400, 403, 409}, answer.text
    run(shared, "chmod 500 closed; chmod 600 closed/f")
    assert call(shared, "move", "closed/f", to="/tmp/f").status_code == 403
    assert run(shared, "ls -A /tmp; ls; chmod 700 closed; rm -r p closed") == "closed\np\n"


def test_what_goes_into_the_workspace_counts_there(make_box: Any) -> None:
    box = make_box(limits={"workspace_bytes": 1024 * 1024})
    box.run("head -c 3000000 /dev/zero >/tmp/big; ln -s /tmp w; ln -s /workspace /tmp/back")
    for verb in ("copy", "move"):
        answer = call(box, verb, "/tmp/big", to="big")
        assert (answer.status_code, answer.json()["error_code"]) == (507, "INSUFFICIENT_STORAGE")
        assert "back into /workspace" in refusal(call(box, verb, "/tmp/big", to="/tmp/back/big"))
    assert box.run("ls -A; stat -c %s /tmp/big") == "w\n3000000\n"
    assert is_done(call(box, "copy", "w/big", to="/home/sandbox/big"))  # both are outside
    box.run("truncate -s 3000000 sparse")
    assert is_done(call(box, "move", "sparse", to="w/sparse"))
    assert box.run("ls -A . /tmp") == ".:\nw\n\n/tmp:\nback\nbig\nsparse\n"


def test_a_workspace_has_one_side_only(shared: Box, make_box: Any) -> None:
    box = make_box(workspace_id="outside-two")
    box.run("touch f")
    box.url = "/v1/workspaces/outside-two"
    for verb in ("copy", "move"):
        assert "outside /workspace" in refusal(call(box, verb, "f", to="../tmp/f"))
        assert "outside /workspace" in refusal(call(box, verb, "../etc/passwd", to="g"))
