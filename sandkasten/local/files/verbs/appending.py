"""Contents that are added to the end of a file."""

from __future__ import annotations

import os
import stat

from sandkasten.local.errors import invalid_request
from sandkasten.local.files.newfile import NewFile, explained
from sandkasten.local.files.tree import Tree

# Not blocking, since a FIFO could be what is opened.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
_PIECE_BYTES = 4 * 1024 * 1024


def append(tree: Tree, path: str, file: NewFile) -> None:
    """Add all of a new file to the one at a path, or put it there if there is nothing; blocks.

    Raises:
        ApiError: the path is outside, or is no plain file, or the disk is full.
    """
    with explained(path), tree.opened_root() as root:
        try:
            descriptor = tree.open_at(root, tree.inside(path), _FLAGS)
        except FileNotFoundError:
            file.commit()
            return
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise invalid_request(f"{path[:256]!r} is not a plain file.")
            for piece in file.pieces(_PIECE_BYTES):
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            if tree.is_durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
