"""Python that remembers, on the real daemon."""

from __future__ import annotations

from .seam import Session


async def test_variables_stay_from_one_call_to_the_next(session: Session) -> None:
    assert (await session.python("x = 42")).ok
    result = await session.python("print(x); x + 1")
    assert (result.stdout, result.value, result.end) == ("42\n", "43", "completed")
