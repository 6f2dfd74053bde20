"""`serve` and `doctor`: the daemon's own command line, by a shorter name."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sandkasten.cli.output import out


@click.command(
    "serve",
    add_help_option=False,
    options_metavar="",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("options", metavar="[OPTIONS]", nargs=-1, type=click.UNPROCESSED)
def serve_command(options: Sequence[str]) -> int:
    """Serve sandboxes to other processes and machines.

    All options are those of `python -m sandkasten.local serve`; `sandkasten serve --help` lists them, and
    docs/server.md explains them. For programs of your own, `sandkasten up` is simpler.
    """
    from sandkasten.local.__main__ import main  # noqa: PLC0415  (the daemon)

    return main(["serve", *options], program="sandkasten")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(as_json: bool) -> int:
    """Report what this machine can isolate, and how to fix the rest.

    The exit code is 0 if sandboxes can be built here, else 1.
    """
    from sandkasten.local.doctor import report  # noqa: PLC0415

    if not as_json:
        return report.run()
    found = report.examine()
    rows = [
        {"name": finding.name, "state": finding.state.value, "says": finding.says, "fix": finding.fix}
        for finding in found
    ]
    out.emit_json({"can_build": report.can_build(found), "findings": rows})
    return 0 if report.can_build(found) else 1
