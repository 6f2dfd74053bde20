"""A session that does not come to be leaves nothing, at whatever point it failed."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from sandkasten.local.errors import ApiError
from sandkasten.local.files.rundir import run_dir
from sandkasten.local.files.workspaces import Workspaces
from sandkasten.local.identity import Identity
from sandkasten.local.images.catalogue import Catalogue
from sandkasten.local.isolation.backend import BubblewrapBackend
from sandkasten.local.limits.cgroups import Group
from sandkasten.local.limits.limits import Limits
from sandkasten.local.observe.observer import Observer
from sandkasten.local.options import Options
from sandkasten.local.sessions.manager import Manager
from sandkasten.local.sessions.preparing import prepare
from sandkasten.local.sessions.session import SessionSpec
from sandkasten.local.sessions.settings import Settings
from tests.local.box import content_of, control_groups, until
from tests.processes import processes_with


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


def manager_of(settings: Settings) -> Manager:
    directory, identity = settings.run_dir, settings.identity
    workspaces = Workspaces(directory / "workspaces", identity)
    return Manager(
        settings, workspaces, Catalogue(settings.isolation.images, directory / "images", identity), Observer()
    )


async def build(settings: Settings, cancelled_after_seconds: float | None = None) -> None:
    manager = manager_of(settings)
    building = asyncio.create_task(manager._build(settings.isolation.images["base"], None))
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
    until(lambda: processes_with(str(settings.run_dir)) == [])


@pytest.mark.parametrize("step", ["create", "add"])
def test_a_group_that_is_not_to_be_had(settings: Settings, step: str) -> None:
    failing = replace(settings, cgroups=FailingCgroups(settings.cgroups, step))
    with pytest.raises(OSError, match="group"):
        asyncio.run(build(failing))
    assert_nothing_is_left(settings)


@pytest.mark.parametrize(
    ("call", "number", "says"),
    [
        ("os.openpty", errno.ENOSPC, "too few pseudo-terminals"),
        ("os.openpty", errno.ENFILE, "too few open files"),
        ("os.pipe", errno.EMFILE, "too few open files for the daemon"),
        ("subprocess.Popen", errno.EAGAIN, "too few processes"),
    ],
)
def test_what_is_used_up_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, call: str, number: int, says: str
) -> None:
    def refuse(*_args: Any, **_options: Any) -> None:
        raise OSError(number, os.strerror(number))

    async def main() -> None:
        manager = manager_of(settings)
        body = SessionSpec(image="base", ttl_seconds=60, workspace_id=None, host_network=False)
        with monkeypatch.context() as patch:
            patch.setattr(f"sandkasten.local.isolation.sandbox.{call}", refuse)
            with pytest.raises(ApiError, match=says) as refused:
                await manager.create(body)
        assert (refused.value.status, refused.value.code) == (503, "CAPACITY_EXCEEDED")
        await manager.destroy((await manager.create(body)).id)  # as soon as there are some again
        await manager.close()

    asyncio.run(main())
    assert_nothing_is_left(settings)


def test_what_bubblewrap_cannot_mount_is_named(settings: Settings) -> None:
    """It says who process 1 is before it mounts; so that process may be gone when it is taken hold of."""
    isolation = settings.isolation
    assert isinstance(isolation, BubblewrapBackend)
    image = isolation.images["base"]
    missing = str(settings.run_dir / "missing")
    broken = replace(image, read_only={**image.read_only, missing: "/opt"})
    breaking = replace(isolation, images={**isolation.images, "base": broken})
    for _ in range(5):
        with pytest.raises(ApiError, match=r"missing.*SANDKASTEN_DATA_DIR"):
            asyncio.run(build(replace(settings, isolation=breaking)))
    assert_nothing_is_left(settings)


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 6, 8, 10, 12, 15, 20])
def test_whoever_asked_is_gone(settings: Settings, milliseconds: int) -> None:
    with suppress(asyncio.CancelledError):
        asyncio.run(build(settings, milliseconds / 1000))
    assert_nothing_is_left(settings)


def test_a_workspace_is_not_deleted_under_a_session_in_the_making(settings: Settings) -> None:
    async def main() -> None:
        manager = manager_of(settings)
        body = SessionSpec(image="base", ttl_seconds=60, workspace_id="ab", host_network=False)
        manager.workspaces.get_or_create("ab").write("file", io.BytesIO(b"kept"))
        creating = asyncio.create_task(manager.create(body))
        await asyncio.sleep(0.001)
        with pytest.raises(ApiError, match="in use by a session that is just being made"):
            await manager.delete_workspace("ab")
        session = await creating
        with pytest.raises(ApiError, match=f"in use by session {session.id}"):
            await manager.delete_workspace("ab")
        assert content_of(session.tree, "file") == b"kept"
        await manager.destroy(session.id)
        deleting = asyncio.create_task(manager.delete_workspace("ab"))
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="just being deleted"):
            await manager.create(body)
        await deleting
        assert manager.workspaces.list() == []
        await manager.close()

    asyncio.run(main())
    assert_nothing_is_left(settings)
