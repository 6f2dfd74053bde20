"""The surroundings of code: streams that code can break, and imports that are looked at."""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Code may put others in place of these.
_fstat, _dup2 = os.fstat, os.dup2


# --- what the code prints


class Streams:
    """The descriptors 1 and 2 and their objects, which code can close, replace, and lead elsewhere."""

    _BUFFER_BYTES = 64 * 1024
    _NAMES = ((1, "stdout"), (2, "stderr"))

    def __init__(self) -> None:
        self._kept = {number: os.dup(number) for number, _ in self._NAMES}
        self._own: dict[int, Any] = {}
        for number, name in self._NAMES:
            self._renew(number, name)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), "utf-8")

    def restore(self) -> None:
        """Undo what would leave the next run without output; what code put in place of a stream stays."""
        for number, name in self._NAMES:
            if not self._is_kept(number):
                _dup2(self._kept[number], number)
            if not _is_open(self._own[number]) or not _is_open(getattr(sys, name, None)):
                self._renew(number, name)

    def flush(self) -> None:
        """Send on what objects hold back, those of code and those of C."""
        streams: list[Any] = [*(getattr(sys, name, None) for _, name in self._NAMES), *self._own.values()]
        for stream in streams:
            try:
                stream.flush()
            except Exception:  # noqa: S112
                continue
        if "ctypes" in sys.modules:
            sys.modules["ctypes"].CDLL(None).fflush(None)

    def _renew(self, number: int, name: str) -> None:
        # As on a terminal, each line is seen at once.
        raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False), self._BUFFER_BYTES)
        self._own[number] = io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)
        setattr(sys, name, self._own[number])
        setattr(sys, f"__{name}__", self._own[number])

    def _is_kept(self, number: int) -> bool:
        try:
            now, kept = _fstat(number), _fstat(self._kept[number])
            return (now.st_dev, now.st_ino) == (kept.st_dev, kept.st_ino)
        except OSError:
            return False


def _is_open(stream: Any) -> bool:
    try:
        return not stream.closed
    except Exception:  # it has been detached, or is no stream at all
        return False


# --- imports that are looked at


class Watch:
    """A finder in front of the others: calls a function after some modules were loaded."""

    NAMES = (
        "IPython.core.display",
        "IPython.core.display_functions",
        "altair",
        "linecache",
        "matplotlib.pyplot",
        "plotly.io._renderers",
    )

    def __init__(self, after: Callable[[str, Any], None]) -> None:
        self._after = after
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return what the other finders find."""
        if name not in self.NAMES:
            return None
        others = (each for each in sys.meta_path if each is not self)
        spec = next(filter(None, (each.find_spec(name, path, target) for each in others)), None)
        if spec is not None and spec.loader is not None:
            self._wrap(name, spec.loader)
        return spec

    def _wrap(self, name: str, loader: Any) -> None:
        load = loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            self._after(name, module)

        loader.exec_module = exec_module
