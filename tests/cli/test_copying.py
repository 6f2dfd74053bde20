"""`cp`: what goes where; and `workspace push` and `pull`."""

from __future__ import annotations

import json
import os
import pty
import secrets
import tarfile
from pathlib import Path

import pytest

from sandkasten.cli.commands.storing import _failing_in_words, _stored_whole
from sandkasten.cli.output.failures import CommandLineError
from sandkasten.cli.parsing.arguments import Remote, parse_remote
from sandkasten_sync import SandboxClient
from tests.cli.program import Home


def test_files_come_back_as_they_went(cli: Home, session: str, tmp_path: Path) -> None:
    content = secrets.token_bytes(3_000_000)
    (tmp_path / "blob").write_bytes(content)
    cli("cp", tmp_path / "blob", f"{session}:/workspace/deep/er/")
    cli("cp", f"{session}:deep/er/blob", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("", "name"),
        ("/workspace", "name"),
        ("sub", "sub/name"),
        ("sub/", "sub/name"),
        ("new/", "new/name"),
        ("new", "new"),
        ("sub/new", "sub/new"),
    ],
)
def test_a_target_is_a_directory_or_a_name(
    cli: Home, session: str, tmp_path: Path, target: str, found: str
) -> None:
    cli("exec", session, "--", "mkdir sub")
    (tmp_path / "name").write_text("content")
    cli("cp", tmp_path / "name", f"{session}:{target}")
    assert cli("exec", session, "--", "find * -type f") == f"{found}\n"


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("", "name"),
        ("/", "name"),
        ("//", "name"),
        ("/workspace", "name"),
        ("sub", "sub/name"),
        ("/sub", "sub/name"),
        ("/sub/", "sub/name"),
        ("/workspace/sub", "sub/name"),
        ("/new/", "new/name"),
        ("/new", "new"),
    ],
)
def test_the_root_of_a_workspace_is_all_of_it(
    cli: Home, client: SandboxClient, tmp_path: Path, target: str, found: str
) -> None:
    workspace = f"ws-{secrets.token_hex(8)}"
    (tmp_path / "name").write_text("content")
    (tmp_path / "tree/name").mkdir(parents=True)
    (tmp_path / "tree/name/leaf").touch()
    for source, leaf in (("name", ""), ("tree/name", "/leaf")):
        client.workspace(workspace).write("sub/old", "old")
        cli("workspace", "cp", tmp_path / source, f"{workspace}:{target}")
        copy = tmp_path / f"copy-of-{source.replace('/', '-')}"
        cli("workspace", "cp", f"{workspace}:/", copy)
        files = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
        assert files == {"sub/old", f"{found}{leaf}"}
        client.delete_workspace(workspace)


def test_the_root_of_a_workspace_makes_one_and_is_listed(cli: Home, tmp_path: Path) -> None:
    workspace = f"ws-{secrets.token_hex(8)}"
    (tmp_path / "name").write_text("content")
    cli("workspace", "cp", tmp_path / "name", f"{workspace}:/")
    assert "name" in cli("workspace", "ls", f"{workspace}:/")
    assert cli.run("workspace", "cp", f"{workspace}:/name", "-").text == "content"
    assert "Name the file" in cli.run("workspace", "cp", "-", f"{workspace}:/", feed=b"x", expect=2).sentence
    assert "outside" in cli.run("workspace", "ls", f"{workspace}:/..", expect=125).sentence
    cli("workspace", "rm", workspace)


def test_directories_go_both_ways(cli: Home, session: str, tmp_path: Path) -> None:
    (tmp_path / "tree/empty").mkdir(parents=True)
    (tmp_path / "tree/run").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "tree/run").chmod(0o755)
    cli("cp", tmp_path / "tree", f"{session}:/workspace")
    assert cli("exec", session, "--", "tree/run; ls -A tree") == "ran\nempty\nrun\n"
    cli("cp", f"{session}:tree", f"{tmp_path}/into/")
    cli("cp", f"{session}:tree", tmp_path / "named")
    for copy in (tmp_path / "into/tree", tmp_path / "named"):
        assert os.access(copy / "run", os.X_OK)
        assert (copy / "empty").is_dir()


def test_a_dash_is_standard_input_or_output(cli: Home, session: str) -> None:
    cli("cp", "-", f"{session}:some/where", feed=bytes(range(256)))
    assert cli.run("cp", f"{session}:some/where", "-").stdout == bytes(range(256))
    assert "is a directory" in cli.run("cp", f"{session}:some", "-", expect=2).sentence
    assert "is a directory" in cli.run("cp", "-", f"{session}:", feed=b"x", expect=2).sentence


def test_what_is_not_there_is_told(cli: Home, session: str, tmp_path: Path) -> None:
    assert "does not exist" in cli.run("cp", "nothing", f"{session}:x", expect=125).sentence
    assert cli.run("cp", f"{session}:nothing", tmp_path / "x", expect=125).sentence
    assert "sandkasten ls" in cli.run("cp", "deadbeef-123:x", tmp_path / "x", expect=125).sentence
    assert list(tmp_path.iterdir()) == []


def test_a_directory_from_inside_leads_nowhere_else(cli: Home, session: str, tmp_path: Path) -> None:
    cli("exec", session, "--", "mkdir d; ln -s /etc/passwd d/out; ln -s ../../../.. d/up; echo x > d/file")
    cli("cp", f"{session}:d", tmp_path / "d")
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["file"]


def test_a_name_that_is_not_utf_8_is_copied_listed_and_printed_as_it_is(
    cli: Home, session: str, tmp_path: Path
) -> None:
    name = os.fsdecode(b"a\xffb")
    source = tmp_path / name
    source.write_text("content")
    cli("cp", source, f"{session}:d/")
    assert cli.run("exec", session, "--", "ls d").stdout == b"a\xffb\n"
    assert cli.run("ls", f"{session}:d", expect=0).stdout.split(b"\t")[-1] == b"a\xffb\n"
    assert json.loads(cli("ls", "--json", f"{session}:d"))[0]["name"] == name
    cli("cp", f"{session}:d/{name}", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "content"
    missing = cli.run("cp", f"{session}:{name}", tmp_path / "x", expect=125)
    assert "does not exist" in missing.sentence


def test_one_side_is_remote(cli: Home, session: str) -> None:
    assert "At least one" in cli.run("cp", "a", "b", expect=2).sentence


def test_a_bar_is_for_terminals_alone(cli: Home, session: str, tmp_path: Path) -> None:
    (tmp_path / "[red]blob").write_bytes(bytes(200_000))
    source = tmp_path / "[red]blob"
    assert cli.run("cp", source, f"{session}:quiet").stderr == ""
    ours, theirs = pty.openpty()
    with cli.start("cp", source, f"{session}:shown", stderr=theirs, env={"NO_COLOR": "1"}) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:
            pass  # the end of a terminal
        os.close(ours)
        process.communicate()
    assert process.returncode == 0
    assert "shown" in shown.decode()
    assert "195.3/195.3 KiB" in shown.decode()


def test_a_remote_path_has_an_owner_before_its_colon() -> None:
    assert parse_remote("ab-1:/x:y") == Remote("ab-1", "/x:y")
    assert parse_remote("ab-1:") == Remote("ab-1", "/workspace")
    for local in ("x", "./ab:c", "/a/b:c", "C:\\x", "C:x", ":x", "-"):
        assert parse_remote(local) is None


# --- workspaces as archives, wherever fsspec stores them


def test_a_workspace_is_stored_and_comes_back(cli: Home, client: SandboxClient, tmp_path: Path) -> None:
    notes, content = f"ws-{secrets.token_hex(8)}", secrets.token_bytes(3_000_000)
    workspace = client.workspace(notes)
    workspace.write("d/ä ☃", content)
    workspace.write("e", "one")
    for url in (tmp_path / "a.tar", f"file://{tmp_path}/b.tar"):
        assert cli("workspace", "push", notes, str(url)) == ""
    cli("workspace", "push", f"{notes}:/d", str(tmp_path / "d.tar"))
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert sorted(archive.getnames()) == ["d", "d/ä ☃", "e"]
    workspace.write("e", "two")
    workspace.write("f", "stays")
    cli("workspace", "pull", notes, f"file://{tmp_path}/a.tar")
    cli("workspace", "pull", f"{notes}-2:/into", str(tmp_path / "d.tar"))
    assert (workspace.read("e").text, workspace.read("f").text) == ("one", "stays")
    other = client.workspace(f"{notes}-2")
    assert other.read("into/ä ☃").content == workspace.read("d/ä ☃").content == content
    for found in (notes, f"{notes}-2"):
        client.delete_workspace(found)


def test_what_cannot_be_stored_or_read_is_said(cli: Home, client: SandboxClient, tmp_path: Path) -> None:
    notes = f"ws-{secrets.token_hex(8)}"
    client.workspace(notes).write("f", "one")
    (tmp_path / "junk").write_bytes(b"no archive" * 100)
    for words, reason in {
        ("push", f"{notes}-2", str(tmp_path / "a.tar")): "There is no workspace",
        ("push", f"{notes}:/f", str(tmp_path / "a.tar")): "not a directory",
        ("push", notes, str(tmp_path / "absent" / "a.tar")): "No such file or directory",
        ("push", notes, "nothing://a.tar"): "Protocol not known: nothing",
        ("pull", notes, str(tmp_path / "absent.tar")): "No such file or directory",
        ("pull", notes, str(tmp_path / "junk")): "archive",
    }.items():
        assert reason in cli.run("workspace", *words, expect=125).sentence
    assert [path.name for path in tmp_path.iterdir()] == ["junk"]
    assert notes + "-2" not in [each.id for each in client.list_workspaces()]
    client.delete_workspace(notes)


def test_an_archive_that_breaks_off_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"the last one")
    with pytest.raises(KeyboardInterrupt), _stored_whole(str(path)) as file:
        file.write(b"part")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"the last one"
    assert [found.name for found in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize(
    "url",
    [
        "s3://user:secret@bucket/a.tar?signature=secret",
        "s3://user:se/secret@bucket/a.tar",
        "s3://user:se@secret@bucket/a.tar",
        "simplecache::https://bucket/a.tar?signature=secret",
    ],
)
def test_no_key_of_a_url_is_shown(url: str) -> None:
    with pytest.raises(CommandLineError) as raised, _failing_in_words(url):
        raise OSError(f"{url.rpartition('::')[2].replace('a.tar', 'a%20tar')} is not there")
    assert "secret" not in str(raised.value)
    assert "bucket/a.tar cannot be used (OSError: " in str(raised.value)
