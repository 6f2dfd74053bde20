"""The images that sessions may ask for: this machine's own, and those that users registered.

A session's sandbox mounts directories of its registered image, so these must stay as long as it runs.
Whoever uses an image holds a shared lock (flock) on its directory, and whoever removes or replaces it
needs the only one. The kernel takes a lock away when its holder is gone, however that went.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sandkasten.local.errors import ApiError
from sandkasten.local.files.directories import IMAGES
from sandkasten.local.identity import Identity
from sandkasten.local.images.built_in import choose
from sandkasten.local.images.environments import EnvironmentImage, Environments
from sandkasten.local.images.store import ImageStore
from sandkasten.local.isolation.policy import Image


def images_dir(data_dir: Path) -> Path:
    """The place where registered images are kept."""
    return data_dir / IMAGES


class Catalogue:
    """A daemon's images."""

    def __init__(
        self,
        built_in: Mapping[str, Image],
        directory: Path,
        identity: Identity,
        environments: Environments | None = None,
    ) -> None:
        """Know the machine's own ones, and where the others are; None: no environments of Python."""
        self.environments = environments or Environments((), built_in, identity, ())
        self._built_in = built_in
        self._directory = directory
        self._store = ImageStore(directory, identity)
        self._held: dict[str, int] = {}

    async def find(self, name: str) -> Image:
        """Return an image by its name.

        Raises:
            ApiError: INVALID_IMAGE; the text lists what there is.
        """
        if name in self._built_in:
            return self._built_in[name]
        return await asyncio.to_thread(self._find_stored, name)

    async def names(self) -> list[str]:
        """List the names of all images that sessions may ask for."""
        stored = await asyncio.to_thread(self._store.list)
        return sorted({*self._built_in, *(image.name for image in stored)})

    def is_built_in(self, image: Image) -> bool:
        """Return whether an image is the machine's own, which nobody replaces."""
        return image.name in self._built_in

    async def hold(self, image: Image, session_id: str) -> Image:
        """Keep an image from being removed until `release`; what to mount of it now.

        Raises:
            ApiError: INVALID_IMAGE, if it is gone; IMAGE_BUSY, while it is being replaced.
        """
        if isinstance(image, EnvironmentImage) or self.is_built_in(image):
            return image
        return await asyncio.to_thread(self._hold, image.name, session_id)

    def release(self, session_id: str) -> None:
        """A session does not need its image any more; call it as often as you like, in any thread."""
        descriptor = self._held.pop(session_id, None)
        if descriptor is not None:
            os.close(descriptor)

    def _find_stored(self, name: str) -> Image:
        try:
            return self._store.find(name)
        except ApiError:
            stored = {image.name: Image(image.name, {}) for image in self._store.list()}
            return choose({**stored, **self._built_in}, name)

    def _hold(self, name: str, session_id: str) -> Image:
        descriptor = self._lock(name)
        try:
            image = self._find_stored(name)
        except BaseException:
            os.close(descriptor)
            raise
        self._held[session_id] = descriptor
        return image

    def _lock(self, name: str) -> int:
        descriptor = _open(self._directory / name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # Replaced between the two: what is locked is not what is there.
            if os.path.samestat(os.fstat(descriptor), os.stat(self._directory / name)):
                return descriptor
        except OSError:
            pass
        os.close(descriptor)
        raise _busy(name)


@contextmanager
def unused(directory: Path, name: str) -> Generator[None, None, None]:
    """Keep every daemon from using an image meanwhile.

    Raises:
        ApiError: IMAGE_IN_USE.
    """
    try:
        descriptor = _open(directory / name)
    except ApiError:
        yield  # there is none to be used
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sentence = f"The image {name!r} is in use by a session. Destroy those sessions first."
            raise ApiError(409, "IMAGE_IN_USE", sentence) from None
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise _busy(path.name) from None


def _busy(name: str) -> ApiError:
    return ApiError(503, "IMAGE_BUSY", f"The image {name[:64]!r} is being replaced or removed. Try again.")
