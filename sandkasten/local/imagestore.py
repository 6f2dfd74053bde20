"""Root file systems that users register as images.

    <directory>/            mode 711 where root's sandboxes have to pass
        <name>/
            rootfs/         unpacked, never changed afterwards
            image.json      when it was added, how large it is
        .new-XXXXXXXX/      being added, or being removed; locked (flock) as long as somebody does

An image comes to be by one rename, and is replaced by one exchange, so it is there whole or not at all.
A directory `.new-…` that nobody locks was left by a process that was killed; the next `add` removes it.

What is registered comes from strangers. `unpack.py` says what becomes of hostile members; here, the names
in manifests are looked up, in a table of what the archive holds or by openat2 below a directory, and never
opened as paths of the host; blobs that are named by their digest are checked against it before use.

A sandbox gets each top-level entry of the image by itself, read-only, and each entry of its /etc, except
what sandboxes have of their own. Bubblewrap makes nothing below a directory of the image: it would follow
the image's symlinks. So a policy with such an image may have of /etc only what `own_etc` lets through.

All of this is the standard library: it has no reader of OCI layouts, but two documents in JSON take less
code than depending on one would.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import io
import json
import os
import platform
import posixpath
import re
import stat
import tempfile
from collections.abc import Container, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast

from sandkasten.local.errors import ApiError
from sandkasten.local.files import open_inside
from sandkasten.local.host import Identity
from sandkasten.local.policy import Image
from sandkasten.local.unpack import (
    Budget,
    Limits,
    Readable,
    TarReader,
    Unpacker,
    apply_whiteouts,
    bad_image,
    copy_directory,
    decompressed,
    explained,
    parse_path,
    unpack_tar,
)
from sandkasten.local.workspaces import remove_tree

BUILT_IN = frozenset({"base", "node", "python"})
# What sandboxes have of their own in /etc.
OWN_ETC = frozenset({"group", "hostname", "hosts", "nsswitch.conf", "passwd", "resolv.conf", "sandkasten"})
_OWN = frozenset({".dockerenv", "dev", "etc", "home", "proc", "run", "sys", "tmp", "workspace"})

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TEMPORARY = ".new-"
_MAX_MOUNTS = 500  # each of them makes sandboxes start later, and bubblewrap takes 9000 arguments
_MAX_LAYERS = 512
_MAX_JSON_BYTES = 4 * 1024 * 1024
_MAX_BLOBS = 10_000
_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64,128})")
_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]{64,128})")
# An archive that has one of these is a root file system, whatever else it has.
_ROOT_NAMES = frozenset({b"bin", b"etc", b"lib", b"usr"})
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class StoredImage:
    """What is known of an image.

    Attributes:
        name: what `create_session` calls it.
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
            about = {"size_bytes": written, "created_at": datetime.now(UTC).isoformat()}
            (place / "image.json").write_text(json.dumps(about), "utf-8")
            with self._locked():
                self._check_new(name, replace=replace)
                _put(place, self._directory / name)

    def find(self, name: str) -> Image:
        """What a sandbox mounts of an image.

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
        return Image(name, read_only, links)

    def remove(self, name: str) -> None:
        """Remove an image. Sandboxes that run lose its files: let it be in use by none.

        Raises:
            ApiError: IMAGE_NOT_FOUND.
        """
        self._existing(name)
        with self._new_place() as place, self._locked():
            self._existing(name).rename(place / "removed")

    def list(self) -> list[StoredImage]:
        """All images, by name."""
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
        # The other user that root's sandboxes are built by has to get through.
        mode = 0o711 if self._identity.drops else 0o700
        for path in (*reversed(self._directory.parents), self._directory):
            if not path.exists():
                path.mkdir(exist_ok=True)
                path.chmod(mode)
        if self._identity.drops:
            for path in (self._directory, *self._directory.parents):
                if not path.stat().st_mode & stat.S_IXOTH:
                    raise bad_image(
                        f"The user that sandboxes run as (uid {self._identity.uid}) cannot enter {path}, "
                        f"where images are kept. Allow it: chmod o+x {path}."
                    )

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        """What happens to names here happens one after another, in whatever process."""
        with _flock(self._directory, fcntl.LOCK_EX):
            yield

    @contextmanager
    def _new_place(self) -> Generator[Path, None, None]:
        """Make a directory that is locked, and gone in the end; those that nobody locks go first."""
        with self._locked():
            for path in self._directory.glob(f"{_TEMPORARY}*"):
                _remove_unlocked(path)
            place = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self._directory))
            if self._identity.drops:
                place.chmod(0o711)
            lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield place
        finally:
            remove_tree(place)
            os.close(lock)

    def _unpack(self, source: Path, place: Path, rootfs: Path) -> int:
        trash = place / "trash"
        for directory in (rootfs, trash):
            directory.mkdir()
        rootfs.chmod(0o755)
        self._identity.own(rootfs)
        unpacker = Unpacker(rootfs, trash, self._identity)
        try:
            _fill(unpacker, source, place, self._limits)
        finally:
            unpacker.close()
        remove_tree(trash)
        return unpacker.written


def own_etc(etc: Mapping[str, str]) -> dict[str, str]:
    """What a policy with an image of the store mounts below /etc: the daemon's own, nothing of the host's."""
    return {name: path for name, path in etc.items() if name.partition("/")[0] in OWN_ETC}


def _check_root(rootfs: Path) -> None:
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Where there is no /bin, `find` makes it a link.
        bash = "bin/bash" if os.path.lexists(rootfs / "bin") else "usr/bin/bash"
        if not _is_program(root, bash):
            raise bad_image("The image has no /bin/bash (or /usr/bin/bash), which sandboxes run on.")
    finally:
        os.close(root)
    if sum(1 for _ in _mounted(rootfs)) > _MAX_MOUNTS:
        raise bad_image(f"The image has more than {_MAX_MOUNTS} entries in / and /etc together.")


def _is_program(root: int, path: str) -> bool:
    try:
        program = open_inside(root, path, os.O_PATH)
    except OSError:
        return False
    mode = os.fstat(program).st_mode
    os.close(program)
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _mounted(rootfs: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What a sandbox has of an image, and where; nothing is read through a symlink of the image."""
    with os.scandir(rootfs) as entries:
        yield from ((f"/{entry.name}", entry) for entry in entries if entry.name not in _OWN)
    etc = rootfs / "etc"
    if etc.is_dir() and not etc.is_symlink():
        with os.scandir(etc) as entries:
            yield from ((f"/etc/{entry.name}", entry) for entry in entries if entry.name not in OWN_ETC)


def _about(name: str, path: Path) -> StoredImage:
    about = json.loads((path / "image.json").read_text("utf-8"))
    return StoredImage(name, about["size_bytes"], datetime.fromisoformat(about["created_at"]))


@contextmanager
def _flock(directory: Path, how: int) -> Generator[None, None, None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _remove_unlocked(path: Path) -> None:
    try:
        with _flock(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
            remove_tree(path)
    except (BlockingIOError, FileNotFoundError):
        return  # somebody is at it


def _put(place: Path, path: Path) -> None:
    """Rename; an image that is there already comes to be at the other path in the same moment."""
    if not path.exists():
        place.rename(path)
        return
    if _exchange(place, path):
        return
    # NFS, for one, cannot: for a moment there is none.
    replaced = place.with_name(f"{place.name}-replaced")
    path.rename(replaced)
    place.rename(path)
    remove_tree(replaced)


def _exchange(first: Path, second: Path) -> bool:
    """Whether two directories could trade places."""
    renameat2 = getattr(_libc, "renameat2", None)  # musl had none for long
    paths = _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second)
    return renameat2 is not None and renameat2(*paths, ctypes.c_uint(_RENAME_EXCHANGE)) == 0


class _Blobs(Protocol):
    """The files of an image that is not unpacked yet, under the names that its documents call them."""

    def open(self, name: str) -> io.BufferedReader: ...


class _DirectoryBlobs:
    def __init__(self, root: int) -> None:
        self._root = root

    def open(self, name: str) -> io.BufferedReader:
        with explained(f"{name[:200]!r}"):
            descriptor = open_inside(self._root, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise bad_image(f"{name[:200]!r} is not a file.")
        return open(descriptor, "rb")


class _ArchiveBlobs:
    """Those in a tar archive; nothing of it is unpacked for that."""

    def __init__(self, archive: int, extents: Mapping[str, tuple[int, int] | str]) -> None:
        self._archive = archive
        self._extents = extents

    def open(self, name: str) -> io.BufferedReader:
        extent = self._extents.get(name)
        if isinstance(extent, str):  # `docker save` stored layers that are equal as links
            extent = self._extents.get(extent)
        if not isinstance(extent, tuple):
            raise bad_image(f"The archive refers to {name[:200]!r}, which is not in it.")
        return io.BufferedReader(_Extent(self._archive, *extent), 256 * 1024)


class _Extent(io.RawIOBase):
    """A part of a file."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._position = start
        self._end = start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        size = min(len(buffer), self._end - self._position)
        part = os.pread(self._descriptor, size, self._position)
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


def _fill(unpacker: Unpacker, source: Path, place: Path, limits: Limits) -> None:
    if source.is_dir():
        _fill_from_directory(unpacker, source, limits)
        return
    with explained(f"The file {str(source)!r}"), open(source, "rb") as file:
        extents = _extents(TarReader(decompressed(file), Budget(limits)))
        file.seek(0)
        content = decompressed(file)
        if extents is None:
            unpack_tar(unpacker, content, Budget(limits), layer=False)
        elif content is file:
            _apply_layers(unpacker, _ArchiveBlobs(file.fileno(), extents), extents, limits)
        else:
            with tempfile.TemporaryFile(dir=place) as plain:
                for part in _counted(content, Budget(limits)):
                    plain.write(part)
                plain.flush()
                _apply_layers(unpacker, _ArchiveBlobs(plain.fileno(), extents), extents, limits)


def _fill_from_directory(unpacker: Unpacker, source: Path, limits: Limits) -> None:
    documents = {name for name in ("oci-layout", "index.json") if (source / name).is_file()}
    if len(documents) < 2:
        copy_directory(unpacker, source, Budget(limits))
        return
    root = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _apply_layers(unpacker, _DirectoryBlobs(root), documents, limits)
    finally:
        os.close(root)


def _extents(reader: TarReader) -> dict[str, tuple[int, int] | str] | None:
    """Where the files of an image's archive are; None if it is a root file system."""
    extents: dict[str, tuple[int, int] | str] = {}
    for member in reader.members():
        names = parse_path(member.name)
        if (names and names[0] in _ROOT_NAMES) or len(extents) > _MAX_BLOBS:
            return None
        name = os.fsdecode(b"/".join(names))
        if member.isreg():
            extents[name] = (member.offset_data, member.size)
        elif member.issym():
            extents[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.islnk():
            extents[name] = posixpath.normpath(member.linkname)
    is_image = "manifest.json" in extents or {"oci-layout", "index.json"} <= extents.keys()
    return extents if is_image else None


def _apply_layers(unpacker: Unpacker, blobs: _Blobs, names: Container[str], limits: Limits) -> None:
    is_oci = "oci-layout" in names and "index.json" in names
    layers = _oci_layers(blobs) if is_oci else _docker_layers(blobs)
    if len(layers) > _MAX_LAYERS:
        raise bad_image(f"The image has more than {_MAX_LAYERS} layers.")
    budget, budget_of_whiteouts, budget_of_digests = (Budget(limits) for _ in range(3))
    for number, layer in enumerate(layers):
        _check_digest(blobs, layer, budget_of_digests)
        if number:
            with blobs.open(layer) as file:
                apply_whiteouts(unpacker, decompressed(file), budget_of_whiteouts)
        with blobs.open(layer) as file:
            unpack_tar(unpacker, decompressed(file), budget, layer=True)


def _docker_layers(blobs: _Blobs) -> list[str]:
    images = _items(_json(blobs, "manifest.json"))
    if len(images) != 1:
        raise bad_image(f"The archive holds {len(images)} images; save one alone.")
    return [posixpath.normpath(_text(layer)) for layer in _items(_value(images[0], "Layers"))]


def _oci_layers(blobs: _Blobs) -> list[str]:
    document = _json(blobs, "index.json")
    for _ in range(4):  # an index may refer to another one
        if _value(document, "manifests") is None:
            break
        blob = _blob_of(_chosen(_items(_value(document, "manifests"))))
        _check_digest(blobs, blob, Budget(Limits(max_bytes=_MAX_JSON_BYTES)))
        document = _json(blobs, blob)
    return [_blob_of(layer) for layer in _items(_value(document, "layers"))]


def _chosen(manifests: list[object]) -> object:
    """The image of this machine's platform, be it listed under several tags."""
    found = {
        _text(_value(manifest, "digest")): manifest
        for manifest in manifests
        if _is_for_this_machine(manifest)
    }
    if len(found) != 1:
        raise bad_image(f"There are {len(found)} images for this machine in it, not one; save one alone.")
    return next(iter(found.values()))


def _is_for_this_machine(manifest: object) -> bool:
    platform_of_image = _value(manifest, "platform")
    if platform_of_image is None:
        return True
    wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return (_value(platform_of_image, "os"), _value(platform_of_image, "architecture")) == ("linux", wanted)


def _blob_of(descriptor: object) -> str:
    digest = _text(_value(descriptor, "digest"))
    if not (found := _DIGEST.fullmatch(digest)):
        raise bad_image(f"The image refers to the digest {digest[:150]!r}; known are sha256 and sha512.")
    return f"blobs/{found[1]}/{found[2]}"


def _check_digest(blobs: _Blobs, name: str, budget: Budget) -> None:
    """Compare a blob with its name, if that is a digest."""
    if not (named := _BLOB.fullmatch(name)):
        return
    digest = hashlib.new(named[1])
    with blobs.open(name) as file:
        for part in _counted(file, budget):
            digest.update(part)
    if digest.hexdigest() != named[2]:
        raise bad_image(f"The image is damaged: {name} does not have the digest that it is named by.")


def _counted(file: Readable, budget: Budget) -> Iterator[bytes]:
    while part := file.read(1024 * 1024):
        budget.take_bytes(len(part))
        yield part


def _json(blobs: _Blobs, name: str) -> object:
    with blobs.open(name) as file:
        text = file.read(_MAX_JSON_BYTES + 1)
    try:
        if len(text) <= _MAX_JSON_BYTES:
            return cast("object", json.loads(text))
    except (ValueError, RecursionError):
        pass
    raise bad_image(f"The image's {name} is not JSON, or too long.")


def _value(document: object, key: str) -> object:
    return cast("dict[str, object]", document).get(key) if isinstance(document, dict) else None


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise bad_image("A list is missing in the image's manifest.")
    return cast("list[object]", value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise bad_image("A name is missing in the image's manifest.")
    return value
