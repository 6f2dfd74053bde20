"""Inspect's own checks of a sandbox, as they are."""

import pytest
from inspect_ai.util._sandbox.self_check import *  # noqa: F403  (these are the tests)

pytestmark = pytest.mark.anyio
