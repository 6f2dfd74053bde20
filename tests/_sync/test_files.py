# Made from tests/_async/test_files.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Files of sessions and workspaces, against the real embedded daemon."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from sandkasten.errors import (
    ExtensionMissingError,
    InvalidRequestError,
    LocalFileError,
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandkastenAPIError,
    SandkastenInputError,
    WorkspaceNotFoundError,
)
from sandkasten.local.launch import LocalOptions
from tests.go_daemon import GoDaemon

from .seam import SandboxClient, Session, Workspace


@pytest.mark.parametrize("content", [b"", b"\x00\xff\r\n\x1b[0m", "ünïcödé\n".encode(), b"x" * 3_000_000])
def test_bytes_come_back_as_they_were_written(session: Session, content: bytes) -> None:
    session.write("data.bin", content)
    result = session.read("data.bin")
    assert result.content == content
    assert not result.truncated
    assert session.exec("wc -c < data.bin").output.strip() == str(len(content))


def test_text_is_stored_as_utf8(session: Session) -> None:
    session.write(PurePosixPath("deep/er/text.txt"), "grüße\n")
    assert session.read("/workspace/deep/er/text.txt").text == "grüße\n"


def test_written_files_belong_to_the_sandbox(session: Session) -> None:
    session.write("dir/run.sh", "echo ran\n")
    result = session.exec("echo echo more >> dir/run.sh && touch dir/new && sh dir/run.sh")
    assert result.output == "ran\nmore\n"
    session.exec("chmod 755 dir/run.sh")
    session.write("dir/run.sh", "#!/bin/sh\necho replaced\n")
    assert session.exec("dir/run.sh").output == "replaced\n"


def test_reading_stops_at_max_bytes_and_says_so(session: Session) -> None:
    session.write("ten", b"0123456789")
    assert session.read("ten", max_bytes=4).content == b"0123"
    assert session.read("ten", max_bytes=4).truncated
    assert not session.read("ten", max_bytes=10).truncated


def test_what_is_not_a_readable_file_has_its_own_error(session: Session) -> None:
    session.exec("mkdir dir; mkfifo pipe")
    with pytest.raises(SandboxFileNotFoundError, match="missing"):
        session.read("missing")
    with pytest.raises(SandboxIsDirectoryError):
        session.read("dir")
    with pytest.raises(SandboxIsDirectoryError):
        session.write("dir", "text")
    with pytest.raises(InvalidRequestError, match="plain file"):
        session.read("pipe")


@pytest.mark.parametrize("path", ["/etc/passwd", "../etc/passwd", "/workspace/../etc/passwd"])
def test_paths_outside_the_workspace_mean_what_they_mean_inside(session: Session, path: str) -> None:
    assert session.read(path).text == session.exec("cat /etc/passwd").output
    with pytest.raises(PermissionError):
        session.write(path, "text")


def test_every_verb_reaches_what_is_outside_the_workspace(session: Session, tmp_path: Path) -> None:
    session.write("/tmp/a/f", "one")
    session.append("/tmp/a/f", " two")
    session.chmod("/tmp/a/f", 0o600)
    session.copy("/tmp/a", "/home/sandbox/b")
    session.move("/home/sandbox/b/f", "/home/sandbox/g")
    session.mkdir("/dev/shm/d")
    assert (session.exec("cat ~/g; stat -c %a ~/g; ls -d /dev/shm/d")).output == "one two600\n/dev/shm/d\n"
    names = [entry.name for entry in session.list("/home/sandbox")]
    assert [name for name in names if not name.startswith(".")] == ["b", "g"]
    assert session.glob("**/f", "/tmp") == ["a/f"]
    assert [match.line for match in session.search("two", "/tmp").matches] == ["one two"]
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "x").write_text("up")
    assert session.upload(tmp_path / "up", dest_path="/tmp") == ["/tmp/up"]
    assert session.download("/tmp/up/x", tmp_path).read_text() == "up"
    session.download("/tmp/a", tmp_path / "down")
    assert (tmp_path / "down" / "f").read_text() == "one two"
    session.remove("/tmp/a", recursive=True)
    assert not session.exists("/tmp/a")
    session.move("/tmp/up", "up")  # another disk
    assert session.read("up/x").text == "up"
    assert not session.exists("/tmp/up")


@pytest.mark.parametrize("path", ["/proc/version", "/sys", "/dev/null", "../proc/1/environ"])
def test_the_kernels_files_are_for_commands(session: Session, path: str) -> None:
    with pytest.raises(InvalidRequestError, match="kernel's files"):
        session.read(path)
    with pytest.raises(InvalidRequestError, match="kernel's files"):
        session.write(path, "text")


def test_links_to_host_files_are_neither_read_nor_written_through(
    session: Session, host_secret: Path
) -> None:
    before = host_secret.read_bytes()
    session.exec(f"ln -s {host_secret} file; ln -s {host_secret.parent} dir; ln -s ../../../../../.. up")
    for path in ("file", f"dir/{host_secret.name}", f"up/{host_secret.parent}/{host_secret.name}"):
        with pytest.raises(SandkastenAPIError):
            session.read(path)
    # Inside, these links lead to the sandbox's own /tmp.
    session.write("file", "evil")
    session.append("file", "evil")
    assert session.exec(f"cat {host_secret}").output == "evilevil"
    session.write(f"dir/{host_secret.name}", "evil")
    session.upload(io.BytesIO(b"evil"), dest_path="dir", filename=host_secret.name)
    session.write("file", "replaces the link", follow_symlinks=False)
    assert host_secret.read_bytes() == before
    assert session.exec("cat file; test -L file || echo a plain file now").output.endswith("now\n")


def test_links_within_the_workspace_work(session: Session) -> None:
    session.exec("mkdir real; echo inside > real/file; ln -s /workspace/real absolute; ln -s real relative")
    assert session.read("absolute/file").text == "inside\n"
    assert session.read("relative/file").text == "inside\n"


def test_uploads_take_a_path_or_an_open_file(session: Session, tmp_path: Path) -> None:
    local = tmp_path / "local name.txt"
    local.write_bytes(b"by path")
    assert session.upload(local) == ["/workspace/local name.txt"]
    assert session.upload(str(local), dest_path="sub/dir", filename="other") == ["/workspace/sub/dir/other"]
    with local.open("rb") as file:
        assert session.upload(file, dest_path="/workspace/opened") == ["/workspace/opened/local name.txt"]
        assert not file.closed
    assert session.upload(io.BytesIO(b"from memory"), filename="memory") == ["/workspace/memory"]
    assert session.read("sub/dir/other").content == b"by path"
    assert session.read("memory").content == b"from memory"


def test_large_uploads_arrive_complete(session: Session) -> None:
    content = bytes(range(256)) * 80_000
    session.upload(io.BytesIO(content), filename="large")
    assert session.exec("wc -c < large").output == "20480000\n"
    assert session.read("large", max_bytes=30_000_000).content == content


def test_uploads_that_cannot_work_are_refused_before_anything_is_sent(
    session: Session, tmp_path: Path
) -> None:
    with pytest.raises(LocalFileError, match="does not exist"):
        session.upload(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        session.upload(tmp_path / "missing")
    with pytest.raises(SandkastenInputError, match="must be a path"):
        session.upload("")
    with pytest.raises(SandkastenInputError, match="no name"):
        session.upload(io.BytesIO(b""))
    with pytest.raises(SandkastenInputError, match="binary mode"):
        session.upload(io.StringIO("text"), filename="x")  # type: ignore[arg-type]
    with pytest.raises(SandkastenInputError, match="filename"):
        session.upload(io.BytesIO(b""), filename="../x")


def test_a_directory_of_a_session_is_listed_also_while_a_command_runs(session: Session) -> None:
    session.exec("mkdir -p d/sub; printf 1234 > d/file; ln -s file d/link; mkfifo d/fifo; touch d/.hidden")
    with session.exec_stream("sleep 30"):
        entries = {entry.name: entry for entry in session.list("d")}
    assert {name: entry.kind for name, entry in entries.items()} == {
        ".hidden": "file",
        "fifo": "other",
        "file": "file",
        "link": "symlink",
        "sub": "directory",
    }
    assert [name for name, entry in entries.items() if entry.is_dir] == ["sub"]
    assert entries["file"].size_bytes == 4
    modified_at = entries["file"].modified_at
    assert modified_at is not None
    assert abs((datetime.now(UTC) - modified_at).total_seconds()) < 600
    assert [entry.name for entry in session.list()] == ["d"]


def test_what_cannot_be_listed_is_an_error(session: Session) -> None:
    session.write("file", "x")
    session.exec("ln -s / top")
    for path in ("gone", "top/gone"):
        with pytest.raises(SandboxFileNotFoundError):
            session.list(path)
    with pytest.raises(NotADirectoryError):
        session.list("file")
    with pytest.raises(InvalidRequestError, match="kernel's files"):
        session.list("/proc")


def test_workspaces_outlive_their_sessions(client: SandboxClient) -> None:
    with client.create_session(workspace_id="lasting") as first:
        first.exec("echo kept > file; mkdir dir")
        assert first.info().workspace_id == "lasting"
    with client.create_session(workspace_id="lasting") as second:
        assert second.exec("cat file").output == "kept\n"
    client.delete_workspace("lasting")


def test_workspace_files_need_no_session(client: SandboxClient, tmp_path: Path) -> None:
    workspace = client.workspace("no-session")
    workspace.write("notes/a.txt", "written")
    (tmp_path / "b.txt").write_text("uploaded")
    assert workspace.upload(tmp_path / "b.txt", dest_path="notes") == ["/workspace/notes/b.txt"]
    assert workspace.read("notes/a.txt").text == "written"
    assert [(entry.name, entry.is_dir) for entry in workspace.list()] == [("notes", True)]
    assert [entry.name for entry in workspace.list("notes")] == ["a.txt", "b.txt"]
    assert "no-session" in [info.id for info in client.list_workspaces()]
    with client.create_session(workspace_id="no-session") as session:
        assert session.exec("cat notes/*; echo more >> notes/a.txt").output == "writtenuploaded"
    assert workspace.read("notes/a.txt").text == "writtenmore\n"
    workspace.delete()
    assert "no-session" not in [info.id for info in client.list_workspaces()]


def test_a_workspace_that_was_never_written_is_not_found(client: SandboxClient) -> None:
    workspace = client.workspace("never-written")
    with pytest.raises(WorkspaceNotFoundError, match="never-written"):
        workspace.read("x")
    with pytest.raises(WorkspaceNotFoundError):
        workspace.list()
    with pytest.raises(WorkspaceNotFoundError):
        client.delete_workspace("never-written")


def test_a_workspace_in_use_is_not_deleted(client: SandboxClient) -> None:
    with client.create_session(workspace_id="in-use") as session:
        with pytest.raises(InvalidRequestError, match=session.id):
            client.delete_workspace("in-use")
    client.delete_workspace("in-use")


def test_a_workspace_that_another_daemon_uses_is_not_deleted(own_data_dir: Path) -> None:
    local = LocalOptions(data_dir=own_data_dir, pool_size=0)
    with SandboxClient(local=local) as one, SandboxClient(local=local) as other:
        with one.create_session(workspace_id="in-use") as session:
            session.exec("echo precious > f")
            with pytest.raises(InvalidRequestError, match="session of another daemon"):
                other.delete_workspace("in-use")
            assert session.exec("cat f").output == "precious\n"
            assert other.workspace("in-use").read("f").text == "precious\n"
        other.delete_workspace("in-use")
        assert one.list_workspaces() == []


# --- names that are not UTF-8

LATIN = os.fsdecode(b"caf\xe9")
ODD_NAMES = [
    LATIN,
    os.fsdecode(b"caf\xe8"),
    os.fsdecode(b"\xff"),
    os.fsdecode(b"a \xc3&=+%\xe9?#"),
    os.fsdecode("ü\n".encode() + b"\x80"),
    "ünï😀",
    "a+b %41&c=d",
    "\ufffd",
]


def check_names(files: Session | Workspace, tmp_path: Path) -> None:
    """Every verb finds each of the names, and takes none for another."""
    for number, name in enumerate(ODD_NAMES):
        files.write(f"d/{name}/in", b"%d" % number)
        files.write(f"d/{name}/large", b"%d" % number * 200_000)
        (tmp_path / name).write_bytes(b"%d" % number)
        assert files.upload(tmp_path / name, dest_path=f"d/{name}") == [f"/workspace/d/{name}/{name}"]
    assert [entry.name for entry in files.list("d")] == sorted(ODD_NAMES)
    for number, name in enumerate(ODD_NAMES):
        assert sorted(entry.name for entry in files.list(f"d/{name}")) == sorted([name, "in", "large"])
        assert files.read(f"d/{name}/in").content == b"%d" % number
        assert files.read(f"d/{name}/large", max_bytes=1).content == b"%d" % number
        result = files.read(PurePosixPath("d", name, name), max_bytes=10)
        assert (result.content, result.path) == (b"%d" % number, f"d/{name}/{name}")
        place = files.download(f"d/{name}/{name}", tmp_path / f"{number}")
        assert place.read_bytes() == b"%d" % number
    tree = files.download("d", tmp_path / "tree")
    assert sorted(os.listdir(tree)) == sorted(ODD_NAMES)
    assert files.upload(tree, dest_path="again", filename=LATIN) == [f"/workspace/again/{LATIN}"]
    for number, name in enumerate(ODD_NAMES):
        assert files.read(f"again/{LATIN}/{name}/{name}").content == b"%d" % number
    with pytest.raises(SandboxFileNotFoundError) as caught:
        files.read(f"d/{LATIN}x")
    str(caught.value).encode()  # an error is text, whatever it is about


def test_names_that_are_not_utf_8_work_in_a_session(session: Session, tmp_path: Path) -> None:
    check_names(session, tmp_path)
    assert session.exec(r"cat d/$'caf\xe9'/in d/$'caf\xe8'/in").output == "01"
    assert session.exec("cd d && ls | wc -l").output == f"{len(ODD_NAMES) + 1}\n"


def test_names_that_are_not_utf_8_work_in_a_workspace(client: SandboxClient, tmp_path: Path) -> None:
    workspace = client.workspace("odd-names")
    check_names(workspace, tmp_path)
    workspace.delete()


@pytest.mark.parametrize("name", ["\ud800", "a\udc7f", "\udfffb", "\0"])
def test_what_stands_for_no_bytes_is_no_name(session: Session, name: str) -> None:
    with pytest.raises(SandkastenInputError):
        session.read(name)
    with pytest.raises(SandkastenInputError):
        session.write(f"d/{name}", "x")


def test_without_the_extension_such_names_are_listed_and_else_refused(go_daemon: GoDaemon) -> None:
    with (
        SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key) as client,
        client.create_session(workspace_id="odd-names-elsewhere") as session,
    ):
        session.exec(r"mkdir /workspace/d; echo > /workspace/d/$'caf\xe9'")
        assert [entry.name for entry in session.list("d")] == [LATIN]
        for refused in (
            lambda: session.read(f"d/{LATIN}"),
            lambda: session.read(f"d/{LATIN}", max_bytes=1),
            lambda: session.write(f"d/{LATIN}", "x"),
            lambda: session.list(LATIN),
        ):
            with pytest.raises(ExtensionMissingError, match="not UTF-8"):
                refused()
