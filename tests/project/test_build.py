"""The published files: the wheel and the sdist, as they are built, and the wheel as it is installed.

The tree is built once, in a copy, by the real tools; the index must be within reach.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
PACKAGES = ("sandkasten", "sandkasten_sync")
NOT_OURS = shutil.ignore_patterns(".git", ".venv*", "dist", "site", "__pycache__", ".*cache")


def run(*argv: str | Path, cwd: Path) -> str:
    """Standard output of a program that must succeed; it sees no daemon and none of our paths."""
    hidden = ("PYTHONPATH", "SANDKASTEN_BASE_URL", "SANDKASTEN_API_KEY")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- What is built


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree") / "sandkasten"
    shutil.copytree(ROOT, tree, ignore=NOT_OURS)
    return tree


@pytest.fixture(scope="module")
def published(tree: Path) -> Path:
    """Return the folder with the sdist, and with the wheel that was made of it.

    Without environments of their own, which `scripts/build` makes.
    """
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", tree.parent / "published")
    run(*command, tree, cwd=tree.parent)
    return tree.parent / "published"


@pytest.fixture(scope="module")
def wheel(published: Path) -> Path:
    (wheel,) = published.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist_names(published: Path) -> set[str]:
    """The files in the sdist, below its one folder."""
    (sdist,) = published.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [member.name for member in archive if member.isfile()]
    folder = sdist.name.removesuffix(".tar.gz")
    assert {name.split("/")[0] for name in names} == {folder}
    return {name.removeprefix(f"{folder}/") for name in names}


def contents(wheel: Path) -> dict[str, int]:
    """The files in a wheel, with their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


def files_of_packages(tree: Path) -> set[str]:
    paths = [path for package in PACKAGES for path in (tree / package).rglob("*") if path.is_file()]
    return {path.relative_to(tree).as_posix() for path in paths}


def test_the_wheel_holds_both_packages_and_nothing_else(tree: Path, wheel: Path) -> None:
    names = contents(wheel).keys()
    assert {name for name in names if ".dist-info/" not in name} == files_of_packages(tree)


def test_the_wheel_holds_what_is_not_python_too(wheel: Path) -> None:
    assert contents(wheel).keys() >= {
        "sandkasten/py.typed",
        "sandkasten_sync/py.typed",
        "sandkasten/local/isolation/inside/bashrc",
        "sandkasten/local/isolation/spawner/dropper-aarch64",
        "sandkasten/local/isolation/spawner/dropper-x86_64",
        "sandkasten/local/isolation/spawner/spawner-aarch64",
        "sandkasten/local/isolation/spawner/spawner-x86_64",
        "sandkasten/local/isolation/inside/supervisor",
    }


def test_the_sdist_holds_what_a_wheel_is_made_of_and_no_tests(tree: Path, sdist_names: set[str]) -> None:
    assert sdist_names == files_of_packages(tree) | {
        ".gitignore",  # hatchling always adds it
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        "scripts/generate_sync.py",
        "scripts/hatch_build.py",
    }


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_tree(tree: Path, wheel: Path, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path)
    run(*command, tree, cwd=tmp_path)
    (other,) = tmp_path.glob("*.whl")
    assert other.name == wheel.name
    assert contents(other) == contents(wheel)


# ---- What is installed


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel and what it needs, without extras."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel, cwd=folder)
    return python


def say(python: Path | str, code: str, cwd: Path) -> str:
    """Return the output of some code, with warnings as errors and without the current directory."""
    return run(python, "-I", "-W", "error", "-c", code, cwd=cwd).strip()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A daemon that is only healthy."""

    class Daemon(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/healthz"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"status": "ok"}' if found else b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Daemon) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


BLOCKING = """
from sandkasten_sync import SandboxClient, SandkastenError

try:
    with SandboxClient(base_url={url!r}) as client:
        print(client.health().status)
except SandkastenError as error:
    print(type(error).__name__, error)
"""

ASYNC = """
import asyncio
from sandkasten import SandboxClient, SandkastenError

async def main():
    async with SandboxClient(base_url={url!r}) as client:
        print((await client.health()).status)

try:
    asyncio.run(main())
except SandkastenError as error:
    print(type(error).__name__, error)
"""

BOTH_TWINS = pytest.mark.parametrize("code", [ASYNC, BLOCKING], ids=PACKAGES)


def test_both_packages_can_be_imported_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    said = say(installed, "import sandkasten, sandkasten_sync; print(sandkasten_sync.__file__)", tmp_path)
    assert Path(said).is_relative_to(installed.parents[1])


@BOTH_TWINS
def test_the_wheel_alone_reaches_a_daemon_by_its_url(
    installed: Path, url: str, code: str, tmp_path: Path
) -> None:
    assert say(installed, code.format(url=url), tmp_path) == "ok"


@BOTH_TWINS
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no embedded daemon to install")
def test_the_wheel_alone_says_how_to_install_the_embedded_daemon(
    installed: Path, code: str, tmp_path: Path
) -> None:
    said = say(installed, code.format(url=None), tmp_path)
    assert said.startswith("LocalDaemonError ")
    assert "pip install 'sandkasten[local]'" in said
