"""The output of a process, printed: all of it until its end, or what there is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandkasten.cli.output import out

if TYPE_CHECKING:
    from sandkasten.models import ProcessChunk, ProcessResult
    from sandkasten_sync import Process

# Far more than a daemon keeps for somebody who did not read it before.
_MOST_BYTES = 1024 * 1024 * 1024


def follow(process: Process, output: out.Channels, *, is_followed: bool) -> ProcessResult | None:
    """Print the output of a process; return how it ended if it was followed.

    Raises:
        SandkastenError: the process cannot be read.
    """
    for chunk in process if is_followed else process.read(max_bytes=_MOST_BYTES):
        _print(chunk, output)
    return process.result if is_followed else None


def _print(chunk: ProcessChunk, output: out.Channels) -> None:
    output.write(chunk.stream, chunk.data, chunk.text)
    if chunk.missed_bytes:
        out.say(f"({chunk.missed_bytes} bytes of output are lost: nobody read them in time.)")
