"""What to say where a framework is not installed."""

from __future__ import annotations

# The modules that the extras bring, by the name of the extra.
_MODULES = {"openai-agents": "agents", "langchain": "langchain_core"}


def missing(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """Name the extra, if it is the framework itself that was not found; otherwise give the error back."""
    if error.name != _MODULES[extra]:
        return error
    text = f"The module {error.name!r} is missing. Install it: pip install 'sandkasten[{extra}]'."
    return ModuleNotFoundError(text, name=error.name)
