"""Imports run one way; the arrows are read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What client and daemon share.
BOTH = {"_version", "_tar", "_cut", "_names", "_directories", "local.limitvalues"}
# Each module may import those to its left; what stands together may not import each other.
CLIENT = [
    {"_brief"},
    {
        "_version",
        "_tar",
        "_cut",
        "_names",
        "_directories",
        "_offline",
        "errors",
        "local.interpreter",
        "local.limitvalues",
    },
    {"models", "_config", "_checks", "_limits", "_prompts", "_sentences"},
    {"_answers", "_transfers", "local.launch"},
    {"_wire", "_events", "_aiohttp", "_uploads", "_filecommands", "_places"},
    {"_retry", "_observe", "_seam", "_filewire", "_downloads"},
    {"_http"},
    {"_rawfiles", "stream"},
    {"_shellfiles"},
    {"files"},
    {"session", "workspace"},
    {"client"},
    {"__init__"},
]
DAEMON = [
    {"local.processes"},
    {
        "local.clock",
        "local.errors",
        "local.command",
        "local.transcript",
        "local.control",
        "local.policy",
        "local.terminal",
        "local.traps",
        "local.causes",
        "local.metrics",
        "local.logs",
        "local.syscalls",
        "local.loop",
        "local.inherited",
        "local.mounttable",
    },
    {
        "local.closedbash",
        "local.bubblewrap",
        "local.images",
        "local.host",
        "local.observer",
        "local.etc",
        "local.seccomp",
    },
    {
        "local.connections",
        "local.newfile",
        "local.openat2",
        "local.limits",
        "local.names",
        "local.pipes",
        "local.scratch",
        "local.directories",
    },
    {"local.usage"},
    {"local.files", "local.sandbox", "local.archives", "local.asgi"},
    {
        "local.bodystream",
        "local.shell",
        "local.execution",
        "local.workspaces",
        "local.cgroup_base",
        "local.options",
    },
    {"local.jsonbodies"},
    {"local.bodies"},
    {"local.unpack", "local.tarballs", "local.cgroup_groups", "local.systemd", "local.listen"},
    {"local.imagesources", "local.cgroups", "local.serveroptions"},
    {"local.imagestore", "local.rundir", "local.pool", "local.quota", "local.settings", "local.trial"},
    {"local.catalogue", "local.backend"},
    {"local.manager", "local.imagecommands"},
    {"local.owners"},
    {"local.transfers", "local.filecalls"},
    {"local.idempotency"},
    {"local.execs"},
    {"local.app"},
    {"local.daemon"},
    {"local.serve", "local.server", "local.readings"},
    {"local.findings"},
    {"local.doctor"},
    {"local.__main__"},
]

# Leaves: they may import all of the client, and nothing but themselves imports them.
INTEGRATIONS = [
    {"integrations._missing", "integrations._text", "integrations.users"},
    {"integrations._verbs"},
    {"integrations.openai_agents", "integrations.langchain"},
    {"integrations.__init__"},
]

# A leaf as well, on the blocking twin.
NOTEBOOK = [
    {"notebook.errors", "notebook.heights", "notebook.text", "notebook.languages", "notebook.sessions"},
    {"notebook.arguments", "notebook.listing", "notebook.progress", "notebook.running", "notebook.tables"},
    {"notebook.pictures", "notebook.displays", "notebook.verbs"},
    {"notebook.cells"},
    {"notebook.extension"},
    {"notebook.__init__"},
]
# A leaf as well, on the blocking twin; `app` names the modules of commands, and loads one when it is used.
CLI = [
    {"cli.text"},
    {"cli.failures", "cli.out"},
    {
        "cli.place",
        "cli.arguments",
        "cli.lines",
        "cli.terminal",
        "cli.completion",
        "cli.passing",
        "cli.listing",
        "cli.embedded",
        "cli.foreign",
        "cli.ids",
        "cli.usage",
    },
    {"cli.process", "cli.stdin", "cli.transfers"},
    {"cli.streaming"},
    {"cli.connecting", "cli.lineshell"},
    {"cli.completing"},
    {"cli.running", "cli.shell", "cli.sessions", "cli.copying", "cli.background"},
    {"cli.workspaces"},
    {"cli.app"},
    {"cli.main"},
    {"cli.__init__"},
    {"__main__"},
]
# IPython asks the package itself for the magics, which are imported then. Two commands are the daemon's own.
LATE = {
    "models": {"notebook.displays"},
    "__init__": {"notebook.extension"},
    "cli.arguments": {"cli.completing"},
    "cli.completing": {
        "local.catalogue",
        "local.host",
        "local.images",
        "local.imagestore",
        "local.options",
    },
    "cli.completion": {"cli.completing"},
    "cli.passing": {"local.__main__", "local.doctor"},
    "pytest_plugin": {"local.launch", "testing.FakeDaemon"},
}

# A leaf that imports nothing but itself.
TESTING = [
    {"testing._steps", "testing._multipart"},
    {"testing._server", "testing._script", "testing.faults"},
    {"testing._store"},
    {"testing._world"},
    {"testing._fake"},
    {"testing.__init__"},
    {"pytest_plugin"},
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
            elif source in {"sandkasten", "sandkasten.cli", "sandkasten.local", "sandkasten.testing"}:
                prefix = source.removeprefix("sandkasten").lstrip(".")
                found.update(f"{prefix}.{alias.name}".lstrip(".") for alias in node.names)
            elif source.startswith("sandkasten."):
                found.add(source.removeprefix("sandkasten."))
    return found


@pytest.mark.parametrize("layers", [CLIENT, DAEMON, TESTING], ids=["client", "daemon", "testing"])
def test_imports_go_to_lower_layers_only(layers: list[set[str]]) -> None:
    below = set(BOTH)
    for layer in layers:
        for module in layer:
            assert imports_of(module) - LATE.get(module, set()) <= below | {"_version", "errors"}, module
        below |= layer


@pytest.mark.parametrize("layers", [INTEGRATIONS, NOTEBOOK, CLI], ids=["integrations", "notebook", "cli"])
def test_leaves_are_imported_by_nothing(layers: list[set[str]]) -> None:
    leaves = set().union(*layers)
    below = set().union(*CLIENT)
    for module in set().union(below, *DAEMON, *INTEGRATIONS, *NOTEBOOK, *CLI) - leaves:
        assert not (imports_of(module) - LATE.get(module, set())) & leaves, module
    for layer in layers:
        for module in layer:
            assert imports_of(module) - LATE.get(module, set()) <= below, module
        below |= layer


def test_nothing_imports_what_is_for_tests() -> None:
    for module in set().union(*CLIENT, *DAEMON, *INTEGRATIONS, *NOTEBOOK, *CLI):
        assert not any(name.split(".")[0] == "testing" for name in imports_of(module)), module


def test_every_module_has_its_layer() -> None:
    files = (ROOT / "sandkasten").rglob("*.py")
    modules = {str(file.relative_to(ROOT / "sandkasten"))[:-3].replace("/", ".") for file in files}
    assert modules - {"local.__init__"} == set().union(
        *CLIENT, *DAEMON, *INTEGRATIONS, *NOTEBOOK, *CLI, *TESTING
    )


def test_the_daemon_does_not_import_the_client() -> None:
    client = set().union(*CLIENT) - BOTH
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
