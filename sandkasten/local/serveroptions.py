"""A server's options and its key; like all options, read with the standard library alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandkasten.local import listen
from sandkasten.local.observe import logs
from sandkasten.local.options import Name, Options, OptionsError, check_names, read_flag, read_path, read_text
from sandkasten.local.records import dataclass

# What a server has beyond `Options`.
NAMES = frozenset(
    {"api_key_file", "listen", "log_format", "no_api_key", "tls_certificate", "tls_key", "until_input_ends"}
)
OPTION_NAMES = NAMES | set(Options.__dataclass_fields__)

DEFAULT_ADDRESS = "127.0.0.1:8080"
_MAKE_KEY = "(umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe(32))' > key)"


@dataclass(frozen=True)
class ServerOptions:
    """A server's options.

    Attributes:
        daemon: those that the embedded daemon has, too.
        address: where it listens.
        api_key: what its clients must have; None: nothing.
        log_format: one of `logs.FORMATS`.
        until_input_ends: whether it ends with its standard input, which whoever started it holds.
        certificate: what it shows to clients, who then speak TLS with it; None: they do not.
    """

    daemon: Options
    address: listen.Address
    api_key: str | None
    log_format: str = "json"
    until_input_ends: bool = False
    certificate: listen.Certificate | None = None

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> ServerOptions:
        """Read options as TOML has them, and the key file.

        Raises:
            OptionsError: which one, and what is wrong.
        """
        check_names(settings, set(OPTION_NAMES))
        common = {name: value for name, value in settings.items() if name not in NAMES}
        address = listen.parse(read_text("listen", settings.get("listen", DEFAULT_ADDRESS)))
        log_format = settings.get("log_format", "json")
        if log_format not in logs.FORMATS:
            raise OptionsError(Name("log_format"), f" must be json or text, not {log_format!r}.")
        options, api_key = Options.from_mapping(common), _find_key(settings, address)
        if api_key is None and options.allow_host_network:
            raise OptionsError(
                Name("no_api_key"),
                " and ",
                Name("allow_host_network"),
                " exclude each other: a session with the host's network "
                "could drive a daemon that asks for no key. Use --api-key-file, or drop one of them.",
            )
        if options.any_environment and (api_key is None or address.path is None):
            raise OptionsError(
                Name("any_environment"),
                " lets clients read any environment of this user, so it needs a key and a unix: socket. "
                "Register what others may have with ",
                Name("environments"),
                ".",
            )
        until_input_ends = read_flag("until_input_ends", settings.get("until_input_ends", False))
        return cls(options, address, api_key, log_format, until_input_ends, _certificate(settings, address))

    @property
    def scheme(self) -> str:
        """Return how the URL begins that clients use."""
        return "http" if self.certificate is None else "https"


def _certificate(settings: Mapping[str, Any], address: listen.Address) -> listen.Certificate | None:
    names = ("tls_certificate", "tls_key")
    paths = [read_path(name, settings[name]) for name in names if name in settings]
    if not paths:
        return None
    if len(paths) == 1:
        raise OptionsError(Name(names[0]), " and ", Name(names[1]), " belong together. Give both, or none.")
    if address.path is not None:
        raise OptionsError(
            f"TLS is for addresses that others reach, and {address} is a Unix socket. Leave out ",
            Name(names[0]),
            " and ",
            Name(names[1]),
            ", or listen at an IP address and a port.",
        )
    return listen.Certificate(*paths)


def _find_key(settings: Mapping[str, Any], address: listen.Address) -> str | None:
    if read_flag("no_api_key", settings.get("no_api_key", False)):
        if "api_key_file" in settings:
            raise OptionsError(
                Name("api_key_file"), " and ", Name("no_api_key"), " exclude each other. Drop one of them."
            )
        if not address.is_local:
            raise OptionsError(
                f"Without a key, everybody who reaches {address} could run code here. Use --api-key-file, "
                "or listen at 127.0.0.1 or a unix: socket."
            )
        return None
    if "api_key_file" not in settings:
        raise OptionsError(
            f"There is no key, so whoever reaches {address} could run code here. Make one, {_MAKE_KEY}, and "
            "give it with --api-key-file key" + (", or say --no-api-key." if address.is_local else ".")
        )
    return read_key(read_path("api_key_file", settings["api_key_file"]))


def read_key(path: Path) -> str:
    """The key in a file that nobody else can read.

    Raises:
        OptionsError: others can, or it holds no key.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077:
                raise OptionsError(f"Others than its owner can read the key in {path}. Run: chmod 600 {path}")
            if status.st_uid not in {0, os.geteuid()}:
                raise OptionsError(
                    f"Another user (uid {status.st_uid}) owns the key file {path}. Make one: {_MAKE_KEY}"
                )
            content = file.read(4096)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OptionsError(f"The key file {path} cannot be read: {reason}. Make one: {_MAKE_KEY}") from error
    key = content.decode("ascii", "replace").rstrip("\r\n")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise OptionsError(
            f"The key file {path} must hold one line of printable ASCII. Make one: {_MAKE_KEY}"
        )
    return key
