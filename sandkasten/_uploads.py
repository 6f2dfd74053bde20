"""Opening what a caller hands to `upload`, with an answer to every wrong thing it could be."""

from __future__ import annotations

import io
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sandkasten._checks import filename as check_filename
from sandkasten.errors import LocalFileError, SandkastenInputError


@contextmanager
def opened_for_upload(
    file: str | Path | BinaryIO, filename: str | None
) -> Generator[tuple[str, BinaryIO], None, None]:
    """Give the name to send and the open file; closes what it opened, and nothing else.

    Raises:
        LocalFileError: the path does not exist, or is not a file.
        SandkastenInputError: the object cannot be sent as it is.
    """
    if filename is not None:
        check_filename(filename)
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        with _open(path) as stream:
            yield filename or check_filename(path.resolve().name), stream
    else:
        yield filename or _name_of(file), _binary(file)


def _open(path: Path) -> BinaryIO:
    if not str(path) or path.is_dir():
        raise LocalFileError(f"{str(path)!r} is a directory, not a file. Upload its files one by one.")
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise LocalFileError(f"{str(path)!r} does not exist on this machine. Check the path.") from None
    except OSError as error:
        raise SandkastenInputError(f"{str(path)!r} cannot be opened: {error.strerror}.") from error


def _name_of(file: BinaryIO) -> str:
    name = getattr(file, "name", None)  # an int for files made from a descriptor
    if not isinstance(name, str) or not os.path.basename(name):
        raise SandkastenInputError("The file-like object has no name. Pass filename=.")
    return check_filename(os.path.basename(name))


def _binary(file: BinaryIO) -> BinaryIO:
    if isinstance(file, io.TextIOBase):
        raise SandkastenInputError("The file is open as text. Open it in binary mode ('rb').")
    if not callable(getattr(file, "read", None)):
        raise SandkastenInputError(f"A {type(file).__name__} is neither a path nor a file to upload.")
    return file
