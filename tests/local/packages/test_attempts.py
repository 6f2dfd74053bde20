"""Attempts of packages: to run outside of a sandbox, and to change what other sessions have of them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.box import Box, boxes
from tests.local.isolation.arena.registry import attempt
from tests.wheels import Index, make_source, make_wheel


@pytest.fixture
def make_box(package_daemon: LocalDaemon) -> Iterator[Callable[..., Box]]:
    with boxes(package_daemon) as make:
        yield make


@pytest.fixture
def mark() -> Iterator[Path]:
    """A file that every process of the host could make."""
    with tempfile.TemporaryDirectory(prefix="sk-isolation-", dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name) / "mark"


def install(box: Box, package: str) -> tuple[int, str]:
    answer = box.client.post(f"{box.url}/packages", json={"packages": [package]})
    return answer.status_code, answer.json().get("details", {}).get("reason", "")


@attempt("packages/a-build-behind-a-url")
def test_a_wheel_cannot_have_an_archive_built_by_naming_its_url(
    make_box: Callable[..., Box], package_index: Index, mark: Path, tmp_path: Path
) -> None:
    source = make_source(package_index.directory, "by-url", mark)
    url = f"{package_index.url}/by-url/{source.name}"
    make_wheel(package_index.directory, "asking", requires=[f"by-url @ {url}"])
    asked = len(package_index.requests)
    assert install(make_box(image="python"), "asking") == (400, "url")
    assert not mark.exists()
    assert not any(path.startswith("/by-url/") for path in package_index.requests[asked:])
    # It is real: pip itself, which is to take only wheels, builds it.
    words = ["--isolated", "--no-input", "--no-cache-dir", "download", "--only-binary", ":all:"]
    words += ["--dest", str(tmp_path), "--index-url", package_index.url, "asking"]
    subprocess.run([sys.executable, "-I", "-m", "pip", *words], check=False, capture_output=True)
    assert mark.exists()


@attempt("packages/files-that-run-at-the-start")
def test_files_that_run_when_python_starts_run_only_inside(
    make_box: Callable[..., Box], package_index: Index, mark: Path, tmp_path: Path
) -> None:
    runs = f"open({str(mark)!r}, 'w').write('ran')\n"
    names = ("running.py", "setup.py", "sitecustomize.py", "conftest.py", "pip.py", "compileall.py")
    files = dict.fromkeys(names, runs) | {"running.pth": f"import sys; sys.ran = 1; {runs}"}
    programs = {"pip": "running:main", "python3": "running:main"}
    wheel = make_wheel(package_index.directory, "running", files=files, programs=programs)
    box = make_box(image="python", packages=["running"])
    said = box.exec("/usr/bin/python3 -c 'import sys; print(\"after\", sys.ran)'")["output"]
    assert "after 1" in said
    assert str(mark) in said  # inside, its directory is not there
    assert not mark.exists()
    # It is real: where the wheel is installed on the host, a Python that starts runs it.
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, tmp_path], check=True)
    code = f"import site; site.addsitedir({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-I", "-c", code], check=False, capture_output=True)
    assert mark.exists()


@attempt("packages/another-sessions-packages")
def test_packages_that_sessions_share_cannot_be_changed(make_box: Callable[..., Box]) -> None:
    box = make_box(image="python", packages=["base_part<2"])
    module, place = "/run/prepared/site/base_part.py", "/run/packages/now"
    attempts = [f"rm {module}", f"chmod 777 {module}", "touch /run/prepared/site/x", f"mv {module} {module}x"]
    for tried in (*attempts, f"ln -sfn /tmp {place}", "rm /run/packages/sandkasten.pth"):
        assert "Read-only file system" in box.exec(tried)["output"], tried
    for tried in (f"echo evil >>{module}", f"ln {module} /tmp/x", f"python3 -c 'open({module!r}, \"r+\")'"):
        assert box.exec(tried)["exit_code"] != 0, tried
    assert box.write(module, "evil").status_code >= 400
    assert make_box(image="python", packages=["base_part<2"]).run(f"cat {module}") == "version = '1.0'\n"
