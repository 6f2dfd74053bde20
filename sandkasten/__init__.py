"""Stateful Linux sandboxes for AI agents: a client for Sandkasten daemons, and a daemon of its own.

Start with `SandboxClient`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sandkasten._version import __version__

if TYPE_CHECKING:
    from sandkasten._options.environments import PythonEnvironment
    from sandkasten._packages.calls import PackageInfo
    from sandkasten._python.values import (
        PythonChunk,
        PythonContextInfo,
        PythonFault,
        PythonResult,
        PythonVariable,
        RichResult,
    )
    from sandkasten._transfer.watching import FileChange
    from sandkasten.errors import (
        AuthenticationError,
        CannotStartError,
        CapacityExceededError,
        CommandFailedError,
        ExecTimeoutError,
        ExtensionMissingError,
        InsufficientStorageError,
        InvalidImageError,
        InvalidPatternError,
        InvalidRequestError,
        InvalidWorkspaceError,
        LocalDaemonError,
        LocalFileError,
        NameTakenError,
        NotFoundError,
        PackageError,
        ProcessInputClosedError,
        ProcessNotFoundError,
        PythonError,
        SandboxDirectoryNotEmptyError,
        SandboxFileExistsError,
        SandboxFileNotFoundError,
        SandboxIsDirectoryError,
        SandboxNotADirectoryError,
        SandboxPermissionError,
        SandboxReadOnlyError,
        SandkastenAPIError,
        SandkastenConnectionError,
        SandkastenError,
        SandkastenInputError,
        SandkastenResponseError,
        SandkastenStreamError,
        SandkastenTimeoutError,
        SearchTimeoutError,
        SessionExpiredError,
        SessionNotFoundError,
        TooLargeError,
        WaitTimeoutError,
        WorkspaceNotFoundError,
        WorkspacesDisabledError,
    )
    from sandkasten.local.launch import LocalOptions
    from sandkasten.models import (
        DirEntry,
        EnvironmentInfo,
        ExecChunk,
        ExecResult,
        FileStat,
        Health,
        Limits,
        ProcessChunk,
        ProcessInfo,
        ProcessResult,
        ReadResult,
        SearchMatch,
        SearchResult,
        SessionInfo,
        SessionStats,
        WorkspaceInfo,
    )

    from .client import SandboxClient
    from .process import Process
    from .python import PythonContext, PythonStream
    from .session import Session
    from .stream import ExecStream, Watch
    from .workspace import Workspace

__all__ = [
    "AuthenticationError",
    "CannotStartError",
    "CapacityExceededError",
    "CommandFailedError",
    "DirEntry",
    "EnvironmentInfo",
    "ExecChunk",
    "ExecResult",
    "ExecStream",
    "ExecTimeoutError",
    "ExtensionMissingError",
    "FileChange",
    "FileStat",
    "Health",
    "InsufficientStorageError",
    "InvalidImageError",
    "InvalidPatternError",
    "InvalidRequestError",
    "InvalidWorkspaceError",
    "Limits",
    "LocalDaemonError",
    "LocalFileError",
    "LocalOptions",
    "NameTakenError",
    "NotFoundError",
    "PackageError",
    "PackageInfo",
    "Process",
    "ProcessChunk",
    "ProcessInfo",
    "ProcessInputClosedError",
    "ProcessNotFoundError",
    "ProcessResult",
    "PythonChunk",
    "PythonContext",
    "PythonContextInfo",
    "PythonEnvironment",
    "PythonError",
    "PythonFault",
    "PythonResult",
    "PythonStream",
    "PythonVariable",
    "ReadResult",
    "RichResult",
    "SandboxClient",
    "SandboxDirectoryNotEmptyError",
    "SandboxFileExistsError",
    "SandboxFileNotFoundError",
    "SandboxIsDirectoryError",
    "SandboxNotADirectoryError",
    "SandboxPermissionError",
    "SandboxReadOnlyError",
    "SandkastenAPIError",
    "SandkastenConnectionError",
    "SandkastenError",
    "SandkastenInputError",
    "SandkastenResponseError",
    "SandkastenStreamError",
    "SandkastenTimeoutError",
    "SearchMatch",
    "SearchResult",
    "SearchTimeoutError",
    "Session",
    "SessionExpiredError",
    "SessionInfo",
    "SessionNotFoundError",
    "SessionStats",
    "TooLargeError",
    "WaitTimeoutError",
    "Watch",
    "Workspace",
    "WorkspaceInfo",
    "WorkspaceNotFoundError",
    "WorkspacesDisabledError",
    "__version__",
]

# Where they are, looked through in this order.
_HOMES = (
    "sandkasten.errors",
    "sandkasten.models",
    "sandkasten.local.launch",
    ".client",
    ".process",
    ".python",
    ".session",
    ".stream",
    ".workspace",
    "sandkasten._python.values",
    "sandkasten._options.environments",
    "sandkasten._transfer.watching",
    "sandkasten._packages.calls",
)


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: the daemon and the command line do without httpx."""
    for home in _HOMES if name in __all__ else ():
        module = import_module(home, __name__)
        if hasattr(module, name):
            globals()[name] = getattr(module, name)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """Add the magics `%%sandbox` and `%sandbox`; `%load_ext sandkasten` calls this."""
    from sandkasten.notebook.extension import load  # noqa: PLC0415

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics away, and end their sessions; `%unload_ext sandkasten` calls this."""
    from sandkasten.notebook.extension import unload  # noqa: PLC0415

    unload(ipython)
