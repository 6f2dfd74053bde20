"""Archives that callers give, and archives that are only checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO, cast

from sandkasten._tar import Member
from sandkasten._transfer.pieces import PIECE_BYTES
from sandkasten.errors import SandkastenInputError

Archive = bytes | BinaryIO | Iterable[bytes]
"""An archive: all of it, a file that is open for binary reading, or its pieces."""


class Given:
    """An archive that a caller gave.

    Attributes:
        can_repeat: whether it can be read more than once.
        failure: what went wrong while it was read, for those who only see that a connection broke.
    """

    def __init__(self, archive: Archive) -> None:
        """Read nothing yet."""
        self._archive = archive
        self.can_repeat = isinstance(archive, bytes)
        self.failure: Exception | None = None

    def pieces(self) -> Iterator[bytes]:
        """Yield it in pieces, none of which is empty.

        Raises:
            SandkastenInputError: it gives something other than bytes.
        """
        try:
            yield from _checked(self._archive)
        except Exception as error:
            self.failure = error
            raise


def _checked(archive: Archive) -> Iterator[bytes]:
    if isinstance(archive, bytes | bytearray | memoryview):
        view = memoryview(archive)
        yield from (bytes(view[at : at + PIECE_BYTES]) for at in range(0, len(view), PIECE_BYTES))
        return
    read = getattr(archive, "read", None)
    if read is None and not hasattr(archive, "__iter__"):
        raise SandkastenInputError(
            f"archive is of type {type(archive).__name__}: it must be bytes, an open file or pieces.",
            "Open a file with mode 'rb' and pass that.",
        )
    given = cast("Iterable[Any]", archive) if read is None else iter(partial(read, PIECE_BYTES), b"")
    for piece in given:
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise SandkastenInputError(
                f"archive gives {type(piece).__name__}: it must give bytes.", "Open the file with mode 'rb'."
            )
        if piece:
            yield bytes(cast("bytes", piece))


class Ignored:
    """A sink for an archive that is only checked."""

    def begin(self, member: Member) -> None:
        """Ignore a member."""

    def write(self, data: memoryview) -> None:
        """Ignore what is in it."""

    def end(self) -> None:
        """Ignore its end."""
