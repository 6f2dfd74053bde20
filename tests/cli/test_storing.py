"""`workspace push` and `pull`: archives of workspaces, wherever fsspec stores them."""

from __future__ import annotations

import secrets
import tarfile
from pathlib import Path

import pytest

from sandkasten.cli.commands.storing import _failing_in_words, _stored_whole
from sandkasten.cli.output.failures import CommandLineError
from sandkasten_sync import SandboxClient
from tests.cli.program import Home


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


def test_no_key_of_a_url_is_shown() -> None:
    url = "s3://user:secret@bucket/a.tar?signature=secret"
    with pytest.raises(CommandLineError) as raised, _failing_in_words(url):
        raise OSError(f"{url} is not there")
    assert "secret" not in str(raised.value)
    assert "s3://bucket/a.tar" in str(raised.value)
