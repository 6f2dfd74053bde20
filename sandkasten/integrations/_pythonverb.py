"""The verb for Python that remembers, and its text and pictures for a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from pydantic import Field

from sandkasten._offline import lacks_network
from sandkasten._python.values import PythonResult, RichResult
from sandkasten.integrations._text import NO_NETWORK, bounded, cleaned, settled
from sandkasten.integrations._verb import MAX_TIMEOUT_SECONDS, Answer, Options, Picture, Verb
from sandkasten.models import SessionInfo

if TYPE_CHECKING:
    from sandkasten.integrations._verb import AnySession

_KEEP_BYTES = 256 * 1024
_ADVICE = "look at parts of it"
_HEADS_CHARS = 400
MOST_PICTURES = 4
_MOST_PICTURE_BYTES = 1_000_000
_BEGINNINGS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


class RunPython(Verb):
    """Run Python in an interpreter that remembers: variables, imports and functions stay for the next call.

    Gives what it printed, the value of the last expression, the traceback of an exception, and figures of
    matplotlib as pictures. Files in /workspace are those of the other tools. input() raises an error.
    """

    tool_name: ClassVar[str] = "run_python"
    code: str = Field(description="The code; a last line that is an expression gives its value.")
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MAX_TIMEOUT_SECONDS,
        description="When to interrupt it, in seconds, at most 600; null is the usual limit.",
    )

    def start(self, session: AnySession, options: Options) -> Any:
        """Run the code."""
        timeout_ms = options.timeout_ms if self.timeout_seconds is None else self.timeout_seconds * 1000
        return session.python(self.code, timeout_ms=timeout_ms, keep_bytes=_KEEP_BYTES)

    def answer(self, result: PythonResult, options: Options, info: SessionInfo | None) -> Answer:
        """Return the `PythonResult` as text and pictures, and its fields; of the results the value."""
        network = info.network if info else None
        data = {
            **attrs.asdict(result, filter=lambda field, _value: field.name != "results"),
            "value": result.value,
        }
        pictures = tuple(picture for picture in map(_picture_of, result.results) if picture is not None)
        text = python_text(result, options.max_output_chars, network)
        return Answer(text, data, pictures[:MOST_PICTURES])


def python_text(result: PythonResult, max_chars: int, network: str | None = None) -> str:
    """Return what code printed, showed and raised; none of the three takes all of the room."""
    error = None if result.error is None else str(result.error)
    names = ("stdout", "stderr", "result")
    raw = (result.stdout, result.stderr, "\n".join([*_shown(result.results), *filter(None, [error])]))
    texts = [cleaned(settled(text)) for text in raw]
    limits = _shares([len(text) for text in texts], max_chars - _HEADS_CHARS)
    parts = [
        f"{name}:\n{bounded(text, limit, _ADVICE, is_cut=result.truncated)}".removesuffix("\n")
        for name, text, limit in zip(names, texts, limits, strict=True)
        if text
    ]
    notes: list[str] = []
    if result.restarted:
        notes.append("[The interpreter was lost before; this code began in a new one, without variables.]")
    if error and lacks_network(1, error, network):
        notes.append(NO_NETWORK)
    head = "" if result.ok else f"{result.end if result.end != 'completed' else 'exception'}\n"
    return head + "\n".join([*parts, *notes] or ["(no output)"])


def _shown(results: Sequence[RichResult]) -> Iterator[str]:
    """Yield the text of each display; a picture has its number, which says which of the pictures it is."""
    number = 0
    for result in results:
        picture = _picture_of(result)
        if picture is not None and number < MOST_PICTURES:
            number += 1
            yield f"[picture {number}] {result.text or ''}".rstrip()
        else:
            yield result.text or result.markdown or f"<{', '.join(result.data)}>"


def _picture_of(result: RichResult) -> Picture | None:
    """Return a picture that a model may get: of a usual kind, and not too large."""
    for kind, content in (("image/png", result.png), ("image/jpeg", result.jpeg)):
        if content and content.startswith(_BEGINNINGS[kind]) and len(content) <= _MOST_PICTURE_BYTES:
            return Picture(kind, result.data[kind].replace("\n", ""))
    return None


def _shares(lengths: Sequence[int], room: int) -> list[int]:
    """Divide room: short texts get all that they need, long ones the same."""
    shares = [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda number: lengths[number])
    for done, number in enumerate(order):
        shares[number] = min(lengths[number], room // (len(lengths) - done))
        room -= shares[number]
    return shares
