"""Each attempt fails in a sandbox, and is real: it succeeds without what stops it."""

from __future__ import annotations

import re
import socket
from dataclasses import replace

import pytest

from tests.local.isolation.arena.attempts import ATTEMPTS
from tests.local.isolation.arena.lab import AS_ROOT, Annex, Attempt, Lab, others_rule

OTHERS_RULE = others_rule()
by_name = pytest.mark.parametrize("attempt", [pytest.param(one, id=one.name) for one in ATTEMPTS])


@by_name
def test_it_is_stopped(laboratory: Lab, attempt: Attempt) -> None:
    assert_stopped(attempt, laboratory.inside(attempt))


@by_name
def test_it_is_stopped_beside_the_shell_too(laboratory: Lab, annex: Annex, attempt: Attempt) -> None:
    stopped_by = attempt.beside or attempt.stopped_by
    assert_stopped(replace(attempt, stopped_by=stopped_by), laboratory.beside(annex, attempt))


@pytest.mark.parametrize(
    ("attempt", "layer"),
    [
        pytest.param(attempt, layer, id=f"{attempt.name} without {layer.name}")
        for attempt in ATTEMPTS
        for layer in attempt.layers
        if len(attempt.layers) > 1
    ],
)
def test_it_is_stopped_even_when_one_of_several_layers_fails(
    laboratory: Lab, attempt: Attempt, layer: object
) -> None:
    said = laboratory.inside(attempt, [one for one in attempt.layers if one is layer])
    assert_stopped(attempt, said)


@by_name
def test_it_is_real(laboratory: Lab, attempt: Attempt) -> None:
    if attempt.unproven:
        pytest.skip(attempt.unproven)
    if attempt.unproven_as_user and not AS_ROOT:
        pytest.skip(attempt.unproven_as_user)
    if attempt.layers:
        said = laboratory.inside(attempt, attempt.layers)
    else:
        said = laboratory.on_host(attempt, root=attempt.as_root)
    if re.search(attempt.kernel_may_refuse, said):
        pytest.skip(f"this machine allows it to nobody: {said.strip()}")
    if OTHERS_RULE and re.search("^stopped: (EPERM|EACCES|ENOSYS|EROFS|none of them)$", said, re.MULTILINE):
        pytest.skip(f"the tests themselves run under {OTHERS_RULE}: {said.strip()}")
    assert re.search(attempt.proof_says, said, re.MULTILINE), said


def test_the_host_is_as_it_was(laboratory: Lab) -> None:
    targets = laboratory.targets
    assert socket.gethostname() not in {"evil", "sandbox"}
    assert targets.secret_file.read_text() == (targets.shared / "file").read_text() == targets.secret


def assert_stopped(attempt: Attempt, said: str) -> None:
    assert "succeeded" not in said, said
    reason = re.search(r"^stopped: (.*)$", said, re.MULTILINE)
    assert reason, f"the program is broken: {said}"
    assert re.fullmatch(attempt.stopped_by, reason[1]), said
