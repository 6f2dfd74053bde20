"""A bash that can be run but not read."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandkasten.local.errors import IsolationError
from sandkasten.local.identity import Identity
from sandkasten.local.images.built_in import find_images
from sandkasten.local.images.catalogue import images_dir
from sandkasten.local.images.store import ImageStore
from sandkasten.local.isolation.backend import Backend, BubblewrapBackend, prepare
from sandkasten.local.isolation.closedbash import copy_closed, with_closed_bash
from sandkasten.local.isolation.policy import Launcher
from sandkasten.local.limits.limits import machine_limits
from sandkasten.local.sessions.trial import try_a_sandbox
from tests.local.box import Box

IDENTITY = Identity.of_this_process()
LOOK = "bash -c 'for pid in 1 $PPID; do (: </proc/$pid/mem) 2>/dev/null && echo open || echo closed; done'"


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sandkasten-closed-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def root_with_bash(directory: Path) -> Path:
    """A root file system that has bash and what it needs."""
    linked = subprocess.run(["ldd", "/bin/bash"], capture_output=True, text=True, check=True).stdout
    for source in ("/bin/bash", *re.findall(r"(/\S+) \(0x", linked)):
        copy = directory / "root" / source.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    return directory / "root"


def copied(directory: Path, content: bytes) -> str | None:
    source = directory / "source"
    source.write_bytes(content)
    descriptor = os.open(source, os.O_RDONLY)
    try:
        return copy_closed(descriptor, directory / "bash")
    finally:
        os.close(descriptor)


def test_the_copy_may_be_run_and_not_be_read(directory: Path) -> None:
    images = with_closed_bash(find_images(), directory)
    copy = Path(str(images["base"].closed_bash))
    assert stat.S_IMODE(copy.stat().st_mode) == 0o111
    assert copy.stat().st_size == Path("/bin/bash").stat().st_size
    done = subprocess.run([copy, "-c", "echo runs"], capture_output=True, check=True)
    assert done.stdout == b"runs\n"


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF ... $ORIGIN/lib"])
def test_what_would_not_run_as_a_copy_is_not_copied(directory: Path, content: bytes) -> None:
    assert copied(directory, content) is None
    assert not (directory / "bash").exists()
    assert copied(directory, b"\x7fELF") == str(directory / "bash")


@pytest.mark.parametrize("name", ["/dev/null", "/"])
def test_what_is_no_file_is_not_copied(directory: Path, name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY)
    assert copy_closed(descriptor, directory / "bash") is None
    os.close(descriptor)


def test_a_copy_that_does_not_fit_leaves_nothing(directory: Path) -> None:
    descriptor = os.open("/bin/bash", os.O_RDONLY)
    assert copy_closed(descriptor, directory / "missing" / "bash") is None
    os.close(descriptor)
    assert os.listdir(directory) == []


def complaint_of(backend: Backend, directory: Path) -> str | None:
    return try_a_sandbox(backend, directory, IDENTITY, lambda _: None)


def test_a_trial_runs_the_copy(directory: Path) -> None:
    images = with_closed_bash(find_images(), directory)
    backend = prepare(directory, IDENTITY, images, machine_limits(), bounded=())
    assert complaint_of(backend, directory) is None
    broken = replace(images["base"], closed_bash=copied(directory, b"\x7fELF"))
    assert complaint_of(replace(backend, images={"base": broken}), directory) is not None
    whole = replace(broken, closed_bash=None)
    assert complaint_of(replace(backend, images={"base": whole}), directory) is None


def test_a_backend_falls_back_to_what_works(directory: Path) -> None:
    backend = prepare(directory, IDENTITY, find_images(), machine_limits(), bounded=())
    tried: list[tuple[bool, Launcher]] = []

    def trial(way: Backend) -> str | None:
        assert isinstance(way, BubblewrapBackend)
        tried.append((way.images["base"].closed_bash is not None, way.launcher))
        return "bwrap: the moon is full"

    with pytest.raises(IsolationError, match="the moon is full") as refused:
        backend.tried(trial)
    assert refused.value.complaint == "bwrap: the moon is full"
    assert tried[0] == (True, backend.launcher), "the best way goes first"
    assert tried[-1] == (False, Launcher()), "the last one needs nothing"
    assert len(tried) == 2 * len(backend.launchers) * (2 if backend.dropper else 1)
    assert complaint_of(backend.tried(lambda way: complaint_of(way, directory)), directory) is None


def test_the_shell_of_a_built_in_image_is_closed(box: Box) -> None:
    assert box.run(LOOK) == "closed\nclosed\n"


def test_the_shell_of_an_added_image_is_closed_where_it_has_a_copy(
    make_box: Callable[..., Box], data_dir: Path, directory: Path
) -> None:
    store = ImageStore(images_dir(data_dir), IDENTITY)
    store.add("closed", root_with_bash(directory))
    try:
        box = make_box(image="closed")
        assert box.run(LOOK) == "closed\nclosed\n"
        box.destroy()
        # As images are that were added before there were copies.
        (images_dir(data_dir) / "closed" / "bash").unlink()
        box = make_box(image="closed")
        assert box.run(LOOK) == "open\nopen\n"
        assert box.exec("exit 3")["shell_restarted"]
        assert box.run("echo goes on") == "goes on\n"
        box.destroy()
    finally:
        store.remove("closed")
