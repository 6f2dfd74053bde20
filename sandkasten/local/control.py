"""What the shell says on its control channel; pure.

Each message is a NUL, then four NUL-ended fields, `kind id value cwd`, written by `bashrc` and
`supervisor`:

    result   id of the command, its status, directory     a command ended
    ready    -, -, directory                              a shell waits for its first command
    ended    -, status, -                                 a shell ended; a new one follows

Shell code runs in the very process that writes these, so nothing here is trusted: a message that
makes no sense is dropped, and one that never ends is an error. The NUL in front ends what may have
been written there before.
"""

from __future__ import annotations

from dataclasses import dataclass

_FIELDS = 4
_KINDS = {b"result", b"ready", b"ended"}
# PATH_MAX for the directory, and ample room for the rest.
_MAX_PENDING_BYTES = 64 * 1024


@dataclass(frozen=True)
class Result:
    """A command ended with a status, in a directory."""

    command_id: str
    status: int
    cwd: str


@dataclass(frozen=True)
class Ready:
    """A shell waits for its first command."""

    cwd: str


@dataclass(frozen=True)
class Ended:
    """A shell ended with a status."""

    status: int


Message = Result | Ready | Ended


class ControlReader:
    """Cuts the channel's bytes into messages."""

    def __init__(self) -> None:
        """Start with nothing pending."""
        self._pending = b""

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes and give the messages that are complete.

        Raises:
            ValueError: a message that never ends.
        """
        *fields, rest = (self._pending + data).split(b"\0")
        messages: list[Message] = []
        at = 0
        while at < len(fields):
            if fields[at] not in _KINDS:
                at += 1  # noise costs no more than the message it stands in
                continue
            if at + _FIELDS > len(fields):
                break
            message = _message(*fields[at : at + _FIELDS])
            messages += [message] if message is not None else []
            at += _FIELDS
        self._pending = b"\0".join([*fields[at:], rest])
        if len(self._pending) > _MAX_PENDING_BYTES:
            raise ValueError("a control message without an end")
        return messages


def _message(kind: bytes, command_id: bytes, value: bytes, cwd: bytes) -> Message | None:
    directory = cwd.decode(errors="replace")
    if kind == b"ready":
        return Ready(directory)
    if not (value.isdigit() and len(value) <= 3 and int(value) <= 255):
        return None
    if kind == b"result":
        return Result(command_id.decode(errors="replace"), int(value), directory)
    return Ended(int(value)) if kind == b"ended" else None


def frame(command_id: str, command: str) -> bytes:
    """A command as the shell reads it: its text between two copies of its id, and a NUL.

    The second id tells the shell that nothing is missing: an interrupt may tear a frame it reads.
    """
    return f"{command_id}{command}{command_id}\0".encode()
