# Made from tests/_async/test_python.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Python that remembers, on the real daemon."""

from __future__ import annotations

from .seam import Session


def test_variables_stay_from_one_call_to_the_next(session: Session) -> None:
    assert session.python("x = 42").ok
    result = session.python("print(x); x + 1")
    assert (result.stdout, result.value, result.end) == ("42\n", "43", "completed")
