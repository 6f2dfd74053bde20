"""The files of a notebook's directory, packed for its kernel."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from sandkasten.errors import SandkastenError

_MAX_FILES = 2000
_MAX_BYTES = 200 * 1024 * 1024


def packed(directory: Path) -> io.BytesIO:
    """Return the plain files of a directory as a tar archive, except hidden ones and what links lead to.

    Raises:
        SandkastenError: they are too many, or too large.
    """
    found: list[Path] = []
    size_bytes = 0
    for place, below, names in os.walk(directory):
        below[:] = sorted(name for name in below if not name.startswith("."))
        paths = [Path(place, name) for name in sorted(names) if not name.startswith(".")]
        plain = [path for path in paths if path.is_file() and not path.is_symlink()]
        found += plain
        size_bytes += sum(path.stat().st_size for path in plain)
        if len(found) > _MAX_FILES or size_bytes > _MAX_BYTES:
            raise SandkastenError(
                f"The notebook's directory {directory} has more than {_MAX_FILES} files, or more than "
                f"{_MAX_BYTES >> 20} MiB.",
                "Put the notebook into a directory with the files that it needs, or install the kernel "
                "without --copy-files.",
            )
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in found:
            tar.add(path, str(path.relative_to(directory)), recursive=False)
    archive.seek(0)
    return archive
