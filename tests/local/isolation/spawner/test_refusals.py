"""Machines that cannot start programs beside a shell: sessions work, and everybody is given the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandkasten.local.files.rundir import run_dir
from sandkasten.local.identity import Identity
from sandkasten.local.isolation.programs import CannotSpawnError
from sandkasten.local.isolation.spawner import entering
from sandkasten.local.isolation.spawner.entering import find_kit
from sandkasten.local.options import Options
from sandkasten.local.sessions.preparing import prepare
from tests.local.isolation.spawner.beside import beside


def test_another_kind_of_machine_has_no_spawner() -> None:
    starting = find_kit(Identity.of_this_process(), "riscv64")
    with pytest.raises(CannotSpawnError, match=r"machine \(riscv64\), only on x86_64 and aarch64"):
        starting.need()


def test_the_trial_finds_that_programs_start_here() -> None:
    identity = Identity.of_this_process()
    with run_dir(identity) as directory:
        settings = prepare(directory, identity, Options())
        settings.cgroups.close()
        assert settings.isolation.can_spawn
        assert settings.isolation.cannot_spawn == ""


def _no_memory(*_: Any) -> int:
    raise PermissionError(13, "Permission denied")


def _text_file(_program: bytes) -> int:
    return _sealed(b"neither ELF nor script")


def _false(_program: bytes) -> int:
    return _sealed(Path("/bin/false").read_bytes())


_sealed = entering._sealed


@pytest.mark.parametrize(
    ("name", "replacement", "says"),
    [
        ("memfd_create", _no_memory, "runs no program from memory"),
        ("_sealed", _text_file, "Exec format error"),
        ("_sealed", _false, "ended, or hung"),
    ],
)
async def test_a_session_works_without_and_says_why(
    monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any, says: str
) -> None:
    monkeypatch.setattr(entering.os if name == "memfd_create" else entering, name, replacement)
    async with beside() as own:
        monkeypatch.undo()
        assert await own.shell("echo well") == "well\n"
        with pytest.raises(CannotSpawnError, match=says):
            await own.run("true")
        with pytest.raises(CannotSpawnError, match=says):
            await own.sandbox.root()
