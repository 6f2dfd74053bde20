"""The daemon's address and the way to ask it: pure decisions, before anything is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import field, frozen

from sandkasten.errors import SandkastenInputError

if TYPE_CHECKING:
    import ssl

# A sandbox's own socket has no host name; this one only shows up in error texts and Host headers.
LOCAL_URL = "http://sandkasten.local"

# What httpx reads from the environment.
_PROXIES = tuple(
    spelling
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    for spelling in (name, name.lower())
)
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@frozen
class Target:
    """A daemon's address.

    Attributes:
        base_url: its URL, without a slash at the end.
        api_key: the bearer token; None sends none. Never shown.
        socket_path: the Unix socket to connect to instead of the URL's host.
        verify: how the daemon's certificate is checked; True as httpx does by itself, False not at all.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    socket_path: str | None = None
    verify: ssl.SSLContext | bool = field(default=True, repr=False)

    @property
    def uses_tls(self) -> bool:
        """True if there is TLS on the way, whose certificates then must be loaded."""
        return self.socket_path is None and self.base_url.startswith("https:")

    @property
    def name(self) -> str:
        """The name of this daemon in error texts."""
        return f"the local daemon ({self.socket_path})" if self.socket_path else self.base_url


def resolve_target(
    base_url: str | None,
    api_key: str | None,
    environ: Mapping[str, str],
    *,
    needs_url: bool = False,
    verify: ssl.SSLContext | bool = True,
) -> Target | None:
    """Find the daemon: the arguments first, then the environment; None means the embedded one.

    Raises:
        SandkastenInputError: the URL is not an http(s) URL, or is missing where one is needed, or the key
        cannot stand in a header.
    """
    url = base_url if base_url is not None else environ.get("SANDKASTEN_BASE_URL") or None
    if url is not None and not isinstance(url, str):
        raise SandkastenInputError(f"base_url is of type {type(url).__name__}.", "Pass a URL as a str.")
    key = api_key if api_key is not None else environ.get("SANDKASTEN_API_KEY") or None
    if key is not None:
        _check_api_key(key)
    if needs_url and (url is None or url.startswith("unix:/")):
        raise SandkastenInputError("An http_client needs a base_url that is an http(s) URL.", "Pass both.")
    if url is None:
        return None
    if url.startswith("unix:/"):
        return Target(
            base_url=LOCAL_URL, api_key=key, socket_path=url.removeprefix("unix:").removeprefix("//")
        )
    return Target(base_url=_check_url(url), api_key=key, verify=verify)


def environment_error(error: Exception, environ: Mapping[str, str]) -> SandkastenInputError:
    """Return the error for settings of the environment with which no HTTP client can be made.

    httpx reads these variables itself, and fails in as many ways as there are mistakes in them.
    """
    names = _CERTIFICATES if isinstance(error, OSError) else _PROXIES
    guilty = [name for name in names if environ.get(name)]
    if isinstance(error, OSError):
        guilty = [name for name in guilty if not os.path.exists(environ[name])] or guilty
    if isinstance(error, ImportError):
        guilty = [name for name in guilty if environ[name].startswith("socks")] or guilty
    kind = "certificate" if isinstance(error, OSError) else "proxy"
    reason = str(error).partition("\n")[0].rstrip(".")
    return SandkastenInputError(
        f"The {kind} settings of the environment ({', '.join(guilty) or 'unknown'}) cannot be used: "
        f"{reason}.",
        "Correct the variable, or unset it.",
    )


def check_verify(verify: ssl.SSLContext | str | os.PathLike[str] | bool) -> ssl.SSLContext | bool:
    """Return by which certificates are checked; a path is of those of authorities, in a file or a directory.

    Raises:
        SandkastenInputError: it is nothing of this, or there are no certificates.
    """
    if isinstance(verify, bool):
        return verify
    import ssl  # noqa: PLC0415  (most clients need none)

    if isinstance(verify, ssl.SSLContext):
        return verify
    if not isinstance(verify, str | os.PathLike):
        raise SandkastenInputError(
            f"verify is of type {type(verify).__name__}.",
            "Pass the path of a PEM file, an ssl.SSLContext, or True or False.",
        )
    path = os.fspath(verify)
    if not path:  # which would be the system's
        raise SandkastenInputError("verify is empty.", "Pass the path of a PEM file.")
    is_directory = os.path.isdir(path)
    try:
        return ssl.create_default_context(
            cafile=None if is_directory else path, capath=path if is_directory else None
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise SandkastenInputError(
            f"verify is {path!r}, where no certificates can be read: {reason}.",
            "Pass the path of a PEM file.",
        ) from error


def check_timeout(timeout: float) -> float:
    """Return the client's timeout in seconds.

    Raises:
        SandkastenInputError: it is not a positive, finite number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        raise SandkastenInputError(f"timeout is {timeout!r}: it must be a positive number of seconds.")
    return float(timeout)


def check_max_retries(max_retries: int) -> int:
    """Return how often a call is tried again.

    Raises:
        SandkastenInputError: it is not a whole number from 0 to 100.
    """
    if isinstance(max_retries, bool) or not isinstance(max_retries, int) or not 0 <= max_retries <= 100:
        raise SandkastenInputError(
            f"max_retries is {max_retries!r}: it must be a whole number from 0 to 100."
        )
    return max_retries


def check_concurrency(concurrency: int) -> int:
    """Return how many sessions `map` may have at a time.

    Raises:
        SandkastenInputError: it is not a whole number from 1 on.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise SandkastenInputError(f"concurrency is {concurrency!r}: it must be a whole number from 1 on.")
    return concurrency


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        usable = usable and url.isprintable() and url == url.strip()  # which urlsplit makes of what is not
    except ValueError:
        usable = False
    if not usable:
        raise SandkastenInputError(
            f"base_url is {url!r}: it must be a URL such as http://localhost:8080, "
            "unix:///path/to/daemon.sock for a socket, or None for the embedded daemon."
        )
    # It would stand in texts and logs, and in the request where the key belongs.
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise SandkastenInputError(
            "base_url holds a user or a password.", "Pass the daemon's key as api_key=."
        )
    # In small letters, by which it is decided whether there is TLS.
    return parts.scheme + url[len(parts.scheme) :].rstrip("/")


def _check_api_key(key: str) -> None:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SandkastenInputError("api_key must be printable ASCII without spaces (it is not shown here).")
