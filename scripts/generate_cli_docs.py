"""Write `docs/cli.md` from the command line's own help.

Usage: `python scripts/generate_cli_docs.py` writes the page, with `--check` it only compares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sandkasten.cli.app import sandkasten

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
_WIDTH = 100
_INTRODUCTION = """\
# Command line

Made by `scripts/generate_cli_docs.py` from what `--help` says; edit the texts in `sandkasten/cli/`.

`pip install '.[cli,local]'` in the checkout (or `scripts/quickstart`) installs the command `sandkasten`:

```console
$ sandkasten run -- python3 -c 'print(6 * 7)'   # a sandbox for one command
42
$ sandkasten up                                 # a daemon in the background, for all that follows
$ id=$(sandkasten new)
$ sandkasten exec $id -- 'cd /tmp && name=World'
$ sandkasten exec $id -- 'echo Hello, $name, from $PWD'
Hello, World, from /tmp
$ sandkasten cp data.csv $id:/workspace/
$ sort -n numbers | sandkasten exec $id -- head -3
$ sandkasten shell $id
$ sandkasten rm $id && sandkasten down
```

Data goes to standard output, all else to standard error; `--json` is there wherever something is read.
Whatever a sandbox prints reaches a terminal without escape sequences and control characters; a pipe or a
file gets all of it. Names in tables are always without them; `--json` has them as they are.
`NO_COLOR` is honoured.
"""


def page() -> str:
    """The whole text."""
    return "\n".join([_INTRODUCTION, *_sections(sandkasten, "sandkasten", None, 2)])


def _sections(command: click.Command, name: str, parent: click.Context | None, level: int) -> Iterator[str]:
    ctx = click.Context(
        command, info_name=name, parent=parent, terminal_width=_WIDTH, **command.context_settings
    )
    title = ctx.command_path
    yield f"{'#' * level} {title}\n\n```text\n{command.get_help(ctx).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for child_name in command.list_commands(ctx):
            child = command.get_command(ctx, child_name)
            assert child is not None
            yield from _sections(child, child_name, ctx, level + 1)


def main() -> int:
    """Write or compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    if not parser.parse_args().check:
        PAGE.write_text(page(), "utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text("utf-8") == page():
        return 0
    print("docs/cli.md is stale. Run: python scripts/generate_cli_docs.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
