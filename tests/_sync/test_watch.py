# Made from tests/_async/test_watch.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Directories are watched: changes come as they happen."""

from __future__ import annotations

import pytest

from sandkasten._transfer.watching import FileChange
from sandkasten.errors import (
    CapacityExceededError,
    ExtensionMissingError,
    InvalidRequestError,
    SandboxFileNotFoundError,
    SandboxNotADirectoryError,
    SandboxPermissionError,
    SandkastenStreamError,
    SessionNotFoundError,
)
from sandkasten.local.launch import LocalDaemon
from tests.go_daemon import GoDaemon

from .seam import SandboxClient, Session, Watch, sleep

# The last change of what a test does: then all others are there.
LAST = FileChange("created", "last", is_dir=True)


def until_last(watch: Watch) -> list[FileChange]:
    """Return the changes up to the last one, without modifications, whose number is not certain."""
    changes: list[FileChange] = []
    for change in watch:
        if change == LAST:
            return changes
        if change.kind != "modified":
            changes.append(change)
    raise AssertionError("the watch ended before the last change")


def test_each_kind_of_change_is_reported(session: Session) -> None:
    session.exec("mkdir d; touch d/old d/written d/gone d/out").check()
    with session.watch("d") as watch:
        session.exec("echo >> d/written").check()
        assert watch.__next__() == FileChange("modified", "written")
        (
            session.exec("touch d/f; mv d/old d/new; rm d/gone; mv d/out out; mv out d/in; mkdir d/last")
        ).check()
        assert until_last(watch) == [
            FileChange("created", "f"),
            FileChange("moved", "new", old_path="old"),
            FileChange("deleted", "gone"),
            FileChange("deleted", "out"),
            FileChange("created", "in"),
        ]


def test_a_tree_is_watched_with_what_comes_to_be_in_it(session: Session) -> None:
    session.mkdir("a/b")
    with session.watch() as watch:
        # Files are made in directories that nobody can watch yet.
        session.exec("mkdir -p a/b/c/d e && touch a/b/c/d/f e/g && mkdir last").check()
        changes = until_last(watch)
        assert sorted(change.path for change in changes) == ["a/b/c", "a/b/c/d", "a/b/c/d/f", "e", "e/g"]
        assert {change.kind for change in changes} == {"created"}
        assert [change.path for change in changes if not change.is_dir] == ["a/b/c/d/f", "e/g"]
        # Directories that move take their watches along.
        session.exec("rmdir last; mv a/b x; touch x/c/h; rm x/c/d/f; mkdir last").check()
        assert until_last(watch) == [
            FileChange("deleted", "last", is_dir=True),
            FileChange("moved", "x", is_dir=True, old_path="a/b"),
            FileChange("created", "x/c/h"),
            FileChange("deleted", "x/c/d/f"),
        ]


def test_without_recursive_only_the_directory_itself_is_watched(session: Session) -> None:
    session.mkdir("a")
    with session.watch(recursive=False) as watch:
        session.exec("touch a/f b; mkdir c; touch c/f; mkdir last").check()
        assert until_last(watch) == [
            FileChange("created", "b"),
            FileChange("created", "c", is_dir=True),
        ]


def test_what_moves_out_is_watched_no_longer(session: Session) -> None:
    session.mkdir("d/sub")
    with session.watch("d") as watch:
        session.exec("mv d/sub .; touch sub/f; mv sub d/again; touch d/again/g; mkdir d/last").check()
        changes = until_last(watch)
        assert changes[:2] == [
            FileChange("deleted", "sub", is_dir=True),
            FileChange("created", "again", is_dir=True),
        ]
        assert sorted(change.path for change in changes[2:]) == ["again/f", "again/g"]


def test_many_modifications_come_as_few(session: Session) -> None:
    session.write("f", "")
    with session.watch() as watch:
        session.exec("for i in {1..2000}; do echo >> f; echo >> g; done; mkdir last").check()
        count = 0
        for change in watch:
            if change == LAST:
                break
            count += 1
        assert 2 <= count < 2000


def test_the_verbs_for_files_are_seen_as_well(session: Session) -> None:
    session.mkdir("d")
    with session.watch() as watch:
        session.write("d/f", "1")
        session.move("d/f", "d/g")
        session.remove("d", recursive=True)
        session.mkdir("last")
        kinds = [(change.kind, change.path) for change in until_last(watch)]
        assert ("created", "d/f") in kinds
        assert kinds[-1] == ("deleted", "d")


def test_a_watch_outside_of_a_with_block_begins_at_the_first_step(client: SandboxClient) -> None:
    workspace = client.workspace("is-watched")
    workspace.write("a/f", "")
    try:
        watch = workspace.watch("a")
        watch.close()
        with workspace.watch("a") as watch:
            workspace.append("a/f", "1")
            assert watch.__next__() == FileChange("modified", "f")
    finally:
        workspace.delete()


def test_a_directory_that_goes_ends_its_watch(session: Session) -> None:
    session.mkdir("d")
    with session.watch("d") as watch:
        session.remove("d")
        assert [change for change in watch] == [FileChange("deleted", "", is_dir=True)]


def test_a_session_that_ends_ends_its_watches(client: SandboxClient) -> None:
    session = client.create_session()
    with session.watch() as watch:
        session.destroy()
        with pytest.raises(SessionNotFoundError):
            for _change in watch:
                pass


def test_a_directory_outside_the_workspace_is_watched(client: SandboxClient) -> None:
    session = client.create_session()
    session.exec("mkdir -p ~/d; cd /tmp; mkdir closed; chmod 0 closed; ln -s /proc /tmp/proc").check()
    with session.watch("/tmp") as watch, session.watch("/home") as home:
        session.exec("echo >/tmp/f; mkdir /tmp/a; echo >/tmp/a/b; mv /tmp/f /tmp/g").check()
        session.exec("echo >~/d/f; mkdir /home/sandbox/last /tmp/last").check()
        assert until_last(watch) == [
            FileChange("created", "f"),
            FileChange("created", "a", is_dir=True),
            FileChange("created", "a/b"),
            FileChange("moved", "g", old_path="f"),
        ]
        for change in home:
            if change.path == "sandbox/last":
                break
            assert change.path == "sandbox/d/f"
        session.destroy()
        with pytest.raises((SessionNotFoundError, SandkastenStreamError)):
            for _change in watch:
                pass


def test_the_root_directory_is_watched_without_what_is_below(session: Session) -> None:
    with pytest.raises(InvalidRequestError, match="/ as a whole"):
        with session.watch("/"):
            pass
    with pytest.raises(InvalidRequestError, match="kernel's files"):
        with session.watch("/proc/1"):
            pass
    with session.watch("/", recursive=False):
        pass
    with session.watch("/etc") as watch:  # nothing happens there, and that is waited for
        session.destroy()
        with pytest.raises(SessionNotFoundError):
            for _change in watch:
                pass


def test_names_may_be_any_bytes(session: Session) -> None:
    with session.watch() as watch:
        session.exec(r"touch $'caf\xe9'; mv $'caf\xe9' $'\xff'; mkdir last").check()
        assert until_last(watch) == [
            FileChange("created", "caf\udce9"),
            FileChange("moved", "\udcff", old_path="caf\udce9"),
        ]


def test_what_cannot_be_watched_is_said(session: Session) -> None:
    session.exec("touch f; ln -s / out; mkdir closed; chmod 0 closed; ln -s closed/.. circle").check()
    for path, error in (
        ("missing", SandboxFileNotFoundError),
        ("f", SandboxNotADirectoryError),
        ("..", InvalidRequestError),
        ("out", InvalidRequestError),
        ("closed", SandboxPermissionError),
    ):
        with pytest.raises(error):
            with session.watch(path):
                pass
    # What its user may not read is left out of a tree, and no symlink is followed.
    with session.watch() as watch:
        session.exec("mkdir last").check()
        assert until_last(watch) == []


def test_too_many_watches_are_refused(daemon: LocalDaemon) -> None:
    target = daemon.target
    url = f"unix://{target.socket_path}"
    client = SandboxClient(base_url=url, api_key=target.api_key, max_retries=0)
    with client, client.create_session() as session:
        watches = [session.watch() for _ in range(8)]
        try:
            for watch in watches:
                watch.__enter__()
            with pytest.raises(CapacityExceededError, match="8 watches already"):
                session.watch().__enter__()
        finally:
            for watch in watches:
                watch.close()
        # Those that were left make room, as soon as the daemon has noticed.
        has_room = False
        while not has_room:
            try:
                with session.watch():
                    has_room = True
            except CapacityExceededError:
                sleep(0.01)


def test_a_daemon_that_cannot_watch_is_named(go_daemon: GoDaemon) -> None:
    client = SandboxClient(base_url=go_daemon.url, api_key=go_daemon.api_key)
    with client, client.create_session() as session:
        with pytest.raises(ExtensionMissingError, match="'watch'"):
            with session.watch():
                pass
