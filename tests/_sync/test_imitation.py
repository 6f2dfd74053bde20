# Made from tests/_async/test_imitation.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""`run` on a daemon without the extension `processes`: a command of the shell does it, as far as that can."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten.errors import CannotStartError, ExecTimeoutError, ExtensionMissingError, SandkastenError
from tests.go_daemon import GoDaemon

from .seam import SandboxClient, Session


@pytest.fixture(scope="module")
def go_client(go_daemon: GoDaemon) -> Iterator[SandboxClient]:
    with SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client:
        yield client


@pytest.fixture(scope="module")
def plain(go_client: SandboxClient) -> Iterator[Session]:
    with go_client.create_session(image="base") as session:
        yield session


def test_outputs_input_directory_and_variables(plain: Session) -> None:
    script = 'cat; printf "%s|" "$PWD" "$A" "${HOME-none}" "$@"; printf "oh\\n" >&2; exit 3'
    result = plain.run(
        ["bash", "-c", script, "name", "a 'b", "-n", ""],
        input="in\0\n",
        cwd="/tmp",
        env={"A": "x y'", "HOME": None},
    )
    assert result.stdout_bytes == b"in\0\n/tmp|x y'|none|a 'b|-n||"
    assert (result.stderr, result.exit_code, result.end, result.signal) == ("oh\n", 3, "exited", None)
    assert (result.truncated, result.stderr_total_bytes) == (False, 3)
    assert (plain.exec("echo $PWD; ls -A; ls -d /tmp/tmp.* 2>/dev/null | wc -l")).output == "/workspace\n0\n"


def test_bash_runs_a_text_and_without_input_there_is_none(plain: Session) -> None:
    result = plain.run("read x || echo nothing | tr a-z A-Z; cd /; kill -9 $$")
    assert (result.stdout, result.exit_code, result.signal, result.end) == (
        "NOTHING\n",
        137,
        "SIGKILL",
        "signal",
    )


def test_a_large_input_and_a_large_output(plain: Session) -> None:
    line = b"0123456789abcde\n"
    result = plain.run("wc -c >&2; seq 1000000", input=line * 20_000, keep_bytes=1000)
    assert result.stderr == "320000\n"
    assert result.truncated
    assert result.stdout_total_bytes == 6888896
    assert result.stdout.startswith("1\n2\n")
    assert result.stdout.endswith("\n1000000\n")
    assert "[... 6,887,896 bytes left out ...]\n" in result.stdout
    assert plain.exec("ls -A").output == ""


def test_nothing_is_left_after_a_timeout(plain: Session) -> None:
    with pytest.raises(ExecTimeoutError) as caught:
        plain.run("echo out; echo err >&2; (trap '' TERM; sleep 313) & sleep 313", timeout_ms=300)
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "err\n")
    assert plain.exec("pgrep -fx 'sleep 313' | wc -l").output.strip() == "0"


@pytest.mark.parametrize(
    ("args", "cwd", "match"),
    [
        (["python4"], None, "python4: not found in PATH"),
        (["./x"], None, "./x: no such file"),
        (["/etc/passwd"], None, "/etc/passwd: not executable"),
        (["true"], "/nowhere", "/nowhere: no such directory"),
    ],
)
def test_what_cannot_be_started_says_why(
    plain: Session, args: list[str], cwd: str | None, match: str
) -> None:
    with pytest.raises(CannotStartError, match=match):
        plain.run(args, cwd=cwd)


def test_the_rest_needs_the_extension(plain: Session) -> None:
    with pytest.raises(ExtensionMissingError, match="'processes'"):
        plain.start(["true"])
    with pytest.raises(ExtensionMissingError, match="'processes'"):
        plain.processes()
    with pytest.raises(SandkastenError, match="no variable 'a-b'"):
        plain.run(["true"], env={"a-b": "1"})
