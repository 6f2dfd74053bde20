"""The example of CrewAI, which defines no sandbox but tools."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def test_the_example_prints_what_its_page_says(
    check_example: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREWAI_DISABLE_TELEMETRY", "true")
    check_example("crewai_agent.py")
