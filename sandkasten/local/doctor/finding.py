"""The doctor's finding about one aspect of a machine."""

from __future__ import annotations

import enum

from sandkasten.local.records import dataclass


class State(enum.Enum):
    """The severity of a finding."""

    OK = "ok"
    DEGRADED = "degraded"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One examined aspect of the machine.

    Attributes:
        name: the name of the aspect.
        state: the severity.
        says: the facts, as a sentence.
        fix: how to fix it; the first line says what the commands in the following lines do.
    """

    name: str
    state: State
    says: str
    fix: str | None = None
