"""Root file systems that users register as images.

    <directory>/            closed to all users but those who build sandboxes
        <name>/
            rootfs/         unpacked, never changed afterwards
            bash            a copy of the image's that can be run but not read (`closedbash.py`)
            image.json      when it was added, how large it is
            .lock           from when it was being added (`scratch.py`)
        .new-XXXXXXXX/      being added, or being removed
        .lock               held while a name changes its meaning; a file, since NFS locks no directories

An image comes to be by one rename, and is replaced by one exchange, so it is there whole or not at all.

Registered images come from strangers. `unpack.py` handles hostile members, and `sources.py` the references of
manifests.

A sandbox gets each top-level entry of the image by itself, read-only, and each entry of its /etc, except
what sandboxes have of their own. Bubblewrap makes nothing below a directory of the image: it would follow
the image's symlinks. So of the host's /etc such an image gets nothing: see `has_own_etc`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sandkasten.local.errors import ApiError
from sandkasten.local.files.directories import make_closed
from sandkasten.local.identity import Identity
from sandkasten.local.images.archives import Limits, bad_image
from sandkasten.local.images.sources import fill
from sandkasten.local.images.unpack import Unpacker
from sandkasten.local.isolation.closedbash import copy_closed
from sandkasten.local.isolation.etc import OWN_ETC
from sandkasten.local.isolation.policy import Image
from sandkasten.local.linux.scratch import Scratch, remove_tree, sweep
from sandkasten.local.linux.syscalls import exchange, open_inside
from sandkasten.local.records import dataclass

BUILT_IN = frozenset({"base", "node", "python"})
_OWN = frozenset({".dockerenv", "dev", "etc", "home", "proc", "run", "sys", "tmp", "workspace"})

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TEMPORARY = ".new-"
_MAX_MOUNTS = 500  # each of them makes sandboxes start later, and bubblewrap takes 9000 arguments


@dataclass(frozen=True)
class StoredImage:
    """The facts about a stored image.

    Attributes:
        name: the name for `create_session`.
        size_bytes: bytes of the files that were unpacked; those that a later layer replaced count, too.
        created_at: when it was added.
    """

    name: str
    size_bytes: int
    created_at: datetime


class ImageStore:
    """All images of a data directory that users registered. Methods block: call them in a thread."""

    def __init__(self, directory: Path, identity: Identity, limits: Limits | None = None) -> None:
        """Bind to the directory; it is made when the first image is added."""
        self._directory = directory.absolute()
        self._identity = identity
        self._limits = limits or Limits()

    def add(self, name: str, source: Path, *, replace: bool = False) -> None:
        """Register a root file system: whole, or not at all.

        Devices, FIFOs, setuid bits and owners are dropped without a word. Of /dev, /etc/hosts and its
        like, /home, /proc, /run, /sys, /tmp and /workspace sandboxes have their own, so that the image's
        are not seen; nor are the variables of its configuration.

        Args:
            name: 1 to 64 of a-z, 0-9, `.`, `_` and `-`, a letter or digit first; no built-in image's.
            source: a root file system, as a directory or tar archive (`docker export`), or an image of
                one platform, as an archive of `docker save` or an OCI layout (a directory or archive).
                Archives and layers may be compressed with gzip, xz, bzip2, or zstd (which takes a module).
            replace: whether an image of this name may be there, to be replaced.

        Raises:
            ApiError: INVALID_IMAGE, for a name or source that cannot be used; IMAGE_EXISTS;
                INSUFFICIENT_STORAGE.
        """
        self._check_new(name, replace=replace)
        self._check_source(source)
        self._make_directory()
        with self._new_place() as place:
            rootfs = place / "rootfs"
            written = self._unpack(source, place, rootfs)
            _check_root(rootfs)
            _copy_bash(rootfs, place / "bash")
            about = {"size_bytes": written, "created_at": datetime.now(UTC).isoformat()}
            (place / "image.json").write_text(json.dumps(about), "utf-8")
            with self._locked():
                self._check_new(name, replace=replace)
                _put(place, self._directory / name)

    def find(self, name: str) -> Image:
        """Return an image as sandboxes mount it.

        Raises:
            ApiError: IMAGE_NOT_FOUND.
        """
        rootfs = self._existing(name) / "rootfs"
        read_only: dict[str, str] = {}
        links: dict[str, str] = {}
        for path, entry in _mounted(rootfs):
            if entry.is_symlink():
                links[path] = os.readlink(entry.path)
            else:
                read_only[entry.path] = path
        if not os.path.lexists(rootfs / "bin"):
            links["/bin"] = "usr/bin"
        bash = rootfs.parent / "bash"
        closed_bash = str(bash) if bash.is_file() else None
        return Image(name, read_only, links, closed_bash, has_own_etc=True)

    def remove(self, name: str) -> None:
        """Remove an image. Sandboxes that run lose its files: let it be in use by none.

        Raises:
            ApiError: IMAGE_NOT_FOUND.
        """
        self._existing(name)
        with self._new_place() as place, self._locked():
            self._existing(name).rename(place / "removed")

    def list(self) -> list[StoredImage]:
        """Return all images, by name."""
        if not self._directory.is_dir():
            return []
        names = sorted(path.name for path in self._directory.iterdir() if _NAME.fullmatch(path.name))
        return [_about(name, self._directory / name) for name in names]

    def _check_new(self, name: str, *, replace: bool) -> None:
        if not _NAME.fullmatch(name):
            raise bad_image(
                f"The image name {name[:80]!r} is not 1 to 64 of a-z, 0-9, '.', '_' and '-', "
                "with a letter or digit first."
            )
        if name in BUILT_IN:
            raise bad_image(f"The image name {name!r} is that of a built-in image; choose another one.")
        if not replace and (self._directory / name).exists():
            raise ApiError(409, "IMAGE_EXISTS", f"There is an image {name!r} already; remove or replace it.")

    def _check_source(self, source: Path) -> None:
        if not (source.is_dir() or source.is_file()):
            raise bad_image(f"There is no file or directory {str(source)!r} to make an image of.")
        if source.is_dir() and self._directory.resolve().is_relative_to(source.resolve()):
            raise bad_image(f"The directory {str(source)!r} holds the images themselves.")

    def _existing(self, name: str) -> Path:
        path = self._directory / name
        if not (_NAME.fullmatch(name) and path.is_dir()):
            raise ApiError(404, "IMAGE_NOT_FOUND", f"There is no image {name[:80]!r} that was added.")
        return path

    def _make_directory(self) -> None:
        make_closed(self._directory, self._identity)
        for path in self._directory.parents:
            if not self._identity.can_pass(path):
                raise bad_image(
                    f"The user that sandboxes run as (uid {self._identity.uid}) cannot enter {path}, "
                    f"where images are kept. Allow it: chmod o+x {path}."
                )

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        """Take the lock that lets only one process at a time change the names of images."""
        descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.geteuid() == 0:  # whose the directory is must be able to lock it, too
                owner = self._directory.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _new_place(self) -> Generator[Path, None, None]:
        """Make a directory that is gone in the end; those of killed processes go first."""
        sweep(self._directory, _TEMPORARY)
        with closing(Scratch(self._directory, _TEMPORARY)) as place:
            self._identity.let_pass(place.path)
            yield place.path

    def _unpack(self, source: Path, place: Path, rootfs: Path) -> int:
        trash = place / "trash"
        for directory in (rootfs, trash):
            directory.mkdir()
        rootfs.chmod(0o755)
        self._identity.own(rootfs)
        unpacker = Unpacker(rootfs, trash, self._identity)
        try:
            fill(unpacker, source, place, self._limits)
        finally:
            unpacker.close()
        remove_tree(trash)
        return unpacker.written


def _check_root(rootfs: Path) -> None:
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _is_program(root, _bash(rootfs)):
            raise bad_image("The image has no /bin/bash (or /usr/bin/bash), which sandboxes run on.")
    finally:
        os.close(root)
    if sum(1 for _ in _mounted(rootfs)) > _MAX_MOUNTS:
        raise bad_image(f"The image has more than {_MAX_MOUNTS} entries in / and /etc together.")


def _bash(rootfs: Path) -> str:
    # Where there is no /bin, `find` makes it a link.
    return "bin/bash" if os.path.lexists(rootfs / "bin") else "usr/bin/bash"


def _copy_bash(rootfs: Path, copy: Path) -> None:
    with suppress(OSError):  # where it cannot be read, its sandboxes do without
        root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            bash = open_inside(root, _bash(rootfs), os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(root)
        try:
            copy_closed(bash, copy)
        finally:
            os.close(bash)


def _is_program(root: int, path: str) -> bool:
    try:
        program = open_inside(root, path, os.O_PATH)
    except OSError:
        return False
    mode = os.fstat(program).st_mode
    os.close(program)
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _mounted(rootfs: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the entries of an image for a sandbox, and their places; no symlink of the image is followed."""
    with os.scandir(rootfs) as entries:
        yield from ((f"/{entry.name}", entry) for entry in entries if entry.name not in _OWN)
    etc = rootfs / "etc"
    if etc.is_dir() and not etc.is_symlink():
        with os.scandir(etc) as entries:
            yield from ((f"/etc/{entry.name}", entry) for entry in entries if entry.name not in OWN_ETC)


def _about(name: str, path: Path) -> StoredImage:
    about = json.loads((path / "image.json").read_text("utf-8"))
    return StoredImage(name, about["size_bytes"], datetime.fromisoformat(about["created_at"]))


def _put(place: Path, path: Path) -> None:
    """Rename; an image that is there already comes to be at the other path in the same moment."""
    if not path.exists():
        place.rename(path)
        return
    if exchange(place, path):
        return
    # NFS, for one, cannot: for a moment there is none.
    with closing(Scratch(path.parent, _TEMPORARY)) as spare:
        path.rename(spare.path / "replaced")
        place.rename(path)
