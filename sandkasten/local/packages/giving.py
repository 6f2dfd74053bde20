"""Packages for sessions: which Python they are for, and how a session comes to have them."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from sandkasten._options.packages import merged
from sandkasten.local.errors import ApiError, SandboxLostError, invalid_request
from sandkasten.local.files.tree import Tree
from sandkasten.local.isolation.policy import Image
from sandkasten.local.packages.compiling import COMMAND, COMPILE_MS, take
from sandkasten.local.packages.failures import disk_full
from sandkasten.local.packages.installer import Installer
from sandkasten.local.packages.placing import SessionPackages, place
from sandkasten.local.packages.store import Environment
from sandkasten.local.packages.target import PROBE_COMMAND, Target, TargetError, minor_of, read_target
from sandkasten.local.threads import in_thread

# How many sets of packages have sessions that are ready before anybody asks.
_WARM_SETS = 2


class Given(Protocol):
    """A session, as far as packages are concerned.

    Attributes:
        packages: those that it has; None: it has no place for any.
        tree: its files.
    """

    packages: SessionPackages | None
    tree: Tree

    async def ask(self, cmd: str, timeout_ms: int = ...) -> tuple[bool, str]:
        """Run one of the daemon's own commands; return whether it succeeded, and what it printed."""
        ...


S = TypeVar("S", bound=Given)


class Packages(Generic[S]):
    """The packages of one daemon's sessions. Lives in the event loop's thread."""

    def __init__(
        self,
        installer: Installer,
        build: Callable[[Image, Environment | None], Awaitable[S]],
        discard: Callable[[S], object],
    ) -> None:
        """Use an installer.

        Args:
            installer: finds environments.
            build: makes a session, in which the image's Python is asked before any code of a client ran, and
                in which packages are compiled.
            discard: ends one.
        """
        self._installer = installer
        self._build = build
        self._discard = discard
        self._targets: dict[tuple[object, ...], Target] = {}
        self._warm = OrderedDict[str, Environment]()

    async def environment(self, image: Image, requirements: tuple[str, ...]) -> Environment:
        """Return the environment for a new session.

        Raises:
            ApiError: PACKAGE_FAILED, INVALID_REQUEST or INSUFFICIENT_STORAGE.
        """
        self._installer.check(requirements)
        return await self._environment(image, await self._target(image), merged((), requirements))

    async def _environment(self, image: Image, target: Target, requirements: tuple[str, ...]) -> Environment:
        return await self._installer.environment(target, requirements, partial(self._compile, image, target))

    async def _compile(self, image: Image, target: Target, tree: Path) -> None:
        """Add bytecode to an environment that is being made; without, it only works more slowly."""
        session = await self._build(image, Environment("", tree, ()))
        try:
            # Some modules of some packages are for other versions of Python, and fail.
            await session.ask(COMMAND, COMPILE_MS)
            await in_thread(take, session.tree, tree, target.version)
        except SandboxLostError:
            return
        finally:
            self._discard(session)

    async def install(self, session: S, image: Image, added: tuple[str, ...]) -> None:
        """Have a running session find more packages; those that it has are kept in versions that fit.

        Raises:
            ApiError: as `environment`.
        """
        self._installer.check(added)
        packages = session.packages
        target = await self._target(image)
        if packages is None:
            raise _no_python(image, "the session was made without a place for packages")
        async with packages.turn:
            requirements = merged(packages.requirements, added)
            environment = await self._environment(image, target, requirements)
            held = await in_thread(self._installer.hold, environment)
            try:
                await in_thread(place, environment, packages.directory)
            except FileNotFoundError:
                raise SandboxLostError("the session ended") from None
            except OSError as error:
                raise disk_full(error.strerror or os.strerror(errno.EIO)).error() from error
            finally:
                os.close(held)
            packages.became(requirements, environment)

    # --- sessions that are ready

    def warm(self, digest: str) -> Environment:
        """Return an environment whose sessions are kept ready.

        Raises:
            KeyError: it is not one of these any more.
        """
        return self._warm[digest]

    def is_warm(self, environment: Environment) -> bool:
        """Return whether sessions of an environment are kept ready."""
        return environment.digest in self._warm

    def keep_warm(self, environment: Environment) -> str | None:
        """Have sessions of an environment kept ready; return the name of one that no longer is."""
        self._warm[environment.digest] = environment
        self._warm.move_to_end(environment.digest)
        return self._warm.popitem(last=False)[0] if len(self._warm) > _WARM_SETS else None

    # --- the Python of an image

    async def _target(self, image: Image) -> Target:
        minor = minor_of(image)
        if minor is None:
            raise _no_python(image, "it has no Python 3 below /usr, or has an environment of its own")
        key = (image.name, *_state_of(image.read_only))
        if key not in self._targets:
            session = await self._build(image, None)
            try:
                _is_done, said = await session.ask(PROBE_COMMAND)
            except SandboxLostError as error:
                raise ApiError(500, "INTERNAL_ERROR", f"The sandbox did not last: {error}.") from error
            finally:
                self._discard(session)
            try:
                self._targets[key] = read_target(said, minor)
            except TargetError as error:
                raise _no_python(image, str(error)) from None
        return self._targets[key]


def _state_of(read_only: Mapping[str, str]) -> tuple[object, ...]:
    """Return what differs from another image that takes its name."""
    status = Path(next(iter(read_only), "/")).parent.stat()
    return status.st_dev, status.st_ino


def _no_python(image: Image, why: str) -> ApiError:
    return invalid_request(
        f"The image {image.name!r} takes no packages: {why}. Use an image that has Python, such as 'python'."
    )
