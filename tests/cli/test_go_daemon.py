"""The command line with the Go daemon as its peer; `tests/go_peer.py` says how a real one is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from sandkasten.local.launch import LocalDaemon
from tests.cli.program import Home
from tests.go_daemon import GoDaemon
from tests.go_peer import GoPeer, new_workspace_id
from tests.go_rules import Config


def home_of(make_home: Callable[[], Home], url: str, api_key: str) -> Home:
    home = make_home()
    home.environ |= {"SANDKASTEN_BASE_URL": url, "SANDKASTEN_API_KEY": api_key}
    return home


@pytest.fixture
def home(make_home: Callable[[], Home], go_peer: GoPeer) -> Home:
    return home_of(make_home, go_peer.url, go_peer.api_key)


@pytest.fixture
def workspace(home: Home) -> Iterator[str]:
    """The id of a workspace of its own."""
    yield (workspace := new_workspace_id())
    home.run("workspace", "rm", workspace, expect=None)


@pytest.fixture
def session(home: Home, workspace: str) -> Iterator[str]:
    """The id of a session that may write."""
    yield (session := home("new", "--image", "base", "--workspace", workspace).strip())
    home.run("rm", session, expect=None)


def test_a_pipe_gets_what_a_command_prints_and_no_prompts(home: Home, session: str) -> None:
    done = home.run("exec", session, "--", r"printf '\033[31mred\033[0m\nplain\n'; exit 7", expect=7)
    assert (done.text, done.stderr) == ("red\nplain\n", "")
    assert home("exec", session, "--", "true") == ""
    assert "\x1b[31mred" in home("exec", "--raw", session, "--", r"printf '\033[31mred\033[0m\n'")


def test_input_is_the_commands(home: Home, session: str) -> None:
    content = os.urandom(100_000)
    done = home.run("exec", session, "--", "cksum | cut -d' ' -f2; ls -A", feed=content)
    assert done.text == f"{len(content)}\n"


def test_a_command_that_outruns_its_time_has_the_exit_code_for_that(home: Home, session: str) -> None:
    home.run("exec", "--timeout", "0.2", session, "--", "sleep 0.5", expect=124)


def test_files_are_copied_in_and_out_and_listed(home: Home, session: str, workspace: str) -> None:
    here = home.directory / "home"
    content = os.urandom(2_000_000)
    (here / "tree" / "sub").mkdir(parents=True)
    (here / "tree" / "sub" / "binary").write_bytes(content)
    home("cp", "tree", f"{session}:")
    home("cp", f"{session}:tree/sub/binary", "back")
    assert (here / "back").read_bytes() == content
    assert home("ls", "-q", session) == "tree\n"
    assert home("ls", "-q", f"{session}:tree/sub") == "binary\n"
    (here / "note").write_bytes(content[:1000])
    home("workspace", "cp", "note", f"{workspace}:")
    home("workspace", "cp", f"{workspace}:note", "note-back")
    assert (here / "note-back").read_bytes() == content[:1000]
    assert home("workspace", "ls", "-q", workspace) == "note\ntree\n"
    assert workspace in home("workspace", "ls", "-q").split()
    assert home("exec", session, "--", "wc -c <note") == "1000\n"


def test_run_without_a_workspace_runs_and_says_why_it_cannot_write(home: Home) -> None:
    assert home("run", "--image", "base", "--", "echo fine") == "fine\n"
    (home.directory / "home" / "f").write_bytes(b"content")
    done = home.run("run", "--image", "base", "--upload", "f", "--", "true", expect=125)
    assert "read-only file system. This daemon lets only sessions with a workspace write" in done.sentence


def test_sessions_that_ended_are_neither_listed_nor_found(home: Home, session: str) -> None:
    assert session in home("ls", "-q").split()
    assert home("rm", session) == f"{session}\n"
    assert session not in home("ls", "-q").split()
    assert "ended" in home.run("info", session, expect=125).sentence


def test_all_sessions_are_ended_and_its_pool_stays(
    make_home: Callable[[], Home], daemon: LocalDaemon
) -> None:
    with GoDaemon(daemon, Config(pool_size=1)) as go:
        home = home_of(make_home, go.url, go.api_key)
        made = home("new", "--image", "base").strip()
        assert home("rm", "--all") == f"{made}\n"
        assert home("ls", "-q") == ""
        from_pool = home("new", "--image", "base").strip()
        assert home("exec", from_pool, "--", "echo fine") == "fine\n"
        home("rm", "--all")
