"""The place of a downloaded file: another name first, so that nobody ever sees a part of it under its own."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from sandkasten import _checks as check
from sandkasten._transfer.pieces import PIECE_BYTES, Progress
from sandkasten._transfer.places import beside
from sandkasten.errors import SandkastenError, TooLargeError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


class Teller(Protocol):
    """A receiver of a daemon's bytes.

    Attributes:
        in_memory: whether its methods never block.
    """

    in_memory: bool

    def tell(self) -> None:
        """Say how much came, to who asked for that."""
        ...


class Target(Teller, Protocol):
    """The place where the bytes of a file go."""

    def begin(self, size_bytes: int | None, mode: int) -> None:
        """Begin, or begin again, a file of this size if it is known, and with these permissions."""
        ...

    def expect(self, size_bytes: int) -> None:
        """Note how large the file is going to be.

        Raises:
            SandkastenError: that is too large.
        """
        ...

    def write(self, data: bytes) -> None:
        """Write the next piece."""
        ...


class Allowance:
    """The bytes that may come, and those that did.

    Attributes:
        done_bytes: how much of files' contents came.
        total_bytes: how much there is, where that is known.
    """

    def __init__(self, place: Path, max_bytes: int | None, on_progress: Progress | None) -> None:
        """Bind to the place where the file goes."""
        self.done_bytes = 0
        self.total_bytes: int | None = None
        self._place = place
        self._max_bytes = max_bytes
        self._on_progress = on_progress

    def restart(self) -> None:
        """Begin again with an empty file."""
        self.done_bytes = 0

    def check(self, more_bytes: int) -> None:
        """Make sure that so much more may come, before any of it does.

        Raises:
            TooLargeError: it is more than `max_bytes`, or than there is room for.
        """
        if self._max_bytes is not None and self.done_bytes + more_bytes > self._max_bytes:
            raise TooLargeError(
                f"The download exceeds max_bytes={self._max_bytes}; nothing was kept.",
                "Pass a larger max_bytes to allow it.",
            )
        if more_bytes > shutil.disk_usage(self._place).free:
            raise TooLargeError(
                f"There is no room for {more_bytes} bytes in {str(self._place)!r}; nothing was kept.",
                "Make room, or choose another directory.",
            )

    def take(self, count: int) -> None:
        """Count the bytes that came."""
        self.done_bytes += count

    def tell(self) -> None:
        """Report how many bytes came."""
        if self._on_progress is not None:
            self._on_progress(self.done_bytes, self.total_bytes)


class MemoryTarget:
    """Bytes that are read into memory."""

    in_memory = True

    def __init__(self) -> None:
        """Begin with no content."""
        self._content = io.BytesIO()

    def begin(self, size_bytes: int | None, mode: int) -> None:
        """Begin, or begin again, with no content."""
        del mode
        self.expect(size_bytes or 0)
        self._content = io.BytesIO()

    def expect(self, size_bytes: int) -> None:
        """Refuse what is too large for memory."""
        if size_bytes > check.MAX_MEMORY_BYTES:
            raise TooLargeError(
                f"The file has {size_bytes} bytes; at most {check.MAX_MEMORY_BYTES} are read into memory.",
                "Use download(), or pass max_bytes=.",
            )

    def write(self, data: bytes) -> None:
        """Keep the next piece."""
        self._content.write(data)

    def commit(self) -> bytes:
        """Return the whole content."""
        return self._content.getvalue()

    def discard(self) -> None:
        """Forget the content."""
        self._content = io.BytesIO()

    def tell(self) -> None:
        """Report nothing: nobody asked for progress."""


class FileTarget:
    """A partial file. Methods block, and raise `SandkastenError` if the disk refuses the file.

    A piece is written to the disk while the next one is on its way, so an error may come one call later.
    """

    in_memory = False

    def __init__(self, place: Path, max_bytes: int | None, on_progress: Progress | None) -> None:
        """Make nothing yet; `place` is the file's own path."""
        self._place = place
        self._temporary = beside(place)
        self._file: BinaryIO | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self.allowance = Allowance(place.parent, max_bytes, on_progress)

    def tell(self) -> None:
        """Report how many bytes came."""
        self.allowance.tell()

    def begin(self, size_bytes: int | None, mode: int) -> None:
        """Begin, or begin again, a file of this size if it is known, and with these permissions."""
        self.discard()
        self.allowance.restart()
        if size_bytes is not None:
            self.expect(size_bytes)
        with explained(self._place):
            self._file = new_file(self._temporary, mode)

    def expect(self, size_bytes: int) -> None:
        """Refuse what is too large for the place, or for who asked."""
        self.allowance.total_bytes = size_bytes
        self.allowance.check(size_bytes - self.allowance.done_bytes)

    def write(self, data: bytes) -> None:
        """Write the next piece."""
        assert self._file is not None
        self.allowance.take(len(data))
        self._settle()
        if len(data) < PIECE_BYTES:
            with explained(self._place):
                write_all(self._file, data)
            return
        if self._writer is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (for large files alone)

            self._writer = ThreadPoolExecutor(1)
        self._writing = self._writer.submit(write_all, self._file, data)

    def _settle(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            with explained(self._place):
                writing.result()

    def commit(self) -> Path:
        """Put the file in its place."""
        assert self._file is not None
        self._settle()
        with explained(self._place):
            self._file.close()
            os.replace(self._temporary, self._place)
        self._file = None
        return self._place

    def discard(self) -> None:
        """Remove the file, unless it is in its place."""
        if self._writer is not None:
            self._writer.shutdown()
            self._writer = self._writing = None
        if self._file is not None:
            self._file.close()
            self._file = None
            with suppress(OSError):
                self._temporary.unlink()


def new_file(path: Path, mode: int) -> BinaryIO:
    """Open a file that must not exist; its permissions are those of the sandbox, as far as the umask lets."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return open(os.open(path, flags, mode & 0o777 | 0o400), "wb", buffering=0)


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


@contextmanager
def explained(place: Path) -> Generator[None, None, None]:
    try:
        yield
    except SandkastenError:
        raise
    except FileExistsError as error:
        raise SandkastenError(
            f"{str(place)!r} cannot be made: two of the names in it are one to this machine's file system."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SandkastenError(f"{str(place)!r} cannot be written: {reason}.") from error
