"""A session that does not come to be leaves nothing, at whatever point it failed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from sandkasten.local.catalogue import Catalogue
from sandkasten.local.cgroups import Group
from sandkasten.local.daemon import prepare
from sandkasten.local.host import Identity
from sandkasten.local.limits import Limits
from sandkasten.local.manager import Manager, Settings
from sandkasten.local.observer import Observer
from sandkasten.local.options import Options
from sandkasten.local.rundir import run_dir
from sandkasten.local.workspaces import Workspaces
from tests.local.box import control_groups, host_processes_with


class FailingCgroups:
    """The real ones, of which one step fails."""

    def __init__(self, real: Any, step: str) -> None:
        self._real = real
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def create(self, name: str, limits: Limits) -> Group:
        if self._step == "create":
            raise OSError("no group")
        group: Group = self._real.create(name, limits)
        if self._step == "add":
            group.add = self._refuse  # type: ignore[method-assign]
        return group

    def _refuse(self, _pid: int) -> None:
        raise OSError("not in the group")


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    identity = Identity.of_this_process()
    with run_dir(identity) as directory:
        prepared = replace(prepare(directory, identity, Options()), pool_size=0)
        yield prepared
        prepared.cgroups.close()


async def build(settings: Settings, cancelled_after_seconds: float | None = None) -> None:
    directory, identity = settings.run_dir, settings.identity
    workspaces = Workspaces(directory / "workspaces", identity)
    images = Catalogue(settings.images, directory / "images", identity)
    manager = Manager(settings, workspaces, images, Observer())
    building = asyncio.create_task(manager._build(settings.images["base"], None))
    try:
        if cancelled_after_seconds is not None:
            await asyncio.sleep(cancelled_after_seconds)
            building.cancel()
        await manager._discard(await building)  # it was quicker
    finally:
        await manager.close()


def assert_nothing_is_left(settings: Settings) -> None:
    assert control_groups(os.getpid()) == []
    assert list((settings.run_dir / "sessions").iterdir()) == []
    # Wherever they are: what loses its parent goes to the machine's first process.
    assert host_processes_with(str(settings.run_dir)) == []


@pytest.mark.parametrize("step", ["create", "add"])
def test_a_group_that_is_not_to_be_had(settings: Settings, step: str) -> None:
    failing = replace(settings, cgroups=FailingCgroups(settings.cgroups, step))
    with pytest.raises(OSError, match="group"):
        asyncio.run(build(failing))
    assert_nothing_is_left(settings)


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 6, 8, 10, 12, 15, 20])
def test_whoever_asked_is_gone(settings: Settings, milliseconds: int) -> None:
    with suppress(asyncio.CancelledError):
        asyncio.run(build(settings, milliseconds / 1000))
    assert_nothing_is_left(settings)
