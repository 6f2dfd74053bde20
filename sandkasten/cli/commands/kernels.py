"""`kernel`: notebooks whose kernel runs in a sandbox."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import click

from sandkasten.cli.calls.environments import chosen
from sandkasten.cli.output import out
from sandkasten.cli.output.failures import CommandLineError
from sandkasten.cli.parsing import arguments

if TYPE_CHECKING:
    from sandkasten._options.environments import PythonEnvironment

_MISSING = "{} is not installed. Run: pip install 'sandkasten[notebook]'"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.group("kernel", subcommand_metavar="COMMAND ...")
def kernel_command() -> None:
    """Notebooks whose kernel runs in a sandbox.

    Jupyter's own commands list and remove what was installed: `jupyter kernelspec list` and
    `jupyter kernelspec remove NAME`.
    """


@kernel_command.command("install")
@click.option(
    "--name", type=arguments.form(_NAME, "a name of letters, digits and `.`, `_`, `-`"), default="sandkasten",
    show_default=True, metavar="NAME", help="The kernel's name, for nbclient and papermill.",
)  # fmt: skip
@click.option(
    "--display-name", "shown", default="Python (sandbox)", show_default=True, metavar="TEXT",
    help="What JupyterLab calls it.",
)  # fmt: skip
@arguments.environment_option
@arguments.image_option
@arguments.workspace_option
@click.option(
    "--copy-files", is_flag=True,
    help="Copy the notebook's directory in when it starts, except hidden files; nothing is copied back.",
)  # fmt: skip
@click.option(
    "--show-anything", is_flag=True,
    help="Let scripts and widgets of the sandbox run in the notebook's page, in your name.",
)  # fmt: skip
@click.option("--prefix", metavar="DIR", help="Install for those who use this prefix of Jupyter's.")
@click.option("--sys-prefix", is_flag=True, help="Install for the environment of this command.")
def install_command(
    *,
    name: str,
    shown: str,
    environment: PythonEnvironment | None,
    image: str,
    workspace: str | None,
    copy_files: bool,
    show_anything: bool,
    prefix: str | None,
    sys_prefix: bool,
) -> None:
    """Have JupyterLab, nbclient and papermill offer a kernel that runs in a sandbox.

    Its session has no network, and sees nothing of this machine but an environment of Python: that of this
    command, unless --python-env or --image names another one. ipykernel must be installed in it.

    \b
      sandkasten kernel install
      papermill -k sandkasten notebook.ipynb done.ipynb
    """
    try:
        from sandkasten.notebook.kernels import specs  # noqa: PLC0415  (it needs the extra)
        from sandkasten.notebook.kernels.sandboxed import Choice  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CommandLineError(_MISSING.format(error.name)) from None
    image_of_it = chosen(image, environment)
    is_own = image_of_it == arguments.DEFAULT_IMAGE
    path = sys.prefix if is_own else getattr(image_of_it, "path", "")
    choice = Choice(
        environment=path,
        image=image,
        workspace=workspace or "",
        copies_files=copy_files,
        shows_anything=show_anything,
    )
    try:
        place = specs.install(name, shown, choice, sys.prefix if sys_prefix else prefix)
    except ModuleNotFoundError as error:
        raise CommandLineError(_MISSING.format(error.name)) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise CommandLineError(
            f"The kernel cannot be installed: {reason}. Choose another --prefix."
        ) from None
    if path and not specs.has_ipykernel(path):
        out.say(f"{path} has no ipykernel yet. Install it: {path}/bin/python -m pip install ipykernel")
    out.emit(str(place))
