"""A tree of files, and beside it what is the host's."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.tree import Tree
from sandkasten.local.identity import Identity
from tests.local.box import content_of

SECRET = b"the host's secret"


class Place:
    """A tree, and beside it a directory that is the host's."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.host = directory / "host"
        self.host.mkdir()
        self.secret = self.host / "secret"
        self.secret.write_bytes(SECRET)
        self.root = directory / "root"
        self.staging = directory / "staging"
        # What is prepared here belongs to whoever runs the tests, and so do the files of this tree.
        identity = Identity(os.geteuid(), drops=False)
        self.tree = Tree(self.root, StagingIn(self.staging), identity, durable=durable)
        self.tree.create()
        self.inside = self.root / "workspace"

    def write(self, path: str, content: bytes = b"evil") -> str:
        return self.tree.write(path, io.BytesIO(content))

    def read(self, path: str) -> bytes:
        return content_of(self.tree, path)

    def assert_host_is_untouched(self) -> None:
        assert self.secret.read_bytes() == SECRET
        assert os.listdir(self.host) == ["secret"], "something was made on the host"
        assert os.listdir(self.root) == ["workspace"], "something was made beside the workspace"
        assert not self.staging.exists() or os.listdir(self.staging) == [], "something was left half made"


class Swapping:
    """A process that keeps exchanging two things in a directory, as sandboxed code could."""

    CODE = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
a, b = (os.fsencode(word) for word in sys.argv[1:])
print("ready", flush=True)
while True:
    libc.renameat2(-100, a, -100, b, 2)  # RENAME_EXCHANGE: neither is ever missing
"""

    def __init__(self, one: Path, other: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", self.CODE, one, other], stdout=subprocess.PIPE
        )

    def __enter__(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
