"""The sources of an image: a directory, a root file system's archive, `docker save`'s, or an OCI layout.

The names in manifests are looked up in a table of the archive's members, or by openat2 below a directory, and
never opened as paths of the host; blobs that are named by their digest are checked against it before use.

All of this is the standard library: it has no reader of OCI layouts, but two documents in JSON take less
code than depending on one would.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import posixpath
import re
import stat
import tempfile
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast

from sandkasten.local.images.archives import (
    Budget,
    Limits,
    Readable,
    TarReader,
    bad_image,
    decompressed,
    explained,
    parse_path,
)
from sandkasten.local.images.unpack import Unpacker, apply_whiteouts, copy_directory, unpack_tar
from sandkasten.local.linux.syscalls import open_inside

_MAX_LAYERS = 512
_MAX_JSON_BYTES = 4 * 1024 * 1024
_MAX_BLOBS = 10_000
_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64,128})")
_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]{64,128})")
# An archive that has one of these is a root file system, whatever else it has.
_ROOT_NAMES = frozenset({b"bin", b"etc", b"lib", b"usr"})
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


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
    """The blobs in a tar archive; nothing of it is unpacked for that."""

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


def fill(unpacker: Unpacker, source: Path, place: Path, limits: Limits) -> None:
    """Unpack whatever the source is; `place` is for temporary files.

    Raises:
        ApiError: INVALID_IMAGE or INSUFFICIENT_STORAGE.
    """
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
    """The directory of an image's archive; None if it is a root file system."""
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
