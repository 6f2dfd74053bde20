"""The text of values: bounded, and broken into lines as notebooks do. A row for each variable of a list."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_CHARS = 100_000
_LINE_CHARS = 79
_MOST_ITEMS = 1000
_MOST_VALUES = 20_000
_ROW_CHARS = 200
_SCALARS = (int, float, complex, bool, type(None), str, bytes)
_BRACKETS: dict[Any, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
    dict: ("{", "}"),
}
_ARRAYS = ("numpy", "pandas", "polars", "torch", "pyarrow", "xarray", "scipy", "jax", "jaxlib")


def cut(text: str, most_chars: int) -> str:
    """Return a text of at most about so many characters: its head and its tail."""
    left_out = len(text) - most_chars
    if left_out <= 0:
        return text
    head = most_chars * 2 // 3
    return f"{text[:head]}\n[... {left_out:,} characters left out ...]\n{text[head + left_out :]}"


def plain(value: Any) -> str:
    """Return the text of a value, as a notebook shows it.

    Raises:
        Exception: what its `__repr__` raised.
    """
    if "IPython.lib.pretty" in sys.modules:
        return cut(sys.modules["IPython.lib.pretty"].pretty(value), _MOST_CHARS)
    return cut(_Lines().text(value, 0), _MOST_CHARS)


class _Lines:
    """Containers of the language are broken into lines; all others have a `__repr__`."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES
        self._above: set[int] = set()

    def text(self, value: Any, indent: int) -> str:
        """Return the text of a value that stands so far to the right."""
        self._left -= 1
        kind = _kind(value)
        if kind in (str, bytes) and len(value) > _MOST_CHARS:
            rest = f"... {len(value) - _MOST_CHARS:,} more"
            return f"{value[:_MOST_CHARS]!r}{rest}"
        if kind not in _BRACKETS or not value:
            return str.__str__(repr(value)).replace("\n", "\n" + " " * indent)
        if id(value) in self._above:
            return "...".join(_BRACKETS[kind])
        self._above.add(id(value))
        try:
            return self._container(value, kind, indent)
        finally:
            self._above.discard(id(value))

    def _container(self, value: Any, kind: type, indent: int) -> str:
        opening, closing = _BRACKETS[kind]
        inner = indent + len(opening)
        parts: list[str] = []
        for item in value.items() if kind is dict else _in_order(value, kind):
            if len(parts) == _MOST_ITEMS or self._left <= 0:
                parts.append("...")
                break
            parts.append(self._pair(item, inner) if kind is dict else self.text(item, inner))
        comma = "," if kind is tuple and len(parts) == 1 else ""
        line = f"{opening}{', '.join(parts)}{comma}{closing}"
        if "\n" not in line and indent + len(line) <= _LINE_CHARS:
            return line
        between = ",\n" + " " * inner
        return f"{opening}{between.join(parts)}{comma}{closing}"

    def _pair(self, item: tuple[Any, Any], indent: int) -> str:
        key = self.text(item[0], indent)
        return f"{key}: {self.text(item[1], indent + len(key) + 2)}"


def _in_order(value: Any, kind: type) -> Any:
    if kind in (set, frozenset) and len(value) <= _MOST_ITEMS:
        try:
            return sorted(value)
        except Exception:  # they cannot be compared
            return value
    return value


def row_of(name: str, value: Any) -> dict[str, Any]:
    """Return what a list of variables says about one."""
    try:
        kind = type(value).__name__
        return {
            "name": name[:_ROW_CHARS],
            "type": kind[:_ROW_CHARS],
            "size": _size_of(value),
            "repr": _short(value),
        }
    except Exception:  # an attribute of its class is code
        return {"name": name[:_ROW_CHARS], "type": "?", "size": None, "repr": ""}


def _size_of(value: Any) -> int | None:
    if type(value) in _SCALARS or type(value) in _BRACKETS:
        return sys.getsizeof(value)
    if not _is_array(value):
        return None
    usage = getattr(value, "memory_usage", None)
    if callable(usage):
        found: Any = usage()
        return int(found.sum() if hasattr(found, "sum") else found)
    size = getattr(value, "nbytes", None)
    return int(size) if isinstance(size, int) else None


def _short(value: Any) -> str:
    if _is_array(value):
        shape: Any = getattr(value, "shape", None)
        return " x ".join(map(str, shape)) if _kind(shape) is tuple else ""
    kind = _kind(value)
    if kind in (str, bytes):
        return _line(repr(value[: _ROW_CHARS + 1]))
    if kind in _SCALARS:
        return _line(repr(value))
    if kind not in _BRACKETS:
        return ""
    items: list[Any] = list(value.items() if kind is dict else value)[:20]
    flat = [each for item in items for each in item] if kind is dict else items
    if len(value) <= 20 and all(type(each) in _SCALARS for each in flat):
        return _line(repr(value))
    return f"{len(value):,} items"


def _line(text: str) -> str:
    return text if len(text) <= _ROW_CHARS else f"{text[: _ROW_CHARS - 3]}..."


def _kind(value: Any) -> Any:
    return type(value)  # pyright: ignore[reportUnknownVariableType]


def _is_array(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in _ARRAYS
