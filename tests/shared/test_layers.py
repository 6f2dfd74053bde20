"""Imports run one way; the arrows are read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Each module may import those to its left; what stands together may not import each other.
CLIENT = [
    {"_version", "errors"},
    {"models", "_config", "_checks", "_limits"},
    {"_answers", "_uploads", "local.launch"},
    {"_wire", "_events", "_seam"},
    {"_http"},
    {"files", "stream"},
    {"session", "workspace"},
    {"client"},
    {"__init__"},
]
DAEMON = [
    {
        "local.errors",
        "local.command",
        "local.transcript",
        "local.control",
        "local.policy",
        "local.processes",
        "local.causes",
        "local.metrics",
        "local.logs",
    },
    {"local.bubblewrap", "local.images", "local.host", "local.observer", "local.etc", "local.seccomp"},
    {"local.files", "local.sandbox", "local.limits", "local.archives", "local.asgi"},
    {"local.shell", "local.workspaces", "local.bodies", "local.cgroup_base", "local.options"},
    {"local.unpack", "local.cgroup_groups", "local.listen"},
    {"local.imagesources", "local.cgroups", "local.serveroptions"},
    {"local.imagestore", "local.rundir", "local.pool", "local.quota"},
    {"local.catalogue"},
    {"local.manager", "local.imagecommands"},
    {"local.app"},
    {"local.daemon"},
    {"local.serve", "local.server", "local.readings"},
    {"local.findings"},
    {"local.doctor"},
    {"local.__main__"},
]


def imports_of(module: str) -> set[str]:
    """The modules of this package that a module imports, wherever in its text."""
    path = ROOT / "sandkasten" / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text("utf-8"))
    # What only the type checker sees is not imported.
    tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                found.add(source)
            elif source in {"sandkasten", "sandkasten.local"}:
                prefix = source.removeprefix("sandkasten").lstrip(".")
                found.update(f"{prefix}.{alias.name}".lstrip(".") for alias in node.names)
            elif source.startswith("sandkasten."):
                found.add(source.removeprefix("sandkasten."))
    return found


@pytest.mark.parametrize("layers", [CLIENT, DAEMON], ids=["client", "daemon"])
def test_imports_go_to_lower_layers_only(layers: list[set[str]]) -> None:
    below = {"_version"}
    for layer in layers:
        for module in layer:
            assert imports_of(module) <= below | {"_version", "errors"}, module
        below |= layer


def test_every_module_has_its_layer() -> None:
    files = (ROOT / "sandkasten").rglob("*.py")
    modules = {str(file.relative_to(ROOT / "sandkasten"))[:-3].replace("/", ".") for file in files}
    assert modules - {"local.__init__"} == set().union(*CLIENT, *DAEMON)


def test_the_daemon_does_not_import_the_client() -> None:
    client = set().union(*CLIENT) - {"_version"}
    for module in set().union(*DAEMON):
        assert not imports_of(module) & client, module


@pytest.mark.parametrize("package", ["sandkasten", "sandkasten_sync"])
def test_importing_the_client_loads_nothing_of_the_daemon(package: str) -> None:
    code = f"import sys, {package}; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = set(loaded.stdout.split())
    assert package in modules
    unwanted = {"starlette", "uvicorn", "cattrs", "multipart", "sandkasten.local.serve"}
    assert not modules & unwanted
