"""The package of uvicorn, and click, which are loaded as soon as somebody asks for something of them.

A daemon needs two modules of uvicorn. Its package would load its command line with click and its reloader as
well, which is a tenth of what a daemon costs until it listens.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_NAMES = ("uvicorn", "click")
_LOADER = "_sandkasten_loader"


class Late(ModuleType):
    """A module whose code runs when it is asked for a name that it lacks; its submodules are as usual."""

    def __getattr__(self, name: str) -> Any:
        """Run the code if that did not happen yet, and return what the name means then."""
        loader: Loader | None = vars(self).get(_LOADER)
        if loader is None or (name.startswith("__") and name != "__version__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
        del vars(self)[_LOADER]
        loader.exec_module(self)
        return getattr(self, name)


def load_late(name: str) -> None:
    """Have a module loaded when it is used, unless it is loaded already or not there."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is not None:
        module = module_from_spec(spec)
        vars(module)[_LOADER] = spec.loader
        module.__class__ = Late
        sys.modules[name] = module


for _name in _NAMES:
    load_late(_name)
