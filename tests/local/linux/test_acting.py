"""A thread that acts as the sandbox's user, while the others are what they were."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sandkasten.local.identity import Identity
from sandkasten.local.linux import acting
from sandkasten.local.linux.acting import acting_as, steps_as

OTHERS = 60_777


def rights() -> tuple[str, ...]:
    """Return user, group, groups and effective rights of this thread, as the kernel has them."""
    lines = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text("ascii").splitlines()
    return tuple(line for line in lines if line.startswith(("Uid", "Gid", "Groups", "CapEff")))


def test_a_thread_gives_its_rights_up_and_gets_them_back() -> None:
    identity = Identity(OTHERS, drops=os.geteuid() == 0)
    before = rights()
    with acting_as(identity):
        within = rights()
        with acting_as(identity):
            assert rights() == within
        assert rights() == within
    assert rights() == before
    if os.geteuid() != 0:
        assert within == before
        return
    uid, gid, groups, effective = (line.split()[1:] for line in within)
    assert (uid[3], gid[3], groups) == (str(OTHERS), str(OTHERS), [])
    # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID and MKNOD.
    assert not int(effective[0], 16) & (0b11111 | 1 << 27)


def test_other_threads_keep_theirs(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0)
    identity = Identity(OTHERS, drops=os.geteuid() == 0)
    before = rights()
    seen: list[tuple[str, ...]] = []
    with acting_as(identity):
        thread = threading.Thread(target=lambda: seen.append(rights()))
        thread.start()
        thread.join(20)
        with pytest.raises(PermissionError):
            secret.read_bytes()
        assert os.geteuid() != OTHERS
    assert rights() == before
    assert len(seen) == 1


def test_an_error_in_the_block_gives_them_back_too() -> None:
    before = rights()
    with pytest.raises(ZeroDivisionError), acting_as(Identity(OTHERS, drops=os.geteuid() == 0)):
        raise ZeroDivisionError
    assert rights() == before


def test_between_two_steps_of_an_iterator_the_thread_is_itself() -> None:
    before, within = rights(), list[tuple[str, ...]]()

    def steps() -> object:
        for _ in range(2):
            within.append(rights())
            yield b"x"

    for _ in steps_as(Identity(OTHERS, drops=os.geteuid() == 0), steps()):  # type: ignore[arg-type]
        assert rights() == before
    assert len(within) == 2
    assert (within[0] == before) is (os.geteuid() != 0)


def test_nothing_is_done_where_the_thread_cannot_become_that_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "_SYS_SETGROUPS", None)
    with pytest.raises(PermissionError), acting_as(Identity(OTHERS, drops=True)):
        pytest.fail("the block was entered")
