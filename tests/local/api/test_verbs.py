"""Requests for the verbs of files that make no sense, in plain HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.box import Box, boxes


@pytest.fixture(scope="module")
def shared(daemon: LocalDaemon) -> Iterator[Box]:
    with boxes(daemon) as make:
        box = make()
        box.run("mkdir d; touch f")
        yield box


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("POST mkdir", 400),
        ("POST mkdir?path=", 400),
        ("POST mkdir?path=a%00b", 400),
        ("POST mkdir?path=x&parents=1", 400),
        ("POST remove?path=..&recursive=true", 400),
        ("POST remove?path=/workspace&recursive=true", 400),
        ("POST remove?path=f&recursive=yes", 400),
        ("POST move?path=f", 400),
        ("POST move?path=f&to=", 400),
        ("POST move?path=f&to=/etc/f", 403),
        ("POST move?path=f&to=/usr/f", 403),
        ("POST copy?path=f&to=/usr/f", 403),
        ("POST move?path=d&to=d/e", 400),
        ("POST copy?path=/etc/gone&to=x", 404),
        ("POST copy?path=/proc/version&to=x", 400),
        ("POST copy?path=f&to=../x", 403),
        ("POST chmod?path=f", 400),
        ("POST chmod?path=f&mode=9", 400),
        ("POST chmod?path=f&mode=4755", 400),
        ("POST chmod?path=f&mode=-1", 400),
        ("POST append?path=..", 400),
        ("POST append?path=/usr/x", 403),
        ("GET find?path=/proc", 400),
        ("GET find?depth=0", 400),
        ("GET find?depth=1e3", 400),
        ("GET find?glob=", 400),
        ("GET find?glob=a%00", 400),
        ("GET search", 400),
        ("GET search?pattern=(", 400),
        ("GET search?pattern=x&max_results=100000", 400),
        ("GET search?pattern=x&timeout_ms=0", 400),
        ("GET search?pattern=x&path=missing", 404),
        ("GET search?pattern=x&path=f", 400),
        ("GET mkdir?path=x", 405),
        ("DELETE remove?path=f", 405),
    ],
)
def test_each_gets_its_answer_and_changes_nothing(shared: Box, call: str, status: int) -> None:
    method, rest = call.split(" ", 1)
    answer = shared.client.request(method, f"{shared.url}/fs/{rest}")
    assert (answer.status_code, answer.is_success or bool(answer.json()["message"])) == (status, True)
    assert sorted(path.name for path in shared.workspace.iterdir()) == ["d", "f"]


def test_a_session_that_is_gone_has_no_files(box: Box) -> None:
    gone = box
    gone.destroy()
    for call in ("mkdir?path=x", "remove?path=x", "move?path=x&to=y", "copy?path=x&to=y", "append?path=x"):
        answer = gone.client.post(f"{gone.url}/fs/{call}")
        assert answer.json()["error_code"] == "SESSION_NOT_FOUND"
