"""The numbers, names and codes of the wire, each once: client, daemon and command line take them from here.

The fake daemon of `sandkasten.testing` keeps its own, so that one wrong number cannot agree with itself.
"""

from __future__ import annotations

import re

# --- numbers

# The most that a command may ask for, and what it gets if `timeout_ms` is 0.
MAX_TIMEOUT_MS = 600_000
MAX_TTL_SECONDS = 86_400
MAX_COMMAND_BYTES = 1024 * 1024
# All arguments and variables of one process beside the shell, and the input of one that comes as JSON; more
# input goes as a part of a form.
MAX_PROGRAM_BYTES = 2 * 1024 * 1024  # a quarter of the usual limit for a stack: Linux starts nothing beyond
MAX_JSON_INPUT_BYTES = 1024 * 1024
# A process may run for as long as its session; this is only what a number may be: three years.
MAX_PROCESS_MS = 100_000_000_000
# The columns and rows of a terminal.
MAX_TERMINAL_SIZE = 10_000
# What one answer of `fs/read` may hold, and what it holds if nothing else is asked for.
MAX_JSON_READ_BYTES = 100 * 1024 * 1024
DEFAULT_JSON_READ_BYTES = 10 * 1024 * 1024
# How often a daemon with the extension `keep-alive` can be asked to send something while a command runs; with
# `resume` it sends something on a stream at least as often as the maximum.
MIN_KEEP_ALIVE_MS = 20
MAX_KEEP_ALIVE_MS = 15_000

# --- names

WORKSPACE = "/workspace"
# Daemons make ids such as 1a2b3c4d-5e6 or UUIDs; anything else could only change the meaning of the URL.
SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
# A daemon with a tag is one of several behind a gateway, and its ids say so: n1-1a2b3c4d-5e6.
NODE_TAG = re.compile(r"[a-z][a-z0-9]{0,31}")
TAGGED_SESSION_ID = re.compile(rf"({NODE_TAG.pattern})-[0-9a-f]{{8}}-[0-9a-f]{{3}}")
NODE_TAG_FORM = "1 to 32 characters of a-z and 0-9, of which the first is a letter"
WORKSPACE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}[a-z0-9]")
WORKSPACE_ID_FORM = "2 to 64 characters of a-z, 0-9 and -, without a dash at either end"
PROCESS_ID = re.compile(r"[0-9a-f]{32}")
PYTHON_CONTEXT = re.compile(r"[A-Za-z0-9._-]{1,64}")
DEFAULT_CONTEXT = "default"
NETWORKS = ("none", "host")

KEEP_ALIVE_HEADER = "X-Keep-Alive-Ms"
FILE_MODE_HEADER = "X-File-Mode"

# With this field the embedded daemon says that a `DELETE` had nothing to do. It succeeds then as well, since
# clients written for the Go daemon rely on that.
ALREADY_DESTROYED = "already_destroyed"


class Extension:
    """The names that a daemon may list in `/healthz`: its abilities beyond the common protocol."""

    ENVIRONMENTS = "environments"
    EXEC_OPTIONS = "exec-options"
    FILES = "files"
    IDEMPOTENCY = "idempotency"
    INTERRUPT = "interrupt"
    KEEP_ALIVE = "keep-alive"
    NETWORK = "network"
    PACKAGES = "packages"
    PIPES = "pipes"
    PROCESSES = "processes"
    PYTHON = "python"
    RESUME = "resume"
    SESSION_OPTIONS = "session-options"
    WATCH = "watch"


# What the embedded daemon lists; `processes` and `python` only where its sandboxes can start programs, and
# `environments` only where a session may have one.
EXTENSIONS = (
    Extension.ENVIRONMENTS,
    Extension.EXEC_OPTIONS,
    Extension.FILES,
    Extension.IDEMPOTENCY,
    Extension.INTERRUPT,
    Extension.KEEP_ALIVE,
    Extension.NETWORK,
    Extension.PACKAGES,
    Extension.PIPES,
    Extension.PROCESSES,
    Extension.PYTHON,
    Extension.RESUME,
    Extension.SESSION_OPTIONS,
    Extension.WATCH,
)

# --- codes


class Code:
    """The `error_code` of an answer that is an error. `sandkasten.errors` has a class for many of them."""

    CANCELLED = "CANCELLED"
    CANNOT_START = "CANNOT_START"
    CAPACITY_EXCEEDED = "CAPACITY_EXCEEDED"
    COMMAND_TIMEOUT = "COMMAND_TIMEOUT"
    CONFLICT = "CONFLICT"
    DIRECTORY_NOT_EMPTY = "DIRECTORY_NOT_EMPTY"
    FILE_EXISTS = "FILE_EXISTS"
    FILE_NOT_FOUND = "FILE_NOT_FOUND"
    IMAGE_BUSY = "IMAGE_BUSY"
    IMAGE_EXISTS = "IMAGE_EXISTS"
    IMAGE_IN_USE = "IMAGE_IN_USE"
    IMAGE_NOT_FOUND = "IMAGE_NOT_FOUND"
    INPUT_CLOSED = "INPUT_CLOSED"
    INSUFFICIENT_STORAGE = "INSUFFICIENT_STORAGE"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    INVALID_IMAGE = "INVALID_IMAGE"
    INVALID_PATTERN = "INVALID_PATTERN"
    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_WORKSPACE = "INVALID_WORKSPACE"
    IS_DIRECTORY = "IS_DIRECTORY"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    NAME_TAKEN = "NAME_TAKEN"
    NODE_UNREACHABLE = "NODE_UNREACHABLE"
    NOT_A_DIRECTORY = "NOT_A_DIRECTORY"
    NOT_FOUND = "NOT_FOUND"
    PACKAGE_FAILED = "PACKAGE_FAILED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    PROCESS_NOT_FOUND = "PROCESS_NOT_FOUND"
    READ_ONLY = "READ_ONLY"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    RESULT_GONE = "RESULT_GONE"
    SEARCH_TIMEOUT = "SEARCH_TIMEOUT"
    SESSION_EXPIRED = "SESSION_EXPIRED"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    UNAUTHORIZED = "UNAUTHORIZED"
    WORKSPACE_NOT_FOUND = "WORKSPACE_NOT_FOUND"
    WORKSPACES_DISABLED = "WORKSPACES_DISABLED"
