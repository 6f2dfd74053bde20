"""Names, kinds and sizes in wheels, and requirements: all of it may be hostile."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sandkasten._options.packages import merged, problem_with_packages
from sandkasten.local.packages.store import checked_size
from sandkasten.local.packages.wheels import NoRoomError, Room, WheelError, scripts_of, split_name, unpack
from tests.wheels import make_wheel

LINK = stat.S_IFLNK | 0o777


def unpacked(wheel: Path, tmp_path: Path, room: Room | None = None) -> Path:
    tree = tmp_path / "tree"
    for name in ("", "site", "bin"):
        (tree / name).mkdir(exist_ok=True)
        (tree / name).chmod(0o755)
    unpack(wheel, tree, room or Room(1 << 20, 100), "/usr/bin/python3")
    return tree


def test_a_wheel_becomes_modules_and_programs(tmp_path: Path) -> None:
    members = [
        ("tool-1.0.data/scripts/old-style", "#!python\nprint(1)\n", 0o100644),
        ("tool-1.0.data/data/share/tool/table", "x", 0o100644),
        ("tool-1.0.data/purelib/pure.py", "x", 0o104755),
        ("package/run", "#!python\n", 0o100755),
        ("package/empty/", "", stat.S_IFDIR | 0o755),
    ]
    wheel = make_wheel(tmp_path, "tool", programs={"tool": "tool.sub:main.run [extra]"}, members=members)
    tree = unpacked(wheel, tmp_path)
    found = {str(path.relative_to(tree)): stat.S_IMODE(path.stat().st_mode) for path in tree.rglob("*")}
    assert found.items() >= {
        "site/tool.py": 0o644, "site/tool-1.0.dist-info/METADATA": 0o644, "bin/old-style": 0o755,
        "bin/tool": 0o755, "share/tool/table": 0o644, "site/pure.py": 0o755, "site/package/run": 0o755,
    }.items()  # fmt: skip
    assert (tree / "bin/old-style").read_text() == "#!/usr/bin/python3\nprint(1)\n"
    assert (tree / "site/package/run").read_text() == "#!python\n"
    program = (tree / "bin/tool").read_text()
    assert program.startswith("#!/usr/bin/python3\n")
    assert "from tool.sub import main\n" in program
    assert "sys.exit(main.run())" in program
    assert checked_size(tree) == sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("../outside.py", 0o644),
        ("package/../../outside.py", 0o644),
        ("/etc/cron.d/job", 0o644),
        ("package//twice.py", 0o644),
        ("back\\slash.py", 0o644),
        ("line\nend.py", 0o644),
        ("n" * 256, 0o644),
        ("deep/" * 300 + "x", 0o644),
        ("link", LINK),
        ("device", stat.S_IFCHR | 0o644),
        ("pipe", stat.S_IFIFO | 0o644),
        ("x-1.0.data/scripts/../../up", 0o755),
        ("x-1.0.data/scripts/sub/dir", 0o755),
        ("x-1.0.data/scripts/with space", 0o755),
        ("x-1.0.data/scripts/-rf", 0o755),
        ("x-1.0.data/data/site/json.py", 0o644),
        ("x-1.0.data/unknown/file", 0o644),
        ("x-1.0.data", 0o644),
        ("x.py/below", 0o644),
    ],
)
def test_a_wheel_with_such_a_member_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    kind = 0 if stat.S_IFMT(mode) else stat.S_IFREG
    wheel = make_wheel(tmp_path, "x", members=[(name, "content", kind | mode)])
    with pytest.raises(WheelError):
        unpacked(wheel, tmp_path)
    assert not (tmp_path / "outside.py").exists()
    assert all(path.is_file() or path.is_dir() for path in (tmp_path / "tree").rglob("*"))


def test_a_wheel_that_is_too_large_is_not_unpacked_to_its_end(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "bomb", files={"bomb.py": "0" * 3_000_000})
    assert wheel.stat().st_size < 10_000
    with pytest.raises(NoRoomError):
        unpacked(wheel, tmp_path, Room(1_000_000, 100))
    assert sum(path.stat().st_size for path in (tmp_path / "tree").rglob("*") if path.is_file()) <= 1_000_000
    with pytest.raises(NoRoomError):
        unpacked(wheel, tmp_path, Room(10_000_000, 3))


def test_a_wheel_that_is_damaged_says_so(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "x")
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises(WheelError, match="is damaged"):
        unpacked(wheel, tmp_path)
    content = bytearray(make_wheel(tmp_path, "y", files={"y.py": "0123456789" * 50}).read_bytes())
    content[40:50] = bytes(10)
    (tmp_path / "y-1.0-py3-none-any.whl").write_bytes(content)
    with pytest.raises(WheelError, match="is damaged"):
        unpacked(tmp_path / "y-1.0-py3-none-any.whl", tmp_path)


def test_the_first_of_two_wheels_keeps_its_file(tmp_path: Path) -> None:
    first = make_wheel(tmp_path, "one", files={"shared.py": "1"}, programs={"same": "one:f"})
    second = make_wheel(tmp_path, "two", files={"shared.py": "2"}, programs={"same": "two:f"})
    unpacked(first, tmp_path)
    tree = unpacked(second, tmp_path)
    assert (tree / "site/shared.py").read_text() == "1"
    assert "from one import f" in (tree / "bin/same").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "[console_scripts]\n../up = a:b\n",
        "[console_scripts]\nx = os:system('id')\n",
        "[gui_scripts]\nx = a:b; import os\n",
        "[console_scripts]\nx = nothing\n",
        "no section = x\n",
    ],
)
def test_programs_with_other_names_or_functions_are_refused(text: str) -> None:
    with pytest.raises(WheelError):
        scripts_of(text, "/usr/bin/python3")


def test_only_names_of_wheels_are_such() -> None:
    assert split_name("ruamel.yaml-0.18.6-py3-none-any.whl") == ("ruamel.yaml", "0.18.6")
    assert (
        split_name("a-1!2.0+local-1build-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")[0]
        == "a"
    )
    for name in (
        "a.whl",
        "a-1.tar.gz",
        "../a-1-py3-none-any.whl",
        "a-1-py3-none-any.whl\n",
        "-a-1-p-n-a.whl",
    ):
        with pytest.raises(WheelError):
            split_name(name)


def test_an_environment_is_looked_at_before_it_is_used(tmp_path: Path) -> None:
    tree = unpacked(make_wheel(tmp_path, "x"), tmp_path)
    (tree / "site/x.py").chmod(0o4755)
    with pytest.raises(ValueError, match=r"site/x\.py"):
        checked_size(tree)
    (tree / "site/x.py").chmod(0o644)
    os.symlink("/etc/passwd", tree / "site/link")
    with pytest.raises(ValueError, match="site/link"):
        checked_size(tree)


@pytest.mark.parametrize(
    "requirement",
    [
        "git+https://example.com/x", "x @ https://example.com/x.whl", "./x", "/etc/passwd", "-r/etc/passwd",
        "--index-url=http://evil", "x; os_name == 'nt'", "x\n--pre", "x==1 --hash=sha256:0", "", "x" * 101,
        "x,y", "é", 5, None,
    ],
)  # fmt: skip
def test_requirements_are_names_with_versions_and_nothing_else(requirement: object) -> None:
    assert problem_with_packages([requirement]) is not None


def test_requirements_are_compared_in_one_spelling() -> None:
    assert merged((), (" x==1\n",)) == ("x==1",)
    asked = ("Zope.Interface >= 5, <7", "a_b[Extra_1, c]==1.*")
    assert problem_with_packages(asked) is None
    assert merged((), asked) == ("a-b[c,extra-1]==1.*", "zope-interface<7,>=5")
    assert merged(("a", "b==1"), ("B==2",)) == ("a", "b==2")
    assert problem_with_packages("pandas") is not None
    assert problem_with_packages(["x"] * 101) is not None
