"""Finding the daemon: by the command line, by the environment, or in the background."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandkasten.cli.output.failures import USAGE, CommandLineError

if TYPE_CHECKING:
    from sandkasten_sync import SandboxClient

_NO_DAEMON = "No daemon runs in the background. Start one: sandkasten up."
_KEY_MAX_BYTES = 4096


@dataclass(frozen=True)
class Where:
    """The options of the command line that name a daemon and its key."""

    url: str | None = None
    api_key_file: str | None = None


@dataclass(frozen=True)
class Found:
    """A daemon's URL and key; with its process id and files, or with the option that named it."""

    url: str
    api_key: str | None
    pid: int | None = None
    key_file: Path | None = None
    log: Path | None = None
    named_by: str | None = None


def find(where: Where) -> Found | None:
    """Return the daemon that commands use, or None if there is no daemon.

    Raises:
        CommandLineError: the key cannot be read, or the directory of the daemon is not safe.
    """
    return find_named(where) or (_in_background() if sys.platform == "linux" else None)


def find_named(where: Where) -> Found | None:
    """Return the daemon that the command line or the environment names, or None if neither does.

    Raises:
        CommandLineError: the key cannot be read.
    """
    key = None if where.api_key_file is None else read_key(Path(where.api_key_file))
    named_by, url = _named(where)
    return None if url is None else Found(url, key or _key_of_environment(), named_by=named_by)


def _named(where: Where) -> tuple[str, str | None]:
    """Return the option or variable that names a daemon, and the URL, or None if no daemon is named."""
    if where.url is not None:
        return "--url", where.url
    return "SANDKASTEN_BASE_URL", os.environ.get("SANDKASTEN_BASE_URL") or None


def open_client(where: Where) -> AbstractContextManager[SandboxClient]:
    """A client of a daemon that outlives this command.

    Raises:
        CommandLineError: there is no such daemon.
    """
    found = find(where)
    if found is None:
        raise CommandLineError(_NO_DAEMON)
    return client_of(found)


def open_any_client(where: Where) -> AbstractContextManager[SandboxClient]:
    """Return a client of a daemon that outlives this command, or else of an embedded one."""
    found = find(where)
    return _embedded() if found is None else client_of(found)


def open_own_client(where: Where) -> AbstractContextManager[SandboxClient]:
    """Return a client of an embedded daemon, unless the command line or the environment names a daemon."""
    return _embedded() if _named(where)[1] is None else open_client(where)


def read_key(path: Path) -> str:
    """Return the key in a file.

    Raises:
        CommandLineError: the file cannot be read, or does not hold a key.
    """
    try:
        with path.open("rb") as file:
            key = file.read(_KEY_MAX_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise CommandLineError(
            f"The key file {path} cannot be read: {reason}. Check --api-key-file."
        ) from error
    return _checked(key, f"The key file {path}")


def _key_of_environment() -> str | None:
    key = os.environ.get("SANDKASTEN_API_KEY")
    return _checked(key, "The variable SANDKASTEN_API_KEY") if key else None


def _checked(key: str, place: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise CommandLineError(
            f"{place} must hold one line of printable ASCII. Put the daemon's key there, and nothing else.",
            USAGE,
        )
    return key


def _in_background() -> Found | None:
    from sandkasten.cli.calls import process  # noqa: PLC0415
    from sandkasten.cli.parsing import place as places  # noqa: PLC0415  (Linux only)

    place = places.find()
    pid = None if place is None else process.listener(place)
    if place is None or pid is None:
        return None
    return Found(place.url, read_key(place.key), pid, place.key, place.log)


@contextmanager
def client_of(found: Found) -> Generator[SandboxClient, None, None]:
    """Yield a client of a daemon.

    Raises:
        CommandLineError: the address is not valid, or nothing answers there; the text names the option.
    """
    _prepare()
    from sandkasten import _codes as codes  # noqa: PLC0415
    from sandkasten_sync import SandboxClient, SandkastenConnectionError, SandkastenInputError  # noqa: PLC0415

    try:
        client = SandboxClient(base_url=found.url, api_key=found.api_key)
    except SandkastenInputError:
        shown = "" if "@" in found.url else f"is {found.url!r}, which "  # else it may hold a password
        raise CommandLineError(
            f"{found.named_by} {shown}is no URL of a daemon. "
            "Give one such as http://host:8080 or unix:///path/to/daemon.sock.",
            USAGE,
        ) from None
    with client:
        try:
            yield client
        except SandkastenConnectionError as error:
            if error.code != codes.UNREACHABLE:
                raise
            raise CommandLineError(f"{error.what} {_advice(found)}") from error


def _advice(found: Found) -> str:
    if found.named_by is None:
        return "Start it again: sandkasten up."
    return f"Check {found.named_by}, and that the daemon there runs."


def _embedded() -> AbstractContextManager[SandboxClient]:
    from sandkasten.cli.calls.embedded import embedded_client  # noqa: PLC0415

    _prepare()
    return embedded_client()


def _prepare() -> None:
    """Turn off features of libraries that are of no use here, before the client is imported."""
    import logging  # noqa: PLC0415  (the client loads it, too)

    # Their log of retries would go to standard error, where the outcome is printed anyway.
    logging.getLogger().addHandler(logging.NullHandler())
    # httpx imports its own command line, with rich and pygments, wherever those are installed.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
