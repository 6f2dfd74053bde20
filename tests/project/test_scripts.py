"""The shell scripts: that they can be run at all, and what they do about Python and .venv.

Functions of theirs are called one by one, with stand-ins for Python; nothing is installed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = (
    ".ci/run",
    *(
        f"scripts/{name}"
        for name in (
            "bench",
            "build",
            "check",
            "docs",
            "extras",
            "fuzz",
            "lint",
            "quickstart",
            "suites",
            "test",
        )
    ),
)
COMMON = "scripts/_common.sh"


def bash(
    code: str, *, root: Path = ROOT, path: Path | None = None, python: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run some bash in the root of a repository, with $PATH and $PYTHON as given."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    environ |= {"PATH": str(path)} if path else {}
    environ |= {"PYTHON": python} if python else {}
    shell = shutil.which("bash")
    assert shell is not None
    return subprocess.run(
        [shell, "-c", f"set -euo pipefail\n{code}"],
        cwd=root,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


# ---- All of them


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_script_can_be_executed(program: str) -> None:
    assert os.access(ROOT / program, os.X_OK)


@pytest.mark.parametrize("script", [*PROGRAMS, COMMON])
def test_a_script_is_valid_bash(script: str) -> None:
    done = bash(f"bash -n {script}")
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    done = bash(f"{shellcheck} --external-sources --source-path=scripts {' '.join(PROGRAMS)} {COMMON}")
    assert done.stdout == ""


# ---- quickstart

README = """\
# Sandkasten

```bash
pip install 'sandkasten[local]'
```

```python
from sandkasten_sync import SandboxClient

print("`Hello`, \\"World\\"!")
```

```python
print("the second")
```
"""


def test_quickstart_takes_the_first_python_block_of_a_readme(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    done = bash(f"source scripts/quickstart; first_python_block {shlex.quote(str(tmp_path / 'README.md'))}")
    expected = 'from sandkasten_sync import SandboxClient\n\nprint("`Hello`, \\"World\\"!")\n'
    assert done.stdout == expected


def test_the_first_python_block_of_our_readme_is_a_blocking_program() -> None:
    code = bash("source scripts/quickstart; first_python_block README.md").stdout
    compile(code, "README.md", "exec")
    assert "from sandkasten_sync import SandboxClient" in code


# ---- Finding a Python


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is to be the only one on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def add_python(programs: Path, name: str, *, fails_at: str | None = None) -> None:
    """Put a Python there; it fails if this stands in its arguments."""
    fail = f"case $* in *{fails_at}*) exit 1;; esac\n" if fails_at is not None else ""
    (programs / name).write_text(f'#!/usr/bin/env bash\n{fail}exec {sys.executable} "$@"\n')
    (programs / name).chmod(0o755)


def find_python(programs: Path, python: str | None = None) -> subprocess.CompletedProcess[str]:
    return bash(f"source {COMMON}; find_python", path=programs, python=python)


def test_python3_is_taken_if_it_is_new_enough(programs: Path) -> None:
    add_python(programs, "python3")
    add_python(programs, "python3.12")
    assert find_python(programs).stdout == "python3\n"


def test_a_python_that_does_not_run_or_is_too_old_is_passed_over(programs: Path) -> None:
    add_python(programs, "python3", fails_at="")  # like the shim of a version that is not there
    add_python(programs, "python3.13", fails_at="version_info")
    add_python(programs, "python3.12")
    assert find_python(programs).stdout == "python3.12\n"


def test_a_python_that_cannot_make_environments_is_passed_over(programs: Path) -> None:
    add_python(programs, "python3", fails_at="ensurepip")
    add_python(programs, "python3.11")
    assert find_python(programs).stdout == "python3.11\n"


def test_without_ensurepip_the_package_that_brings_it_is_named(programs: Path) -> None:
    add_python(programs, "python3", fails_at="ensurepip")
    done = find_python(programs)
    major, minor = sys.version_info[:2]
    assert done.returncode == 1
    assert f"apt-get install -y python{major}.{minor}-venv\n" in done.stderr


def test_without_any_python_it_says_what_to_install(programs: Path) -> None:
    done = find_python(programs)
    assert done.returncode == 1
    assert done.stderr.startswith("There is no Python 3.11 or newer on PATH. Install one: ")


def test_the_variable_python_goes_first(programs: Path) -> None:
    add_python(programs, "python3")
    add_python(programs, "my python")
    assert find_python(programs, "my python").stdout == "my python\n"


def test_a_variable_python_that_is_of_no_use_is_an_error(programs: Path) -> None:
    add_python(programs, "python3")
    done = find_python(programs, "no-such-python")
    assert done.returncode == 1
    assert done.stderr.startswith("PYTHON is set to no-such-python, which is not")


# ---- Keeping .venv

STAND_INS = """
source scripts/_common.sh
make_venv() { echo makes .venv; }
install_project() { echo "installs [$1]"; }
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a .venv that has nothing installed."""
    (tmp_path / "scripts").mkdir()
    shutil.copy2(ROOT / COMMON, tmp_path / COMMON)
    (tmp_path / "pyproject.toml").touch()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    (tmp_path / ".venv/installed").touch()
    return tmp_path


def ensure_venv(repository: Path, extra: str) -> list[str]:
    done = bash(f"{STAND_INS} is_usable() {{ true; }}; ensure_venv {extra}", root=repository)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_is_installed_is_not_installed_again(repository: Path) -> None:
    assert ensure_venv(repository, "local") == ["installs [local]"]
    assert ensure_venv(repository, "local") == []


def test_a_larger_extra_is_installed_over_a_smaller_one_and_covers_it(repository: Path) -> None:
    ensure_venv(repository, "local")
    assert ensure_venv(repository, "dev") == ["installs [dev]"]
    assert ensure_venv(repository, "local") == []


def test_a_changed_project_is_installed_again(repository: Path) -> None:
    ensure_venv(repository, "local")
    (repository / "pyproject.toml").write_text("# changed\n")
    assert ensure_venv(repository, "local") == ["installs [local]"]


def test_an_environment_that_was_copied_with_its_repository_is_made_anew(
    repository: Path, tmp_path: Path
) -> None:
    ensure_venv(repository, "local")
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy, symlinks=True, ignore=shutil.ignore_patterns("copy"))
    done = bash(f"{STAND_INS} ensure_venv local", root=copy)
    assert done.stdout.splitlines() == ["makes .venv", "installs [local]"]
