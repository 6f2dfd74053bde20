"""The daemon's errors, as the wire protocol names them."""

from __future__ import annotations

from collections.abc import Mapping
from errno import EAGAIN, EMFILE, ENFILE, ENOMEM, ENOSPC
from typing import Any

from sandkasten._protocol import Code

# What is used up where a sandbox cannot be started, by the error.
_EXHAUSTED: Mapping[int, str] = {
    ENOSPC: "pseudo-terminals (kernel.pty.max)",
    EMFILE: "open files for the daemon (ulimit -n)",
    ENFILE: "open files (fs.file-max)",
    EAGAIN: "processes (ulimit -u)",
    ENOMEM: "bytes of memory",
}


class ApiError(Exception):
    """An answer that is an error: status, code and sentence."""

    def __init__(
        self, status: int, code: str, message: str, *, details: Mapping[str, Any] | None = None
    ) -> None:
        """Hold what will be sent."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        body: dict[str, Any] = {"error_code": self.code, "message": self.message}
        if self.details is not None:
            body["details"] = self.details
        return body


def invalid_request(message: str) -> ApiError:
    """A request that cannot be understood, or may not be."""
    return ApiError(400, Code.INVALID_REQUEST, message)


def exhausted(error: OSError) -> ApiError | None:
    """Return what a client is answered where a sandbox could not be started, if something was used up."""
    too_few = _EXHAUSTED.get(error.errno or 0)
    if too_few is None:
        return None
    says = f"For another session this machine has too few {too_few} left."
    return ApiError(503, Code.CAPACITY_EXCEEDED, f"{says} Destroy some sessions, or try later.")


class IsolationError(Exception):
    """This machine cannot isolate code; the daemon must not start.

    Attributes:
        what: the sentence that says why not.
        hint: how to fix it; empty if that is not known.
        complaint: bubblewrap's own words, if bubblewrap failed.
    """

    def __init__(self, what: str, hint: str = "", *, complaint: str | None = None) -> None:
        """Keep the sentences, and join them into the text."""
        super().__init__(" ".join(filter(None, (what, hint))))
        self.what = what
        self.hint = hint
        self.complaint = complaint


class SandboxLostError(Exception):
    """The sandbox ended, or could not be brought back in order."""


class CalledOffError(SandboxLostError):
    """Nobody waited for the job any more, before it began; the session goes on."""
