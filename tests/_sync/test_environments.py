# Made from tests/_async/test_environments.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Sessions with an environment of Python of this machine: these tests' own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sandkasten._options.environments import PythonEnvironment
from sandkasten.errors import ExtensionMissingError, InvalidImageError, SandkastenInputError
from sandkasten.testing import FakeDaemon

from .seam import SandboxClient

REPOSITORY = Path(__file__).resolve().parents[2]
# What is there: python, a package of the environment, what is beside it on this machine, and a write.
LOOK = f"""
import attrs, importlib.util, json, os, sys
try:
    open(attrs.__file__, "w")
except OSError as error:
    refusal = type(error).__name__, error.errno
seen = [path for path in {[str(REPOSITORY), str(Path.home() / ".ssh"), str(Path.home() / ".bashrc")]!r}
    if os.path.exists(path) and not set(os.listdir(path)) <= {{".venv"}}]
is_missing = importlib.util.find_spec("sandkasten") is None
print(json.dumps([sys.prefix, sys.base_prefix, is_missing, refusal[1], seen]))
"""


def test_python_is_the_environments_and_nothing_else_of_the_host_is_seen(client: SandboxClient) -> None:
    with client.create_session(image=PythonEnvironment.current()) as session:
        session.write("look.py", LOOK)
        typed = session.exec("python look.py")
        beside = session.run(["python", "look.py"])
        info = session.info()
    assert json.loads(typed.output) == json.loads(beside.stdout)
    assert json.loads(typed.output) == [sys.prefix, sys.base_prefix, True, 30, []]
    assert info.image == sys.prefix
    assert info.programs is not None
    assert "python3" in info.programs
    environment = info.python_environment
    assert environment is not None
    assert (environment.path, environment.python_version) == (sys.prefix, "{}.{}".format(*sys.version_info))
    assert f"sandkasten (editable): {REPOSITORY}" in environment.left_out


def test_a_session_without_one_says_so_and_one_that_is_missing_is_one_error(
    client: SandboxClient, tmp_path: Path
) -> None:
    with client.create_session() as session:
        assert session.info().python_environment is None
    with pytest.raises(InvalidImageError, match="There is no environment at"):
        client.create_session(image=PythonEnvironment(tmp_path / "none"))


def test_a_path_is_checked_and_made_absolute_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    assert PythonEnvironment("lib/../bin").path == "/usr/bin"
    for wrong in ("", 7, "a\0b", b"/x"):
        with pytest.raises(SandkastenInputError, match="path of an environment"):
            PythonEnvironment(wrong)  # type: ignore[arg-type]


def test_a_daemon_without_environments_is_not_asked_for_one() -> None:
    with FakeDaemon() as daemon:
        with SandboxClient(base_url=daemon.url) as client:
            with pytest.raises(ExtensionMissingError, match="environments"):
                client.create_session(image=PythonEnvironment(".venv"))
