"""The real executable, in a home of its own."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cli.warm import Warm

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLE = Path(sys.executable).parent / "sandkasten"
_SECONDS = 40
# Variables that only the command line itself reads, once it is loaded.
_READ_LATE = re.compile(r"(SANDKASTEN|XDG|_SANDKASTEN|COMP)_")


class Home:
    """One user's environment, and the command line as that user calls it."""

    def __init__(self, directory: Path, warm: Warm) -> None:
        self.directory = directory
        self.was_used = False
        self._warm = warm
        self.runtime = directory / "run"
        for path in (self.runtime, directory / "home"):
            path.mkdir(mode=0o700)
        (directory / "data").mkdir(mode=0o711)
        self.environ = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "PYTHONPATH": str(ROOT),
            "HOME": str(directory / "home"),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "SANDKASTEN_DATA_DIR": str(directory / "data"),
        }

    def start(self, *words: str | Path, **settings: Any) -> subprocess.Popen[bytes]:
        """Start a command; its standard input is empty, unless something is said."""
        self.was_used = True
        settings = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | settings
        settings["env"] = self.environ | settings.get("env", {})
        settings.setdefault("cwd", self.directory / "home")
        return subprocess.Popen([EXECUTABLE, *map(str, words)], **settings)

    def run(
        self, *words: str | Path, expect: int | None = 0, feed: bytes | None = None, **settings: Any
    ) -> Done:
        """Run a command to its end; its exit code must be the expected one, if one is.

        In a process that has loaded the command line already, unless settings of the test matter earlier.
        """
        env = settings.get("env", {})
        if settings.keys() <= {"cwd", "env"} and all(map(_READ_LATE.match, env)):
            self.was_used = True
            cwd = settings.get("cwd", self.directory / "home")
            environ = self.environ | env
            code, stdout, stderr = self._warm.run([*map(str, words)], environ, cwd, feed, _SECONDS)
        else:
            code, stdout, stderr = self._run_anew(words, feed, settings)
        done = Done(code, stdout, stderr.decode())
        assert "Traceback" not in done.stderr, done.stderr
        if expect is not None:
            assert done.code == expect, f"{words}: {done}"
        return done

    def _run_anew(
        self, words: Sequence[str | Path], feed: bytes | None, settings: dict[str, Any]
    ) -> tuple[int, bytes, bytes]:
        """Run the executable itself."""
        if feed is not None:
            settings["stdin"] = subprocess.PIPE
        with self.start(*words, **settings) as process:
            try:
                stdout, stderr = process.communicate(feed, timeout=_SECONDS)
            except BaseException:
                process.kill()
                raise
        return process.returncode, stdout or b"", stderr or b""

    def __call__(self, *words: str | Path, **settings: Any) -> str:
        """Return the output of a command that succeeds."""
        return self.run(*words, **settings).text


class Done:
    """The end of a command."""

    def __init__(self, code: int, stdout: bytes, stderr: str) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def sentence(self) -> str:
        """Standard error, which must be one line, without anything on standard output."""
        assert self.stdout == b""
        return self.sentence_beside_data

    @property
    def sentence_beside_data(self) -> str:
        """Standard error, which must be one line."""
        assert self.stderr.count("\n") == 1, self.stderr
        return self.stderr

    def __repr__(self) -> str:
        return f"<{self.code} {self.stdout[-2000:]!r} {self.stderr[-2000:]!r}>"


def on_a_terminal(home: Home, *words: str | Path, env: dict[str, str] | None = None) -> str:
    """Return the output of a command on a terminal, standard error included."""
    ours, theirs = pty.openpty()
    environ = {"COLUMNS": "150"} | (env or {})
    with home.start(*words, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            pass  # the end of a terminal
        os.close(ours)
        process.communicate()
    return shown.decode()
