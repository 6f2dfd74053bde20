"""Sessions of the real daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from sandkasten.local.launch import LocalDaemon
from tests.local.box import Box, boxes, connect


@pytest.fixture
def client(daemon: LocalDaemon) -> Iterator[httpx.Client]:
    """A client with the key."""
    with connect(daemon) as client:
        yield client


@pytest.fixture
def make_box(daemon: LocalDaemon) -> Iterator[Callable[..., Box]]:
    """Makes sessions, which end with the test."""
    with boxes(daemon) as make:
        yield make


@pytest.fixture
def box(make_box: Callable[..., Box]) -> Box:
    """A new session."""
    return make_box()
