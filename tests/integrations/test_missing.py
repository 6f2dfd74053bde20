"""A framework is loaded by whoever imports its module, and by nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Makes an import fail as if the module was not installed.
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:sandkasten", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("openai_agents", "agents", "openai-agents"),
        ("langchain", "langchain_core", "langchain"),
        ("fsspec", "fsspec", "fsspec"),
        ("mcp", "mcp_types", "mcp"),
        ("deepagents", "deepagents", "deepagents"),
        ("inspect_ai", "inspect_ai", "inspect-ai"),
        ("pydantic_ai", "pydantic_ai", "pydantic-ai"),
        ("strands", "strands", "strands"),
        ("smolagents", "smolagents", "smolagents"),
        ("autogen", "autogen_core", "autogen"),
        ("google_adk", "google", "google-adk"),
        ("anthropic", "anthropic", "anthropic"),
    ],
)
def test_a_framework_that_is_missing_is_named_with_its_extra(name: str, module: str, extra: str) -> None:
    done = run(WITHOUT.format(module=module) + f"import sandkasten.integrations.{name}")
    assert done.returncode == 1
    sentence = f"The module {module!r} is missing. Install it: pip install 'sandkasten[{extra}]'."
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: {sentence}"
    assert "During handling" not in done.stderr


@pytest.mark.parametrize("name", ["openai_agents", "langchain"])
def test_something_else_that_is_missing_keeps_its_own_error(name: str) -> None:
    done = run(WITHOUT.format(module="pydantic") + f"import sandkasten.integrations.{name}")
    assert "No module named 'pydantic'" in done.stderr.splitlines()[-1]
    assert "Install it" not in done.stderr


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("openai_agents", {"langchain_core"}),
        ("langchain", {"agents", "langgraph"}),
        ("users", {"agents", "langchain_core", "pydantic"}),
        ("fsspec", {"agents", "langchain_core", "pydantic", "pandas"}),
        ("mcp", {"agents", "langchain_core"}),
    ],
)
def test_a_module_loads_no_framework_but_its_own(name: str, absent: set[str]) -> None:
    done = run(f"import sys, sandkasten.integrations.{name}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & absent


@pytest.mark.parametrize("package", ["sandkasten", "sandkasten_sync"])
def test_the_client_loads_no_integration(package: str) -> None:
    done = run(f"import sys, {package}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {
        "agents",
        "fsspec",
        "langchain_core",
        "pydantic",
        "sandkasten.integrations",
    }
