"""Packages in sessions of the real daemon, from an index on loopback, as hostile as it likes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.box import Box, boxes
from tests.wheels import Index, make_wheel


@pytest.fixture
def make_box(package_daemon: LocalDaemon) -> Iterator[Callable[..., Box]]:
    with boxes(package_daemon) as make:
        yield make


def install(box: Box, *packages: str) -> dict[str, str]:
    answer = box.client.post(f"{box.url}/packages", json={"packages": packages})
    assert answer.status_code == 200, answer.text
    return {row["name"]: row["version"] for row in answer.json()["packages"]}


def refused(box: Box, *packages: str) -> tuple[str, str]:
    answer = box.client.post(f"{box.url}/packages", json={"packages": packages})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "PACKAGE_FAILED"), answer.text
    assert "the-key" not in answer.text
    assert answer.json()["message"].count(". ") == 1
    return answer.json()["details"]["reason"], answer.json()["message"]


def test_a_running_python_and_shell_find_what_is_installed_later(make_box: Callable[..., Box]) -> None:
    box = make_box(image="python")
    box.run("mkfifo in out; (exec 0<>in 1<>out; exec python3 -uc 'while True: exec(input())') &")
    ask = "echo {0!r} >in; read -r line <out; echo $line"
    assert box.run(ask.format("import sys; print(sys.path[5])")) == "/run/packages/now/site\n"
    assert install(box, "tool") == {"base_part": "2.0", "tool": "1.0"}
    assert box.run(ask.format("import tool; print(tool.__file__)")) == "/run/packages/now/site/tool.py\n"
    assert box.run("tool a b") == "tool 2.0 a b\n"
    assert install(box, "Base.Part < 2") == {"base_part": "1.0", "tool": "1.0"}
    assert box.run("tool; ls /run/packages") == "tool 1.0\n2\nnone\nnow\nsandkasten.pth\n"
    assert box.client.get(f"{box.url}/packages").json()["packages"][0] == {
        "name": "base_part",
        "version": "1.0",
    }


def test_a_session_has_packages_from_the_beginning_and_gets_more(make_box: Callable[..., Box]) -> None:
    box = make_box(image="python", packages=["base_part<2"])
    assert box.run("python3 -c 'import base_part; print(base_part.version)'") == "1.0\n"
    assert install(box, "tool")["base_part"] == "1.0"
    assert box.run("tool; readlink /run/packages/now") == "tool 1.0\n1\n"
    other = make_box(image="python", packages=["base_part<2"])
    assert other.run("readlink /run/packages/now; command -v tool || echo no") == "/run/prepared\nno\n"


def test_a_package_does_not_take_the_place_of_a_standard_module_nor_of_pip(
    make_box: Callable[..., Box],
) -> None:
    box = make_box(image="python", packages=["base_part<2"])
    code = "import json, site, sys; print(json.__file__, site.USER_BASE, sys.prefix)"
    assert box.run(f"python3 -c '{code}'").split()[1:] == ["/home/sandbox/.local", "/usr"]
    assert box.run("python3 -c 'import json; print(json.__file__)'").startswith("/usr/lib/")


def test_what_cannot_be_had_is_refused_in_one_sentence_and_advice(
    make_box: Callable[..., Box], package_index: Index
) -> None:
    box = make_box(image="python")
    assert refused(box, "nosuch") == (
        "unknown",
        "The package index has no package nosuch. Look at its spelling.",
    )
    assert refused(box, "elsewhere")[0] == "no_wheel"
    assert refused(box, "source-only")[0] == "only_source"
    assert refused(box, "other", "newest")[0] == "conflict"
    links = [("evil.py", "/etc/passwd", 0o120777)]
    make_wheel(package_index.directory, "linking", members=links)
    reason, message = refused(box, "linking")
    assert (reason, message.split(",")[0]) == (
        "bad_wheel",
        "The wheel of linking has a link or another special file ('evil.py')",
    )
    assert box.run("ls /run/packages/now/site") == ""


def test_the_second_session_with_a_set_waits_for_no_fetch(make_box: Callable[..., Box]) -> None:
    install(make_box(image="python"), "tool")

    def seconds(**body: object) -> float:
        began = time.perf_counter()
        # With a limit of its own, a session is not taken from those that are ready.
        make_box(image="python", limits={"processes": 100}, **body)
        return time.perf_counter() - began

    seconds(packages=["tool"])
    # A fetch takes seconds, as it starts pip; the exact ratio is a figure of scripts/bench.
    assert min(seconds(packages=["tool"]) for _ in range(3)) <= 2 * min(seconds() for _ in range(3)) + 0.5


def test_what_a_session_took_of_the_disk_is_gone_with_it(make_box: Callable[..., Box]) -> None:
    box = make_box(image="python", packages=["base_part<2"])
    install(box, "tool")
    held = box.directory / "packages"
    assert {path.name for path in held.iterdir()} == {"1", "none", "now", "sandkasten.pth"}
    assert (held / "1/site/tool.py").stat().st_nlink > 1 or os.stat(held).st_dev != os.stat("/tmp").st_dev
    box.destroy()
    assert not held.exists()


@pytest.mark.parametrize("body", [{}, {"packages": []}, {"packages": "tool"}, {"packages": ["x @ http://y"]}])
def test_a_request_that_makes_no_sense_is_refused(
    make_box: Callable[..., Box], body: dict[str, object]
) -> None:
    box = make_box(image="python")
    answer = box.client.post(f"{box.url}/packages", json=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_REQUEST")


@contextmanager
def slow(index: Index) -> Iterator[None]:
    """Have an index answer nothing during the block."""
    index.gate.clear()
    try:
        yield
    finally:
        index.gate.set()


@pytest.mark.parametrize(("package", "status"), [("six>=0.0.1", 201), ("nosuch", 400)])
def test_while_packages_are_fetched_a_client_is_not_left_in_silence(
    make_box: Callable[..., Box], package_index: Index, package: str, status: int
) -> None:
    box = make_box(image="python")
    path: str = f"{box.url}/packages"
    body: dict[str, object] = {"packages": [package]}
    if status == 201:
        path, body = "/v1/sessions", {"image": "python", **body}
    request = box.client.build_request("POST", path, json=body, headers={"X-Keep-Alive-Ms": "20"})
    with slow(package_index):
        response = box.client.send(request, stream=True)
        lines = response.iter_lines()
        assert [next(lines) for _ in range(6)] == [": keep-alive", ""] * 3
    found = [line for line in lines if line and not line.startswith(":")]
    assert found[:2] == ["id: 0", "event: answer"]
    answer = json.loads(found[2].removeprefix("data: "))
    assert answer["status"] == status, answer
    if status == 201:
        box.client.delete(f"/v1/sessions/{answer['body']['id']}").raise_for_status()
    else:
        assert answer["body"]["error_code"] == "PACKAGE_FAILED"


def test_a_client_that_leaves_while_packages_are_fetched_may_come_back(
    make_box: Callable[..., Box], package_index: Index
) -> None:
    box = make_box(image="python")
    body = {"packages": ["colorful>=0.0.1"]}
    with slow(package_index):
        headers = {"X-Keep-Alive-Ms": "20"}
        with box.client.stream("POST", f"{box.url}/packages", json=body, headers=headers) as response:
            assert next(response.iter_lines()) == ": keep-alive"
    assert install(box, "colorful>=0.0.1") == {"colorful": "1.0"}
