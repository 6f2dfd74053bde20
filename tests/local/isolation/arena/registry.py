"""The attempts that are test functions of their own, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., None])

WRITTEN_OUT: list[str] = []


def attempt(name: str) -> Callable[[F], F]:
    """Give an attempt its name: `promise/what`, as in docs/security.md."""
    WRITTEN_OUT.append(name)
    return lambda test: test
