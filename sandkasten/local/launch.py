"""Starting the embedded daemon as a child of this process, and ending it.

The client imports only this module of the package, and what it imports, so it needs nothing that the extra
`local` brings.

The daemon lives as long as its owner, this process: it gets a descriptor of the process (a pidfd), which
shows when all threads of that have ended, in whatever way and in whatever namespace. The other end of its
standard input does not: a child that was forked meanwhile holds that as well. For the same reason `stop`
shuts the connection down rather than closing it, and only in the process that started the daemon.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from sandkasten import _codes as codes
from sandkasten.local.interpreter import daemon_command, daemon_environment
from sandkasten.local.limits.values import LimitsError, SessionLimits, read_limits

# What starting takes is imported when it is needed: every program that imports the client loads this.
if TYPE_CHECKING:
    import socket
    import subprocess

    from sandkasten._config import Target
    from sandkasten._options.limits import Limits
    from sandkasten.errors import LocalDaemonError

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_LOG_BYTES = 64 * 1024
_NEEDED = ("httptools", "multipart", "uvicorn")


@dataclass(frozen=True)
class LocalOptions:
    """Options of the embedded daemon.

    Attributes:
        data_dir: where workspaces are kept; None is `SANDKASTEN_DATA_DIR`, else the user's data
            directory (for root /var/lib/sandkasten).
        default_ttl_seconds: the lifetime of sessions that ask for none.
        max_sessions: how many sessions there may be at once.
        pool_size: how many sessions are kept ready in the background, per image that was asked for.
        allow_host_network: whether `create_session(network="host")` may have it.
        limits: what one session may take, where that differs from what suits this machine: any of
            `memory_bytes`, `processes`, `cpus`, `file_bytes`, `tmp_bytes`, `workspace_bytes` and
            `output_bytes`, in a mapping or in `Limits`. Sizes are numbers of bytes, or texts such as "512m"
            and "1g"; in a mapping, "unlimited" takes a limit away.
        allowed_packages: the names of packages that sessions may be given, beside what these need; "all"
            is any, and an empty list none.
        package_index: the URL of the index that they come from; None is where pip looks by itself. A key
            in it is not shown.
        package_constraints: requirements that bound the versions of all packages, such as "numpy<3".
        package_bytes: how large one set of packages may be, with all that it needs.
    """

    data_dir: str | Path | None = None
    default_ttl_seconds: int = 1800
    max_sessions: int = 1000
    pool_size: int = 2
    allow_host_network: bool = True
    limits: SessionLimits | Limits = field(default_factory=SessionLimits)
    allowed_packages: Sequence[str] | Literal["all"] = "all"
    package_index: str | None = field(default=None, repr=False)
    package_constraints: Sequence[str] = ()
    package_bytes: int | str = "4g"

    def __post_init__(self) -> None:
        """Refuse limits that make no sense.

        Raises:
            SandkastenInputError: which limit, and why.
        """
        if not isinstance(self.limits, Mapping):
            object.__setattr__(self, "limits", _given(self.limits))
        try:
            read_limits(cast("SessionLimits", self.limits))
        except (LimitsError, TypeError, AttributeError) as error:
            from sandkasten.errors import SandkastenInputError  # noqa: PLC0415  (with all of httpx)

            text = (
                str(error)
                if isinstance(error, LimitsError)
                else f"limits is {self.limits!r:.200}. Pass a mapping, as {{'memory_bytes': '1g'}}."
            )
            raise SandkastenInputError(text) from None


def _given(limits: object) -> object:
    """Return the limits that a `Limits` has, as a mapping; all else as it is."""
    import attrs  # noqa: PLC0415  (few programs use it)

    from sandkasten._options.limits import Limits  # noqa: PLC0415

    if not isinstance(limits, Limits):
        return limits
    return {name: value for name, value in attrs.asdict(limits).items() if value is not None}


class LocalDaemon:
    """A daemon that runs; `target` is how to reach it."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, target: Target) -> None:
        """Own the process, which ends with this object at the latest."""
        self.target = target
        self.pid = process.pid
        self._stop = weakref.finalize(self, _stop, process, channel, os.getpid())

    def stop(self) -> None:
        """End the daemon with all its sandboxes, and wait until they are gone.

        In a forked child, which does not own it, nothing happens.
        """
        self._stop()


def start_daemon(options: LocalOptions | None = None) -> LocalDaemon:
    """Start a daemon and wait until it serves.

    Raises:
        LocalDaemonError: it cannot run here; the text says what is missing and what fixes it.
    """
    import secrets  # noqa: PLC0415

    _check_platform()
    api_key = secrets.token_urlsafe(32)
    settings = _settings(options or LocalOptions())
    log = os.memfd_create("sandkasten-log")  # no file, which needs a directory that can be written
    try:
        process, channel, owner = _spawn(log)
        try:
            answer = _exchange(channel, settings | {"api_key": api_key, "owner": owner})
        except BaseException:
            _stop(process, channel, os.getpid())
            raise
        if "socket_path" not in answer:
            _stop(process, channel, os.getpid())
            if "error" not in answer:
                raise _failure(_last_words(log), "Look for the reason: python -m sandkasten.local doctor")
            raise _failure(answer["error"], answer.get("hint", ""), answer.get("code"))
    finally:
        os.close(log)
    from sandkasten._config import LOCAL_URL, Target  # noqa: PLC0415  (meanwhile the client imported it)

    target = Target(base_url=LOCAL_URL, api_key=api_key, socket_path=answer["socket_path"])
    return LocalDaemon(process, channel, target)


def _spawn(log: int) -> tuple[subprocess.Popen[bytes], socket.socket, int | None]:
    """Start the process; return it, the way to it, and the descriptor by which it knows its owner."""
    import socket  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    owner = _own_pidfd()
    channel, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            daemon_command(),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=log,
            pass_fds=() if owner is None else (owner,),
            start_new_session=True,  # Ctrl-C at a terminal is only for the client
            cwd="/",
            env=daemon_environment(os.environ),
        )
    except FileNotFoundError:
        channel.close()
        raise _failure(
            f"The embedded daemon needs a Python program, and sys.executable is {sys.executable!r}.",
            "Set it to the path of this Python, or pass base_url= to use another daemon.",
            codes.NO_PYTHON,
        ) from None
    except BaseException:
        channel.close()
        raise
    finally:
        theirs.close()
        if owner is not None:
            os.close(owner)
    return process, channel, owner


def _own_pidfd() -> int | None:
    try:
        return os.pidfd_open(os.getpid())
    except OSError:
        return None  # not allowed here: then the daemon has only its standard input to go by


def _settings(options: LocalOptions) -> dict[str, object]:
    data_dir = options.data_dir or os.environ.get("SANDKASTEN_DATA_DIR") or None
    try:
        full = data_dir and os.path.abspath(os.path.expanduser(data_dir))
        # Whoever reaches it is this user, who can read all that it could mount.
        return {**asdict(options), "data_dir": full, "any_environment": True}
    except FileNotFoundError:
        raise _failure(
            f"data_dir {str(data_dir)!r} is seen from the current directory, which is gone.",
            "Give it in full.",
        ) from None


def _failure(what: str, hint: str = "", code: str | None = None) -> LocalDaemonError:
    from sandkasten.errors import LocalDaemonError  # noqa: PLC0415  (with all of httpx)

    return LocalDaemonError(what, hint, code=code)


def _check_platform() -> None:
    if sys.platform != "linux":
        raise _failure(
            "The embedded daemon runs on Linux only (WSL2 included).",
            "Pass base_url= (or set SANDKASTEN_BASE_URL) to use a daemon on another machine.",
            codes.NOT_LINUX,
        )
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise _failure(
            f"The embedded daemon is not installed ({', '.join(missing)} missing).",
            "Install it: pip install 'sandkasten[local]'. Or pass base_url= to use another daemon.",
            codes.NOT_INSTALLED,
        )


def _exchange(channel: socket.socket, settings: dict[str, object]) -> dict[str, str]:
    """Send the first line and read the answer; the key goes where no other user can see it."""
    import select  # noqa: PLC0415
    import socket  # noqa: PLC0415

    with contextlib.suppress(ConnectionError):
        # A signal for a broken pipe, where this process does not ignore it, would end this process.
        channel.sendall(f"{json.dumps(settings)}\n".encode(), socket.MSG_NOSIGNAL)
    poller = select.poll()  # not `select`, which knows no descriptors beyond 1,023
    poller.register(channel, select.POLLIN)
    if not poller.poll(_START_SECONDS * 1000):
        sentence = f"The embedded daemon did not start within {_START_SECONDS:.0f} seconds."
        return {"error": sentence, "hint": "Try again."}
    with contextlib.suppress(ConnectionError), channel.makefile("rb") as lines:
        words = lines.readline()
        return dict(json.loads(words)) if words else {}
    return {}


def _last_words(log: int) -> str:
    lines = os.pread(log, _LOG_BYTES, max(0, os.fstat(log).st_size - _LOG_BYTES)).decode(errors="replace")
    last = lines.strip().rpartition("\n")[2] or "it said nothing"
    return f"The embedded daemon ended while it started ({last})."


def _stop(process: subprocess.Popen[bytes], channel: socket.socket, owner_pid: int) -> None:
    """Ask the daemon to end, and kill it if it does not."""
    import socket  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    if os.getpid() != owner_pid:  # a forked child; the daemon is its parent's
        channel.close()
        process.returncode = 0  # it is no child of this process, which shall neither wait for it nor warn
        return
    with contextlib.suppress(OSError):  # it is gone
        channel.shutdown(socket.SHUT_RDWR)
    channel.close()
    try:
        _wait(process)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of the daemon.

    Raises:
        TimeoutExpired: it takes too long.
    """
    import select  # noqa: PLC0415

    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # not allowed here
        process.wait(_STOP_SECONDS)
        return
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        # `Popen.wait` with a time limit would look now and then, and sleep between, which delays the end.
        has_ended = bool(poller.poll(_STOP_SECONDS * 1000))
    finally:
        os.close(pidfd)
    process.wait(None if has_ended else 0)
