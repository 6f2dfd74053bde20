# Made from tests/_async/test_finding.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Trees are listed, matched and searched."""

from __future__ import annotations

import io
import tarfile

import pytest

from sandkasten.errors import (
    ExtensionMissingError,
    InvalidPatternError,
    InvalidRequestError,
    SandboxFileNotFoundError,
    SandboxNotADirectoryError,
    SandboxPermissionError,
    SandkastenInputError,
    SearchTimeoutError,
)
from sandkasten.models import SearchMatch
from tests.go_daemon import GoDaemon

from .seam import SandboxClient, Session

SETUP = r"""
mkdir -p a/b/c .hidden closed && echo 'needle one' >a/f.txt && echo 'Needle two' >a/b/g.txt
touch a/b/c/h.py
printf 'x\nneedle three\n' >.hidden/i.txt; ln -s a link; ln -s /etc out; mkfifo a/pipe
printf 'needle\0' >a/binary; echo needle >closed/j.txt; chmod 0 closed; ln -s f.txt a/to-f
"""


def test_a_tree_is_listed_level_by_level(session: Session) -> None:
    session.exec(SETUP).check()
    two = session.list(depth=2)
    assert [entry.name for entry in two] == [
        ".hidden", ".hidden/i.txt", "a", "a/b", "a/binary", "a/f.txt", "a/pipe", "a/to-f", "closed", "link",
        "out",
    ]  # fmt: skip
    targets = {entry.name: entry.link_target for entry in two if entry.link_target is not None}
    assert targets == {"a/to-f": "f.txt", "link": "a", "out": "/etc"}
    assert {entry.name: entry.link_target for entry in session.list()}["link"] == "a"
    assert [entry.name for entry in session.list("a/b", depth=100)] == ["c", "c/h.py", "g.txt"]
    with pytest.raises(SandboxFileNotFoundError):
        session.list("missing", depth=2)
    with pytest.raises(SandboxNotADirectoryError):
        session.list("a/f.txt", depth=2)
    for path in ("../proc", "/sys"):
        with pytest.raises(InvalidRequestError):
            session.list(path, depth=2)
    for depth in (0, 101, True):
        with pytest.raises(SandkastenInputError):
            session.list(depth=depth)


def test_patterns_match_paths(session: Session) -> None:
    session.exec(SETUP).check()
    for pattern, found in (
        ("*", [".hidden", "a", "closed", "link", "out"]),
        ("**/*.txt", [".hidden/i.txt", "a/b/g.txt", "a/f.txt"]),
        ("a/**", ["a", "a/b", "a/b/c", "a/b/c/h.py", "a/b/g.txt", "a/binary", "a/f.txt", "a/pipe", "a/to-f"]),
        ("a/?/[g-h]*", ["a/b/g.txt"]),
        ("**/b/**/*.py", ["a/b/c/h.py"]),
        ("link/*", []),
        ("out/*", []),
        ("../*", []),
    ):
        assert session.glob(pattern) == found, pattern
    assert session.glob("*.txt", "a") == ["f.txt"]
    assert session.glob("**/" * 500 + "*a" * 100) == []
    for pattern in ("", "a\0", "x" * 5000):
        with pytest.raises(SandkastenInputError):
            session.glob(pattern)


def test_lines_are_searched(session: Session) -> None:
    session.exec(SETUP).check()
    result = session.search("^needle")
    assert result.matches == (
        SearchMatch(".hidden/i.txt", 2, "needle three"),
        SearchMatch("a/f.txt", 1, "needle one"),
    )
    assert not result.truncated
    assert [match.path for match in session.search("needle", "a", ignore_case=True).matches] == [
        "b/g.txt", "f.txt",
    ]  # fmt: skip
    assert len(session.search("needle", glob="a/*.txt").matches) == 1
    first = session.search(".", max_results=1)
    assert (len(first.matches), first.truncated) == (1, True)
    with pytest.raises(InvalidPatternError, match="no regular expression"):
        session.search("(")
    with pytest.raises(SandboxFileNotFoundError):
        session.search("x", "missing")


def test_a_pattern_that_explodes_is_ended_and_keeps_nobody_waiting(session: Session) -> None:
    session.write("f", "a" * 60 + "!")
    with pytest.raises(SearchTimeoutError):
        session.search("(a|aa)+$", timeout_ms=500)
    assert session.search("a!").matches[0].line_number == 1


def test_names_and_lines_may_be_any_bytes(session: Session) -> None:
    session.exec(r"printf 'caf\xe9 x\n' > $'caf\xe9'; head -c 2000 /dev/zero | tr '\0' y > long")
    (found,) = session.search("x$").matches
    assert (found.path, found.line) == ("caf\udce9", "caf? x")
    assert session.glob("caf?") == ["caf\udce9"]
    assert len(session.search("y").matches[0].line) == 500


def test_archives_come_and_go(session: Session) -> None:
    session.exec(r"mkdir -p d/e && head -c 3000000 /dev/urandom > d/e/f && ln -s e/f d/l").check()
    pieces = [piece for piece in session.archive("d")]
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        assert sorted(archive.getnames()) == ["e", "e/f", "l"]
    for number, given in enumerate((b"".join(pieces), io.BytesIO(b"".join(pieces)), iter(pieces))):
        session.unpack(given, f"copies/{number}")
    for number in range(3):
        compared = session.exec(f"cmp d/e/f copies/{number}/e/f && readlink copies/{number}/l")
        assert compared.output == "e/f\n"
    with pytest.raises(SandboxFileNotFoundError):
        _ = [piece for piece in session.archive("missing")]
    with pytest.raises(InvalidRequestError):
        session.unpack(b"no archive" * 100, "broken")
    with pytest.raises(SandkastenInputError):
        session.unpack(iter(["text"]), "broken")  # type: ignore[arg-type]


def test_an_archive_that_leads_out_is_refused(session: Session) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(InvalidRequestError):
        session.unpack(buffer.getvalue())
    assert session.exec("ls -A / /workspace | grep -c evil").output == "0\n"


def test_a_directory_that_may_not_be_read_breaks_its_archive_off(session: Session) -> None:
    session.exec("mkdir -m 0 closed; touch f")
    with pytest.raises(SandboxPermissionError):
        _ = [piece for piece in session.archive()]
    session.exec("chmod 700 closed")


def test_a_workspace_is_searched_without_a_session(client: SandboxClient) -> None:
    workspace = client.workspace("searched-without-a-session")
    workspace.write("d/f", "one\ntwo\n")
    assert workspace.glob("**/f") == ["d/f"]
    assert workspace.search("two").matches == (SearchMatch("d/f", 2, "two"),)
    workspace.delete()


def test_other_daemons_say_that_they_cannot(go_daemon: GoDaemon) -> None:
    with SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client:
        workspace = client.workspace("never-searched")
        with pytest.raises(ExtensionMissingError):
            workspace.glob("*")
        with pytest.raises(ExtensionMissingError):
            workspace.search("x")
        with pytest.raises(ExtensionMissingError):
            workspace.list(depth=2)
