"""The list of commands; the module of a command is loaded when the command is used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from typing import Any

import click

from sandkasten._version import __version__
from sandkasten.cli.calls.connecting import Where
from sandkasten.cli.output.failures import NobodyReadsError


@dataclass(frozen=True)
class Entry:
    """An entry in the list of commands: the module of a command, and its help text."""

    name: str
    module: str
    section: str
    help: str


COMMANDS = (
    Entry("run", "running", "Run", "Run one command in a sandbox of its own, which ends with it."),
    Entry("exec", "running", "Run", "Run a command in a session's shell; its exit code is ours."),
    Entry("python", "python", "Run", "Run Python code in an interpreter that remembers."),
    Entry("shell", "shell", "Run", "Use a session's shell, line by line."),
    Entry("ps", "processes", "Run", "List the processes that were started beside a session's shell."),
    Entry("kill", "processes", "Run", "Send a signal to processes of a session."),
    Entry("logs", "processes", "Run", "Print what a process printed, and follow it with -f."),
    Entry("new", "sessions", "Sessions", "Make a session, and print its id."),
    Entry(
        "install", "sessions", "Sessions", "Install packages of Python in a session, without a network in it."
    ),
    Entry("ls", "sessions", "Sessions", "List the sessions, or a directory in one of them."),
    Entry("info", "sessions", "Sessions", "Show what the daemon knows about a session."),
    Entry("stats", "sessions", "Sessions", "Show what a session uses: memory and CPU time."),
    Entry("rm", "sessions", "Sessions", "End sessions with their files, or remove files in them."),
    Entry("cp", "copying", "Files", "Copy files and directories into, out of or within a session."),
    Entry("cat", "files", "Files", "Print files of a session, one after another."),
    Entry("stat", "files", "Files", "Show what paths of a session are, and how large."),
    Entry("mkdir", "files", "Files", "Make directories in a session."),
    Entry("mv", "files", "Files", "Move a file or a directory within a session."),
    Entry("chmod", "files", "Files", "Set permissions of files of a session."),
    Entry("find", "files", "Files", "Print the paths of a session that match a pattern."),
    Entry("grep", "files", "Files", "Search in the files of a session for a regular expression."),
    Entry("watch", "files", "Files", "Print changes of files in a session as they happen."),
    Entry("workspace", "workspaces", "Files", "Files that outlive sessions."),
    Entry("kernel", "kernels", "Notebooks", "Notebooks whose kernel runs in a sandbox."),
    Entry("up", "background", "Daemon", "Start a daemon in the background, and print its URL."),
    Entry(
        "down",
        "background",
        "Daemon",
        "End the daemon in the background, and all its sessions; workspaces stay.",
    ),
    Entry("status", "background", "Daemon", "Show which daemon the commands use."),
    Entry("mcp", "mcp", "Daemon", "Serve a sandbox to a client of the Model Context Protocol."),
    Entry("serve", "passing", "Daemon", "Serve sandboxes to other processes and machines."),
    Entry("doctor", "passing", "Daemon", "Report what this machine can isolate, and how to fix the rest."),
    Entry("completion", "completion", "Shell", "Print the completion script of a shell."),
)
_BY_NAME = {entry.name: entry for entry in COMMANDS}


class LazyGroup(click.Group):
    """A group that knows its commands' names, and loads one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the list."""
        return list(_BY_NAME)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, loading its module."""
        if cmd_name not in _BY_NAME:
            return None
        module = import_module(f"sandkasten.cli.commands.{_BY_NAME[cmd_name].module}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a closed output raises `NobodyReadsError`, since click has its own exit code."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise NobodyReadsError from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with, and load only that one."""
        name, *rest = args
        command = self.get_command(ctx, name)
        if command is None:
            ctx.fail(f"There is no command {name!r}")
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading any."""
        width = max(map(len, _BY_NAME))
        for section, entries in groupby(COMMANDS, lambda entry: entry.section):
            with formatter.section(section):
                formatter.write_dl([(f"{entry.name:<{width}}", entry.help) for entry in entries])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Return the names that begin with the typed text, without loading any command."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        found = [entry for entry in COMMANDS if entry.name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(entry.name, help=entry.help) for entry in found), *options]


def _complete_file(_ctx: click.Context, _param: click.Parameter, _incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    return [CompletionItem("", type="file")]


@click.group(
    cls=LazyGroup,
    subcommand_metavar="COMMAND ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--url", metavar="URL", help="The daemon's URL, such as http://host:8080 or unix:///path.")
@click.option(
    "--api-key-file",
    metavar="FILE",
    shell_complete=_complete_file,
    help="A file that holds the daemon's key.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def sandkasten(ctx: click.Context, url: str | None, api_key_file: str | None) -> None:
    """Run code that nobody has read, in Linux sandboxes that remember.

    `sandkasten run -- COMMAND` needs nothing else. For sessions that outlive a command, start a daemon
    once, `sandkasten up`; later commands find it.

    Without --url and the variable SANDKASTEN_BASE_URL, the daemon in the background is used. Its key is
    known; another daemon's comes from --api-key-file or the variable SANDKASTEN_API_KEY.

    Exit codes: the remote command's own; 2 wrong usage, 124 a command that ran out of time, 125 any other
    failure of this program, 130 Ctrl-C. With SANDKASTEN_DEBUG=1 failures come with a traceback.
    """
    ctx.obj = Where(url, api_key_file)
