"""Starting the embedded daemon as a child of this process, and ending it.

This is the only module of the package that the client imports, so it needs nothing that the extra
`local` brings. The daemon lives as long as its standard input, whose other end is held here: it goes
when it is told to, when the client is dropped, and when this process ends in whatever way.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

# What starting takes is imported when it is needed: every program that imports the client loads this.
if TYPE_CHECKING:
    import subprocess

    from sandkasten._config import Target
    from sandkasten.errors import LocalDaemonError

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
# It has the same modules as this process, in the same order, but for the standard library's, which go
# first, lest a script's `queue.py` becomes the daemon's.
_BOOT = "import sys; sys.path += sys.argv[1:]; from sandkasten.local.serve import main; main()"
_NEEDED = ("httptools", "multipart", "starlette", "uvicorn")


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
            `output_bytes`; "unlimited" takes one away.
    """

    data_dir: str | Path | None = None
    default_ttl_seconds: int = 1800
    max_sessions: int = 1000
    pool_size: int = 2
    allow_host_network: bool = True
    limits: Mapping[str, int | float | str] = field(default_factory=dict[str, int | float | str])


class LocalDaemon:
    """A daemon that runs; `target` is how to reach it."""

    def __init__(self, process: subprocess.Popen[bytes], target: Target) -> None:
        """Own the process; it ends with this object at the latest."""
        self.target = target
        self.pid = process.pid
        self._stop = weakref.finalize(self, _stop, process)

    def stop(self) -> None:
        """End the daemon with all its sandboxes, and wait until they are gone."""
        self._stop()


def start_daemon(options: LocalOptions | None = None) -> LocalDaemon:
    """Start a daemon and wait until it serves.

    Raises:
        LocalDaemonError: it cannot run here; the text says what is missing and what mends it.
    """
    import secrets  # noqa: PLC0415
    import subprocess  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    _check_platform()
    api_key = secrets.token_urlsafe(32)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, *_module_paths()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C at a terminal is for the client alone
            cwd="/",
        )
        try:
            answer = _exchange(process, options or LocalOptions(), api_key)
        except BaseException:
            _stop(process)
            raise
        if "socket_path" not in answer:
            _stop(process)
            raise _failure(answer.get("error") or _last_words(log))
    from sandkasten._config import LOCAL_URL, Target  # noqa: PLC0415  (meanwhile the client imported it)

    target = Target(base_url=LOCAL_URL, api_key=api_key, socket_path=answer["socket_path"])
    return LocalDaemon(process, target)


def _failure(text: str) -> LocalDaemonError:
    from sandkasten.errors import LocalDaemonError  # noqa: PLC0415  (with all of httpx)

    return LocalDaemonError(text)


def _check_platform() -> None:
    if sys.platform != "linux":
        raise _failure(
            "The embedded daemon runs on Linux only (WSL2 included). "
            "Pass base_url= (or set SANDKASTEN_BASE_URL) to use a daemon on another machine."
        )
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise _failure(
            f"The embedded daemon is not installed ({', '.join(missing)} missing). "
            "Install it: pip install 'sandkasten[local]'. Or pass base_url= to use another daemon."
        )


def _module_paths() -> list[str]:
    here = str(Path(__file__).resolve().parents[2])
    return list(dict.fromkeys([*map(os.path.abspath, filter(None, sys.path)), here]))


def _exchange(process: subprocess.Popen[bytes], options: LocalOptions, api_key: str) -> dict[str, str]:
    """Send the first line and read the answer; the key goes where no other user can see it."""
    assert process.stdin is not None
    data_dir = options.data_dir or os.environ.get("SANDKASTEN_DATA_DIR") or None
    data_dir = data_dir and os.path.abspath(data_dir)
    line = json.dumps(asdict(options) | {"data_dir": data_dir, "api_key": api_key})
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
    import select  # noqa: PLC0415

    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    if not readable:
        return {"error": f"The embedded daemon did not start within {_START_SECONDS:.0f} seconds. Try again."}
    words = process.stdout.readline()
    answer: dict[str, str] = json.loads(words) if words else {}
    return answer


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else "it said nothing"
    return (
        f"The embedded daemon ended while it started ({reason}). Reinstall: pip install 'sandkasten[local]'."
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Close its standard input, which is its sign to end; insist if it does not."""
    import subprocess  # noqa: PLC0415

    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
