"""A kernel with the extension, and the environment that it and nbclient's kernels start in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .kernel import Kernel

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def kernel_environment(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of kernels: none of the user's own settings and files."""
    home = tmp_path_factory.mktemp("home")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(ROOT),
        "SANDKASTEN_DATA_DIR": str(data_dir),
    }


@pytest.fixture(scope="module")
def kernel(kernel_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel that has loaded the extension, shared by the tests of a module."""
    kernel = Kernel.start(kernel_environment, tmp_path_factory.mktemp("notebook"))
    kernel.ok("%load_ext sandkasten")
    yield kernel
    kernel.stop()
