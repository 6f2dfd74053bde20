"""The codes of errors that no daemon reports, explained in `sandkasten.errors`.

This module imports nothing, so that `sandkasten.local.launch` can use it without loading httpx.
"""

from __future__ import annotations

UNREACHABLE = "UNREACHABLE"
NOT_SANDKASTEN = "NOT_SANDKASTEN"
NOT_LINUX = "NOT_LINUX"
NOT_INSTALLED = "NOT_INSTALLED"
NO_PYTHON = "NO_PYTHON"
NO_ISOLATION = "NO_ISOLATION"
ENDED = "ENDED"
