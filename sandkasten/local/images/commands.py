"""`python -m sandkasten.local image`: what operators do with images."""

from __future__ import annotations

import sys
from pathlib import Path

from sandkasten.local.errors import ApiError, IsolationError
from sandkasten.local.files.directories import secure_data_dir
from sandkasten.local.identity import Identity
from sandkasten.local.images.catalogue import images_dir, unused
from sandkasten.local.images.store import ImageStore
from sandkasten.local.options import find_data_dir


def run(action: str, data_dir: Path | None, *, name: str, source: str, replace: bool) -> int:
    """Add, list or remove; the exit code."""
    identity = Identity.of_this_process()
    directory = images_dir(find_data_dir(data_dir, identity))
    store = ImageStore(directory, identity)
    try:
        secure_data_dir(directory.parent, identity)
        if action == "add":
            _add(store, directory, name, Path(source), replace=replace)
        elif action == "rm":
            with unused(directory, name):
                store.remove(name)
        else:
            _list(store)
    except IsolationError as error:
        print(error, file=sys.stderr)
        return 1
    except ApiError as error:
        print(error.message, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error}. Whoever runs the daemon must run this, too.", file=sys.stderr)
        return 1
    return 0


def _add(store: ImageStore, directory: Path, name: str, source: Path, *, replace: bool) -> None:
    if replace:
        with unused(directory, name):
            store.add(name, source, replace=True)
    else:
        store.add(name, source)


def _list(store: ImageStore) -> None:
    for image in store.list():
        print(
            f"{image.name:<24} {image.size_bytes / 1024**2:>9.1f} MiB  {image.created_at:%Y-%m-%d %H:%M} UTC"
        )
