"""Code that runs in the session's interpreter, with its output and displays shown while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

from sandkasten._python.showing import rich_bundle
from sandkasten._python.values import PythonChunk, PythonResult, RichResult
from sandkasten.notebook.errors import interrupts_as
from sandkasten.notebook.running import MAX_OUTPUT_BYTES, CappedOutput
from sandkasten.notebook.text import size, visible
from sandkasten_sync import Session

_RESTARTED = "[The interpreter was lost before; the cell began in a new one, without variables.]\n"


class Page:
    """The output of a cell: IPython's functions for it, or nothing at all."""

    def __init__(self, publish: Callable[..., object], clear: Callable[[bool], object], prefix: str) -> None:
        """Keep what shows a bundle, and what clears the output.

        Args:
            publish: takes a bundle, and `transient` and `update` as IPython's `publish`.
            clear: takes whether to wait for what comes next.
            prefix: makes the names of displays unlike those of others on the page.
        """
        self._publish, self._clear, self._prefix = publish, clear, prefix

    def publish(self, bundle: Mapping[str, str]) -> None:
        """Show a bundle."""
        self._publish(dict(bundle), transient={}, update=False)

    def show(self, result: RichResult) -> None:
        """Show a display, in place of an earlier one if it has that one's name."""
        about: Any = result.metadata.get("sandkasten")
        wish = cast("Mapping[str, Any]", about if isinstance(about, dict) else {})
        if wish.get("clear"):
            self._clear(bool(wish.get("wait")))
            return
        name = wish.get("display_id")
        transient = {"display_id": f"{self._prefix}-{name}"} if isinstance(name, str) else {}
        self._publish(rich_bundle(result), transient=transient, update=wish.get("update") is True)


def run_python(session: Session, code: str, *, timeout_ms: int, page: Page | None) -> PythonResult:
    """Run code in the session's interpreter, and show on a page what it prints and displays.

    Raises:
        CellInterrupted: the kernel was interrupted meanwhile.
        SandkastenError: any failure, except errors that the code raises.
    """
    outputs = {"stdout": CappedOutput(_writer("stdout")), "stderr": CappedOutput(_writer("stderr"))}
    try:
        with (
            interrupts_as("The code was interrupted; the session goes on."),
            session.python_stream(code, timeout_ms=timeout_ms, keep_bytes=MAX_OUTPUT_BYTES) as stream,
        ):
            for chunk in stream:
                if page is not None:
                    _take(chunk, outputs, page)
        result = stream.result
    finally:
        if page is not None:
            for output in outputs.values():
                output.end()
    if result.restarted and page is not None:
        print(_RESTARTED, end="", flush=True)
    return result


def _take(chunk: PythonChunk, outputs: Mapping[str, CappedOutput], page: Page) -> None:
    if chunk.missed_bytes:
        print(f"\n[{size(chunk.missed_bytes)} of output were lost with the connection.]", flush=True)
    elif chunk.stream == "display" and chunk.result is not None:
        page.show(chunk.result)
    elif chunk.stream in outputs:
        outputs[chunk.stream].add(chunk.text)


def _writer(name: str) -> Callable[[str], object]:
    def write(text: str) -> None:
        print(text, end="", flush=True, file=getattr(sys, name))

    return write


def traceback_lines(result: PythonResult) -> list[str]:
    """Return an error's short traceback for a page; code in the sandbox made it."""
    return visible(str(result.error or result.end)).splitlines()


def enter(session: Session, directory: str, known: dict[str, str]) -> None:
    """Take the interpreter to the shell's directory, if the shell has moved since the last time.

    Args:
        session: the session.
        directory: the shell's.
        known: the directory at the last time, by session.
    """
    if known.get(session.id, "/workspace") != directory:
        session.python(f"__import__('os').chdir({directory!r})")
        known[session.id] = directory
