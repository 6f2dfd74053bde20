"""Reading archives of strangers: the members of tar archives, decompressed, within limits.

All that is read is counted after decompression, headers and padding included, and bounded; so is the memory
that it takes. `unpack.py` decides what becomes of the members.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import importlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Protocol, cast

from sandkasten.local.errors import ApiError
from sandkasten.local.records import dataclass

CHUNK_BYTES = 1024 * 1024
_MAX_PATH_BYTES = 4095  # PATH_MAX without its NUL
# For all the headers of one member: path, link and attributes take some KiB.
_MAX_HEADER_BYTES = 128 * 1024
_MAX_XZ_MEMORY = 256 * 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Bounds on an image.

    Attributes:
        max_bytes: bytes of all its archives or files, decompressed.
        max_members: members of all its archives, or files and directories.
    """

    max_bytes: int = 32 * 1024**3
    max_members: int = 2_000_000


class Budget:
    """The remainder of the limits."""

    def __init__(self, limits: Limits) -> None:
        """Begin with all of them."""
        self._limits = limits
        self._bytes = limits.max_bytes
        self._members = limits.max_members

    def check_bytes(self, size: int) -> None:
        """Refuse what is too large already by its own account."""
        if size > self._bytes:
            raise bad_image(f"The image is larger than {self._limits.max_bytes} bytes, which is the limit.")

    def take_bytes(self, size: int) -> None:
        """Count bytes of content."""
        self.check_bytes(size)
        self._bytes -= size

    def take_member(self) -> None:
        """Count a member of the archive."""
        self._members -= 1
        if self._members < 0:
            raise bad_image(f"The image has more than {self._limits.max_members} files, which is the limit.")


class Readable(Protocol):
    """A source of bytes; an answer may be shorter than asked for, and is empty at the end."""

    def read(self, size: int, /) -> bytes:
        """Read the next bytes."""
        ...


def bad_image(message: str) -> ApiError:
    """An image that cannot be used as one."""
    return ApiError(400, "INVALID_IMAGE", message)


def parse_path(name: str) -> list[bytes]:
    """The names in a member's path; absolute paths begin at the new root.

    Raises:
        ApiError: INVALID_IMAGE; it has `..` or NUL in it, or is too long.
    """
    path = name.encode("utf-8", "surrogateescape")
    names = [part for part in path.split(b"/") if part not in {b"", b"."}]
    if b".." in names or b"\0" in path or len(path) > _MAX_PATH_BYTES:
        raise bad_image(
            f"The archive has a member {name[:100]!r}, whose path has '..' or NUL in it or is too long."
        )
    return names


@contextmanager
def explained(what: str) -> Generator[None, None, None]:
    """Turn whatever hostile bytes can cause into an error that says so."""
    try:
        yield
    except (tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise bad_image(f"{what} is damaged: {error}.") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise bad_image(f"{what} has a header that makes no sense.") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ApiError(507, "INSUFFICIENT_STORAGE", "The image does not fit on the disk.") from error
        if error.errno in {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS}:
            raise  # it is not the image's fault
        raise bad_image(f"{what} cannot be unpacked: {error}.") from error


class TarReader:
    """The members of an archive, one after another.

    It is the file that `tarfile` reads: one that goes forwards only (CVE-2025-8194 sends it back for
    ever), counts, and lets the headers of a member be no larger than headers are.
    """

    def __init__(self, source: Readable, budget: Budget) -> None:
        """Bind to the archive, decompressed."""
        self._source = source
        self._budget = budget
        self._position = 0
        self._header_bytes = 0
        self._last_read = b""

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the members; read the content of one before the next is asked for."""
        self._header_bytes = _MAX_HEADER_BYTES
        file = cast("BinaryIO", self)
        with tarfile.TarFile(fileobj=file, mode="r", encoding="utf-8", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                cast("Any", tar).members.clear()  # it would keep them all
                self._budget.take_member()
                if member.size < 0:
                    raise tarfile.ReadError("a size is negative")
                if member.issparse():
                    raise bad_image("The archive has sparse files. Make it without tar's option --sparse.")
                yield member
                self._header_bytes = _MAX_HEADER_BYTES
        # `tarfile` takes a damaged header for the end.
        if self._last_read.strip(b"\0") or len(self._last_read) % tarfile.BLOCKSIZE:
            raise tarfile.ReadError("there is a bad header in its middle")
        while self._read(CHUNK_BYTES):
            pass  # so that its checksum is checked

    def content(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        """Yield a member's bytes."""
        self._budget.check_bytes(member.size)
        self.seek(member.offset_data)
        left = member.size
        while left:
            part = self._read(min(left, CHUNK_BYTES))
            if not part:
                raise EOFError("it ends in the middle of a file")
            left -= len(part)
            yield part

    def read(self, size: int) -> bytes:
        """Read a part of a header, for `tarfile`."""
        self._header_bytes -= size
        if size < 0 or self._header_bytes < 0:
            raise tarfile.ReadError("a header is too long")
        parts: list[bytes] = []
        while size and (part := self._read(size)):
            parts.append(part)
            size -= len(part)
        self._last_read = b"".join(parts)
        return self._last_read

    def seek(self, position: int) -> int:
        """Skip, for `tarfile`."""
        if position < self._position:
            raise tarfile.ReadError("a header points backwards")
        self._budget.check_bytes(position - self._position)
        while self._position < position:
            if not self._read(min(position - self._position, CHUNK_BYTES)):
                raise EOFError("it ends too early")
        return position

    def tell(self) -> int:
        """The position in the archive."""
        return self._position

    def _read(self, size: int) -> bytes:
        part = self._source.read(size)
        self._budget.take_bytes(len(part))
        self._position += len(part)
        return part


def decompressed(file: io.BufferedReader) -> Readable:
    """Return the content of a file that is compressed in a known way, else the file itself.

    Raises:
        ApiError: INVALID_IMAGE if the file is compressed with zstd, and the module for that is missing.
    """
    magic = file.peek(10)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh") and magic[4:8] == b"1AY&":
        return bz2.BZ2File(file)
    if magic.startswith(b"\xfd7zXZ\0"):
        return _Xz(file)
    return _Zstd(file) if magic.startswith(b"\x28\xb5\x2f\xfd") else file


class _Xz:
    """`lzma.LZMAFile` with a limit to the memory that a file can ask for."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        while True:
            if self._stream.eof:
                if not (rest := self._after_stream()):
                    return b""
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_XZ_MEMORY)
            else:
                rest = self._file.read(CHUNK_BYTES) if self._stream.needs_input else b""
                if self._stream.needs_input and not rest:
                    raise EOFError("it ends too early")
            if part := self._stream.decompress(rest, size):
                return part

    def _after_stream(self) -> bytes:
        """Find the next stream, after padding."""
        rest = self._stream.unused_data.lstrip(b"\0")
        while not rest and (part := self._file.read(CHUNK_BYTES)):
            rest = part.lstrip(b"\0")
        return rest


class _Zstd:
    def __init__(self, file: Readable) -> None:
        self._file, self._error = _open_zstd(file)

    def read(self, size: int) -> bytes:
        try:
            return cast("bytes", self._file.read(size))
        except self._error as error:
            raise EOFError(str(error)) from error


def _open_zstd(file: Readable) -> tuple[Any, type[Exception]]:
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        with suppress(ImportError):
            module: Any = importlib.import_module(name)
            if name == "zstandard":
                return module.ZstdDecompressor().stream_reader(
                    file, read_across_frames=True
                ), module.ZstdError
            return module.open(file, "rb"), module.ZstdError
    raise bad_image(
        "The archive is compressed with zstd, for which this Python has no module. "
        "Install one (pip install zstandard), or compress the archive with gzip."
    )
