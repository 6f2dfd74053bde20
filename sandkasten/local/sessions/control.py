"""The messages on the control channel, from the shell and to it; pure.

Each message is a NUL, then four NUL-ended fields, `kind id value cwd`, written by `bashrc` and
`supervisor`:

    result   id of the command, its status, directory     a command ended
    ready    id of the shell, -, directory                a shell waits for its first command
    ended    id of the next shell, status, -              a shell ended; a new one follows

Shell code runs in the very process that writes these, so nothing here is trusted: a message that
makes no sense is dropped; one that never ends is an error, and so is a flood. The NUL in front ends what
may have been written there before; in front of a result, that is what `trap -p` printed of the user's traps.

A subshell inherits the channel, and may outlive its command. So it matters who writes, which the kernel
reports with each piece: that a shell ended is for process 1 to say, and what became of a command for the
shell alone. Its `ready` shows which process that is: the first `ready` comes before any foreign code ran, a
later one must bear the id that process 1 gave that shell, and that no other process can read.
"""

from __future__ import annotations

import re
import shlex

from sandkasten.local.records import dataclass

# A field begins where the bytes do, or behind a NUL.
_KIND = rb"(result|ready|ended)\0"
_BEGUN = re.compile(rb"(?<![^\0])(?:trap -- |" + _KIND + rb")")
_MESSAGE = re.compile(rb"(?<![^\0])(?:(trap -- [^\0]*)\0)?" + _KIND + rb"([^\0]*)\0" * 3)
# PATH_MAX for the directory, and ample room for the rest.
_MAX_PENDING_BYTES = 64 * 1024
# What one process may write there in all its life that is no message, or not its to say. A command that is
# interrupted tears one message, and process 1 writes a byte for each shell.
_MAX_NOISE_BYTES = 1024 * 1024
_MESSAGE_BYTES = 32  # about what the shortest message takes
# Instead of a status: the command did not run, since the shell could not go to its directory.
REFUSED = 300
_MAX_AT_ONCE = 8  # a shell runs one command after another
# The line that bash reads between commands: it makes the next prompt a round, and lines of its command are
# counted from 1.
TOKEN = b'{ \\__sk_home "$?"; } 2>&$((LINENO=1, 2))\n'
_LENGTH_DIGITS = 9
# What goes before a frame that must be read whatever became of those before: the shell passes over them.
RESUMPTION = b"\0" + b"~" * 300 + b"\0"
# Who may be heard while a new shell starts: process 1, the shell, and a few that are neither.
_MAX_SENDERS = 64


@dataclass(frozen=True)
class Result:
    """A command ended with a status, in a directory; `traps` are as `trap -p` prints them."""

    command_id: str
    status: int
    cwd: str
    traps: str = ""


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
    """The messages in one process's bytes, and how much of these was anything else.

    A regular expression finds the messages, since a session may write NULs as fast as it likes, and a loop
    over its fields here would take the daemon's time from all other sessions.
    """

    def __init__(self) -> None:
        """Start with nothing pending."""
        self._pending = b""
        self.noise_bytes = 0

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes and return the messages that are complete.

        Raises:
            ValueError: a message that never ends.
        """
        text = self._pending + data
        messages: list[Message] = []
        end = said_bytes = 0
        for match in _MESSAGE.finditer(text):
            end = match.end()
            message = _message(*match.groups())
            if message is not None:
                messages.append(message)
                said_bytes += len(match[0]) + 1  # with the NUL in front
        begun = _BEGUN.search(text, end)
        rest = begun.start() if begun is not None else max(end, text.rfind(b"\0") + 1)
        self._pending = text[rest:]
        self.noise_bytes += max(0, rest - said_bytes)
        if len(self._pending) > _MAX_PENDING_BYTES:
            raise ValueError("a control message without an end")
        return messages

    def forget(self) -> None:
        """Drop what is pending."""
        self._pending = b""


class ControlChannel:
    """Takes each message only from the process that may say it."""

    def __init__(self) -> None:
        """Wait for the first shell."""
        self._shell_pid: int | None = None
        self._awaited_id: str | None = ""
        self._readers: dict[int, ControlReader] = {}

    @property
    def shell_pid(self) -> int | None:
        """The process of the shell that is running, in the host's numbers."""
        return self._shell_pid

    def feed(self, data: bytes, sender_pid: int, init_pid: int | None) -> list[Message]:
        """Take bytes that a process wrote and return the messages that are complete, and its to say.

        Raises:
            ValueError: a message that never ends, or more noise than accidents make.
        """
        if self._shell_pid is not None and sender_pid not in (self._shell_pid, init_pid):
            return []
        if sender_pid not in self._readers and len(self._readers) >= _MAX_SENDERS:
            return []
        reader = self._readers.setdefault(sender_pid, ControlReader())
        if reader.noise_bytes > _MAX_NOISE_BYTES:
            return []
        said = reader.feed(data)
        taken = [one for one in said if self._may_say(one, sender_pid, sender_pid == init_pid)]
        reader.noise_bytes += _MESSAGE_BYTES * (len(said) - min(len(taken), _MAX_AT_ONCE))
        if reader.noise_bytes > _MAX_NOISE_BYTES:
            if sender_pid in (self._shell_pid, init_pid):
                raise ValueError("a control channel that is flooded")
            reader.forget()
        return taken

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


def _message(traps: bytes | None, kind: bytes, command_id: bytes, value: bytes, cwd: bytes) -> Message | None:
    identifier, directory = command_id.decode(errors="replace"), cwd.decode(errors="replace")
    if kind == b"ready":
        return Ready(identifier, directory)
    if not (value.isdigit() and len(value) <= 3 and (int(value) <= 255 or int(value) == REFUSED)):
        return None
    if kind == b"result":
        return Result(identifier, int(value), directory, (traps or b"").decode(errors="replace"))
    return Ended(identifier, int(value)) if kind == b"ended" else None


def frame(name: str, command_id: str, traps: str, cmd: str) -> bytes:
    """Return a command as the shell of that name reads it, with the line of code that sets its traps.

    The second id shows the shell that nothing is missing: an interrupt may tear a frame while it is read. The
    shell's name shows that the frame was not meant for an earlier shell that ended before it read everything.

    The length makes the shell read in large pieces; for a length of bytes it reads as many characters, of
    which only the shell knows how many bytes they have. So blanks follow that it may take for the rest.
    """
    text = f"{traps}\n{cmd}{command_id}"
    encoded = text.encode()
    blanks = b" " * (len(encoded) - len(text))
    return f"{name}{command_id}{len(encoded):0{_LENGTH_DIGITS}}".encode() + encoded + blanks + b"\0"


def question(name: str, question_id: str) -> bytes:
    """Return a frame without a command; the shell of that name reports a result for it, and runs nothing.

    It is read also behind a frame that an interrupt tore.
    """
    return RESUMPTION + frame(name, question_id, "", "")


def shell_name(shell_id: str) -> str:
    """Return the name of a shell in its frames, the beginning of its id; the first shell has none."""
    return shell_id[:8].ljust(8, "0")


# --- traps of the user's shell code, which would otherwise run for the shell's own plumbing
#
# Bash runs a DEBUG trap before each command, and an ERR trap after each that fails, whoever wrote that. So
# `inside/bashrc` takes both away at the end of a round and reports them, and gets them back with the next
# command, in a form that passes over each command of its own. `trap -p` then shows that form, and the trap
# works as it was written.

_TRAPS = {"DEBUG", "ERR", "RETURN"}
# Each command of the plumbing has `__sk_` in its text, or in the name of its function. So has the first of
# these words, since a DEBUG trap hears of what an ERR trap does.
_TRAP_HEAD = 'case "${__sk_-}$BASH_COMMAND ${FUNCNAME-}" in *__sk_*) ;; *)\n'
_TRAP_TAIL = "\n;; esac"
# Quotes for a command that must stay on one line.
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"})


def rearm(reported: str) -> str:
    """Return one line of shell code that sets the traps that `trap -p` printed in a shell."""
    try:
        words = shlex.split(reported)
    except ValueError:
        return ""
    found: list[str] = []
    for at, word in enumerate(words[:-3]):
        name = words[at + 3].removeprefix("SIG")
        is_set = word == "trap" and words[at + 1] == "--" and words[at + 2] != "-"
        if is_set and name in _TRAPS:
            found.append(f"\\builtin trap -- $'{_guarded(words[at + 2]).translate(_ESCAPES)}' {name}")
    return "; ".join(found)


def _guarded(command: str) -> str:
    if not command or (command.startswith(_TRAP_HEAD) and command.endswith(_TRAP_TAIL)):
        return command
    return f"{_TRAP_HEAD}{command}{_TRAP_TAIL}"
