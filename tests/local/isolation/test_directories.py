"""Attempts of other users of this machine on the daemon's directories: on what is in them, and on names.

Where the tests are root's, the other user is a real one; shown to be real are these attempts by opening the
directories again. An ordinary user cannot become another one, and then only the permissions are examined.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandkasten._directories import find_trouble
from sandkasten.errors import LocalDaemonError
from sandkasten.local.files import rundir
from sandkasten.local.identity import ROOT_DROPS_TO, Identity
from sandkasten.local.images import commands
from sandkasten.local.images.catalogue import images_dir
from sandkasten.local.images.store import ImageStore
from sandkasten.local.launch import LocalOptions, start_daemon
from sandkasten.local.linux import scratch
from tests.local.box import Box, connect
from tests.local.isolation.arena.lab import AS_ROOT
from tests.local.isolation.arena.registry import attempt

OTHER_UID = 65_534
LEAVE_SETUID = "chmod 777 /workspace; cp /usr/bin/id program; chmod 6755 program"


def as_other(*command: str) -> str:
    """Return what a program of another user says, or nothing: that user may not run it."""
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            user=OTHER_UID,
            group=OTHER_UID,
            extra_groups=[],
        )
    except PermissionError:
        return ""
    return done.stdout


def is_closed(directory: Path) -> bool:
    """Return whether no other user may pass a directory, except the group of sandboxes if root owns it."""
    status = directory.stat()
    group = status.st_mode & 0o070
    return not status.st_mode & 0o007 and (group == 0 or (group == 0o010 and status.st_gid == ROOT_DROPS_TO))


@contextmanager
def opened(*directories: Path) -> Iterator[None]:
    """Take the protection away: everybody may pass these directories."""
    modes = [stat.S_IMODE(directory.stat().st_mode) for directory in directories]
    for directory in directories:
        directory.chmod(0o711)
    try:
        yield
    finally:
        for directory, mode in zip(directories, modes, strict=True):
            directory.chmod(mode)


def assert_closed_to_others(*directories: Path, program: Path) -> None:
    """Each directory on the way keeps others from a setuid program, which is real without all of them."""
    for directory in directories:
        assert is_closed(directory), directory
        if AS_ROOT:
            with opened(*(one for one in directories if one != directory)):
                assert as_other(str(program)) == "", directory
    if AS_ROOT:
        with opened(*directories):
            assert f"uid={OTHER_UID}" in as_other(str(program))
            assert f"euid={ROOT_DROPS_TO}" in as_other(str(program))


@attempt("root-drops/setuid-program-for-others")
def test_a_setuid_program_of_a_session_is_nobodys_to_run(box: Box) -> None:
    box.run(LEAVE_SETUID)
    run_dir = box.directory.parents[1]
    assert_closed_to_others(
        run_dir, run_dir / "sessions", box.workspace.parent, program=box.workspace / "program"
    )


@attempt("root-drops/setuid-program-in-a-named-workspace")
def test_a_setuid_program_in_a_named_workspace_is_nobodys_to_run(
    make_box: Callable[..., Box], data_dir: Path
) -> None:
    box = make_box(workspace_id="left-for-others")
    box.run(LEAVE_SETUID)
    box.destroy()  # the workspace outlives its session
    root = data_dir / "workspaces" / "left-for-others"
    assert_closed_to_others(root.parent, root, program=root / "workspace" / "program")


@attempt("root-drops/files-of-images")
def test_the_files_of_an_image_are_nobodys_to_read(own_data_dir: Path) -> None:
    source = own_data_dir / "source"
    (source / "bin").mkdir(parents=True)
    shutil.copy("/bin/bash", source / "bin/bash")
    (source / "secret").write_text("the image's secret")
    (source / "secret").chmod(0o644)
    directory = images_dir(own_data_dir)
    ImageStore(directory, Identity.of_this_process()).add("mine", source)
    secret = directory / "mine" / "rootfs" / "secret"
    for closed in (directory, directory / "mine"):
        assert is_closed(closed)
    if AS_ROOT:
        assert as_other("/bin/cat", str(secret)) == ""
        with opened(directory, directory / "mine"):
            assert as_other("/bin/cat", str(secret)) == "the image's secret"


@attempt("root-drops/directories-of-an-earlier-version")
def test_what_an_earlier_version_left_open_is_closed_at_the_start(own_data_dir: Path) -> None:
    for name in ("workspaces", "images"):
        (own_data_dir / name).mkdir()
        (own_data_dir / name).chmod(0o755)
    start_daemon(LocalOptions(data_dir=own_data_dir, pool_size=0)).stop()
    assert is_closed(own_data_dir / "workspaces")
    assert is_closed(own_data_dir / "images")


# --- what a path means


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may pass."""
    path = Path(tempfile.mkdtemp(prefix="sk-directories-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def hand_over(path: Path) -> None:
    """Give it to the other user."""
    os.chown(path, OTHER_UID, OTHER_UID, follow_symlinks=False)


@attempt("daemon/swap-the-run-directory")
def test_the_run_directory_is_not_where_others_may_rename_it(
    place: Path, own_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode, is_used in ((0o777, False), (0o1777, True)):
        place.chmod(mode)
        monkeypatch.setenv("TMPDIR", str(place))
        daemon = start_daemon(LocalOptions(data_dir=own_data_dir, pool_size=0))
        run_dir = Path(daemon.target.socket_path or "").parents[1]
        try:
            assert (run_dir.parent == place) is is_used
            if AS_ROOT:
                assert as_other("/bin/mv", "-v", str(run_dir), f"{run_dir}-mine") == ""
        finally:
            daemon.stop()
    if AS_ROOT:  # the attempt is real
        place.chmod(0o777)
        (place / "sandkasten-run-abcdefgh").mkdir(mode=0o700)
        assert "renamed" in as_other("/bin/mv", "-v", f"{place}/sandkasten-run-abcdefgh", f"{place}/mine")


def refused(data_dir: Path) -> str:
    """Return why a daemon does not start with a data directory."""
    with pytest.raises(LocalDaemonError) as error:
        start_daemon(LocalOptions(data_dir=data_dir, pool_size=0)).stop()
    return str(error.value)


@attempt("daemon/data-directory-that-others-can-change")
def test_a_data_directory_that_others_can_change_is_refused(place: Path) -> None:
    data_dir = place / "above" / "data"
    (data_dir / "workspaces").mkdir(parents=True)
    for depth, mode in (
        (".", 0o777),
        ("above", 0o777),
        ("above/data", 0o777),
        ("above/data", 0o757),
        ("above/data/workspaces", 0o777),
    ):
        weak = place / depth
        weak.chmod(mode)
        said = refused(data_dir)
        assert f"{weak} can be changed by every user" in said.replace("/.", "")
        assert f"chmod o-w {weak}" in said
        weak.chmod(0o755)
    start_daemon(LocalOptions(data_dir=data_dir, pool_size=0)).stop()


@attempt("daemon/data-directory-of-another-user")
@pytest.mark.skipif(not AS_ROOT, reason="only root can give a directory to another user")
@pytest.mark.parametrize("depth", ["above", "above/data", "above/data/workspaces", "above/data/images"])
def test_a_data_directory_of_another_user_is_refused(place: Path, depth: str) -> None:
    """The owner puts a symlink in it, and root would follow."""
    data_dir, precious = place / "above" / "data", place / "precious"
    data_dir.mkdir(parents=True)
    precious.mkdir()
    theirs = place / depth
    if theirs.name in {"workspaces", "images"}:
        theirs.symlink_to(precious)
    hand_over(theirs)
    before = precious.stat()
    assert f"{theirs} belongs to another user (uid {OTHER_UID})" in refused(data_dir)
    assert commands.run("list", data_dir, name="", source="", replace=False) == 1
    assert precious.stat() == before


@attempt("daemon/data-directory-taken-meanwhile")
@pytest.mark.skipif(not AS_ROOT, reason="only root can give a directory to another user")
def test_a_data_directory_that_another_user_made_meanwhile_is_not_used(place: Path) -> None:
    place.chmod(0o1777)
    data_dir, precious = place / "data", place / "precious"
    precious.mkdir()
    daemon = start_daemon(LocalOptions(data_dir=data_dir, pool_size=0))
    try:
        data_dir.mkdir()
        (data_dir / "workspaces").symlink_to(precious)
        hand_over(data_dir)
        with connect(daemon) as client, pytest.raises(AssertionError, match="belongs to another user"):
            Box(daemon, client, workspace_id="mine")
        assert list(precious.iterdir()) == []
    finally:
        daemon.stop()


@attempt("daemon/sweep-through-a-link")
def test_the_sweep_follows_no_link(place: Path) -> None:
    """A directory of the daemon's user that looks like a run directory, save for its name."""
    precious = place / "precious"
    precious.mkdir(mode=0o700)
    (precious / ".lock").touch()
    (precious / "file").touch(mode=0o400)
    link = place / "sandkasten-run-abcdefgh"
    link.symlink_to(precious)
    touched: list[Path] = []
    scratch.sweep(place, rundir.PREFIX, touched.append)
    scratch.remove_tree(link)
    assert link.is_symlink()
    assert touched == []
    assert stat.S_IMODE((precious / "file").stat().st_mode) == 0o400
    link.unlink()
    precious.rename(link)  # and without the link, all of it is swept
    scratch.sweep(place, rundir.PREFIX, touched.append)
    assert touched == [link]
    assert not link.exists()


@attempt("daemon/sweep-what-others-made")
@pytest.mark.skipif(not AS_ROOT, reason="only root can give a directory to another user")
def test_the_sweep_leaves_what_others_made_with_a_lock_of_ours(place: Path) -> None:
    theirs = place / "sandkasten-run-abcdefgh"
    theirs.mkdir()
    (theirs / ".lock").touch()
    hand_over(theirs)
    touched: list[Path] = []
    scratch.sweep(place, rundir.PREFIX, touched.append)
    assert touched == []
    assert theirs.is_dir()


@attempt("daemon/programs-from-path")
def test_no_programs_are_taken_from_the_users_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rm", "chmod"):
        (place / name).write_text(f"#!/bin/sh\necho {name} >>{place}/taken\n")
        (place / name).chmod(0o755)
    left = place / "left"
    (left / "closed" / "below").mkdir(parents=True)
    for number in range(scratch._FEW):  # with fewer entries no program is needed
        (left / str(number)).touch()
    (left / "closed").chmod(0)
    left.chmod(0o300)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    scratch.remove_tree(left)
    assert not (place / "taken").exists()
    assert not left.exists()
    subprocess.run(["rm", "-rf", "left"], check=True)
    assert (place / "taken").read_text() == "rm\n"


# --- the one function


def test_a_path_of_ours_keeps_its_meaning(place: Path) -> None:
    assert find_trouble(place / "a" / "b") is None
    assert find_trouble(Path("/tmp")) is None
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    assert find_trouble(place / "link" / ".." / "link" / "c") is None


@pytest.mark.parametrize("link", ["real", "{place}/real", "../{name}/real", "second"])
def test_a_directory_behind_a_link_is_examined(place: Path, link: str) -> None:
    (place / "weak" / "real").mkdir(parents=True)
    (place / "weak").chmod(0o777)
    (place / "real").symlink_to("weak/real")
    (place / "second").symlink_to("real")
    (place / "link").symlink_to(link.format(place=place, name=place.name))
    trouble = find_trouble(place / "link" / "file")
    assert trouble is not None
    assert trouble.path == place / "weak"


def test_links_without_end_are_an_error(place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    with pytest.raises(OSError, match="symlinks"):
        find_trouble(place / "a")


def test_a_group_that_may_write_must_be_the_users_own(place: Path) -> None:
    place.chmod(0o775)
    assert (find_trouble(place) is None) is (os.getegid() == 0 or _is_private_group())
    if AS_ROOT:
        os.chown(place, -1, 65_534)  # a group that has a name, which is not the user's
        trouble = find_trouble(place)
        assert trouble is not None
        assert "group 65534" in trouble.says


def _is_private_group() -> bool:
    names = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout
    return names == subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout
