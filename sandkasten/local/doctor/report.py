"""The doctor: what this machine can isolate and limit, what not, and the command that fixes each gap.

`readings.py` reads, `findings.py` decides, and this module prints the report.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from sandkasten.local.doctor.finding import Finding, State
from sandkasten.local.doctor.findings import findings
from sandkasten.local.doctor.readings import is_linux, read_machine

__all__ = ["Finding", "State", "can_build", "examine", "report", "run"]

_WIDTH = 100


def examine() -> list[Finding]:
    """Return the findings about this machine."""
    if not is_linux():
        says = "The daemon runs on Linux only; as a client, this machine can use a daemon on another one."
        return [Finding("kernel", State.MISSING, says, "Use WSL 2 or a virtual machine, or pass base_url=.")]
    return findings(read_machine())


def run() -> int:
    """Print the report; return 0 if sandboxes can be built, else 1."""
    found = examine()
    print(report(found))
    return 0 if can_build(found) else 1


def can_build(found: Sequence[Finding]) -> bool:
    """Return whether sandboxes can be built."""
    return all(finding.state is not State.MISSING for finding in found)


def report(found: Sequence[Finding]) -> str:
    """Return the findings for people to read; commands are never wrapped."""
    width = max((len(finding.name) for finding in found), default=0)
    lines = [line for finding in found for line in _lines(finding, width)]
    count = sum(finding.state is State.DEGRADED for finding in found)
    if not can_build(found):
        end = "Sandboxes cannot be built here. Fix what is missing, then run doctor again."
    elif count:
        end = f"Sandboxes can be built here; {count} of {len(found)} could be better."
    else:
        end = "Sandboxes can be built here."
    return "\n".join([*lines, "", end])


def _lines(finding: Finding, width: int) -> list[str]:
    head = f"{finding.state.value:<8}  {finding.name:<{width}}  "
    indent = " " * len(head)
    texts = textwrap.wrap(
        finding.says, _WIDTH - len(head), break_long_words=False, break_on_hyphens=False
    ) or [""]
    lines = [head + texts[0], *(indent + text for text in texts[1:])]
    if finding.fix is not None:
        meaning, *commands = finding.fix.splitlines()
        lines += [f"{indent}-> {meaning}", *(f"{indent}   {command}" for command in commands)]
    return lines
