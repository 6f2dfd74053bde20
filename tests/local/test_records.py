"""The daemon's own data classes, beside those of the standard library."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import field, replace
from typing import Any

import pytest

from sandkasten.local import records


def made_by(dataclass: Callable[..., Any]) -> Any:
    """Return a class that a decorator made."""

    @dataclass(frozen=True)
    class Place:
        """A place."""

        name: str
        size: int = 1
        key: str = field(default="secret", repr=False)
        parts: list[int] = field(default_factory=list[int])

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError(self.size)

    return Place


@pytest.fixture(params=[records.dataclass, dataclasses.dataclass])
def place(request: pytest.FixtureRequest) -> Any:
    return made_by(request.param)


def test_equal_values_are_equal_and_others_are_not(place: Any) -> None:
    assert place("a") == place("a", parts=[])
    assert place("a") != place("a", 2)
    assert place("a") != made_by(dataclasses.dataclass)("a")
    assert hash(place("a", parts=())) == hash(place("a", parts=()))
    assert len({place("a", parts=()), place("a", parts=()), place("b", parts=())}) == 2


def test_its_text_shows_what_may_be_shown(place: Any) -> None:
    assert repr(place("a")).endswith("Place(name='a', size=1, parts=[])")


def test_it_is_made_and_replaced_as_usual(place: Any) -> None:
    assert replace(place("a"), size=3) == place("a", 3)
    assert [each.name for each in dataclasses.fields(place)] == ["name", "size", "key", "parts"]
    with pytest.raises(ValueError, match="-1"):
        place("a", -1)
    with pytest.raises(TypeError):
        place()


@pytest.mark.parametrize("dataclass", [records.dataclass, dataclasses.dataclass])
def test_what_may_change_has_no_hash_and_what_is_itself_is_equal_to_itself_only(
    dataclass: Callable[..., Any],
) -> None:
    @dataclass
    class Counter:
        """A counter."""

        count: int = 0

    @dataclass(eq=False)
    class Thing:
        """A thing."""

    with pytest.raises(TypeError, match="unhashable"):
        hash(Counter())
    assert Counter(1) == Counter(1)
    assert Thing() != Thing()
    assert hash(Thing()) is not None
