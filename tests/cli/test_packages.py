"""Packages at the command line: `run --with`, `new --with`, `install`."""

from __future__ import annotations

import pytest

from sandkasten.local.launch import LocalDaemon
from tests.alone import address_of
from tests.cli.program import Home


@pytest.fixture
def environ(package_daemon: LocalDaemon) -> dict[str, str]:
    """The variables that lead to a daemon with an index."""
    return address_of(package_daemon)


def test_one_command_runs_with_packages(home: Home, environ: dict[str, str]) -> None:
    assert (
        home("run", "--with", "tool", "--with", "base_part<2", "--", "tool", "x", env=environ)
        == "tool 1.0 x\n"
    )


def test_a_session_is_made_with_packages_and_given_more(home: Home, environ: dict[str, str]) -> None:
    session = home("new", "--with", "base_part<2", env=environ).strip()
    assert home("install", session, "tool", env=environ) == "base_part 1.0\ntool 1.0\n"
    assert home("exec", session, "--", "tool", env=environ) == "tool 1.0\n"
    home("rm", session, env=environ)


def test_what_cannot_be_had_is_one_line(home: Home, environ: dict[str, str]) -> None:
    done = home.run("run", "--with", "nosuch", "--", "true", env=environ, expect=125)
    assert done.sentence == "The package index has no package nosuch. Look at its spelling.\n"
    done = home.run("run", "--with", "git+https://example.com/x", "--", "true", env=environ, expect=2)
    assert "URLs, paths and options are not taken." in done.sentence
