"""The error for a framework that is not installed."""

from __future__ import annotations

# The modules that the extras bring, by the name of the extra.
_MODULES = {
    "openai-agents": "agents",
    "langchain": "langchain_core",
    "fsspec": "fsspec",
    "mcp": "mcp_types",
    "deepagents": "deepagents",
    "inspect-ai": "inspect_ai",
    "pydantic-ai": "pydantic_ai",
    "strands": "strands",
    "smolagents": "smolagents",
    "autogen": "autogen_core",
    "anthropic": "anthropic",
    "google-adk": "google.adk",
}


def missing(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """Return an error that names the extra if the framework itself is missing, otherwise the given one."""
    module = _MODULES[extra]
    if error.name not in {module, module.partition(".")[0]}:
        return error
    text = f"The module {error.name!r} is missing. Install it: pip install 'sandkasten[{extra}]'."
    return ModuleNotFoundError(text, name=error.name)
