"""Refuse to package a stale twin.

hatchling loads this file at every build: sdist, wheel and editable wheel. The check is the one of
`generate_sync.py --check`, on the tree that is being built; in an sdist that tree has no tests.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TwinHook(BuildHookInterface[BuilderConfig]):
    """Compares the twin with the async sources before anything is built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Stop the build if the twin is not what the sources give, or cannot be made of them."""
        root = Path(self.root)
        generator = load_generator(root)
        try:
            problems = generator.check(root)
        except generator.TwinError as error:
            problems = [str(error)]
        if problems:
            self.app.abort("\n".join(["sandkasten_sync is stale:", *problems, generator.ADVICE]))


def load_generator(root: Path) -> ModuleType:
    """Import the script by its path: scripts/ is no package, and is not on the path of a build."""
    spec = importlib.util.spec_from_file_location("generate_sync", root / "scripts" / "generate_sync.py")
    if spec is None or spec.loader is None:
        raise ImportError("scripts/generate_sync.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
