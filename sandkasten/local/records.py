"""Data classes that cost a daemon a quarter of the time at its start, where it makes many of them.

The standard library's `dataclass` compiles up to six methods for each class. Here it compiles `__init__`, and
all classes share the others. Type checkers see the standard library's, and refuse to change what is frozen;
at run time nothing does.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414
else:

    def dataclass(decorated=None, /, *, frozen=False, eq=True):
        """Make a class a data class, as the standard library's decorator does."""

        def decorate(cls):
            own = vars(cls)
            cls = dataclasses.dataclass(repr=False, eq=False)(cls)
            if "__repr__" not in own:
                cls.__repr__ = _repr
            if eq and "__eq__" not in own:
                cls.__eq__ = _eq
                cls.__hash__ = _hash if frozen else None
            return cls

        return decorate if decorated is None else decorate(decorated)


def _values(record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in record.__dataclass_fields__)


def _eq(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:  # pyright: ignore[reportUnusedFunction]
    return hash(_values(self))


def _repr(self: Any) -> str:
    shown = (
        f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr
    )
    return f"{self.__class__.__qualname__}({', '.join(shown)})"
