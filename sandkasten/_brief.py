"""Errors as notebooks show them: one sentence, and where in the reader's own code it began."""

from __future__ import annotations

import os
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

_SHOWN_FRAMES = 3
_INTERRUPTED = "The call was interrupted; a command that it ran is stopped, and the session goes on."


def in_brief(error: BaseException, text: str) -> list[str]:
    """Return what a notebook shows of an error; with SANDKASTEN_DEBUG=1 that is all of its traceback."""
    if os.environ.get("SANDKASTEN_DEBUG") == "1":
        return traceback.format_exception(error)
    return [*_lines_of_the_caller(error), f"{type(error).__name__}: {text}"]


@contextmanager
def interrupts_in_brief() -> Generator[None, None, None]:
    """Let a notebook show a `KeyboardInterrupt` of the block in brief: its traceback is one of libraries."""
    try:
        yield
    except KeyboardInterrupt as error:
        # IPython looks for this name.
        error._render_traceback_ = partial(in_brief, error, _INTERRUPTED)  # type: ignore[attr-defined]
        raise


def _lines_of_the_caller(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    first = next((number for number, frame in enumerate(frames) if _is_ours(frame.filename)), len(frames))
    own = [frame for frame in frames[:first] if f"{os.sep}IPython{os.sep}" not in frame.filename]
    return [f"  line {frame.lineno}, in {frame.name}: {frame.line}" for frame in own[-_SHOWN_FRAMES:]]


def _is_ours(filename: str) -> bool:
    return os.path.basename(os.path.dirname(filename)) in {"sandkasten", "sandkasten_sync"}
