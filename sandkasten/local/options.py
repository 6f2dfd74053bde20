"""The options of a daemon: names, defaults and checks, for the embedded one and the server alike.

Standard library only: the command line reads options before it is known whether the rest is installed.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, cast

from sandkasten._options.packages import canonical, name_of, problem_with_packages
from sandkasten._protocol import NODE_TAG, NODE_TAG_FORM
from sandkasten.local.identity import Identity
from sandkasten.local.limits.limits import Limits, machine_limits
from sandkasten.local.limits.values import LimitsError, parse_size
from sandkasten.local.records import dataclass


class Name(str):
    """The name of an option in a sentence, as a configuration file has it."""

    __slots__ = ()


class OptionsError(ValueError):
    """An option that makes no sense; the text names it, and says what to do."""

    def __init__(self, *parts: str) -> None:
        """Keep the sentence in parts, of which each `Name` is an option's."""
        super().__init__("".join(parts))
        self._parts = parts

    def spelled(self, spell: Callable[[str], str]) -> str:
        """Return the sentence with another spelling of the options' names."""
        return "".join(spell(part) if isinstance(part, Name) else part for part in self._parts)


@dataclass(frozen=True)
class PackageRules:
    """The rules of an operator for packages.

    Attributes:
        index: the URL of the package index; None: where pip looks by itself.
        allowed: the names that clients may ask for, in their canonical form; None: all.
        constraints: requirements that bound the versions of all packages, asked for or not.
        most_bytes: how large one set may be.
    """

    index: str | None = None
    allowed: frozenset[str] | None = None
    constraints: tuple[str, ...] = ()
    most_bytes: int = 4 << 30


@dataclass(frozen=True)
class Options:
    """A daemon's options.

    Attributes:
        data_dir: where workspaces and images are kept; None: see `find_data_dir`.
        default_ttl_seconds: the lifetime of sessions that ask for none.
        max_sessions: how many sessions there may be at once.
        pool_size: how many sessions are kept ready in the background, per image that was asked for.
        allow_host_network: whether sessions may have the host's network. Not unless somebody says so: who
            has the key of a server is not always who owns the machine. (The client's `LocalOptions` say so.)
        environments: the environments of Python, by their paths on this machine, that sessions may have.
        any_environment: whether they may have any; only for a daemon that its owner alone uses.
        limits: what one session may take.
        allowed_packages: the names of packages that sessions may be given, or "all". None at first, as what a
            package is called is the choice of whoever uploaded it. (The client's `LocalOptions` say "all".)
        package_index: the URL of the index that they come from; None: where pip looks by itself.
        package_constraints: requirements that bound the versions of all packages.
        package_bytes: how large one set of packages may be.
        node_tag: with what the ids of its sessions begin, so that a gateway finds their daemon by them.
    """

    data_dir: Path | None = None
    default_ttl_seconds: int = 1800
    max_sessions: int = 1000
    pool_size: int = 2
    allow_host_network: bool = False
    environments: tuple[Path, ...] = ()
    any_environment: bool = False
    limits: Limits = field(default_factory=machine_limits)
    allowed_packages: tuple[str, ...] | Literal["all"] = ()
    package_index: str | None = None
    package_constraints: tuple[str, ...] = ()
    package_bytes: int = PackageRules.most_bytes
    node_tag: str | None = None

    @property
    def package_rules(self) -> PackageRules | None:
        """The rules for packages; None: sessions get none."""
        if not self.allowed_packages:
            return None
        names = None if self.allowed_packages == "all" else frozenset(map(canonical, self.allowed_packages))
        return PackageRules(self.package_index, names, self.package_constraints, self.package_bytes)

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Options:
        """Read options as JSON or TOML has them; what is absent or None has its default.

        Raises:
            OptionsError: which one, and what is wrong.
        """
        given = {key: value for key, value in settings.items() if value is not None}
        check_names(given, {option.name for option in dataclasses.fields(cls)})
        return cls(**{name: _READERS[name](name, value) for name, value in given.items()})


def check_names(settings: Mapping[str, Any], known: set[str]) -> None:
    """Refuse options that do not exist.

    Raises:
        OptionsError: which, and what there is.
    """
    for name in settings:
        if name not in known:
            raise OptionsError(f"There is no option {name!r}. There are: {', '.join(sorted(known))}.")


def read_text(name: str, value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise OptionsError(Name(name), f" must be a text that is not empty, not {value!r}.")
    return value


def read_path(name: str, value: Any) -> Path:
    """A path, seen from here on from wherever."""
    return absolute(read_text(name, value))


def read_flag(name: str, value: Any) -> bool:
    """Read a flag: true or false."""
    if not isinstance(value, bool):
        raise OptionsError(Name(name), f" must be true or false, not {value!r}.")
    return value


def _paths(name: str, value: Any) -> tuple[Path, ...]:
    items = cast("Sequence[Any]", value) if isinstance(value, list) else (None,)
    paths = [item for item in items if isinstance(item, str) and os.path.isabs(item)]
    if len(paths) < len(items):
        raise OptionsError(Name(name), f" must be a list of absolute paths, not {value!r}.")
    return tuple(map(Path, paths))


def absolute(path: str) -> Path:
    """Return a path as it was meant where it was written: `~` is somebody's home, as in a shell.

    Raises:
        OptionsError: it leads nowhere from here.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise OptionsError(
            f"{path!r} begins with a home directory that is not known. Give it in full."
        ) from None
    except FileNotFoundError:
        raise OptionsError(
            f"{path!r} is seen from the current directory, which is gone. Give it in full."
        ) from None


def find_data_dir(named: Path | None, identity: Identity) -> Path:
    """Return the directory for workspaces and images.

    That is the named one, else `SANDKASTEN_DATA_DIR`, else the user's directory for such data; root's home is
    closed to the user that its sandboxes run as.
    """
    if named is not None:
        return named
    if variable := os.environ.get("SANDKASTEN_DATA_DIR"):
        return absolute(variable)
    if identity.drops:
        return Path("/var/lib/sandkasten")
    base = os.environ.get("XDG_DATA_HOME", "").strip() or os.path.expanduser("~/.local/share")
    return Path(base) / "sandkasten"


def _count(lowest: int) -> Any:
    def read(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value < 2**31:
            raise OptionsError(Name(name), f" must be a whole number of at least {lowest}, not {value!r}.")
        return value

    return read


def _limits(_name: str, value: Any) -> Limits:
    if not isinstance(value, Mapping):
        raise OptionsError(f"limits must be a table of limits, not {value!r}.")
    try:
        return Limits.from_mapping(cast("Mapping[str, Any]", value), machine_limits())
    except LimitsError as error:
        raise OptionsError(str(error)) from error


def _names(name: str, value: Any) -> tuple[str, ...] | Literal["all"]:
    if value == "all":
        return "all"
    rows = _requirements(name, value)
    for row in rows:
        if canonical(row) != name_of(row):
            raise OptionsError(Name(name), f" has {row!r}: it must be names, or 'all'.")
    return rows


def _requirements(name: str, value: Any) -> tuple[str, ...]:
    rows = tuple(cast("list[Any]", value)) if isinstance(value, list | tuple) else None
    if rows is None or problem_with_packages(rows) is not None:
        raise OptionsError(Name(name), " must be a list of names of packages, such as ['numpy', 'pandas'].")
    return rows


def _index(name: str, value: Any) -> str:
    text = read_text(name, value)
    # The text may hold a key, so it is not repeated.
    if not re.fullmatch(r"(https?|file)://[!-~]+", text):
        raise OptionsError(Name(name), " must be a URL that begins with https://, http:// or file://.")
    return text


def _size(name: str, value: Any) -> int:
    read = parse_size(value) if isinstance(value, str) else value
    if isinstance(read, bool) or not isinstance(read, int) or not 1 <= read < 2**60:
        raise OptionsError(Name(name), f" must be a size such as '4g', not {value!r:.80}.")
    return read


def _tag(name: str, value: Any) -> str:
    if not isinstance(value, str) or not NODE_TAG.fullmatch(value):
        raise OptionsError(Name(name), f" must be {NODE_TAG_FORM}, such as n1, not {value!r:.80}.")
    return value


_READERS: Mapping[str, Any] = {
    "data_dir": read_path,
    "default_ttl_seconds": _count(1),
    "max_sessions": _count(1),
    "pool_size": _count(0),
    "allow_host_network": read_flag,
    "environments": _paths,
    "any_environment": read_flag,
    "limits": _limits,
    "allowed_packages": _names,
    "package_index": _index,
    "package_constraints": _requirements,
    "package_bytes": _size,
    "node_tag": _tag,
}
