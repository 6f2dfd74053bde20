"""The daemon's command line: `python -m sandkasten.local {serve,doctor,image}`."""

from __future__ import annotations

import os
import sys

# `python -m` looks for modules in the current directory first, where anybody may have put a `json.py`. Python
# itself has done so for its first few modules by now, which only its option -P prevents.
if __name__ == "__main__" and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_PROGRAM = "python -m sandkasten.local"
# These name files; in a configuration file they are seen from where that is.
_PATHS = ("api_key_file", "data_dir")


class _Parser(argparse.ArgumentParser):
    """Says what makes no sense in one sentence, and where the right words are."""

    def error(self, message: str) -> NoReturn:
        """End with the sentence."""
        self.exit(2, f"{message[:1].upper()}{message[1:]}. See: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None, program: str = _PROGRAM) -> int:
    """Do what the command line says; the exit code: 0, 1 if it could not be done, 2 if it makes no sense."""
    parser = _parser(program)
    known, unknown = parser.parse_known_args(arguments)
    given = vars(known)
    command = given.pop("command")
    if unknown:
        parser.exit(2, f"Unrecognized arguments: {' '.join(unknown)}. See: {program} {command} --help\n")
    if command == "doctor":
        from sandkasten.local.doctor import report  # noqa: PLC0415  (each command loads what it needs)

        return report.run()
    if sys.platform != "linux":
        print("The daemon runs on Linux only (WSL 2 included).", file=sys.stderr)
        return 1
    return _image(given) if command == "image" else _serve(given)


def _serve(given: dict[str, Any]) -> int:
    from sandkasten.local.options import OptionsError  # noqa: PLC0415
    from sandkasten.local.serveroptions import ServerOptions  # noqa: PLC0415

    config = given.pop("config", None)
    try:
        settings = {} if config is None else read_config(Path(config))
        options = ServerOptions.from_mapping(_merged(settings, given))
    except OptionsError as error:
        print(error.spelled(lambda name: _typed(name) if name in given else name), file=sys.stderr)
        return 2
    try:
        from sandkasten.local.server import run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed. Run: pip install 'sandkasten[local]'", file=sys.stderr)
        return 1
    return run(options)


def _typed(name: str) -> str:
    """Return the option of the command line that sets what a configuration file has under a name."""
    return (
        "--environment" if name == "environments" else f"--{name.removesuffix('_seconds').replace('_', '-')}"
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file; its relative paths are seen from its directory.

    Raises:
        OptionsError: it cannot be read, or is not TOML.
    """
    from sandkasten.local.options import OptionsError  # noqa: PLC0415

    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OptionsError(f"The configuration {path} cannot be read: {reason}. Check its path.") from error
    except ValueError as error:
        raise OptionsError(f"The configuration {path} is not TOML: {error}.") from error
    for name in _PATHS:
        if isinstance(settings.get(name), str) and settings[name]:
            settings[name] = str(path.absolute().parent / settings[name])
    return settings


def _merged(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The command line wins; a key that it gives is also no longer left out."""
    merged = {**settings, **given}
    if "api_key_file" in given and "no_api_key" not in given:
        merged.pop("no_api_key", None)
    if given.get("no_api_key") and "api_key_file" not in given:
        merged.pop("api_key_file", None)
    return merged


def _image(given: Mapping[str, Any]) -> int:
    from sandkasten.local.images import commands  # noqa: PLC0415

    data_dir = given.get("data_dir")
    return commands.run(
        given["action"],
        None if data_dir is None else Path(data_dir).absolute(),
        name=given.get("name", ""),
        source=given.get("source", ""),
        replace=given.get("replace", False),
    )


def _parser(program: str) -> argparse.ArgumentParser:
    # What is not given is absent, so that it can be told from what is.
    parser = _Parser(prog=program, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="serve sandboxes to other processes and machines"))
    commands.add_parser("doctor", help="report what this machine can isolate, and how to fix the rest")
    image = commands.add_parser("image", help="root file systems that sessions may ask for")
    actions = image.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="register one")
    add.add_argument("name", metavar="NAME")
    add.add_argument(
        "source", metavar="SOURCE", help="a directory, a tar archive, docker save, or an OCI layout"
    )
    add.add_argument("--replace", action="store_true", help="even if there is one of this name")
    listing = actions.add_parser("list", help="tell which there are")
    remove = actions.add_parser("rm", help="remove one")
    remove.add_argument("name", metavar="NAME")
    for action in (add, listing, remove):
        _option(action, "--data-dir", metavar="DIR", help="where the daemon keeps its data")
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    _option(serve, "--listen", metavar="ADDRESS", help="127.0.0.1:8080 (the default), or unix:/path")
    _option(serve, "--api-key-file", metavar="FILE", help="a file with the key that clients must have")
    _option(serve, "--no-api-key", action="store_true", help="whoever reaches a local address may run code")
    _option(serve, "--config", metavar="FILE", help="a TOML file; the command line wins")
    _option(serve, "--data-dir", metavar="DIR", help="where workspaces and images are kept")
    _option(serve, "--max-sessions", type=int, metavar="N", help="how many there may be at once (1000)")
    _option(serve, "--pool-size", type=int, metavar="N", help="how many are kept ready per image (2)")
    _option(
        serve, "--default-ttl", type=int, metavar="SECONDS", dest="default_ttl_seconds",
        help="the lifetime of sessions that ask for none (1800)",
    )  # fmt: skip
    _option(
        serve, "--allow-host-network", action="store_true", help="sessions may ask for the host's network"
    )
    _option(
        serve, "--environment", action="append", metavar="DIR", dest="environments",
        help="sessions may have this environment of Python (a venv); repeatable",
    )  # fmt: skip
    _option(
        serve, "--any-environment", action="store_true",
        help="they may have any of this user's; on a unix: socket only",
    )  # fmt: skip
    _option(
        serve, "--allowed-packages", metavar="NAMES", type=_names,
        help="packages that sessions may be given, with commas between them, or: all",
    )  # fmt: skip
    _option(serve, "--package-index", metavar="URL", help="where packages come from; else where pip looks")
    _option(serve, "--node-tag", metavar="TAG", help="with what its sessions' ids begin, behind a gateway")
    _option(
        serve, "--tls-certificate", metavar="FILE",
        help="speak TLS, with the certificate in this PEM file and those up to the authority",
    )  # fmt: skip
    _option(serve, "--tls-key", metavar="FILE", help="the certificate's private key, a PEM file")
    _option(
        serve, "--until-input-ends", action="store_true",
        help="end with standard input, which whoever starts the daemon holds open",
    )  # fmt: skip
    _option(serve, "--log-format", choices=("json", "text"), help="of what goes to standard error (json)")


def _names(text: str) -> str | list[str]:
    return text if text == "all" else [name.strip() for name in text.split(",") if name.strip()]


def _option(parser: argparse.ArgumentParser, name: str, **settings: Any) -> None:
    parser.add_argument(name, default=argparse.SUPPRESS, **settings)


if __name__ == "__main__":
    sys.exit(main())
