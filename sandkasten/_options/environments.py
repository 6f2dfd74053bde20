"""The environment of Python that a session may have in place of an image."""

from __future__ import annotations

import os
import sys
from typing import Any, cast

from attrs import field, frozen

from sandkasten.errors import SandkastenInputError


def _absolute(value: Any) -> str:
    path: Any = os.fspath(cast("os.PathLike[Any]", value)) if hasattr(value, "__fspath__") else value
    if not isinstance(path, str) or not path or "\0" in path:
        raise SandkastenInputError(
            f"The path of an environment is {value!r:.80}.", "Pass one, such as '.venv'."
        )
    try:
        # Links stay: scripts of the environment may hold the path as it is written here.
        return os.path.abspath(os.path.expanduser(path))
    except FileNotFoundError:
        raise SandkastenInputError(
            f"{path!r} is seen from the current directory, which is gone.", "Give it in full."
        ) from None


@frozen
class PythonEnvironment:
    """An environment of Python on the daemon's machine, as the image of a session.

    It is a venv (also virtualenv's and uv's), an environment of conda, or the prefix of an interpreter. It is
    mounted read-only with the interpreter that it needs, and `python` is the environment's.

    Example::

        from sandkasten import PythonEnvironment

        environment = PythonEnvironment(".venv")
        async with await client.create_session(image=environment) as session:
            print((await session.exec("python -c 'import numpy'")).output)

    Attributes:
        path: its directory; it becomes absolute.
    """

    path: str = field(converter=_absolute)

    @classmethod
    def current(cls) -> PythonEnvironment:
        """Return the environment that this program runs in."""
        return cls(sys.prefix)


@frozen
class EnvironmentInfo:
    """The environment of Python that a session has.

    Attributes:
        path: its directory, the same inside as on the daemon's machine.
        python_version: its Python, such as "3.12".
        left_out: packages of it that are elsewhere on that machine, such as editable installs, and so are
            not in the sandbox; one line of text each.
    """

    path: str
    python_version: str
    left_out: tuple[str, ...] = ()
