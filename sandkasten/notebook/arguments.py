"""The arguments of `%%sandbox` and `%sandbox`, read into values; pure."""

from __future__ import annotations

import argparse
import keyword
import math
import re
import shlex
from dataclasses import dataclass
from typing import Any, NoReturn

from sandkasten._protocol import MAX_TIMEOUT_MS
from sandkasten.notebook.errors import MagicError
from sandkasten.notebook.languages import LANGUAGES

DEFAULT_SESSION = "main"

_SESSION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_TAKES_COMMAND = frozenset({"start"})
_PROGRAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


@dataclass(frozen=True)
class CellOptions:
    """The options of a cell.

    Attributes:
        language: the language of the cell: a key of `LANGUAGES`, the name of a program that takes a
            file, or None for the session's own shell.
        session: which of the notebook's sessions runs it.
        timeout_ms: when to stop it; 0 is the daemon's maximum.
        results: the variables that get the `ExecResult`, or the values of such variables of a Python cell.
        may_fail: whether a non-zero status is no error.
        quiet: whether no output is shown.
        show: the directory whose new pictures and pages are shown; None is the shell's own.
        show_nothing: whether none are shown.
        scripts: whether pages may run scripts.
    """

    language: str | None
    session: str
    timeout_ms: int
    results: list[str]
    may_fail: bool
    quiet: bool
    show: str | None
    show_nothing: bool
    scripts: bool


class _Parser(argparse.ArgumentParser):
    """A parser that raises one sentence instead of printing its usage and leaving the process."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise MagicError(f"{self.prog}: {message}. `%sandbox help` shows what there is.")


def parse_cell(line: str) -> CellOptions:
    """Read the options of `%%sandbox`.

    Raises:
        MagicError: the options are not valid.
    """
    found = vars(_CELL.parse_args(_words(line, "%%sandbox")))
    found["results"] = found["results"] or []
    return CellOptions(**found)


def parse_line(line: str) -> tuple[str, argparse.Namespace]:
    """Read the verb of `%sandbox`, and the arguments that it takes.

    Raises:
        MagicError: there is no such verb, or the arguments are not valid.
    """
    verb, *words = _words(line, "%sandbox") or ["help"]
    parser = _VERBS.get("help" if verb in {"-h", "--help"} else verb)
    if parser is None:
        raise MagicError(f"%sandbox: there is no {verb!r}; there are {', '.join(_VERBS)}.")
    # A command keeps its own options; everywhere else they may stand anywhere.
    read = parser.parse_args if verb in _TAKES_COMMAND else parser.parse_intermixed_args
    return parser.prog.removeprefix("%sandbox "), read(words)


def _words(line: str, magic: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise MagicError(
            f"{magic}: {error} in the line. Close the quotation, or escape it by a \\."
        ) from None


def _seconds(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.001 <= seconds <= MAX_TIMEOUT_MS / 1000:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds from 0.001 to {MAX_TIMEOUT_MS // 1000}"
        )
    return round(seconds * 1000)


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name for a variable")
    return text


def _session_name(text: str) -> str:
    if not _SESSION_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: letters, digits, _ . and - make one")
    return text


def _language(text: str) -> str:
    if not _PROGRAM_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a program in the sandbox")
    return text


def _mode(text: str) -> int:
    if not re.fullmatch("[0-7]{1,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a mode in octal, such as 644 or 755")
    return int(text, 8)


def _with_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-s", "--session", type=_session_name, default=DEFAULT_SESSION)


def _cell_parser() -> _Parser:
    parser = _Parser("%%sandbox")
    language = parser.add_mutually_exclusive_group()
    for name in LANGUAGES:
        language.add_argument(f"--{name}", dest="language", action="store_const", const=name)
    language.add_argument("--lang", dest="language", type=_language)
    _with_session(parser)
    parser.add_argument("--timeout", dest="timeout_ms", type=_seconds, default=0)
    parser.add_argument("-o", "--output", dest="results", type=_variable, action="append")
    parser.add_argument("--no-raise", dest="may_fail", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    show = parser.add_mutually_exclusive_group()
    show.add_argument("--show", metavar="DIRECTORY")
    show.add_argument("--no-show", dest="show_nothing", action="store_true")
    parser.add_argument("--scripts", action="store_true")
    return parser


def _verb_parsers() -> dict[str, _Parser]:
    # name, and its arguments besides the session: each a name and what argparse is to know of it
    arguments: dict[str, dict[str, dict[str, Any]]] = {
        "new": {
            "--image": {"default": "python"},
            "--network": {"choices": ("none", "host")},
            "--workspace": {},
            # Without a path it is the kernel's own.
            "--env": {"nargs": "?", "const": "", "metavar": "DIRECTORY"},
        },
        "session": {},
        "sessions": {},
        "info": {},
        "stats": {},
        "vars": {},
        "restart": {},
        "ls": {"path": {"nargs": "?"}},
        "upload": {"names": {"nargs": "+", "metavar": "LOCAL"}},
        "download": {"remote": {"metavar": "REMOTE"}, "local": {"nargs": "?"}},
        "pip": {
            "action": {"choices": ("install", "list")},
            "packages": {"nargs": "*", "metavar": "PACKAGE"},
            "-q": {"action": "store_true", "dest": "quiet"},
            "-U": {"action": "store_true", "dest": "upgrade"},
        },
        "mkdir": {"path": {}},
        "rm": {"path": {}, "-r": {"dest": "recursive", "action": "store_true"}},
        "mv": {"path": {}, "to": {}},
        "cp": {"path": {}, "to": {}},
        "chmod": {"mode": {"type": _mode}, "path": {}},
        "stat": {"path": {}},
        "find": {"pattern": {}, "directory": {"nargs": "?", "default": ""}},
        "grep": {
            "pattern": {},
            "directory": {"nargs": "?", "default": ""},
            "-i": {"dest": "ignore_case", "action": "store_true"},
            "--include": {"default": "**", "metavar": "GLOB"},
        },
        "start": {"command": {"nargs": argparse.REMAINDER}},
        "ps": {},
        "logs": {"process": {}},
        "kill": {"process": {}},
        "reset": {},
        "close": {},
        "help": {},
    }
    parsers: dict[str, _Parser] = {}
    for verb, known in arguments.items():
        parsers[verb] = parser = _Parser(f"%sandbox {verb}")
        if verb not in {"help", "sessions"}:
            _with_session(parser)
        for name, settings in known.items():
            parser.add_argument(name, **settings)
    return parsers


_CELL = _cell_parser()
_VERBS = _verb_parsers()
