"""docs/security.md and the attempts belong together."""

from __future__ import annotations

import re
from pathlib import Path

from tests.local.isolation import (
    test_directories,
    test_from_outside,
    test_memory,
    test_quota,
    test_sessions,
)
from tests.local.isolation.arena.attempts import ATTEMPTS
from tests.local.isolation.arena.registry import WRITTEN_OUT
from tests.local.isolation.spawner import test_attacks, test_contexts
from tests.local.packages import test_attempts as package_attempts

REGISTERED = (
    package_attempts,
    test_attacks,
    test_contexts,
    test_directories,
    test_from_outside,
    test_memory,
    test_quota,
    test_sessions,
)  # they register their attempts
NAMES = [*(one.name for one in ATTEMPTS), *WRITTEN_OUT]
PAGE = Path(__file__).parents[3] / "docs" / "security.md"


def test_there_are_enough_attempts_and_each_has_a_name_of_its_own() -> None:
    assert len(NAMES) >= 40
    assert len({*NAMES}) == len(NAMES)


def test_every_attempt_has_a_promise_and_every_promise_an_attempt() -> None:
    promised = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len({*promised}) == len(promised)
    assert {*promised} == {name.partition("/")[0] for name in NAMES}


def test_each_attempt_that_is_not_shown_to_be_real_says_why() -> None:
    for one in ATTEMPTS:
        ways = [bool(one.layers), one.on_host, one.as_root, bool(one.unproven)]
        assert sum(ways) == 1, one.name
        assert not one.as_root or one.unproven_as_user, one.name
