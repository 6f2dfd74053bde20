"""Imports run one way; the arrows are read from the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What client and daemon share.
BOTH = {"_version", "_codes", "_protocol", "_tar", "_cut", "_names", "_directories", "local.limits.values"}
# Each module may import those to its left; what stands together may not import each other.
CLIENT = [
    {"_brief", "_codes", "_protocol"},
    {
        "_version",
        "_tar",
        "_cut",
        "_names",
        "_directories",
        "_offline",
        "_transfer.pieces",
        "errors",
        "local.interpreter",
        "local.limits.values",
    },
    {"models", "_config", "_checks", "_limits", "_prompts", "_sentences"},
    {"_answers", "_transfer.places", "_transfer.reading", "local.launch"},
    {"_wire", "_events", "_aiohttp", "_transfer.sources", "_transfer.targets"},
    {"_retry", "_observe", "_seam", "_transfer.calls", "_transfer.trees", "_plain.commands", "_plain.plan"},
    {"_http"},
    {"_rawfiles", "stream"},
    {"_plainfiles"},
    {"_shellfiles"},
    {"files"},
    {"session", "workspace"},
    {"client"},
    {"__init__"},
]
DAEMON = [
    {"local.linux.processes", "local.linux.kernel", "local.linux.kernfs"},
    {
        "local.clock",
        "local.endings",
        "local.threads",
        "local.errors",
        "local.sessions.transcript",
        "local.sessions.control",
        "local.isolation.policy",
        "local.sessions.terminal",
        "local.sessions.traps",
        "local.isolation.causes",
        "local.identity",
        "local.observe.logs",
        "local.isolation.syscalls",
        "local.linux.loop",
        "local.linux.inherited",
    },
    {
        "local.isolation.mounttable",
        "local.isolation.closedbash",
        "local.sessions.command",
        "local.observe.metrics",
        "local.sessions.lifetime",
        "local.isolation.bubblewrap",
        "local.images.built_in",
        "local.isolation.bwrap_binary",
        "local.isolation.etc",
        "local.isolation.seccomp",
    },
    {
        "local.files.newfile",
        "local.linux.syscalls",
        "local.limits.limits",
        "local.isolation.names",
        "local.files.pipes",
        "local.observe.observer",
        "local.linux.scratch",
        "local.files.directories",
    },
    {"local.files.usage", "local.api.connections"},
    {"local.files.tree", "local.isolation.sandbox", "local.images.archives", "local.api.asgi"},
    {"local.files.tarballs"},
    {
        "local.sessions.shell",
        "local.sessions.execution",
        "local.files.workspaces",
        "local.limits.cgroup_base",
        "local.options",
    },
    {
        "local.images.unpack",
        "local.limits.cgroup_kernel",
        "local.limits.systemd",
        "local.listen",
    },
    {"local.images.sources", "local.limits.cgroups", "local.serveroptions"},
    {
        "local.images.store",
        "local.files.rundir",
        "local.sessions.pool",
        "local.files.quota",
        "local.sessions.settings",
        "local.isolation.trial",
    },
    {"local.images.catalogue", "local.isolation.backend"},
    {"local.sessions.session", "local.imagecommands"},
    {"local.sessions.building"},
    {"local.sessions.manager", "local.api.bodystream"},
    {"local.api.jsonbodies"},
    {"local.api.bodies"},
    {"local.api.owners"},
    {"local.api.rawfiles", "local.api.files"},
    {"local.api.keys", "local.api.creations"},
    {"local.api.execs", "local.api.sessions"},
    {"local.api.app"},
    {"local.api.routes"},
    {"local.daemon"},
    {"local.embedded", "local.server", "local.doctor.readings", "local.doctor.finding"},
    {"local.doctor.mounts"},
    {"local.doctor.findings"},
    {"local.doctor.report"},
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
    {"cli.output.text"},
    {"cli.output.failures", "cli.output.out"},
    {
        "cli.parsing.place",
        "cli.parsing.arguments",
        "cli.output.lines",
        "cli.output.terminal",
        "cli.commands.completion",
        "cli.commands.passing",
        "cli.output.listing",
        "cli.calls.embedded",
        "cli.parsing.foreign",
        "cli.parsing.ids",
        "cli.parsing.usage",
    },
    {"cli.calls.process", "cli.calls.stdin", "cli.calls.transfers"},
    {"cli.calls.streaming"},
    {"cli.calls.connecting", "cli.calls.lineshell"},
    {"cli.calls.completing"},
    {
        "cli.commands.running",
        "cli.commands.shell",
        "cli.commands.sessions",
        "cli.commands.copying",
        "cli.commands.background",
    },
    {"cli.commands.workspaces"},
    {"cli.app"},
    {"cli.main"},
    {"cli.__init__"},
    {"__main__"},
]
# IPython asks the package itself for the magics, which are imported then. Two commands are the daemon's own.
LATE = {
    "models": {"notebook.displays"},
    "__init__": {"notebook.extension"},
    "cli.parsing.arguments": {"cli.calls.completing"},
    "cli.calls.completing": {
        "local.images.catalogue",
        "local.identity",
        "local.images.built_in",
        "local.images.store",
        "local.options",
    },
    "cli.commands.completion": {"cli.calls.completing"},
    "cli.commands.passing": {"local.__main__", "local.doctor.report"},
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


# Packages whose modules are imported from them by name.
PACKAGES = {
    str(path.parent.relative_to(ROOT)).replace("/", ".")
    for base in ("cli", "local", "testing", "_transfer", "_plain")
    for path in (ROOT / "sandkasten" / base).rglob("__init__.py")
} | {"sandkasten"}


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
            elif source in PACKAGES:
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
    packages = {
        module
        for module in modules
        if re.fullmatch(r"(local|cli|_transfer|_plain)(\.\w+)?\.__init__", module)
    }
    assert modules - packages | {"cli.__init__"} == set().union(
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
    unwanted = {"starlette", "uvicorn", "cattrs", "multipart", "sandkasten.local.embedded"}
    assert not modules & unwanted
