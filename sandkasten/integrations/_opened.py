"""The parts below the file system for fsspec: an open file, and what is known of a path."""

from __future__ import annotations

import errno
import stat
from collections.abc import Generator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from sandkasten._transfer.pieces import Progress
from sandkasten.errors import InvalidRequestError, WorkspaceNotFoundError
from sandkasten.integrations._missing import missing
from sandkasten.models import DirEntry, FileStat

try:
    from fsspec.callbacks import Callback
    from fsspec.spec import AbstractBufferedFile
except ModuleNotFoundError as error:
    raise missing(error, "fsspec") from None

# What is written is collected in memory up to this size, and in a temporary file beyond it.
_IN_MEMORY_BYTES = 8 * 1024 * 1024
# As fsspec has them. A symlink in a listing is never followed: code in the sandbox may have made a circle.
_TYPES = {"file": "file", "directory": "directory", "symlink": "link"}
_MODES = {"file": stat.S_IFREG, "directory": stat.S_IFDIR}


class SandkastenFile(AbstractBufferedFile):
    """An open file of a `SandkastenFileSystem`.

    One that is written to appears at its place when it is closed, all of it at once. If its `with` block ends
    with an exception, nothing is written.
    """

    _written: SpooledTemporaryFile[bytes] | None = None

    def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = self.fs.cat_file(self.path, start, end)
        return content

    def _initiate_upload(self) -> None:
        # It lives as long as this file.
        self._written = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115

    def _upload_chunk(self, final: bool = False) -> bool:
        assert self._written is not None
        self._written.write(self.buffer.getbuffer())
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        """Put what was written to its place.

        Raises:
            FileExistsError: something is there, and the file was opened to be new.
            SandkastenError: any other failure.
        """
        if self._written is None:
            return
        with self._written as written:
            written.seek(0)
            if self.mode == "ab":
                self.fs.files.append(self.path, written.read())
            else:
                self.fs.store(cast("BinaryIO", written), self.path, is_new=self.mode == "xb")

    def discard(self) -> None:
        """Forget what was written."""
        if self._written is not None:
            self._written.close()
        self._written = None

    def __exit__(self, *args: object) -> None:
        """Close the file; after an exception, without writing anything."""
        if self.mode != "rb" and args and args[0] is not None:
            self.closed = True
            self.discard()
        else:
            self.close()


@contextmanager
def not_found(path: str) -> Generator[None, None, None]:
    """Turn errors of paths that cannot be there into that for a file that is not there.

    These are paths of a workspace that nobody has written to, and paths that lead out of /workspace: programs
    that open files by fsspec look for an `OSError`.
    """
    try:
        yield
    except InvalidRequestError as error:
        if isinstance(error, OSError):
            raise
        raise FileNotFoundError(errno.ENOENT, error.what, path) from error
    except WorkspaceNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, error.what, path) from error


def stat_info(path: str, found: FileStat) -> dict[str, Any]:
    """Return what fsspec wants to know of a path."""
    mode = None if found.mode is None else found.mode | _MODES.get(found.kind, 0)
    kind = _TYPES.get(found.kind, "other")
    return {"name": path, "type": kind, "size": found.size_bytes, "mtime": found.modified_at, "mode": mode}


def entry_info(path: str, entry: DirEntry) -> dict[str, Any]:
    """Return what fsspec wants to know of a name in a directory."""
    kind = "directory" if entry.is_dir else _TYPES.get(entry.kind or "file", "other")
    found = {"name": path, "type": kind, "size": entry.size_bytes, "mtime": entry.modified_at}
    return found | ({"destination": entry.link_target} if kind == "link" else {})


def progress_of(callback: Callback) -> Progress:
    """Return a function that reports progress to a callback of fsspec."""

    def show(done_bytes: int, total_bytes: int | None) -> None:
        callback.set_size(total_bytes)
        callback.absolute_update(done_bytes)

    return show
