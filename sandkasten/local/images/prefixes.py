"""Reading an environment of Python: which interpreter it has, and which of its directories a sandbox needs.

A venv names the prefix of its base interpreter; a conda environment, or an interpreter in a directory of its
own, is that itself. Nothing of an environment is run here. Anybody may have written its links and its
`pyvenv.cfg`, so they only ever lead to a directory that has Python's standard library. Of that only the parts
listed here are mounted, at the paths that they have on this machine, since scripts and libraries hold them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from sandkasten.local.errors import ApiError
from sandkasten.local.records import dataclass

_MAX_CONFIGURATION_BYTES = 64 * 1024
_MAX_LINKS = 40  # as the kernel has it
# A prefix can be a home directory or a project, so only these are mounted of one.
_OF_ALL = ("bin", "lib", "lib64", "include")
_OF_VENV = (*_OF_ALL, "share", "pyvenv.cfg")
_OF_BASE = (*_OF_ALL, "share/terminfo")
_OF_CONDA = (*_OF_ALL, "libexec", "share", "etc", "ssl", "conda-meta", "fonts", "plugins")
_CONDA = "conda-meta"
# The sandbox has these itself.
_TAKEN = (
    "/bin", "/dev", "/etc", "/home/sandbox", "/lib", "/lib32", "/lib64", "/libx32", "/opt/sandkasten",
    "/proc", "/run/packages", "/run/prepared", "/run/sandkasten", "/sbin", "/sys", "/usr", "/workspace",
    "/var/tmp",  # noqa: S108  (the sandbox's own)
)  # fmt: skip


@dataclass(frozen=True)
class Prefixes:
    """The directories of an environment and of its base interpreter.

    Attributes:
        environment: the real path of the environment.
        version: its Python, such as "3.11".
        is_virtual: whether it is a venv, which has a base interpreter elsewhere.
        is_conda: whether it is an environment of conda.
        mounts: path inside to the real path on this machine; what is below /usr is there anyway.
        outside: parts of it that are links to elsewhere, and so are not mounted.
    """

    environment: Path
    version: str
    is_virtual: bool
    is_conda: bool
    mounts: dict[str, Path]
    outside: tuple[str, ...]

    def holds(self, path: str) -> bool:
        """Return whether a path of this machine, symlinks and all, is in the sandbox, too."""
        real = Path(os.path.realpath(path))
        return _is_in(real, Path("/usr")) or any(_is_in(real, part) for part in self.mounts.values())

    @property
    def packages(self) -> list[Path]:
        """The directories that its packages are in."""
        found = self.environment.glob(f"lib*/python{self.version}/site-packages")
        return sorted({Path(os.path.realpath(path)) for path in found})


def read_prefixes(path: Path) -> Prefixes:
    """Read the environment at a path.

    Raises:
        ApiError: INVALID_IMAGE, with what is missing or broken, and what to do.
    """
    environment = _real(path)
    configuration = _configuration(environment / "pyvenv.cfg")
    chain = _interpreter(environment, path)
    bases = {Path(os.path.realpath(chain[-1])).parent.parent} - {environment}
    if configuration is not None:
        home = Path(configuration.get("home", ""))
        if not home.is_absolute():
            raise _broken(path, "its pyvenv.cfg does not name the interpreter that it was made with")
        chain.append(home / "python")
        bases |= {Path(os.path.realpath(home)).parent}
    versions = [version for base in sorted(bases or {environment}) if (version := _version(base, path))]
    collected = Parts()
    is_conda = (environment / _CONDA).is_dir()
    named = {path.absolute(), *(step.parent.parent for step in chain)}
    for prefix in (environment, *sorted(bases)):
        names = {name for name in named if Path(os.path.realpath(name)) == prefix}
        collected.add(prefix, names, _parts_of(prefix, is_venv=prefix == environment and bool(bases)))
    missing = {"bin", "lib"} - {part.name for part in collected.mounts.values() if part.parent == environment}
    if missing and not _is_in(environment, Path("/usr")):
        raise _broken(path, f"its {' and '.join(sorted(missing))} is no directory of its own")
    return Prefixes(
        environment,
        versions[0],
        configuration is not None,
        is_conda,
        dict(sorted(collected.mounts.items())),
        tuple(collected.outside),
    )


class Parts:
    """Collects what is mounted."""

    def __init__(self) -> None:
        self.mounts: dict[str, Path] = {}
        self.outside: list[str] = []

    def add(self, prefix: Path, names: set[Path], parts: tuple[str, ...]) -> None:
        """Add the parts of a prefix, below its real path and the other names that it goes by."""
        if _is_in(prefix, Path("/usr")):
            return
        if (taken := _taken(prefix)) is not None:
            raise ApiError(
                400,
                "INVALID_IMAGE",
                f"The directory {prefix} cannot be mounted: in a sandbox {taken} is the sandbox's own. "
                "Put the environment elsewhere, for example below your home directory.",
            )
        places = {prefix, *(name for name in names if _taken(name) is None and ".." not in name.parts)}
        for part in parts:
            source = prefix / part
            real = Path(os.path.realpath(source))
            if not source.exists():
                continue
            if not _is_in(real, prefix) or not (real.is_dir() or real.is_file()):
                self.outside.append(f"{source} -> {real}")
                continue
            self.mounts |= {str(place / part): real for place in places}


def _parts_of(prefix: Path, *, is_venv: bool) -> tuple[str, ...]:
    if is_venv:
        return _OF_VENV
    return _OF_CONDA if (prefix / _CONDA).is_dir() else _OF_BASE


def _real(path: Path) -> Path:
    try:
        real = path.resolve(strict=True)
        is_directory = real.is_dir()
    except (FileNotFoundError, NotADirectoryError):
        raise ApiError(
            400, "INVALID_IMAGE", f"There is no environment at {path}. Make one: python3 -m venv {path}"
        ) from None
    except (OSError, RuntimeError):
        raise ApiError(
            400, "INVALID_IMAGE", f"The daemon cannot look into {path}. Check its permissions and links."
        ) from None
    if not is_directory:
        raise ApiError(
            400, "INVALID_IMAGE", f"{path} is no directory. Name the environment's own, such as .venv."
        )
    return real


def _configuration(path: Path) -> dict[str, str] | None:
    """Return the fields of a `pyvenv.cfg`, or None if there is none."""
    text = read_text(path)
    if text is None:
        return None
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip().lower(): value.strip() for name, _equals, value in pairs}


def read_text(path: Path) -> str | None:
    """Return the beginning of a plain file, or None; nothing else, such as a pipe, is waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read(_MAX_CONFIGURATION_BYTES).decode("utf-8", "replace")


def _interpreter(environment: Path, named: Path) -> list[Path]:
    """Return the paths that lead to the interpreter, each a link to the next; the last one is a program."""
    places = (environment / "bin" / name for name in ("python", "python3"))
    first = next(filter(os.path.lexists, places), None)
    if first is None:
        raise ApiError(
            400,
            "INVALID_IMAGE",
            f"{named} is no environment of Python: it has no bin/python. Make one: python3 -m venv {named}",
        )
    chain = list(_links(first))
    try:
        mode = chain[-1].stat().st_mode
    except PermissionError:
        raise _broken(named, f"its bin/python leads to {chain[-1]}, which is closed to the daemon") from None
    except OSError:
        raise _broken(named, f"its bin/python leads to {chain[-1]}, which is not there") from None
    if not stat.S_ISREG(mode) or not mode & 0o111:
        raise _broken(named, f"its bin/python leads to {chain[-1]}, which is no program")
    return chain


def _links(path: Path) -> Iterator[Path]:
    for _ in range(_MAX_LINKS):
        yield path
        try:
            target = os.readlink(path)
        except OSError:
            return
        # Where `..` leads is known only behind the symlinks.
        path = Path(os.path.realpath(path.parent), target)
        if ".." in path.parts:
            path = Path(os.path.realpath(path.parent), path.name)


def _version(base: Path, named: Path) -> str:
    """Return the version of the Python below a prefix, which has a standard library."""
    found = [
        (int(match[1]), directory)
        for directory in (base / "lib", base / "lib64")
        for each in directory.glob("python3.*")
        if (match := re.fullmatch(r"python3\.(\d{1,2})", each.name)) and (each / "os.py").is_file()
    ]
    program = os.path.basename(os.path.realpath(named / "bin" / "python"))
    for minor, _directory in found:
        if program == f"python3.{minor}":
            return f"3.{minor}"
    if not found:
        raise _broken(named, f"the interpreter in {base} has no standard library")
    return f"3.{max(found)[0]}"


def _taken(path: Path) -> str | None:
    """Return which directory of the sandbox's own a path is, or is in."""
    if path == Path("/"):
        return "/"
    return next((taken for taken in _TAKEN if _is_in(path, Path(taken))), None)


def _is_in(path: Path, directory: Path) -> bool:
    return path == directory or directory in path.parents


def _broken(path: Path, why: str) -> ApiError:
    sentence = f"The environment at {path} is broken: {why}. Make it anew, or repair its Python."
    return ApiError(400, "INVALID_IMAGE", sentence)
