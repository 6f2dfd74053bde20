"""Shell text that gives a command what is its own for once; pure, for client and daemon.

Each text runs its command in the same shell, so that what the command changes stays; before it begins,
`$?` is what it was. Code with `__sk_` in its text is passed over by a session's traps, as the shell's own
plumbing is.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

_MARK = r"$'\n#__sk_'"


def lent(cmd: str, env: Mapping[str, str]) -> str:
    """Return text that runs a command with variables which are gone afterwards; bash itself takes them back.

    The variables of these names, exported or not, arrays or numbers, are as they were. One that is read-only
    cannot be lent: then the command does not run.
    """
    attributes = "".join(f"${{{name}+${{{name}@a}}}}" for name in env)
    assigned = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
    refusal = (
        f"builtin printf 'bash: env: a read-only variable is among %s\\n' '{' '.join(env)}' >&2; (exit 1)"
    )
    run = rf"{assigned} \command eval {shlex.quote(cmd)} {_MARK}"
    return f'case "__sk_{attributes}" in *r*) {refusal} ;; *) {run} ;; esac'


def fed(cmd: str, path: str) -> str:
    """Return text that runs a command whose standard input is a file, which is removed before it begins."""
    gone = f"(s=$?; command rm -f {path}; exit $s) && : __sk_"
    return f"{{ {gone}; builtin eval {shlex.quote(cmd)} {_MARK}; }} <{path}"


def loaded(path: str) -> str:
    """Return text that runs the command in a file, which `stored` made, and removes the file."""
    read = f"IFS= builtin read -r -d '' __sk_text <{path}; command rm -f {path}"
    return f'{{ __sk_was=$?; {read}; builtin eval "$__sk_text"; }}'


def stored(cmd: str) -> str:
    """Return a command as `loaded` needs it: first it forgets its own text."""
    return f"__sk_text=; (exit $__sk_was) && : __sk_; {cmd}"
