"""The files in a sandbox's /etc, whatever the host's looks like, and the terminal's size."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from sandkasten.local.identity import Identity
from sandkasten.local.isolation.etc import Etc
from tests.local.box import Box

SELF = Identity(os.geteuid(), drops=False)


def test_programs_that_draw_text_find_their_configuration(box: Box) -> None:
    assert "<fontconfig>" in box.run("cat /etc/fonts/fonts.conf")
    if shutil.which("fc-list"):
        assert "error" not in box.run("fc-list 2>&1").lower()


def test_a_host_without_fonts_gives_a_configuration_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "host" / "fonts").mkdir(parents=True)  # and nothing in it
    mounted = Etc(tmp_path / "own", SELF, tmp_path / "host").whole()
    assert "fonts" not in mounted
    configuration = Path(mounted[""], "fonts/fonts.conf")
    assert ElementTree.parse(configuration).getroot().tag == "fontconfig"
    if program := shutil.which("fc-list"):
        environ = {"FONTCONFIG_FILE": str(configuration), "HOME": str(tmp_path)}
        done = subprocess.run([program], env=environ, capture_output=True, text=True, check=True)
        assert done.stderr == ""


def test_a_host_with_fonts_gives_its_own_configuration_and_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "host" / "fonts").mkdir(parents=True)
    (tmp_path / "host" / "fonts" / "fonts.conf").write_text("<fontconfig/>")
    (tmp_path / "host" / "shadow").write_text("secret")
    mounted = Etc(tmp_path / "own", SELF, tmp_path / "host").whole()
    assert mounted["fonts"] == str(tmp_path / "host" / "fonts")
    from_host = {name for name, path in mounted.items() if path.startswith(str(tmp_path / "host"))}
    assert from_host == {"fonts"}
    assert "shadow" not in files_of(mounted[""])


def test_files_of_the_host_are_as_the_host_has_them_for_each_new_sandbox(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "zones").mkdir(parents=True)
    (host / "services").write_text("ssh 22/tcp\n")
    (host / "zones" / "here").write_bytes(b"\xff here")
    (host / "localtime").symlink_to("zones/here")
    etc = Etc(tmp_path / "own", SELF, host)
    seen = Path(etc.whole()[""])
    assert (seen / "services").read_text() == "ssh 22/tcp\n"
    assert (seen / "localtime").read_bytes() == b"\xff here"
    assert not (seen / "localtime").is_symlink()
    (host / "services").unlink()
    (host / "new").write_bytes(b"there")
    (host / "new").replace(host / "zones" / "here")
    (host / "ssl").mkdir()
    (host / "ssl" / "openssl.cnf").write_text("new")
    inode = (seen / "localtime").stat().st_ino
    etc.whole()
    assert not (seen / "services").exists()
    assert (seen / "localtime").read_bytes() == b"there"
    assert (seen / "localtime").stat().st_ino != inode  # replaced as a whole
    assert (seen / "ssl" / "openssl.cnf").read_text() == "new"
    assert (seen / "ssl").stat().st_mode & 0o777 == 0o755
    inode = (seen / "localtime").stat().st_ino
    etc.whole()
    assert (seen / "localtime").stat().st_ino == inode


def test_what_the_sandboxes_user_may_not_read_is_not_copied(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "closed").mkdir(parents=True)
    for name in ("services", "protocols", "closed/zone"):
        (host / name).write_text("secret")
    (host / "services").chmod(0o600)
    (host / "closed").chmod(0o700)
    (host / "localtime").symlink_to("closed/zone")
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid() and directory.name.startswith(("test_", "pytest-")):
            directory.chmod(0o755)
    whole = Etc(tmp_path / "own", Identity(60_777, drops=True), host).whole()
    assert {"services", "localtime", "protocols"} & files_of(whole[""]) == {"protocols"}


def test_links_stand_in_for_files_of_the_daemons(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    etc = Etc(tmp_path / "own", SELF, tmp_path / "host")
    linked = Path(etc.whole({"hosts": "sandkasten/names/hosts"})[""])
    assert (linked / "hosts").readlink() == Path("sandkasten/names/hosts")
    assert (linked / "sandkasten" / "names").is_dir()  # where the names are mounted
    assert files_of(str(linked)) == files_of(etc.whole()[""]) - {"hosts"}
    assert not (Path(etc.whole()[""]) / "hosts").is_symlink()


def files_of(directory: str) -> set[str]:
    """Return the regular files below a directory."""
    files = (path for path in Path(directory).rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(directory)) for path in files}


def test_the_terminal_is_as_wide_as_a_notebook(box: Box) -> None:
    assert box.run("stty size <&1").split() == ["50", "100"]
    assert box.run("python3 -c 'import os; print(os.get_terminal_size(1).columns)'").strip() == "100"
