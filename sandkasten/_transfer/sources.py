"""Opening what a caller hands to `upload` or `write`, with an answer to every wrong thing it could be."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from attrs import define

from sandkasten import _tar
from sandkasten._checks import filename as check_filename
from sandkasten._tar import Kind, Member
from sandkasten._transfer.pieces import PIECE_BYTES, Progress
from sandkasten._transfer.places import stays_inside
from sandkasten.errors import LocalFileError, SandkastenError, SandkastenInputError


@define(eq=False, repr=False)
class Source:
    """A source of bytes to send, and the way to read it.

    Attributes:
        name: what it is called in the sandbox.
        stream: a file that is open for reading; None: a directory.
        directory: the directory.
        size_bytes: how much there is; None if that is not known. Of a directory, what is in its files.
        mode: its permission bits, if it has any that mean something.
        follow_symlinks: whether a symlink at its destination is written through, and not replaced.
        can_repeat: whether it can be read more than once.
        on_progress: called for each piece as it is taken.
        is_own: whether the stream is closed with it.
        failure: what went wrong while it was read, for those who only see that a connection broke.
    """

    name: str
    stream: BinaryIO | None = None
    directory: Path | None = None
    size_bytes: int | None = None
    mode: int | None = None
    can_repeat: bool = True
    on_progress: Progress | None = None
    is_own: bool = False
    failure: Exception | None = None
    follow_symlinks: bool = True

    def close(self) -> None:
        """Close the stream, unless it is the caller's."""
        if self.is_own and self.stream is not None:
            self.stream.close()

    def tell(self, done_bytes: int) -> None:
        """Say how much was sent."""
        if self.on_progress is not None:
            self.on_progress(done_bytes, self.size_bytes)

    def pieces(self) -> Iterator[bytes]:
        """Yield the content in pieces of about 1 MiB, from its beginning; of a directory, an archive.

        Raises:
            SandkastenInputError: it cannot be read, or changes meanwhile.
        """
        if self.failure is not None:  # it is of no use to try again
            raise self.failure
        try:
            yield from self._archive() if self.stream is None else self._content(self.stream)
        except OSError as error:
            self.failure = SandkastenInputError(f"{self.name!r} cannot be read: {error.strerror or error}.")
            raise self.failure from error
        except Exception as error:
            self.failure = error
            raise

    def _content(self, stream: BinaryIO) -> Iterator[bytes]:
        if self.can_repeat:
            _seek(stream, 0, self.name)
        done = 0
        while self.size_bytes is None or done < self.size_bytes:
            piece = _read(stream, PIECE_BYTES, self.name)
            done += len(piece)
            # Found out before the last piece is sent, since with that the file would count as complete.
            if self.size_bytes is not None and (
                not piece
                or done > self.size_bytes
                or (done == self.size_bytes and _read(stream, 1, self.name))
            ):
                raise changed(self.name)
            if not piece:
                break
            self.tell(done)  # not after it was sent: by then the daemon may have answered already
            yield piece
        if done == 0:
            self.tell(0)

    def _archive(self) -> Iterator[bytes]:
        assert self.directory is not None
        done, pending, size = 0, list[bytes](), 0
        for part, is_content in _packed(self.directory):
            pending.append(part)
            size += len(part)
            done += len(part) if is_content else 0
            if size >= PIECE_BYTES:
                self.tell(done)
                yield b"".join(pending)
                pending, size = [], 0
        self.tell(done)
        yield b"".join([*pending, _tar.END])


def source_of(content: str | bytes, name: str) -> Source:
    """Return the source of a content in memory, which is written to a file."""
    data = content.encode() if isinstance(content, str) else content
    return Source(name, io.BytesIO(data), size_bytes=len(data))


def open_source(
    file: str | Path | BinaryIO, filename: str | None, on_progress: Progress | None = None
) -> Source:
    """Open what is to be sent; whoever asked closes it. Blocks.

    Raises:
        LocalFileError: the path does not exist.
        SandkastenInputError: the object cannot be sent as it is.
    """
    if filename is not None:
        check_filename(filename)
    if not isinstance(file, str | os.PathLike):
        _check_binary(file)
        return _opened_stream(file, filename or _name_of(file), on_progress)
    if not str(file):
        raise SandkastenInputError("file is '': it must be a path on this machine, or an open file.")
    path = Path(file)
    if _is_directory(path):
        name = filename or check_filename(path.resolve().name)
        return Source(name, directory=path, size_bytes=_size_of(path), on_progress=on_progress)
    stream = _open(path)
    status = os.fstat(stream.fileno())
    name = filename or check_filename(path.resolve().name)
    return Source(
        name,
        stream,
        size_bytes=_true_size(stream, status.st_size, name),
        mode=stat.S_IMODE(status.st_mode) & 0o777 if os.name == "posix" else None,
        on_progress=on_progress,
        is_own=True,
    )


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a NUL, say, which `_open` explains
        return False


def _open(path: Path) -> BinaryIO:
    try:
        stream = open(path, "rb", opener=_opener)  # noqa: SIM115  (whoever asked closes it)
    except FileNotFoundError:
        missing = LocalFileError(f"{str(path)!r} does not exist on this machine.", "Check the path.")
        missing.errno, missing.strerror = errno.ENOENT, os.strerror(errno.ENOENT)
        missing.filename = str(path)
        raise missing from None
    except (OSError, ValueError) as error:
        raise SandkastenInputError(f"{str(path)!r} cannot be opened: {error}.") from error
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise SandkastenInputError(f"{str(path)!r} is not a plain file.", "Open it, and pass the open file.")
    return stream


def _opener(path: str, flags: int) -> int:
    """Open without waiting, since a FIFO may be what is there."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def member_opener(path: str, flags: int) -> int:
    """Open what was a plain file when its directory was read, and may have become a symlink."""
    return _opener(path, flags | getattr(os, "O_NOFOLLOW", 0))


def _opened_stream(file: BinaryIO, name: str, on_progress: Progress | None) -> Source:
    try:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
    except Exception:  # a pipe, say
        return Source(name, file, can_repeat=False, on_progress=on_progress)
    known = size_bytes if type(size_bytes) is int else None
    return Source(name, file, size_bytes=_true_size(file, known, name), on_progress=on_progress)


def _true_size(stream: BinaryIO | io.FileIO, size_bytes: int | None, name: str) -> int | None:
    """Return a file's size, or None if only reading shows it, as below /proc and /sys."""
    if size_bytes is None:
        return None
    _seek(stream, max(0, size_bytes - 1), name)
    has_last_byte = bool(_read(stream, 1, name))
    _seek(stream, 0, name)
    return size_bytes if has_last_byte == (size_bytes > 0) else None


def _read(stream: BinaryIO | io.FileIO, size_bytes: int, name: str) -> bytes:
    """Read the next piece of the file.

    Raises:
        SandkastenInputError: it cannot be read, or gives something else than bytes.
    """
    with _explained(name):
        piece: Any = stream.read(size_bytes)
    if piece is None:
        raise SandkastenInputError(
            f"{name!r} does not block, and has nothing to read now.", "Make it blocking, or read it first."
        )
    if not isinstance(piece, bytes | bytearray | memoryview):
        kind = type(piece).__name__
        raise SandkastenInputError(
            f"Reading {name!r} gave {kind}, not bytes.", "Open it in binary mode ('rb')."
        )
    return bytes(cast("bytes", piece))


def _seek(stream: BinaryIO | io.FileIO, position: int, name: str) -> None:
    with _explained(name):
        stream.seek(position)


@contextmanager
def _explained(name: str) -> Generator[None, None, None]:
    """Turn what a caller's file raises, which may be anything, into one error."""
    try:
        yield
    except SandkastenError:
        raise
    except Exception as error:
        reason = (
            (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        )
        raise SandkastenInputError(f"{name!r} cannot be read: {reason.rstrip('.')}.") from error


def _name_of(file: BinaryIO) -> str:
    name = getattr(file, "name", None)  # an int for files made from a descriptor
    if not isinstance(name, str) or not os.path.basename(name):
        raise SandkastenInputError("The file-like object has no name.", "Pass filename=.")
    return check_filename(os.path.basename(name))


def _check_binary(file: BinaryIO) -> None:
    if getattr(file, "closed", False) is True:
        raise SandkastenInputError("The file is closed.", "Pass one that is open, or its path.")
    if isinstance(file, io.TextIOBase):
        raise SandkastenInputError("The file is open as text.", "Open it in binary mode ('rb').")
    if not callable(getattr(file, "read", None)):
        raise SandkastenInputError(
            f"file is of type {type(file).__name__}: it is neither a path nor an open file.",
            "Pass one of those; write() takes text and bytes.",
        )


def changed(name: str) -> SandkastenInputError:
    """The error for a file that was written to while it was sent."""
    return SandkastenInputError(
        f"{name!r} changed while it was sent.", "Send it again when nothing writes to it."
    )


# --- directories


def entries_of(directory: Path) -> Iterator[tuple[tuple[str, ...], os.DirEntry[str]]]:
    """Walk through a directory: what is in it, and the names on the way there. Symlinks are not followed."""
    pending: list[tuple[str, ...]] = [()]
    while pending:
        path = pending.pop()
        with os.scandir(directory.joinpath(*path)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    pending.append((*path, entry.name))
                yield (*path, entry.name), entry


def _size_of(directory: Path) -> int:
    try:
        return sum(
            entry.stat(follow_symlinks=False).st_size
            for _, entry in entries_of(directory)
            if entry.is_file(follow_symlinks=False)
        )
    except OSError as error:
        raise SandkastenInputError(f"{str(directory)!r} cannot be read: {error}.") from error


def _packed(directory: Path) -> Iterator[tuple[bytes, bool]]:
    """The parts of an archive, and whether each is of a file's content."""
    for path, entry in entries_of(directory):
        if entry.is_dir(follow_symlinks=False):
            yield _tar.header(Member(path, Kind.DIRECTORY, mode=0o755)), False
        elif entry.is_symlink():
            target = os.readlink(entry.path)
            if stays_inside(path, target):
                yield _tar.header(Member(path, Kind.SYMLINK, mode=0o777, target=target)), False
        elif entry.is_file(follow_symlinks=False):
            yield from _packed_file(path, entry.path)


def _packed_file(path: tuple[str, ...], name: str) -> Iterator[tuple[bytes, bool]]:
    with open(name, "rb", buffering=0, opener=member_opener) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise changed("/".join(path))
        first, size = b"", status.st_size
        if _true_size(file, size, name) is None:
            first = _read_piece(file)
            size = len(first)
        mode = stat.S_IMODE(status.st_mode) & 0o777 if os.name == "posix" else 0o644
        yield _tar.header(Member(path, Kind.FILE, size, mode)), False
        left = size - len(first)
        if first:
            yield first, True
        while left:
            part = file.read(min(left, PIECE_BYTES))
            if not part:
                raise changed("/".join(path))
            left -= len(part)
            yield part, True
        if file.read(1):
            raise changed("/".join(path))
        yield _tar.padding(size), False


def _read_piece(file: io.FileIO) -> bytes:
    """Read a piece of a file; some give less than was asked for, though there is more."""
    parts: list[bytes] = []
    size = 0
    while size < PIECE_BYTES and (part := file.read(PIECE_BYTES - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
