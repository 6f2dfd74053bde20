"""A session's Python as the executor of code of an agent; `sandkasten.integrations.google_adk` says more."""

from __future__ import annotations

import hashlib
import mimetypes
from datetime import datetime
from typing import Any

import sandkasten_sync
from sandkasten.errors import ExecTimeoutError, SandkastenInputError
from sandkasten.integrations._missing import missing

try:
    from google.adk.code_executors import BaseCodeExecutor
    from google.adk.code_executors.code_execution_utils import CodeExecutionInput, CodeExecutionResult, File
    from pydantic import PrivateAttr
except ModuleNotFoundError as error:
    raise missing(error, "google-adk") from None

from sandkasten.integrations._text import FIXABLE

__all__ = ["SandkastenCodeExecutor"]

_MOST_SECONDS = 600
_TIMED_OUT, _FAILED = 124, 1
# Of the files that code makes, for the agent's artifacts.
_MOST_FILES, _MOST_FILE_BYTES = 20, 16 * 1024 * 1024


class SandkastenCodeExecutor(BaseCodeExecutor):
    """The Python of a session.

    With `stateful=True` the variables of an ADK session stay; without, each code is a program of its own.
    Files that code makes or changes in /workspace become artifacts: 20 at most, of at most 16 MiB each.
    """

    _session: sandkasten_sync.Session = PrivateAttr()

    def __init__(self, session: sandkasten_sync.Session, **options: Any) -> None:
        """Bind to a session, whose end is somebody else's work.

        Args:
            session: a session of `sandkasten_sync`, since ADK calls executors from threads.
            options: those of ADK's executors, such as `stateful`; `timeout_seconds` is 300 if it is left out,
                and at most 600.

        Raises:
            SandkastenInputError: the session is of the async package, or the time is out of range.
        """
        if not isinstance(session, sandkasten_sync.Session):
            raise SandkastenInputError(
                f"The session is a {type(session).__name__} of {type(session).__module__}.",
                "Pass one of sandkasten_sync: ADK calls executors from threads.",
            )
        options.setdefault("timeout_seconds", 300)
        super().__init__(**options)
        if not 1 <= (self.timeout_seconds or 0) <= _MOST_SECONDS:
            raise SandkastenInputError(
                f"timeout_seconds is {self.timeout_seconds}: it must be 1 to {_MOST_SECONDS}."
            )
        self._session = session

    def execute_code(
        self, invocation_context: Any, code_execution_input: CodeExecutionInput
    ) -> CodeExecutionResult:
        """Run code; what the model can fix is in the result.

        Raises:
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        for file in code_execution_input.input_files:
            self._session.write(file.name, file.content)
        before = self._files()
        try:
            exit_code, stdout, stderr = self._run(code_execution_input)
        except ExecTimeoutError as error:
            said = f"The code was stopped after {self.timeout_seconds} seconds."
            return CodeExecutionResult(error.stdout, f"{error.stderr}\n{said}".lstrip(), [], _TIMED_OUT)
        except FIXABLE as error:
            return CodeExecutionResult("", str(error), [], _FAILED)
        # To ADK any text in stderr is a failure, and a program may warn of something without one.
        if exit_code == 0:
            stdout, stderr = stdout + stderr, ""
        elif not stderr:
            stderr = f"The code ended with the exit code {exit_code}."
        return CodeExecutionResult(stdout, stderr, self._new_files(before), exit_code)

    def _run(self, given: CodeExecutionInput) -> tuple[int, str, str]:
        timeout_ms = (self.timeout_seconds or _MOST_SECONDS) * 1000
        if not self.stateful:
            done = self._session.run(["python3", "-"], input=given.code, timeout_ms=timeout_ms)
            return done.exit_code, done.stdout, done.stderr
        context = "adk-" + hashlib.sha256((given.execution_id or "").encode()).hexdigest()[:24]
        result = self._session.python(given.code, context=context, timeout_ms=timeout_ms)
        value = "" if result.value is None else f"{result.value}\n"
        fault = "" if result.error is None else f"{result.error}\n"
        return _FAILED if result.error else 0, result.stdout + value, result.stderr + fault

    def _files(self) -> dict[str, tuple[int | None, datetime | None]]:
        entries = self._session.list()
        return {
            entry.name: (entry.size_bytes, entry.modified_at) for entry in entries if entry.kind == "file"
        }

    def _new_files(self, before: dict[str, tuple[int | None, datetime | None]]) -> list[File]:
        new = [name for name, state in self._files().items() if before.get(name) != state]
        files: list[File] = []
        for name in new[:_MOST_FILES]:
            found = self._session.read(name, max_bytes=_MOST_FILE_BYTES)
            if not found.truncated:
                kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
                files.append(File(name, found.content, kind))
        return files
