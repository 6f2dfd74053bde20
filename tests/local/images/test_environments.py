"""Environments of Python as they are read, and their users; the layouts are made by hand."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

import pytest

from sandkasten.local.errors import ApiError, SandboxLostError
from sandkasten.local.identity import Identity
from sandkasten.local.images.built_in import find_images
from sandkasten.local.images.environments import Environments
from sandkasten.local.images.leftout import left_out
from sandkasten.local.images.prefixes import Parts, read_prefixes
from sandkasten.local.isolation.carrier import opened
from sandkasten.local.options import Options, OptionsError
from sandkasten.local.serveroptions import ServerOptions

US = Identity(os.geteuid(), drops=False)
SYSTEM = os.path.realpath("/usr/bin/python3")
ON_SYSTEM = f"home = /usr/bin\nversion = {re.findall('3[.][0-9]+', os.path.basename(SYSTEM))[0]}.1\n"


def made(prefix: Path, version: str = "3.12") -> Path:
    """Make an interpreter with a prefix of its own."""
    library = prefix / "lib" / f"python{version}"
    (library / "site-packages").mkdir(parents=True)
    (library / "os.py").touch()
    (prefix / "share" / "keyrings").mkdir(parents=True)
    (prefix / "bin").mkdir()
    program = prefix / "bin" / f"python{version}"
    program.touch(mode=0o755)
    (prefix / "bin" / "python").symlink_to(program.name)
    return prefix


def venv(path: Path, python: str | Path = SYSTEM, configuration: str = ON_SYSTEM) -> Path:
    """Make a venv whose interpreter is elsewhere."""
    version = re.findall("3[.][0-9]+", configuration)[-1]
    (path / "lib" / f"python{version}" / "site-packages").mkdir(parents=True)
    (path / "lib64").symlink_to("lib")
    (path / "bin").mkdir()
    (path / "bin" / "python").symlink_to(python)
    (path / "bin" / "python3").symlink_to("python")
    (path / "pyvenv.cfg").write_text(configuration)
    return path


def inside(path: Path, *parts: str) -> set[str]:
    return {f"{path}/{part}" for part in parts}


VENV = ("bin", "lib", "lib64", "pyvenv.cfg")


def test_of_a_venv_on_the_machines_python_only_its_own_parts_are_mounted(tmp_path: Path) -> None:
    project = venv(tmp_path / "project")
    (project / "secrets").mkdir()
    (project / "notes.txt").touch()
    found = read_prefixes(project)
    assert set(found.mounts) == inside(project, *VENV)
    assert found.is_virtual


def test_an_interpreter_of_its_own_comes_along_by_each_name_that_it_goes_by(tmp_path: Path) -> None:
    base = made(tmp_path / "pythons" / "cpython-3.12.7")
    alias = tmp_path / "pythons" / "cpython-3.12"
    alias.symlink_to(base.name)
    configuration = f"home = {alias}/bin\nimplementation = CPython\nversion_info = 3.12.7\n"
    found = read_prefixes(venv(tmp_path / ".venv", alias / "bin" / "python3.12", configuration))
    assert found.version == "3.12"
    expected = inside(tmp_path / ".venv", *VENV) | inside(base, "bin", "lib") | inside(alias, "bin", "lib")
    assert set(found.mounts) == expected
    assert found.mounts[f"{alias}/lib"] == base / "lib"


def test_an_environment_is_also_there_by_the_name_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(venv(tmp_path / "real"))
    found = read_prefixes(tmp_path / "link")
    assert set(found.mounts) == inside(tmp_path / "real", *VENV) | inside(tmp_path / "link", *VENV)


def test_copies_of_the_interpreter_have_its_library(tmp_path: Path) -> None:
    base = made(tmp_path / "base", "3.13")
    environment = venv(tmp_path / "venv", "python3.13", f"home = {base}/bin\nversion = 3.13.0\n")
    (environment / "bin" / "python3.13").touch(mode=0o755)
    assert inside(base, "bin", "lib") <= set(read_prefixes(environment).mounts)


def test_a_prefix_can_be_a_home_directory_and_conda_has_environments_and_packages(tmp_path: Path) -> None:
    home, conda = made(tmp_path / "home"), made(tmp_path / "conda")
    for name in ("conda-meta", "envs", "pkgs", "etc"):
        (conda / name).mkdir()
    assert set(read_prefixes(home).mounts) == inside(home, "bin", "lib")
    found = read_prefixes(conda)
    assert set(found.mounts) == inside(conda, "bin", "conda-meta", "etc", "lib", "share")
    assert (found.is_conda, found.is_virtual) == (True, False)


def test_what_leads_elsewhere_is_listed_and_left_out(tmp_path: Path) -> None:
    environment, source, other = venv(tmp_path / "venv"), tmp_path / "src x", tmp_path / "other"
    source.mkdir()
    other.mkdir()
    (environment / "share").symlink_to(other)
    packages = next(environment.glob("lib/python3*/site-packages"))
    (packages / "mine-1.0.dist-info").mkdir()
    record = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (packages / "mine-1.0.dist-info" / "direct_url.json").write_text(json.dumps(record))
    (packages / "_mine.pth").write_text(f"{source}\n")  # the same once more
    (packages / "paths.pth").write_text(
        f"# no\nimport sys\n{other}\n{tmp_path}/gone\n../site-packages\n/usr/lib\n"
    )
    (packages / "linked").symlink_to(other)
    (packages / "old.egg-link").write_text(f"{other}\n.")
    assert set(left_out(read_prefixes(environment))) == {
        f"{environment}/share -> {other}",
        f"mine (editable): {source}",
        f"old (editable): {other}",
    }


def test_records_that_make_no_sense_and_long_lists_are_survived(tmp_path: Path) -> None:
    packages = next(venv(tmp_path / "venv").glob("lib/python3*/site-packages"))
    for number, text in enumerate(
        ("[" * 9999, "[]", '{"dir_info": 1}', '{"dir_info": {"editable": 1}, "url": "//["}')
    ):
        (packages / f"p{number}-1.dist-info").mkdir()
        (packages / f"p{number}-1.dist-info" / "direct_url.json").write_text(text)
    os.mkfifo(packages / "pipe.pth")
    (packages / "control.pth").write_bytes(f"{tmp_path}/\x1b[31m\xff\n".encode("latin-1"))
    for number in range(60):
        (tmp_path / f"d{number}").mkdir()
    (packages / "many.pth").write_text("".join(f"{tmp_path}/d{number}\n" for number in range(60)))
    found = left_out(read_prefixes(tmp_path / "venv"))
    assert len(found) == 51
    assert found[-1] == "and 10 more"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("rm -r $E", "There is no environment at"),
        ("rm -r $E; touch $E", "no directory"),
        ("rm -r $E; ln -s $E $E", "look into"),
        ("rm $E/bin/*", "no bin/python"),
        ("ln -sfn /nowhere/python $E/bin/python", "leads to /nowhere/python, which is not there"),
        ("ln -sfn python3 $E/bin/python", "which is not there"),  # a circle
        ("ln -sfn /etc $E/bin/python", "no program"),
        ("echo > $E/pyvenv.cfg", "does not name the interpreter"),
        ("echo 'home = bin' > $E/pyvenv.cfg", "does not name the interpreter"),
        ("echo home = $P/bin > $E/pyvenv.cfg", "has no standard library"),
        (
            "mkdir $P/bin; cp /bin/true $P/bin/python; ln -sfn $P/bin/python $E/bin/python",
            "no standard library",
        ),
        ("mv $E/lib $P; ln -s $P/lib $E/lib", "its lib is no directory of its own"),
        ("mv $E/bin $P; ln -s $P/bin $E/bin", "its bin is no directory of its own"),
    ],
)
def test_what_is_broken_is_one_sentence(tmp_path: Path, spoil: str, says: str) -> None:
    environment, place = venv(tmp_path / "venv"), tmp_path / "place"
    place.mkdir()
    assert os.system(spoil.replace("$E", str(environment)).replace("$P", str(place))) == 0
    with pytest.raises(ApiError, match=re.escape(says)) as caught:
        read_prefixes(environment)
    assert caught.value.code == "INVALID_IMAGE"
    assert len(re.findall(r"[.] [A-Z]", str(caught.value))) <= 1


def test_a_pipe_in_the_place_of_the_configuration_holds_nobody_up(tmp_path: Path) -> None:
    environment = venv(tmp_path / "venv")
    (environment / "pyvenv.cfg").unlink()
    os.mkfifo(environment / "pyvenv.cfg")
    assert not read_prefixes(environment).is_virtual


def test_nothing_but_directories_and_files_is_mounted(tmp_path: Path) -> None:
    environment = venv(tmp_path / "venv")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(environment / "share"))
        found = read_prefixes(environment)
    assert f"{environment}/share" not in found.mounts


def test_what_was_looked_at_is_what_is_mounted(tmp_path: Path) -> None:
    environment = venv(tmp_path / "venv")
    paths = {inside: str(real) for inside, real in read_prefixes(environment).mounts.items()}
    for descriptor in opened(paths).values():
        os.close(descriptor)
    before = len(os.listdir("/proc/self/fd"))
    (environment / "lib").rename(tmp_path / "away")
    (environment / "lib").symlink_to("/etc")
    with pytest.raises(SandboxLostError, match="/venv/lib was changed"):
        opened(paths)
    (environment / "lib").unlink()
    (tmp_path / "away").rename(environment / "lib")
    environment.rename(tmp_path / "moved")
    environment.symlink_to(tmp_path / "moved")  # on the way
    with pytest.raises(SandboxLostError, match="was changed"):
        opened(paths)
    assert len(os.listdir("/proc/self/fd")) == before


async def refusal(environments: Environments, path: str | Path) -> str:
    with pytest.raises(ApiError) as caught:
        await environments.find(str(path))
    assert caught.value.code == "INVALID_IMAGE"
    return str(caught.value)


def offered(registered: tuple[Path, ...] | None, *private: Path) -> Environments:
    return Environments(registered, find_images(), US, private)


async def test_a_daemon_gives_only_what_its_operator_registered(tmp_path: Path) -> None:
    mine, other = venv(tmp_path / "mine"), venv(tmp_path / "other")
    (tmp_path / "alias").symlink_to(other)
    assert not offered(()).any_offered
    assert "There are: none" in await refusal(offered(()), mine)
    some = offered((mine,))
    assert some.any_offered
    assert (await some.find(str(mine))).name == str(mine)
    for path in (other, tmp_path / "alias", f"{tmp_path}/mine/../other", tmp_path / "nowhere", "/etc"):
        # The same words for what is there and what is not.
        assert f"There are: {mine}." in await refusal(some, path)


async def test_the_daemons_own_directories_are_never_mounted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    below = venv(data / "workspaces" / "x" / "venv")
    assert "own data" in await refusal(offered(None, data), below)
    around = venv(tmp_path / "venv")
    (around / "share" / "sandkasten").mkdir(parents=True)
    assert "own data" in await refusal(offered(None, around / "share" / "sandkasten"), around)
    for path in ("relative", ".venv", "/x\0y"):
        assert "must be absolute" in await refusal(offered(None), path)


@pytest.mark.parametrize(
    "place", ["/workspace/venv", "/var/tmp/venv", "/home/sandbox", "/opt/sandkasten/x", "/"]
)
def test_what_would_stand_where_the_sandbox_has_its_own_is_refused(place: str) -> None:
    with pytest.raises(ApiError, match="is the sandbox's own"):
        Parts().add(Path(place), set(), ("bin",))


def test_a_server_registers_paths_and_takes_any_only_by_a_socket_with_a_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k" * 40)
    key.chmod(0o600)
    with_key = {"api_key_file": str(key)}
    options = ServerOptions.from_mapping({**with_key, "environments": ["/srv/science"]}).daemon
    assert (options.environments, options.any_environment) == ((Path("/srv/science"),), False)
    by_socket = {**with_key, "listen": f"unix:{tmp_path}/s", "any_environment": True}
    assert ServerOptions.from_mapping(by_socket).daemon.any_environment
    for wrong in (
        {**with_key, "any_environment": True},
        {"listen": f"unix:{tmp_path}/s", "no_api_key": True, "any_environment": True},
    ):
        with pytest.raises(OptionsError, match="needs a key and a unix: socket"):
            ServerOptions.from_mapping(wrong)
    for value in ("/srv", ["srv"], [1], [""]):
        with pytest.raises(OptionsError, match="a list of absolute paths"):
            Options.from_mapping({"environments": value})
