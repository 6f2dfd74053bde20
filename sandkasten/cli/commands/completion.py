"""`completion`: click's own scripts, which ask this program for completions."""

from __future__ import annotations

import click

from sandkasten.cli.output.failures import CommandLineError

VARIABLE = "_SANDKASTEN_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    It completes commands, options, sessions, workspaces, images, and the files on both sides of `cp`.

    \b
      bash: eval "$(sandkasten completion bash)" in ~/.bashrc
      zsh:  eval "$(sandkasten completion zsh)" in ~/.zshrc, after compinit
      fish: sandkasten completion fish > ~/.config/fish/completions/sandkasten.fish
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    completer = get_completion_class(shell)
    if completer is None:
        raise CommandLineError(f"There is no completion for {shell}.")
    script = completer(ctx.find_root().command, {}, "sandkasten", VARIABLE)
    click.echo(script.source_template % script.source_vars())


def prepare() -> None:
    """Let bash complete remote paths."""
    from click.shell_completion import add_completion_class  # noqa: PLC0415

    from sandkasten.cli.calls.completing import Bash  # noqa: PLC0415

    add_completion_class(Bash, "bash")
