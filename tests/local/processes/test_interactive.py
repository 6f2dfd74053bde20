"""Programs that people use in a terminal, driven key by key in real sandboxes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.box import connect
from tests.local.processes.beside import Beside
from tests.local.processes.test_terminals import Typist, typing


@pytest.fixture(scope="module")
def inside(daemon: LocalDaemon) -> Iterator[Beside]:
    """One session for all of them."""
    with connect(daemon) as client:
        session = Beside(client)
        yield session
        session.destroy()


def need(program: str) -> None:
    """Skip a test without its program: the image `base` has what this machine has."""
    if shutil.which(program) is None:
        pytest.skip(f"this machine has no {program}, and so the sandbox has none")


def shell(inside: Beside, script: str) -> bytes:
    """Return the output of a script that succeeds."""
    result = inside.run(cmd=script)
    assert result["exit_code"] == 0, result
    output: bytes = result["stdout"]
    return output


def test_the_prompt_of_python(inside: Beside) -> None:
    with typing(inside, "python3", "-q") as (typist, process):
        typist.sees(b">>> ")
        typist.type(b"import sys; sys.stdin.isatty() + 6 * 7\r")
        typist.sees(b"43\r\n")
        typist.sees(b">>> ")
        typist.type(b"while True: pass\r\r")
        typist.sees(b"... ")
        typist.sees(b"\r\n")
        typist.type(b"\x03")
        typist.sees(b"KeyboardInterrupt")
        typist.sees(b">>> ")
        typist.type(b"6 * 9\r")
        typist.sees(b"54\r\n>>> ")
        typist.type(b"\x04")
    assert inside.wait(process)["exit_code"] == 0


def test_the_prompt_of_node(inside: Beside) -> None:
    need("node")
    with typing(inside, "node") as (typist, process):
        typist.sees(b"> ")
        typist.type(b"process.stdout.columns + 6 * 7\r")
        typist.sees(b"139")
        typist.sees(b"> ")
        typist.type(b".exit\r")
    assert inside.wait(process)["exit_code"] == 0


def test_git_asks_for_each_hunk(inside: Beside) -> None:
    need("git")
    shell(
        inside,
        "mkdir repo && cd repo && git init -q && git config user.name n"
        " && git config user.email e@example.org"
        " && seq 40 >numbers && git add . && git commit -qm one"
        " && sed -i 's/^1$/first/; s/^40$/last/' numbers",
    )
    with typing(inside, "git", "add", "-p", cwd="repo") as (typist, process):
        typist.sees(b"first")
        typist.sees(b"Stage this hunk")
        typist.type(b"n\n")
        typist.sees(b"last")
        typist.sees(b"Stage this hunk")
        typist.type(b"y\n")
    assert inside.wait(process)["exit_code"] == 0
    staged = shell(inside, "cd repo && git diff --cached --unified=0")
    assert b"+last" in staged
    assert b"+first" not in staged


def _make_key(typist: Typist, phrase: bytes) -> None:
    for question in (b"Enter passphrase", b"Enter same passphrase again: "):
        typist.sees(question)
        typist.type(phrase + b"\n")
    typist.sees(b"The key fingerprint is")


def test_ssh_keygen_reads_a_secret_unseen_and_asks_before_it_overwrites(inside: Beside) -> None:
    need("ssh-keygen")
    words = ["ssh-keygen", "-t", "ed25519", "-f", "key"]
    with typing(inside, *words) as (typist, process):
        _make_key(typist, b"s3cret")
    assert inside.wait(process)["exit_code"] == 0
    assert b"s3cret" not in inside.output(process).data["stdout"]
    first = shell(inside, "cat key.pub")
    for answer in (b"n", b"y"):
        with typing(inside, *words) as (typist, process):
            typist.sees(b"Overwrite (y/n)? ")
            typist.type(answer + b"\n")
            if answer == b"y":
                _make_key(typist, b"")
        inside.wait(process)
        assert (shell(inside, "cat key.pub") == first) == (answer == b"n")


def test_a_progress_bar_is_seen_step_by_step_and_byte_for_byte(inside: Beside) -> None:
    bar = [b"\r\x1b[2K[%-4s] %d%%" % (b"#" * step, 25 * step) for step in range(5)]
    script = "".join(
        f"printf '{step.decode()}'; read -rsn 1; ".replace("%%", "%").replace("%", "%%") for step in bar
    )
    with typing(inside, "bash", "-c", script) as (typist, process):
        for step in bar:
            typist.sees(step)  # before the program may go on
            typist.type(b" ")
    assert inside.wait(process)["end"] == "exited"
    assert inside.output(process).data["stdout"] == b"".join(bar)


@pytest.mark.parametrize("program", ["vim", "less"])
def test_a_full_screen_program_draws_itself_anew_in_another_size(inside: Beside, program: str) -> None:
    need(program)
    shell(inside, "seq 1000 1199 >lines")
    words = {"vim": ["vim", "-u", "NONE", "-N", "lines"], "less": ["less", "lines"]}[program]
    with typing(inside, *words) as (typist, process):
        typist.sees(b"1029")
        size = {"columns": 60, "rows": 50}
        answer = inside.client.post(f"{inside.url}/{process}/resize", json=size)
        assert answer.json() == {"ok": True}
        typist.sees(b"1048")  # more fits now
        typist.type({"vim": b":q!\r", "less": b"q"}[program])
    assert inside.wait(process)["exit_code"] == 0
