"""What the shell says on its control channel; pure.

Each message is a NUL, then four NUL-ended fields, `kind id value cwd`, written by `bashrc` and
`supervisor`:

    result   id of the command, its status, directory     a command ended
    ready    id of the shell, -, directory                a shell waits for its first command
    ended    id of the next shell, status, -              a shell ended; a new one follows

Shell code runs in the very process that writes these, so nothing here is trusted: a message that
makes no sense is dropped, and one that never ends is an error. The NUL in front ends what may have
been written there before.

A subshell inherits the channel, and may outlive its command. So it matters who writes, which the kernel
tells with each piece: that a shell ended is for process 1 to say, and what became of a command for the
shell alone. Which process that is, its `ready` shows: the first one comes before any foreign code ran,
a later one must bear the id that process 1 gave that shell, and that no other process can read.
"""

from __future__ import annotations

from dataclasses import dataclass

_FIELDS = 4
_KINDS = {b"result", b"ready", b"ended"}
# PATH_MAX for the directory, and ample room for the rest.
_MAX_PENDING_BYTES = 64 * 1024
# Who may be heard while a new shell starts: process 1, the shell, and a few that are neither.
_MAX_SENDERS = 64


@dataclass(frozen=True)
class Result:
    """A command ended with a status, in a directory."""

    command_id: str
    status: int
    cwd: str


@dataclass(frozen=True)
class Ready:
    """A shell waits for its first command."""

    shell_id: str
    cwd: str


@dataclass(frozen=True)
class Ended:
    """A shell ended with a status; the next one has an id."""

    next_shell_id: str
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


class ControlChannel:
    """Takes each message only from the process that may say it."""

    def __init__(self) -> None:
        """Wait for the first shell."""
        self._shell_pid: int | None = None
        self._awaited_id: str | None = ""
        self._readers: dict[int, ControlReader] = {}

    def feed(self, data: bytes, sender_pid: int, init_pid: int | None) -> list[Message]:
        """Take bytes that a process wrote and give the messages that are complete, and its to say.

        Raises:
            ValueError: a message that never ends.
        """
        if self._shell_pid is not None and sender_pid not in (self._shell_pid, init_pid):
            return []
        if sender_pid not in self._readers and len(self._readers) >= _MAX_SENDERS:
            return []
        reader = self._readers.setdefault(sender_pid, ControlReader())
        return [
            message
            for message in reader.feed(data)
            if self._may_say(message, sender_pid, sender_pid == init_pid)
        ]

    def _may_say(self, message: Message, sender_pid: int, is_init: bool) -> bool:
        match message:
            case Ended(next_shell_id) if is_init:
                self._shell_pid, self._awaited_id = None, next_shell_id or None
                self._keep_readers(sender_pid)
            case Ready(shell_id) if self._shell_pid is None and shell_id == self._awaited_id and not is_init:
                self._shell_pid = sender_pid
            case Result() if sender_pid == self._shell_pid:
                pass
            case _:
                return False
        return True

    def _keep_readers(self, *pids: int) -> None:
        self._readers = {pid: reader for pid, reader in self._readers.items() if pid in pids}


def _message(kind: bytes, command_id: bytes, value: bytes, cwd: bytes) -> Message | None:
    identifier, directory = command_id.decode(errors="replace"), cwd.decode(errors="replace")
    if kind == b"ready":
        return Ready(identifier, directory)
    if not (value.isdigit() and len(value) <= 3 and int(value) <= 255):
        return None
    if kind == b"result":
        return Result(identifier, int(value), directory)
    return Ended(identifier, int(value)) if kind == b"ended" else None


def frame(command_id: str, command: str) -> bytes:
    """A command as the shell reads it: its text between two copies of its id, and a NUL.

    The second id tells the shell that nothing is missing: an interrupt may tear a frame it reads.
    """
    return f"{command_id}{command}{command_id}\0".encode()
