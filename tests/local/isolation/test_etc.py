"""The files in a sandbox's /etc, whatever the host's looks like, and the terminal's size."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from sandkasten.local.isolation.etc import make_etc
from tests.local.box import Box


def test_programs_that_draw_text_find_their_configuration(box: Box) -> None:
    assert "<fontconfig>" in box.run("cat /etc/fonts/fonts.conf")
    if shutil.which("fc-list"):
        assert "error" not in box.run("fc-list 2>&1").lower()


def test_a_host_without_fonts_gives_a_configuration_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "host" / "fonts").mkdir(parents=True)  # and nothing in it
    mounted = make_etc(tmp_path / "own", tmp_path / "host")
    assert "fonts" not in mounted
    configuration = Path(mounted["fonts/fonts.conf"])
    assert ElementTree.parse(configuration).getroot().tag == "fontconfig"
    if program := shutil.which("fc-list"):
        environ = {"FONTCONFIG_FILE": str(configuration), "HOME": str(tmp_path)}
        done = subprocess.run([program], env=environ, capture_output=True, text=True, check=True)
        assert done.stderr == ""


def test_a_host_with_fonts_gives_its_own_configuration_and_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "host" / "fonts").mkdir(parents=True)
    (tmp_path / "host" / "fonts" / "fonts.conf").write_text("<fontconfig/>")
    (tmp_path / "host" / "shadow").write_text("secret")
    mounted = make_etc(tmp_path / "own", tmp_path / "host")
    assert mounted["fonts"] == str(tmp_path / "host" / "fonts")
    from_host = {name for name, path in mounted.items() if path.startswith(str(tmp_path / "host"))}
    assert from_host == {"fonts"}


def test_the_terminal_is_as_wide_as_a_notebook(box: Box) -> None:
    assert box.run("stty size <&1").split() == ["50", "100"]
    assert box.run("python3 -c 'import os; print(os.get_terminal_size(1).columns)'").strip() == "100"
