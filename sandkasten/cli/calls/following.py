"""The output of a process, printed: all of it until its end, or what there is now."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from sandkasten.cli.output import out

if TYPE_CHECKING:
    from sandkasten.models import ProcessChunk, ProcessResult
    from sandkasten_sync import Process

# Output that is there already comes at once; after that long, whatever follows is new.
_QUIET_SECONDS = 0.5


def follow(process: Process, output: out.Channels, *, is_followed: bool) -> ProcessResult | None:
    """Print the output of a process; return how it ended, or None if it goes on.

    Raises:
        SandkastenError: the process cannot be read.
    """
    if is_followed or not process.info().running:
        for chunk in process:
            _print(chunk, output)
        return process.result
    chunks: queue.SimpleQueue[ProcessChunk | Exception | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=[process, chunks], daemon=True).start()
    while True:
        try:
            found = chunks.get(timeout=_QUIET_SECONDS)
        except queue.Empty:
            return None
        if found is None:
            return process.result
        if isinstance(found, Exception):
            raise found
        _print(found, output)


def _read(process: Process, chunks: queue.SimpleQueue[ProcessChunk | Exception | None]) -> None:
    try:
        for chunk in process:
            chunks.put(chunk)
    except Exception as error:
        chunks.put(error)
    else:
        chunks.put(None)


def _print(chunk: ProcessChunk, output: out.Channels) -> None:
    output.write(chunk.stream, chunk.data, chunk.text)
    if chunk.missed_bytes:
        out.say(f"({chunk.missed_bytes} bytes of output are lost: nobody read them in time.)")
