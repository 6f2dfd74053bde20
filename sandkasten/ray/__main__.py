"""The command line of a cluster: `python -m sandkasten.ray {up,gateway,status,down}`."""

from __future__ import annotations

import os
import sys

# As in `sandkasten.local`: no module of the current directory is one of ours.
if __name__ == "__main__" and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

import argparse
from collections.abc import Sequence

_PROGRAM = "python -m sandkasten.ray"
_MOST_QUEUE_SECONDS = 600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code: 0, 1 if it could not be done, 2 if it makes no sense."""
    options = _parser().parse_args(arguments)
    # Ray reads these when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not options.without_tokens:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        return int(options.run(options))
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        print(f"{name} is not installed. Run: pip install 'sandkasten[ray]'", file=sys.stderr)
        return 1


def _up(options: argparse.Namespace) -> int:
    from sandkasten.ray import commands  # noqa: PLC0415  (with all of Ray)

    return commands.up(options)


def _status(options: argparse.Namespace) -> int:
    from sandkasten.ray import commands  # noqa: PLC0415

    return commands.status(options)


def _down(options: argparse.Namespace) -> int:
    from sandkasten.ray import commands  # noqa: PLC0415

    return commands.down(options)


def _gateway(options: argparse.Namespace) -> int:
    from sandkasten.local.options import OptionsError  # noqa: PLC0415
    from sandkasten.local.serveroptions import ServerOptions  # noqa: PLC0415

    names = ("listen", "api_key_file", "no_api_key", "log_format", "tls_certificate", "tls_key")
    given = {name: value for name in names if (value := getattr(options, name)) not in {None, False}}
    try:
        settings = ServerOptions.from_mapping(given)
    except OptionsError as error:
        print(error.spelled(lambda name: f"--{name.replace('_', '-')}"), file=sys.stderr)
        return 2
    from sandkasten.ray.serving import run  # noqa: PLC0415

    return run(settings, options.address, without_tokens=options.without_tokens)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="serve sandboxes on the nodes of a running cluster")
    up.add_argument("--local", type=int, metavar="N", help="start a cluster of N nodes on this machine first")
    up.add_argument("--sessions", type=int, metavar="N", default=100, help="of each of these nodes (100)")
    up.add_argument("--queue-seconds", type=_seconds, metavar="S", default=10.0,
                    help="for how long a new session waits for room (10)")  # fmt: skip
    up.add_argument("--shares-workspaces", action="store_true",
                    help="all nodes have the same directory of workspaces")  # fmt: skip
    for name, metavar, text in (
        ("--data-dir", "DIR", "where each node keeps workspaces and images"),
        ("--pool-size", "N", "sessions that each node keeps ready, per image (2)"),
        ("--default-ttl", "SECONDS", "the lifetime of sessions that ask for none (1800)"),
        ("--allowed-packages", "NAMES", "packages that sessions may be given, or: all"),
        ("--package-index", "URL", "where packages come from"),
    ):
        up.add_argument(name, metavar=metavar, help=text)
    up.add_argument("--allow-host-network", action="store_true",
                    help="sessions may ask for their node's network; Ray must ask for tokens")  # fmt: skip
    gateway = commands.add_parser("gateway", help="serve clients; there may be any number of these")
    gateway.add_argument("--listen", metavar="ADDRESS", help="127.0.0.1:8080 (the default)")
    gateway.add_argument("--api-key-file", metavar="FILE", help="a file with the key that clients must have")
    gateway.add_argument("--no-api-key", action="store_true", help="on a local address only")
    gateway.add_argument("--tls-certificate", metavar="FILE", help="speak TLS, with this certificate")
    gateway.add_argument("--tls-key", metavar="FILE", help="the certificate's private key")
    gateway.add_argument("--log-format", choices=("json", "text"))
    status = commands.add_parser("status", help="show nodes, capacity and sessions")
    down = commands.add_parser("down", help="end all sessions and serve no more")
    for command, run in ((up, _up), (gateway, _gateway), (status, _status), (down, _down)):
        command.add_argument("--address", default="auto", metavar="HOST:PORT", help="of Ray (auto)")
        command.add_argument("--without-tokens", action="store_true", help="Ray may be without tokens")
        command.set_defaults(run=run)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= _MOST_QUEUE_SECONDS:
        raise argparse.ArgumentTypeError(f"it must be from 0 to {_MOST_QUEUE_SECONDS:g}")
    return value


if __name__ == "__main__":
    sys.exit(main())
