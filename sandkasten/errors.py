"""Every way a call can fail, shared by both packages.

Each one is a `SandkastenError`, and so an `httpx.HTTPError`; a class in parentheses is one more base::

    SandkastenError(httpx.HTTPError)
    ├── SandkastenInputError(ValueError)            refused before anything was sent
    │   └── LocalFileError(FileNotFoundError)       a file to upload is not there
    ├── SandkastenConnectionError(TransportError)   the daemon was not reached, or was lost
    │   ├── SandkastenTimeoutError(TimeoutException)    it stayed silent for too long
    │   └── LocalDaemonError                        the embedded daemon could not start, or ended
    ├── SandkastenResponseError(DecodingError)      an answer that is not Sandkasten's
    ├── SandkastenStreamError(RemoteProtocolError)  a stream that broke, or reported a failure
    ├── ExtensionMissingError                       this daemon cannot do that
    ├── CommandFailedError                          raised by `check()` of a result
    ├── PythonError                                 raised by `check()` of a `PythonResult`
    ├── WaitTimeoutError(TimeoutError)              a process that was waited for goes on
    ├── TooLargeError                               more than `max_bytes`, or than fits on this side
    └── SandkastenAPIError(httpx.HTTPStatusError)   the daemon said no
        ├── AuthenticationError                     401 UNAUTHORIZED
        ├── InvalidRequestError                     400 INVALID_REQUEST
        │   ├── InvalidImageError                   400 INVALID_IMAGE
        │   ├── InvalidWorkspaceError               400 INVALID_WORKSPACE
        │   ├── InvalidPatternError                 400 INVALID_PATTERN
        │   ├── SandboxIsDirectoryError(IsADirectoryError)          400 IS_DIRECTORY
        │   ├── SandboxNotADirectoryError(NotADirectoryError)       400 NOT_A_DIRECTORY
        │   ├── CannotStartError                    400 CANNOT_START
        │   └── PackageError                        400 PACKAGE_FAILED
        ├── NotFoundError
        │   ├── SessionNotFoundError                404 SESSION_NOT_FOUND
        │   ├── WorkspaceNotFoundError              404 WORKSPACE_NOT_FOUND
        │   ├── ProcessNotFoundError                404 PROCESS_NOT_FOUND
        │   └── SandboxFileNotFoundError(FileNotFoundError)         404 FILE_NOT_FOUND
        ├── ProcessInputClosedError(BrokenPipeError)    409 INPUT_CLOSED
        ├── SandboxPermissionError(PermissionError)                 403 PERMISSION_DENIED
        │   └── SandboxReadOnlyError                /workspace is read-only
        ├── NameTakenError                          409 NAME_TAKEN
        ├── SearchTimeoutError                  504 SEARCH_TIMEOUT
        ├── SandboxFileExistsError(FileExistsError)                 409 FILE_EXISTS
        ├── SandboxDirectoryNotEmptyError(OSError)                  409 DIRECTORY_NOT_EMPTY
        ├── WorkspacesDisabledError                 this daemon keeps no workspaces
        ├── SessionExpiredError                     410 SESSION_EXPIRED
        ├── CapacityExceededError                   429 CAPACITY_EXCEEDED
        ├── ExecTimeoutError                        504 COMMAND_TIMEOUT
        └── InsufficientStorageError                507 INSUFFICIENT_STORAGE

Every error has a sentence (`what`), advice on what to do (`hint`), and a `code` where its class leaves
several cases open, so that no program needs to read sentences: the daemon's `error_code`, or one of these::

    UNREACHABLE     SandkastenConnectionError   nothing answers at the address
    NOT_SANDKASTEN  SandkastenResponseError     a web page or a proxy answered, not a daemon
    NOT_LINUX       LocalDaemonError            the embedded daemon does not run on this system
    NOT_INSTALLED   LocalDaemonError            its packages are missing
    NO_PYTHON       LocalDaemonError            sys.executable is not a Python program
    NO_ISOLATION    LocalDaemonError            this machine cannot isolate code
    ENDED           LocalDaemonError            the embedded daemon is no longer there
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import httpx

from sandkasten import _errorparts as parts
from sandkasten._brief import in_brief
from sandkasten._names import param_of

if TYPE_CHECKING:
    from sandkasten._python.values import PythonResult
    from sandkasten.models import ExecResult, ProcessResult


class SandkastenError(httpx.HTTPError):
    """The root of all errors of this library; its text is `what`, and then `hint`.

    Attributes:
        what: the sentence that says what happened.
        hint: advice on what to do, in terms of this library's arguments; empty if there is none.
        code: a word for the case where a class has several, listed in `sandkasten.errors`; None otherwise.
        request_id: the `X-Request-ID` of the call, to find it in the daemon's log; None if nothing was sent.
    """

    what: str
    hint: str = ""
    code: str | None = None
    request_id: str | None = None

    def __init__(self, what: str = "", hint: str = "", *, code: str | None = None) -> None:
        """Keep the sentences and the code, and join the sentences into the text."""
        super().__init__(parts.joined(what, hint))
        self.what, self.hint, self.code = what, hint, code

    def __str__(self) -> str:  # that of Python's own errors about files would show number and path instead
        return str(self.args[0]) if self.args else ""

    def _render_traceback_(self) -> list[str]:  # the name that IPython looks for
        return in_brief(self, str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error be pickled and copied whatever its class takes to be made; the key stays behind."""
        return parts.remade, (type(self), self.args, parts.state_of(self))


class SandkastenInputError(SandkastenError, ValueError):
    """An argument that no daemon could accept; nothing was sent."""


class LocalFileError(SandkastenInputError, FileNotFoundError):
    """A file to upload does not exist on this side; nothing was sent."""


class SandkastenConnectionError(SandkastenError, httpx.TransportError):
    """The daemon was not reached, or the connection was lost before the answer.

    Attributes:
        never_sent: whether it is certain that the daemon got nothing of the call.
    """

    def __init__(
        self, what: str, hint: str = "", *, code: str | None = None, never_sent: bool = False
    ) -> None:
        """Keep the sentences, the code, and whether anything was sent."""
        super().__init__(what, hint, code=code)
        self.never_sent = never_sent


class SandkastenTimeoutError(SandkastenConnectionError, httpx.TimeoutException):
    """The daemon stayed silent for longer than the call allows; for commands there is `ExecTimeoutError`."""


class LocalDaemonError(SandkastenConnectionError):
    """The embedded daemon could not start, or it ended; the text says why and how to fix it."""


class SandkastenResponseError(SandkastenError, httpx.DecodingError):
    """A successful answer that is not what Sandkasten answers: HTML of a proxy, a missing field."""

    def __init__(
        self, what: str, hint: str = "", *, code: str | None = None, request_id: str | None = None
    ) -> None:
        """Keep the sentences, the code and the request's id."""
        super().__init__(what, hint, code=code)
        self.request_id = request_id


class SandkastenStreamError(SandkastenError, httpx.RemoteProtocolError):
    """A stream that was cut before its end, or that reported a failure without an error code.

    Attributes:
        output: what was received; of more than the stream keeps (1 MiB), head and tail.
    """

    def __init__(self, what: str, hint: str = "", *, output: str = "") -> None:
        """Keep the sentences and the output received so far."""
        super().__init__(what, hint)
        self.output = output


class ExtensionMissingError(SandkastenError):
    """The daemon does not list the extension that a call needs; nothing was sent."""


class CommandFailedError(SandkastenError):
    """A command ended with a non-zero status and `check()` of its result was asked.

    Attributes:
        result: the whole result, with `exit_code` and `output`.
    """

    def __init__(self, result: ExecResult | ProcessResult) -> None:
        """Make a text of the status and the last line of the output, which is mostly the reason."""
        super().__init__(parts.text_of_end(result.exit_code, result.end, result.output))
        self.result = result


class PythonError(SandkastenError):
    """Code raised an exception, or its interpreter ended, and `check()` of its `result` was asked."""

    def __init__(self, result: PythonResult) -> None:
        """Make a text of the short traceback."""
        super().__init__("" if result.error is None else str(result.error))
        self.result = result


class WaitTimeoutError(SandkastenError, TimeoutError):
    """A process did not end while it was waited for; nothing happened to it, and it goes on."""


class TooLargeError(SandkastenError):
    """A download exceeds `max_bytes`, or the room on this side; nothing of it was kept."""


class SandkastenAPIError(SandkastenError, httpx.HTTPStatusError):
    """The daemon answered with an error.

    Attributes:
        status_code: the HTTP status; of an error in a stream the one that the daemon would have given,
            if it says so.
        error_code: the daemon's word for it, such as `SESSION_NOT_FOUND`, and the same as `code`; None
            from a proxy.
        message: the daemon's sentence.
        details: what else the daemon said, by error code.
        request_id: the `X-Request-ID` of the answer, to find the call in the daemon's log.
    """

    def __init__(
        self,
        message: str,
        *,
        response: httpx.Response,
        status_code: object = None,
        error_code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Join the daemon's sentence, its codes and what to do into one text."""
        self.status_code = status_code if isinstance(status_code, int) else response.status_code
        self.what = parts.as_sentence(message)
        self.code = self.error_code = error_code
        self.message = message
        self.details: Mapping[str, Any] = dict(details or {})
        self.request_id = response.headers.get("x-request-id")
        origin = parts.origin_of(self.status_code, error_code, self.request_id)
        text = parts.joined(self.what, self.hint, origin)
        httpx.HTTPStatusError.__init__(self, text, request=response.request, response=response)

    @property
    def retry_after_seconds(self) -> float | None:
        """The time that the answer asks to wait before the next attempt; None if it does not say."""
        return parts.seconds_in(self.response.headers.get("retry-after"))


class _PathError(SandkastenAPIError, OSError):
    """The base of errors about a path in the sandbox, which are Python's own as well.

    Attributes:
        errno: the number of Python's own error.
        strerror: its words.
        filename: the path that it is about, where that is known.
        filename2: the other path, of a call that takes two.
    """

    number: ClassVar[int] = errno.EIO

    def __init__(self, message: str, *, response: httpx.Response, **answer: Any) -> None:
        """Keep what the daemon said, and which path it is about."""
        super().__init__(message, response=response, **answer)
        self.errno, self.strerror = self.number, os.strerror(self.number)
        self.filename = parts.path_in(self.details, "path") or param_of(response.request.url.query, "path")
        self.filename2 = parts.path_in(self.details, "other_path")


class AuthenticationError(SandkastenAPIError):
    """The API key is missing or wrong."""

    hint = "Pass api_key=, or set SANDKASTEN_API_KEY to the daemon's key."


class InvalidRequestError(SandkastenAPIError):
    """The daemon refuses an argument: a path outside /workspace, a body that is too large."""


class InvalidImageError(InvalidRequestError):
    """The daemon does not have that image, or does not allow it."""


class InvalidWorkspaceError(InvalidRequestError):
    """The workspace id is not well formed."""


class InvalidPatternError(InvalidRequestError):
    """The regular expression of a search is not one."""


class SandboxIsDirectoryError(_PathError, InvalidRequestError, IsADirectoryError):
    """The path is a directory where a file is needed."""

    hint = "Name a file; list() and download() take directories."
    number = errno.EISDIR


class SandboxNotADirectoryError(_PathError, InvalidRequestError, NotADirectoryError):
    """The path, or something on the way to it, is not a directory where one is needed."""

    hint = "Look at what is there with stat()."
    number = errno.ENOTDIR


class SandboxFileExistsError(_PathError, FileExistsError):
    """Something is at the path already."""

    hint = "Remove it, or choose another path."
    number = errno.EEXIST


class SandboxDirectoryNotEmptyError(_PathError):
    """The directory has something in it."""

    hint = "Pass recursive=True to remove() to delete all of it."
    number = errno.ENOTEMPTY


class CannotStartError(parts.StartFacts, InvalidRequestError):
    """A program is not there, or cannot be executed, or its directory is not there."""

    hint = "Check the command and its directory; a string instead of a list is run by bash."


class PackageError(InvalidRequestError):
    """A package cannot be had; `details` has the reason as one word, and mostly the package's name."""


class NotFoundError(SandkastenAPIError):
    """Something that was named does not exist."""


class SessionNotFoundError(NotFoundError):
    """The daemon knows no such session: it was destroyed, or never made, or expired long ago."""

    hint = "Make a new one with create_session()."


class WorkspaceNotFoundError(NotFoundError):
    """The daemon has no such workspace; writing a file to it makes one."""

    hint = "Write a file to it, or make a session with it, and it is there."


class ProcessNotFoundError(NotFoundError):
    """The session knows no such process: there was none, or it ended long ago."""

    hint = "Look for it with processes(); of those that ended the last 64 are kept."


class SandboxFileNotFoundError(_PathError, NotFoundError, FileNotFoundError):
    """The path does not exist in the sandbox."""

    hint = "Look for it with list()."
    number = errno.ENOENT


class SandboxPermissionError(_PathError, PermissionError):
    """The file's own permissions in the sandbox do not allow it."""

    hint = "Change its mode with chmod()."
    number = errno.EACCES


class SandboxReadOnlyError(SandboxPermissionError):
    """/workspace is read-only in this session."""

    hint = "Pass workspace_id= to create_session(): on this daemon, only such a session may write there."
    number = errno.EROFS


class WorkspacesDisabledError(SandkastenAPIError):
    """The daemon keeps no workspaces."""

    hint = "Its operator can enable them (workspace.enabled), or use the embedded daemon."


class ProcessInputClosedError(SandkastenAPIError, BrokenPipeError):
    """Nobody reads a process's standard input any more: it was closed, or the process ended."""

    hint = "Start a process that is to read its input with stdin=True."


class SessionExpiredError(SandkastenAPIError):
    """The session's lifetime passed and its sandbox is gone."""

    hint = "Make a new one with create_session(), with a longer ttl_seconds if need be."


class CapacityExceededError(SandkastenAPIError):
    """The daemon has as many sessions as it may have."""

    hint = "Destroy sessions that are not needed, or try again later."


class NameTakenError(SandkastenAPIError):
    """A running session has the name already."""


class SearchTimeoutError(SandkastenAPIError):
    """A search outran its `timeout_ms`: there is too much to look through, or the pattern explodes."""


class ExecTimeoutError(parts.CommandDetails, SandkastenAPIError):
    """A command outran its `timeout_ms` and was stopped; the session goes on."""

    hint = "The session goes on; give the command a larger timeout_ms if it needs longer."


class InsufficientStorageError(parts.CommandDetails, SandkastenAPIError):
    """The workspace or the daemon's disk is full; a command that filled it was stopped, and can delete."""
