"""Environments of Python as images: this machine's own /usr, and beside it the environment, read-only.

A path in a request means a directory of the daemon's machine. Only the embedded daemon, and the one in the
background that belongs to the same user, take any; a server takes those that its operator registered.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandkasten.local.errors import ApiError
from sandkasten.local.identity import Identity
from sandkasten.local.images.leftout import left_out
from sandkasten.local.images.prefixes import Prefixes, read_prefixes
from sandkasten.local.isolation import carrier
from sandkasten.local.isolation.policy import ENVIRONMENT, Image
from sandkasten.local.records import dataclass

# The first of these that this machine has.
_BASES = ("python", "base")


@dataclass(frozen=True)
class EnvironmentImage(Image):
    """The image of a session with an environment of Python; its name is the environment's path.

    Attributes:
        version: its Python, such as "3.11".
        left_out: what of it is elsewhere on this machine, and so not in the sandbox.
    """

    version: str = ""
    left_out: tuple[str, ...] = ()


class Environments:
    """The environments that a daemon's sessions may have."""

    def __init__(
        self,
        registered: Sequence[Path] | None,
        built_in: Mapping[str, Image],
        identity: Identity,
        private: Sequence[Path],
    ) -> None:
        """Know who may have what.

        Args:
            registered: the environments that sessions may have; None: any.
            built_in: this machine's own images.
            identity: whom sandboxes run as.
            private: directories of the daemon's, of which nothing is mounted.
        """
        self._registered = registered
        self._base = next(built_in[name] for name in _BASES if name in built_in)
        self._identity = identity
        self._private = private

    @property
    def any_offered(self) -> bool:
        """True if there is an environment that a session may have."""
        return self._registered is None or bool(self._registered)

    async def find(self, path: str) -> EnvironmentImage:
        """Return the image with an environment.

        Raises:
            ApiError: INVALID_IMAGE: the daemon does not give it, or it is missing or broken; with what to do.
        """
        return await asyncio.to_thread(self._find, path)

    def _find(self, path: str) -> EnvironmentImage:
        if not os.path.isabs(path) or "\0" in path:
            raise _invalid(f"The path of an environment must be absolute, not {path[:80]!r}.")
        self._admit(Path(path))
        prefixes = read_prefixes(Path(path))
        for real in {*prefixes.mounts.values()}:
            self._check(real)
        return self._image(Path(path), prefixes)

    def _admit(self, path: Path) -> None:
        """Refuse, before anything is looked at, what nobody registered."""
        if self._registered is not None and path not in self._registered:
            offered = ", ".join(map(str, self._registered)) or "none"
            raise _invalid(
                f"This daemon has no environment {str(path)[:200]!r}. There are: {offered}. Its operator can "
                "register one with the option 'environments'."
            )

    def _check(self, real: Path) -> None:
        if any(real.is_relative_to(own) or own.is_relative_to(real) for own in self._private):
            raise _invalid(f"The directory {real} cannot be mounted: the daemon's own data is there.")
        if carrier.closed({"": str(real)}, self._identity):
            problem = carrier.problem_with(str(real), self._identity)
            if problem is not None:
                raise _invalid(
                    f"The environment's {real} cannot be mounted: {problem}. Put the environment and its "
                    "Python where other users may read and only root may write, for example below /opt."
                )

    def _image(self, named: Path, prefixes: Prefixes) -> EnvironmentImage:
        base, place = self._base, prefixes.environment
        # By the name that its scripts hold, unless the sandbox has something else there.
        shown = named if str(named / "bin") in prefixes.mounts else place
        variables = {"PATH": f"{shown}/bin:{ENVIRONMENT['PATH']}"}
        if prefixes.is_virtual:
            variables["VIRTUAL_ENV"] = str(shown)
        elif prefixes.is_conda:
            variables["CONDA_PREFIX"] = str(shown)
        return EnvironmentImage(
            name=str(named),
            read_only=base.read_only,
            links=base.links,
            closed_bash=base.closed_bash,
            has_own_etc=base.has_own_etc,
            beside={inside: str(real) for inside, real in prefixes.mounts.items()},
            variables=variables,
            version=prefixes.version,
            left_out=left_out(prefixes),
        )


def _invalid(sentence: str) -> ApiError:
    return ApiError(400, "INVALID_IMAGE", sentence)
