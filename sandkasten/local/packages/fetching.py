"""The program that fetches wheels and unpacks them, in a process of its own that the daemon starts.

pip resolves and fetches. It has to take only wheels, but that rule does not bind it everywhere: for a
dependency that a wheel declares by a URL, it would unpack an archive and run its build. So two rules hold
here whatever pip decides: a requirement with a URL is refused, and this process starts no other program
(`sys.addaudithook`, which nothing can take back). No code of a package runs in this process either.

One line of JSON comes in, see `Order`, and one goes out. Standard library only, and pip.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import json
import os
import resource
import runpy
import sys
from pathlib import Path
from typing import Any

from sandkasten.local.packages.wheels import BIN, SITE, NoRoomError, Room, WheelError, split_name, unpack

_STARTS = frozenset({
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "pty.spawn",
})  # fmt: skip
_MEMORY_BYTES = 4 << 30
_WRITES = os.O_WRONLY | os.O_RDWR


class _RefusedError(BaseException):
    """Ends pip, which passes over ordinary exceptions in places."""


class Fetching:
    """One order: `wheels` and `tree` are made in its stage."""

    def __init__(self, order: dict[str, Any]) -> None:
        """Read the order: arguments for pip, the stage, bounds, and what Python the packages are for."""
        self.arguments: list[str] = order["arguments"]
        self.stage = Path(order["stage"])
        self.markers: dict[str, str] = order["markers"]
        self.python: str = order["python"]
        self.most_bytes: int = order["most_bytes"]
        self.most_files: int = order["most_files"]
        self.failure: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        """Return what was fetched, or the failure."""
        for name in ("wheels", "tree", f"tree/{SITE}", f"tree/{BIN}"):
            (self.stage / name).mkdir(mode=0o755)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.most_bytes + 1, self.most_bytes + 1))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        try:
            if not self._fetch():
                return {"failure": self.failure or {"reason": "pip"}}
            return self._unpacked()
        except OSError as error:
            return {"failure": {"reason": "disk", "why": error.strerror or "", "errno": error.errno}}
        except NoRoomError:
            return {"failure": {"reason": "too_large"}}

    # --- pip

    def _fetch(self) -> bool:
        if not _find_pip():
            self.failure = {"reason": "no_installer"}
            return False
        sys.addaudithook(self._watch)
        try:
            self._bind_pip()
        except Exception:
            self.failure = {"reason": "no_installer"}
            return False
        sys.argv = ["pip", *self.arguments]
        try:
            runpy.run_module("pip", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code not in {0, None} and self.failure is None and self._held_bytes() > self.most_bytes:
                self.failure = {"reason": "too_large"}
            return end.code in {0, None} and self.failure is None
        except _RefusedError:
            return False
        return False

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STARTS:
            raise PermissionError(f"{event} is not allowed here")
        if (
            event == "open"
            and len(arguments) > 2
            and isinstance(arguments[2], int)
            and arguments[2] & _WRITES
        ):
            if self.failure is None and self._held_bytes() > self.most_bytes:
                self.failure = {"reason": "too_large"}
            if self.failure is not None:
                raise _RefusedError

    def _held_bytes(self) -> int:
        total_bytes = 0
        for name in ("wheels", "tmp"):
            for folder, _folders, files in os.walk(self.stage / name):
                for file in files:
                    try:
                        total_bytes += os.lstat(os.path.join(folder, file)).st_size
                    except OSError:
                        continue
        return total_bytes

    def _bind_pip(self) -> None:
        """Have pip decide by the sandbox's Python, not by this one, and take no requirement with a URL."""
        from pip._vendor.packaging import markers as pip_markers  # noqa: PLC0415
        from pip._vendor.packaging import requirements  # noqa: PLC0415

        pip: Any = requirements.Requirement
        markers: Any = pip_markers  # their types are not those of another version of pip
        environment, made = self.markers, pip.__init__

        def checked(requirement: Any, text: str) -> None:
            made(requirement, text)
            if requirement.url:
                self.failure = {"reason": "url", "package": str(requirement.name)[:100]}
                raise _RefusedError

        markers.default_environment  # noqa: B018  (it must be there to be replaced)
        markers.default_environment = lambda: dict(environment)
        pip.__init__ = checked

    # --- wheels

    def _unpacked(self) -> dict[str, Any]:
        room, rows = Room(self.most_bytes, self.most_files), list[dict[str, str]]()
        for wheel in sorted((self.stage / "wheels").iterdir()):
            name = wheel.name.partition("-")[0][:100]
            try:
                name, version = split_name(wheel.name)
                if wheel.is_symlink() or not wheel.is_file():
                    raise WheelError("is no file")
                with wheel.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                unpack(wheel, self.stage / "tree", room, self.python)
            except WheelError as error:
                return {"failure": {"reason": "wheel", "package": name, "why": str(error)}}
            rows.append({"name": name, "version": version, "sha256": digest})
        return {"packages": rows}


def _find_pip() -> bool:
    """Return whether there is a pip: an installed one, else the one that comes with Python."""
    if importlib.util.find_spec("pip") is not None:
        return True
    beside = importlib.util.find_spec("ensurepip")
    folder = "" if beside is None or beside.origin is None else os.path.dirname(beside.origin)
    kept = glob.glob(os.path.join(folder, "_bundled", "pip-*.whl"))
    sys.path[:0] = kept[:1]
    return bool(kept)


def main() -> None:
    """Carry out the order on standard input, and answer on standard output, where pip does not write."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.umask(0o022)
    result = Fetching(json.loads(sys.stdin.readline())).run()
    answer.write(json.dumps(result))
    answer.close()
