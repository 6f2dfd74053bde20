"""Options of other programs that people type out of habit, and where our own options end.

People type `docker run --rm -it -v ...` from memory. Such an option is answered with advice on what to use
instead, and never taken for something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from sandkasten.cli.output.failures import USAGE, CommandLineError

_INPUT = "Piped input reaches the command as it is; for typing, run it in a terminal: -t"
_FILES = (
    "Copy files with --upload, --download or `sandkasten cp`, or keep them in a workspace: --workspace ID"
)
_VARIABLES = "Set variables in the command: sandkasten run -- env NAME=value COMMAND"
_LIMITS = "`sandkasten new` and `run` have --memory and --cpus; for all limits see `sandkasten serve --help`"
_ENDS = "Leave it out: the sandbox of `run` always ends with its command"
_BACKGROUND = "Make a session, and start it there: sandkasten exec -d SESSION -- COMMAND"
_DIRECTORY = "Change the directory in the command: sandkasten run -- 'cd DIRECTORY && COMMAND'"
_USER = "Commands always run as the one user without privileges"
_NAME = "`sandkasten new` has --name; of an id a few characters are enough"
_PORTS = "Ports in a sandbox cannot be reached from outside, unless it shares the host's: --network host"
_NETWORK = "Give it the host's network with --network host"
_PRIVILEGES = "A sandbox gets no privileges"
_ENTRY = "Give the program as the command: sandkasten run -- PROGRAM WORDS..."

_BY_ADVICE: Mapping[str, str] = {
    _INPUT: "-i -t -it -ti --interactive --tty -a --attach",
    _FILES: "-v --volume --mount --volumes-from --tmpfs",
    _VARIABLES: "-e --env --env-file",
    _LIMITS: "-m --memory --memory-swap -c --cpus --cpu-shares --cpuset-cpus --pids-limit --ulimit",
    _ENDS: "--rm",
    _BACKGROUND: "-d --detach",
    _DIRECTORY: "-w --workdir --cwd",
    _USER: "-u --user",
    _NAME: "--name",
    _PORTS: "-p -P --publish --publish-all --expose --port",
    _NETWORK: "--net --dns",
    _PRIVILEGES: "--privileged --cap-add --device --gpus --security-opt",
    _ENTRY: "--entrypoint",
}
_ADVICE: Mapping[str, str] = {name: text for text, names in _BY_ADVICE.items() for name in names.split()}


def advice_for(word: str) -> str | None:
    """Return what to use instead of an option of another program, or None; pure."""
    name = word.partition("=")[0]
    if name in _ADVICE or name.startswith("--"):
        return _ADVICE.get(name)
    return _ADVICE.get(name[:2])  # -v/here:/there, -m1g


class Strict(click.Command):
    """A command that answers options of other programs with advice."""

    # How many of our own words come before a remote command; None: the command takes no remote one.
    words_before_command: int | None = None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read our own words, and keep those of the remote command."""
        values = self._values(ctx)
        ours, remote = split(args, values, self.words_before_command)
        for word in ours:
            name = word.partition("=")[0]
            if word.startswith("-") and name not in values and (advice := advice_for(word)):
                raise CommandLineError(f"{ctx.command_path} has no option {name}. {advice}.", USAGE)
        return super().parse_args(ctx, ours if remote is None else [*ours, "--", *remote])

    def _values(self, ctx: click.Context) -> Mapping[str, int]:
        """Return the number of words behind an option that are its values, by the option's names."""
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        return {name: 0 if o.is_flag or o.count else o.nargs for o in options for name in o.opts}


class RunsCommand(Strict):
    """A command whose words are a remote command: the first word ends our options."""

    words_before_command = 0


class RunsCommandInSession(Strict):
    """A command whose words are a session and then a remote command."""

    words_before_command = 1


def split(
    args: Sequence[str], values: Mapping[str, int], words_before: int | None
) -> tuple[list[str], list[str] | None]:
    """Split words into ours and the remote command's, or None without a remote command; pure.

    The remote command follows `--`, or begins with the first word that is not an option, the value of an
    option, or one of the words that come before a command.
    """
    ours: list[str] = []
    rest, left = list(args), words_before
    while rest:
        word = rest[0]
        if word == "--":
            return ours, rest[1:]
        is_option = word.startswith("-") and len(word) > 1
        if not is_option and left == 0:
            return ours, rest
        if not is_option and left is not None:
            left -= 1
        taken = 1 + (values.get(word, 0) if is_option else 0)
        ours += rest[:taken]
        del rest[:taken]
    return ours, None
