"""The version of the kernel."""

from __future__ import annotations

import platform


def kernel_version(release: str = "") -> tuple[int, int]:
    """Return the version of the running kernel, or the one in a text like "5.15.0-91-generic"."""
    major, minor = (release or platform.release()).split(".")[:2]
    digits = "".join(character if character.isdigit() else " " for character in minor).split()
    return int(major), int(digits[0]) if digits else 0
