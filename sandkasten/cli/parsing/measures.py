"""The options of sessions made to measure: `--memory`, `--cpus`, `--name`, `--label`, `--env` and `--cwd`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import click

from sandkasten._options import rules
from sandkasten._options.packages import problem_with_packages
from sandkasten.cli.parsing.arguments import Decorated, remote_path
from sandkasten.local.limits.values import LimitsError, SessionLimits, parse_size, read_limits

T = TypeVar("T")


def _labels(_ctx: click.Context, _param: click.Parameter, words: Sequence[str]) -> dict[str, str]:
    pairs = dict(_pair(word, "NAME=VALUE") for word in words)
    return _let_pass(pairs, rules.problem_with_labels(pairs))


def _variables(_ctx: click.Context, _param: click.Parameter, words: Sequence[str]) -> dict[str, str]:
    # A name without a value has the value that it has here, and is left out if it has none.
    named = (f"{word}={os.environ[word]}" if word in os.environ else word for word in words)
    pairs = dict(_pair(word, "NAME=VALUE, or NAME") for word in named if "=" in word)
    return _let_pass(pairs, rules.problem_with_environment(pairs))


def _packages(_ctx: click.Context, _param: click.Parameter, words: Sequence[str]) -> list[str]:
    return _let_pass(list(words), problem_with_packages(list(words)))


def _name(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    return value if value is None else _let_pass(value, rules.problem_with_name(value))


def _cwd(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    return value if value is None else _let_pass(value, rules.problem_with_directory(value))


def _memory(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    size_bytes = parse_size(value)
    if size_bytes is None:
        raise click.BadParameter(f"{value!r} is not a size such as 512m or 2g.")
    return _limit("memory_bytes", size_bytes)


def _cpus(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    return value if value is None else _limit("cpus", value)


def _limit(name: str, value: T) -> T:
    try:
        read_limits({name: value})
    except LimitsError as error:
        raise click.BadParameter(str(error)) from None
    return value


def _pair(word: str, form: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise click.BadParameter(f"{word!r} is not of the form {form}.")
    return name, value


def _let_pass(value: T, problem: str | None) -> T:
    if problem is not None:
        raise click.BadParameter(problem)
    return value


def limits_of(memory: int | None, cpus: float | None) -> SessionLimits | None:
    """Return the limits of a session that are given, or None."""
    limits = SessionLimits()
    if memory is not None:
        limits["memory_bytes"] = memory
    if cpus is not None:
        limits["cpus"] = cpus
    return limits or None


def limit_options(function: Decorated) -> Decorated:
    """Add the session's own limits."""
    memory = click.option(
        "--memory",
        callback=_memory,
        metavar="SIZE",
        help="Memory, such as 512m; at most the daemon's.",
    )
    cpus = click.option(
        "--cpus", type=float, callback=_cpus, metavar="NUMBER", help="CPU seconds per second, such as 0.5."
    )
    return memory(cpus(function))


def session_options(function: Decorated) -> Decorated:
    """Add the options of a session that is made to stay."""
    env = click.option(
        "-e", "--env", callback=_variables, multiple=True, metavar="NAME[=VALUE]",
        help="A variable of the session's shell; repeatable.",
    )  # fmt: skip
    cwd = click.option(
        "-w", "--cwd", callback=_cwd, metavar="PATH",
        help="The directory in which its shell begins, made if it is not there.",
    )  # fmt: skip
    name = click.option("--name", callback=_name, metavar="NAME", help="Another word for its id.")
    return limit_options(env(cwd(name(label_option(function)))))


command_env_option = click.option(
    "-e", "--env", callback=_variables, multiple=True, metavar="NAME[=VALUE]",
    help="A variable for the command; repeatable.",
)  # fmt: skip
command_cwd_option = click.option(
    "-w", "--cwd", type=remote_path, metavar="PATH",
    help="The directory for the command, seen from /workspace.",
)  # fmt: skip
packages_option = click.option(
    "--with", "packages", callback=_packages, multiple=True, metavar="PACKAGE",
    help="A package of Python, such as 'pandas<3'; repeatable.",
)  # fmt: skip
packages_argument = click.argument(
    "packages", callback=_packages, nargs=-1, required=True, metavar="PACKAGE..."
)
label_option = click.option(
    "--label", "labels", callback=_labels, multiple=True, metavar="NAME=VALUE",
    help="A note about a session; repeatable.",
)  # fmt: skip
