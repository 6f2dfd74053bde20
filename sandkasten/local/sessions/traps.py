"""Traps of the user's shell code that would otherwise run for the shell's own plumbing; pure.

Bash runs a DEBUG trap before each command, and an ERR trap after each that fails, whoever wrote the command.
So `inside/bashrc` takes both away at the end of a round and reports them, and gets them back with the next
command, in a form that passes over each command of its own. `trap -p` then shows that form, and the trap
works as it was written.
"""

from __future__ import annotations

import shlex

_NAMES = {"DEBUG", "ERR", "RETURN"}
# Each command of the plumbing has `__sk_` in its text, or in the name of its function. So has the first of
# these words, since a DEBUG trap hears of what an ERR trap does.
_HEAD = 'case "${__sk_-}$BASH_COMMAND ${FUNCNAME-}" in *__sk_*) ;; *)\n'
_TAIL = "\n;; esac"
# Quotes for a command that must stay on one line.
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"})


def restoring(reported: str) -> str:
    """Return one line of shell code that sets the traps which a shell reported, as `trap -p` prints them."""
    try:
        words = shlex.split(reported)
    except ValueError:
        return ""
    found: list[str] = []
    for at, word in enumerate(words[:-3]):
        name = words[at + 3].removeprefix("SIG")
        is_set = word == "trap" and words[at + 1] == "--" and words[at + 2] != "-"
        if is_set and name in _NAMES:
            found.append(f"\\builtin trap -- $'{_guarded(words[at + 2]).translate(_ESCAPES)}' {name}")
    return "; ".join(found)


def _guarded(command: str) -> str:
    if not command or (command.startswith(_HEAD) and command.endswith(_TAIL)):
        return command
    return f"{_HEAD}{command}{_TAIL}"
