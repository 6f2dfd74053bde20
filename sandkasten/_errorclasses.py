"""The class of each error code; pure."""

from __future__ import annotations

from collections.abc import Mapping

from sandkasten._protocol import Code
from sandkasten.errors import (
    AuthenticationError,
    CannotStartError,
    CapacityExceededError,
    ExecTimeoutError,
    InsufficientStorageError,
    InvalidImageError,
    InvalidPatternError,
    InvalidRequestError,
    InvalidWorkspaceError,
    NameTakenError,
    PackageError,
    ProcessInputClosedError,
    ProcessNotFoundError,
    SandboxDirectoryNotEmptyError,
    SandboxFileExistsError,
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandboxNotADirectoryError,
    SandboxPermissionError,
    SandboxReadOnlyError,
    SandkastenAPIError,
    SearchTimeoutError,
    SessionExpiredError,
    SessionNotFoundError,
    WorkspaceNotFoundError,
    WorkspacesDisabledError,
)

BY_ERROR_CODE: Mapping[str, type[SandkastenAPIError]] = {
    Code.UNAUTHORIZED: AuthenticationError,
    Code.INVALID_REQUEST: InvalidRequestError,
    Code.INVALID_IMAGE: InvalidImageError,
    Code.INVALID_WORKSPACE: InvalidWorkspaceError,
    Code.INVALID_PATTERN: InvalidPatternError,
    Code.NAME_TAKEN: NameTakenError,
    Code.SEARCH_TIMEOUT: SearchTimeoutError,
    Code.IS_DIRECTORY: SandboxIsDirectoryError,
    Code.NOT_A_DIRECTORY: SandboxNotADirectoryError,
    Code.FILE_EXISTS: SandboxFileExistsError,
    Code.DIRECTORY_NOT_EMPTY: SandboxDirectoryNotEmptyError,
    Code.SESSION_NOT_FOUND: SessionNotFoundError,
    Code.WORKSPACE_NOT_FOUND: WorkspaceNotFoundError,
    Code.FILE_NOT_FOUND: SandboxFileNotFoundError,
    Code.PROCESS_NOT_FOUND: ProcessNotFoundError,
    Code.INPUT_CLOSED: ProcessInputClosedError,
    Code.CANNOT_START: CannotStartError,
    Code.PACKAGE_FAILED: PackageError,
    Code.PERMISSION_DENIED: SandboxPermissionError,
    Code.READ_ONLY: SandboxReadOnlyError,
    Code.WORKSPACES_DISABLED: WorkspacesDisabledError,
    Code.SESSION_EXPIRED: SessionExpiredError,
    Code.CAPACITY_EXCEEDED: CapacityExceededError,
    Code.COMMAND_TIMEOUT: ExecTimeoutError,
    Code.INSUFFICIENT_STORAGE: InsufficientStorageError,
}
