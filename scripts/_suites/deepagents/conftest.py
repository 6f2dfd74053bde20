"""The files that each version has tests for."""

from __future__ import annotations

import os

# There is no dcode for deepagents 0.6.
collect_ignore = [] if os.environ["SUITE"] == "deepagents/0.7" else ["test_dcode.py"]
