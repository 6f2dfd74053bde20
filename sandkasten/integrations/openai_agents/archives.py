"""Archives of a workspace without what is not to be kept."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import IO


def without(archive: IO[bytes], skipped: Collection[str]) -> IO[bytes]:
    """Return a copy of a tar archive, in a temporary file, without some paths and all that is below them."""
    places = {PurePosixPath(path) for path in skipped}
    copy = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    try:
        archive.seek(0)
        with (
            tarfile.open(fileobj=archive, mode="r|") as source,
            tarfile.open(fileobj=copy, mode="w|") as kept,
        ):
            for member in source:
                path = PurePosixPath(member.name)
                if path not in places and not places & set(path.parents):
                    kept.addfile(member, source.extractfile(member) if member.isreg() else None)
    except BaseException:
        copy.close()
        raise
    return copy
