"""From a cell's text to the command that runs it in the session's shell; pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

# The cell's text lies there while it runs, out of sight of the user's files. Programs that the cell
# starts may replace it, which changes nothing but what they themselves see.
_FILE = "/tmp/cell"  # noqa: S108  (the sandbox's own)

# How each language is run, so that a cell finds the modules in the shell's directory. Node resolves
# `require("./x")` from where its file lies, or for standard input from the directory.
LANGUAGES: Mapping[str, str] = {
    "python": f'PYTHONPATH="$PWD${{PYTHONPATH:+:$PYTHONPATH}}" python3 {_FILE}.py',
    "node": f"node - <{_FILE}.js",
    "R": f"Rscript {_FILE}.R",
    "ruby": f"ruby -I . {_FILE}.rb",
    "perl": f"perl -I . {_FILE}.pl",
}


def shell_command(cell: str, language: str | None) -> str:
    """The command that runs a cell: itself, if it is shell, else its program with the text in a file.

    The text begins with an empty line in place of the magic, so that the line numbers of messages are
    those of the notebook.
    """
    if language is None:
        return cell
    run = LANGUAGES.get(language, f"{language} {_FILE}.txt")
    file = run.rpartition(_FILE)[2]
    return f"builtin printf '\\n%s' {shlex.quote(cell)} >|{_FILE}{file} && {run}"
