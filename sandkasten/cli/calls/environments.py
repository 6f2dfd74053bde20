"""The environment of Python that a session of the command line has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandkasten.cli.output import out
from sandkasten.cli.output.failures import USAGE, CommandLineError
from sandkasten.cli.parsing.arguments import DEFAULT_IMAGE

if TYPE_CHECKING:
    from sandkasten._options.environments import PythonEnvironment
    from sandkasten_sync import Session


def chosen(image: str, environment: PythonEnvironment | None) -> str | PythonEnvironment:
    """Return the image of a session.

    Raises:
        CommandLineError: both are given.
    """
    if environment is None:
        return image
    if image != DEFAULT_IMAGE:
        raise CommandLineError("--image and --python-env do not go together. Leave one of them out.", USAGE)
    return environment


def say_left_out(session: Session) -> None:
    """Print what of its environment a session does not have."""
    info = session.info().python_environment
    if info is not None and info.left_out:
        out.say(f"Not in the sandbox, since it is outside of {info.path}: {', '.join(info.left_out)}")
