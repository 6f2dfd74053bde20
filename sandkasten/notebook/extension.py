"""The extension for `%load_ext sandkasten`; the docstrings of the two magics are their help."""

from __future__ import annotations

import atexit
import contextlib
import inspect
from collections.abc import Generator
from typing import Any

from sandkasten.errors import LocalDaemonError, SandkastenError
from sandkasten.notebook.arguments import parse_cell, parse_line
from sandkasten.notebook.cells import Notebook, run_cell
from sandkasten.notebook.displays import register_displays, unregister_displays
from sandkasten.notebook.errors import for_people
from sandkasten.notebook.python.running import Page
from sandkasten.notebook.sessions import NotebookSessions
from sandkasten.notebook.verbs import VERBS

# IPython's own class for it has annotations that two type checkers read in two ways.
Shell = Any

_NAME = "sandbox"


class SandboxMagics:
    """The two magics of one IPython."""

    def __init__(self, ipython: Shell, sessions: NotebookSessions) -> None:
        """Remember where variables live; nothing is started yet."""
        self._ipython = ipython
        self.sessions = sessions

    def cell(self, line: str, cell: str) -> Any:
        """Run the cell in the sandbox; its output appears while it runs.

        Usage: %%sandbox [options]

        The cell is bash, in the session's own shell: directory, variables, functions, background jobs
        and files stay for the next cell. So do variables of Python, whose last value and figures are
        shown. Cells in other languages are fresh programs each, which share files only.

          --python            the cell is Python, in an interpreter that remembers
          --node --R --ruby --perl
                              the cell is a program in that language
          --lang NAME         it is one for the program NAME, which takes a file as its argument;
                              `--lang python3` is a fresh Python
          -s, --session NAME  run it in another session; it is made if there is none (default: main)
          --timeout SECONDS   stop it after that time (default: the daemon's longest, 10 minutes)
          -o, --output NAME   keep the `ExecResult` in the variable NAME; of a Python cell, bring the
                              value of its variable NAME: numbers, texts, lists, dicts, tables of pandas
                              (if it has no such variable, keep the `PythonResult`)
          -q, --quiet         show no output
          --no-raise          a non-zero status is no error
          --show DIRECTORY    show the pictures and pages that it makes below this directory
                              (default: the shell's own; .png .jpg .jpeg .svg .html, at most 8 files)
          --no-show           show none
          --scripts           let the scripts of these pages run: not in the notebook's name, but they
                              can send what the page contains to anybody

        Interrupting the kernel stops the cell; the session goes on.
        """
        with self._errors_for_people():
            options = parse_cell(line)
            session = self.sessions.get(options.session)
            publisher = self._ipython.display_pub
            page = Page(publisher.publish, publisher.clear_output, session.id[:12])
            notebook = Notebook(self._ipython.user_ns, page, self.sessions.directories)
            return run_cell(session, cell, options, notebook)

    def line(self, line: str) -> Any:
        """Look after the notebook's sandboxes.

        Usage: %sandbox VERB [arguments] [-s NAME]

          new [--image IMAGE | --env [DIRECTORY]] [--network host] [--workspace ID]
                                      make a session in place of the one there is; with --env it has
                                      an environment of Python, the notebook's own or another one
          pip install PACKAGE...      install packages of Python, without a network in the sandbox
          pip list                    those that the session was given
          reset                       end the session, and make another one like it
          close                       end the session
          session                     the session as an object, for use from Python
          sessions                    all sessions of this notebook
          info                        what the daemon knows about the session
          stats                       the memory and CPU time that it uses
          vars                        the variables of the sandbox's Python
          restart                     end that Python; the next cell begins without variables
          ls [PATH]                   list a directory
          upload LOCAL... [DIRECTORY/]
                                      copy files and directories into the sandbox; the directory there
                                      ends with a slash
          download REMOTE [LOCAL]     copy a file or a directory out of the sandbox; a file replaces
                                      one of its name
          mkdir PATH                  make a directory, and its parents
          mv PATH TO                  move a file or a directory, also into a directory
          cp PATH TO                  copy one within the sandbox
          rm [-r] PATH                remove a file, or with -r a directory
          chmod MODE PATH             set permissions, such as 755
          stat PATH                   what a path is, how large, and where a symlink leads
          find PATTERN [DIRECTORY]    the paths that match, such as '**/*.csv'
          grep [-i] [--include GLOB] PATTERN [DIRECTORY]
                                      the lines of files that match a regular expression
          start COMMAND               start a command in the background, beside the shell
          ps                          list these processes
          logs PROCESS                what one printed so far; the first characters of its id are enough
          kill PROCESS                end one and all that it started
          help                        show this

        Paths in the sandbox are relative to the shell's directory. Every verb takes -s NAME (--session)
        for another session than main.
        """
        with self._errors_for_people():
            verb, arguments = parse_line(line)
            return self.help() if verb == "help" else VERBS[verb](self.sessions, arguments)

    def help(self) -> None:
        """Print the help of both magics."""
        print(help_text())

    @contextlib.contextmanager
    def _errors_for_people(self) -> Generator[None, None, None]:
        try:
            yield
        except SandkastenError as error:
            if isinstance(error, LocalDaemonError):  # its sessions are gone; the next use starts another one
                self.sessions.close_all()
            raise for_people(error) from None


def help_text() -> str:
    """The help of both magics."""
    parts = {f"%{_NAME}": SandboxMagics.line, f"%%{_NAME}": SandboxMagics.cell}
    return "\n\n".join(f"{name}: {inspect.getdoc(function)}" for name, function in parts.items())


def load(ipython: Shell) -> None:
    """Add the magics and the displays; a second time, it changes nothing."""
    if _loaded(ipython) is not None:
        return
    magics = SandboxMagics(ipython, NotebookSessions())
    ipython.register_magic_function(magics.cell, "cell", _NAME)
    ipython.register_magic_function(magics.line, "line", _NAME)
    register_displays(ipython)
    atexit.register(magics.sessions.close_all)


def unload(ipython: Shell) -> None:
    """End all sessions, and take away what `load` added."""
    magics = _loaded(ipython)
    if magics is None:
        return
    for kind in ("cell", "line"):
        del ipython.magics_manager.magics[kind][_NAME]
    unregister_displays(ipython)
    atexit.unregister(magics.sessions.close_all)
    magics.sessions.close_all()


def _loaded(ipython: Shell) -> SandboxMagics | None:
    function = ipython.magics_manager.magics["cell"].get(_NAME)
    magics = getattr(function, "__self__", None)
    return magics if isinstance(magics, SandboxMagics) else None
