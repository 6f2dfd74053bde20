"""Files of the kernel's, such as those of control groups: written with one call, and read as they are."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_READ_BYTES = 4096


def write(path: Path, text: str) -> None:
    """Write with one call, as the kernel expects it; errors name the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def read(path: Path) -> str:
    """Return the content of a file; nothing where there is no such file."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = bytearray()
            while part := os.read(descriptor, _READ_BYTES):
                content += part
            return content.decode()
        finally:
            os.close(descriptor)
    return ""


def words(path: Path) -> list[str]:
    """Return the words in a file."""
    return read(path).split()


def number(path: Path) -> int:
    """Return the number in a file, or 0."""
    return int(read(path).strip() or 0)


def value(path: Path, key: str) -> int:
    """Return the number after a key that begins a line, or 0."""
    for line in read(path).splitlines():
        name, _, rest = line.partition(" ")
        if name == key:
            return int(rest)
    return 0
