"""`%sandbox pip`: packages for a notebook's sessions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandkasten.local.launch import LocalDaemon
from sandkasten.notebook.arguments import parse_line
from sandkasten.notebook.errors import MagicError
from sandkasten.notebook.sessions import NotebookSessions
from sandkasten.notebook.tables import Table
from sandkasten.notebook.verbs import VERBS
from sandkasten_sync import SandboxClient


@pytest.fixture
def sessions(package_daemon: LocalDaemon) -> Iterator[NotebookSessions]:
    target = package_daemon.target
    sessions = NotebookSessions(
        lambda: SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key)
    )
    yield sessions
    sessions.close_all()


def do(sessions: NotebookSessions, line: str) -> object:
    verb, arguments = parse_line(line)
    return VERBS[verb](sessions, arguments)


def test_packages_are_installed_listed_and_there_after_a_reset(
    sessions: NotebookSessions, capsys: pytest.CaptureFixture[str]
) -> None:
    do(sessions, "pip install tool 'base_part<2'")
    assert capsys.readouterr().out == "Installed base_part 1.0, tool 1.0.\n"
    do(sessions, "pip install -U tool")
    assert capsys.readouterr().out == "All of that is installed.\n"
    do(sessions, "reset")
    assert sessions.get("main").exec("tool").output == "tool 1.0\n"
    listed = do(sessions, "pip list")
    assert isinstance(listed, Table)
    assert list(listed.rows) == [("base_part", "1.0"), ("tool", "1.0")]


def test_a_name_is_needed_and_only_two_actions_are_there(sessions: NotebookSessions) -> None:
    with pytest.raises(MagicError, match="name the packages"):
        do(sessions, "pip install")
    with pytest.raises(MagicError, match="freeze"):
        parse_line("pip freeze")
