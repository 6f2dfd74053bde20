"""Texts for a model about processes; pure. See `_text`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sandkasten._cut import find_mark
from sandkasten._offline import lacks_network
from sandkasten.integrations._text import NO_NETWORK, assembled, bounded, cleaned, one_line, settled
from sandkasten.models import ProcessChunk, ProcessInfo, ProcessResult

_ADVICE = "write long output to a file and look at parts of it"
_HEADS_CHARS = 400


def run_text(result: ProcessResult, max_chars: int, network: str | None = None) -> str:
    """Return how a process ended, and its two outputs apart, of which neither takes all of the room."""
    header = f"{_ended(result)}\n"
    notes: list[str] = []
    if result.truncated and not (find_mark(result.stdout) or find_mark(result.stderr)):
        notes.append("[Output beyond the sandbox's limit was dropped.]")
    if lacks_network(result.exit_code, result.stdout + result.stderr, network):
        notes.append(NO_NETWORK)
    out, err = (cleaned(settled(text)) for text in (result.stdout, result.stderr))
    room = max_chars - _HEADS_CHARS
    is_cut = result.truncated
    err = bounded(err, max(room // 2, room - len(out)), _ADVICE, is_cut=is_cut)
    out = bounded(out, room - len(err), _ADVICE, is_cut=is_cut)
    parts = [f"{name}:\n{text}" for name, text in (("stdout", out), ("stderr", err)) if text]
    body = "\n".join(part.removesuffix("\n") for part in parts) or "(no output)"
    return "\n".join([f"{header}{body}", *notes])


def chunks_text(
    chunks: Sequence[ProcessChunk], end: ProcessResult | None, position: int, max_chars: int
) -> str:
    """Return the output that was read, whether the process goes on, and where the next reading begins."""
    header = f"{'running' if end is None else _ended(end)}, next position {position}\n"
    text = "".join(_chunk_text(chunk) for chunk in chunks)
    body = cleaned(settled(text)) or ("(no output yet)" if not position else "(nothing new)")
    return assembled(header, body, max_chars)


def _chunk_text(chunk: ProcessChunk) -> str:
    missed = chunk.missed_bytes
    return f"[... {missed:,} bytes of older output are lost ...]\n" if missed else chunk.text


def processes_text(infos: Sequence[ProcessInfo], max_chars: int) -> str:
    """Return processes, one a line."""
    lines = "".join(
        f"{info.id} {'running' if info.result is None else _ended(info.result)}: "
        f"{one_line(shlex.join(info.args), 200)}\n"
        for info in infos
    )
    return assembled("", lines or "(none)", max_chars)


def _ended(result: ProcessResult) -> str:
    if result.end == "exited":
        return f"exit code {result.exit_code}"
    reason = result.signal if result.end == "signal" and result.signal else result.end.replace("_", " ")
    return f"exit code {result.exit_code} ({reason})"
