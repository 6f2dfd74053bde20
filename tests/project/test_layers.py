"""The layers: imports run one way, nothing goes in a circle, and nothing grows too large.

All of it is read from the source. docs/architecture.md shows the same rows as a picture.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "sandkasten"

# What client and daemon share; every row may import it.
SHARED = {
    "_codes", "_cut", "_directories", "_names", "_options.packages", "_options.rules", "_options.text",
    "_protocol", "_tar", "_version", "local.limits.values",
}  # fmt: skip

# Rooms: a folder (its name ends with a dot) or a module. Each may import those in the rows above, no others.
CLIENT = [
    "_brief _errorparts _shown _limits _offline local.interpreter",
    "_sentences errors",
    "_options.environments _options.limits",
    "_checks _config _errorclasses _prompts models",
    "_answers _transport. local.launch",
    "_events _wire",
    "_observe _options. _packages. _processes. _retry _transfer.",
    "_python.",
    "_plain. _seam",
    "_carriers",
    "_http",
    "_rawfiles stream",
    "process python",
    "_plainfiles",
    "_shellfiles",
    "paths",
    "files",
    "_beside _packageverbs workspace",
    "session",
    "client",
    "__init__",
]
DAEMON = [
    "local.records",
    "local.clock local.endings local.errors local.identity local.threads",
    "local.linux.",
    "local.limits.",
    "local.files. local.isolation. local.observe. local.options",
    "local.images. local.listen local.packages.",
    "local.serveroptions local.sessions.",
    "local.api. local.doctor.",
    "local.daemon",
    "local.embedded local.server",
    "local.__main__",
    "ray.",
]
# Leaves: they may import all of the client, and nothing but themselves imports them.
LEAVES = {
    "integrations": ["integrations."],
    "notebook": ["notebook."],
    "cli": ["cli.output.", "cli.parsing.", "cli.calls.", "cli.commands.", "cli.app", "cli.main", "__main__"],
    "testing": ["testing.", "pytest_plugin"],
}

# Imports that happen when they are used. IPython asks the package for the magics, words are completed by what
# there is, and some commands are the daemon's own.
LATE = {
    ("models", "notebook."),
    ("_python.", "notebook."),
    ("__init__", "notebook."),
    ("cli.parsing.", "cli.calls."),
    ("cli.calls.", "local.identity"),
    ("cli.calls.", "local.images."),
    ("cli.calls.", "local.options"),
    ("cli.commands.", "integrations."),
    ("cli.commands.", "local.__main__"),
    ("cli.commands.", "local.doctor."),
    ("cli.commands.", "notebook."),
    ("pytest_plugin", "local.launch"),
}


@cache
def modules() -> dict[str, Path]:
    """Return all modules by their names, without the package's own in front."""
    return {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the modules of this package that a module imports, wherever in its text."""
    tree = ast.parse(modules()[module].read_text("utf-8"))
    # What only the type checker sees is not imported.
    tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return frozenset(found for node in nodes for found in _imported(module, node)) - {module}


def _imported(module: str, node: ast.ImportFrom) -> Iterator[str]:
    source = node.module or ""
    if node.level:
        above = module.split(".")[: -node.level]
        source = ".".join(filter(None, (*above, source)))
    elif source.split(".")[0] != "sandkasten":
        return
    source = source.removeprefix("sandkasten").lstrip(".")
    for alias in node.names:
        candidates = (f"{source}.{alias.name}", source, f"{source}.__init__")
        yield next(name for each in candidates if (name := each.lstrip(".")) in modules())


def rooms(rows: list[str]) -> set[str]:
    """Return the rooms in some rows."""
    return {room for row in rows for room in row.split()}


CLIENT_ROOMS, DAEMON_ROOMS = rooms(CLIENT), rooms(DAEMON)
LEAF_ROOMS = {name: rooms(rows) for name, rows in LEAVES.items()}
ALL_ROOMS = CLIENT_ROOMS.union(DAEMON_ROOMS, *LEAF_ROOMS.values())


def room_of(module: str) -> str:
    """Return the room that a module is in, or the module itself if it is shared or in none."""
    if module in SHARED:
        return module
    inside = [room for room in ALL_ROOMS if room == module or (room[-1] == "." and module.startswith(room))]
    return max(inside, key=len, default=module)


def arrows(room: str) -> dict[str, str]:
    """Return the rooms that a room imports at once, each with a module that does."""
    found: dict[str, str] = {}
    for module in modules():
        if room_of(module) == room:
            found |= {room_of(imported): module for imported in imports_of(module)}
    return {to: module for to, module in found.items() if to != room and (room, to) not in LATE}


def assert_one_way(rows: list[str], below: set[str]) -> None:
    for row in rows:
        for room in row.split():
            for to, module in arrows(room).items():
                assert to in below, f"{module} imports {to}, which is not above its row"
        below = below | set(row.split())


def test_the_clients_imports_run_one_way() -> None:
    assert_one_way(CLIENT, set(SHARED))


def test_the_daemons_imports_run_one_way_and_never_into_the_client() -> None:
    assert_one_way(DAEMON, set(SHARED))


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_import_the_client_and_nothing_else_imports_them(leaf: str) -> None:
    # A stand-in for the daemon that used the client's own rules could not find them wrong.
    below = {"_version", "errors"} if leaf == "testing" else SHARED | CLIENT_ROOMS
    assert_one_way(LEAVES[leaf], below)
    for room in ALL_ROOMS - LEAF_ROOMS[leaf]:
        for to, module in arrows(room).items():
            assert to not in LEAF_ROOMS[leaf], f"{module} imports {to}"


def test_every_module_has_its_room() -> None:
    packages = {"local.__init__", "cli.__init__"}
    homeless = {module for module in modules() if room_of(module) not in ALL_ROOMS | SHARED | packages}
    assert homeless == set()
    assert {room_of(module) for module in modules()} >= ALL_ROOMS, "a room is empty"


def test_no_modules_import_each_other_in_a_circle() -> None:
    late = {(module, to) for module in modules() for to in imports_of(module) if _is_late(module, to)}
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join((*way, module))}"
        if module not in done:
            for to in imports_of(module):
                if (module, to) not in late:
                    walk(to, (*way, module))
            done.add(module)

    for module in modules():
        walk(module, ())


def _is_late(module: str, to: str) -> bool:
    return (room_of(module), room_of(to)) in LATE


@pytest.mark.parametrize("package", ["sandkasten", "sandkasten_sync"])
def test_importing_the_client_loads_nothing_of_the_daemon_nor_what_few_use(package: str) -> None:
    code = f"import sys; from {package} import SandboxClient; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded_modules = set(loaded.stdout.split())
    assert f"{package}.client" in loaded_modules
    few = {
        "sandkasten._processes",
        "sandkasten._python",
        "sandkasten._plain",
        "sandkasten._options.checks",
        "sandkasten._transfer.watching",
    }
    assert not loaded_modules & {*few, f"{package}.process", f"{package}.python"}
    unwanted = {"uvicorn", "cattrs", "multipart", "sandkasten.local.embedded"}
    assert not loaded_modules & unwanted


# --- the page about it

PAGE = ROOT / "docs" / "architecture.md"
PLACES = re.findall(r"^\| .* \| `([\w/.]+\.py)` \| ([\w`, ]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)


def test_the_page_names_places_that_exist() -> None:
    rows = PAGE.read_text("utf-8").split("### Where to look")[1].split("\n## ")[0].count("\n| ")
    assert len(PLACES) == rows - 2  # its head and the line below that
    for path, name in ((path, name) for path, names in PLACES for name in re.findall(r"`(\w+)`", names)):
        assert re.search(rf"\b{name}\b", (SOURCE / path).read_text("utf-8")), f"{path} has no {name}"


def test_the_page_and_its_picture_name_every_folder() -> None:
    picture = (ROOT / "docs" / "assets" / "house.svg").read_text("utf-8")
    page = PAGE.read_text("utf-8")
    for room in sorted(ALL_ROOMS - {room for room in LEAF_ROOMS["cli"] if "cli" in room}):
        if room.endswith("."):
            name = f"{room.split('.')[-2]}/"
            assert name in page, name
            assert name in picture, name


# --- sizes

MAX_LINES, MAX_FUNCTION_LINES, MAX_MODULES = 400, 60, 15
HANDWRITTEN = ("sandkasten", "scripts", "tests")
# Folders that may have more modules, and why.
LARGE_FOLDERS = {
    # The public modules, whose names are API, and beside each of them the private one that has a twin of its
    # own in sandkasten_sync. What can be told apart by its purpose is in _transfer/, _processes/, _python/
    # and _plain/.
    "sandkasten": 43,
    # The generator of the twin takes the tests of one flat folder: a module for each kind of call,
    # and one for what carries them.
    "tests/_async": 26,
}

# Tests that were longer when this rule came: divide one when you add to it, and take it out here.
LONG_TESTS = {
    "tests/_async/test_transfers.py",
    "tests/_async/test_wire.py",
    "tests/client/test_testing.py",
    "tests/client/test_transfers.py",
    "tests/local/api/test_connections.py",
    "tests/local/api/test_fuzz_parsers.py",
    "tests/local/api/test_http.py",
    "tests/local/api/test_transfers.py",
    "tests/local/doctor/test_doctor.py",
    "tests/local/files/test_files.py",
    "tests/local/images/test_imagestore.py",
    "tests/local/isolation/arena/attempts.py",
    "tests/local/isolation/test_sandbox.py",
    "tests/local/isolation/test_seccomp.py",
    "tests/local/limits/test_limits.py",
    "tests/local/programs/surroundings.py",
    "tests/local/sessions/test_shell.py",
    "tests/local/test_server.py",
    "tests/project/test_go_daemon.py",
    "tests/project/test_twin.py",
}


def sources() -> list[Path]:
    """Return all Python files that somebody wrote by hand."""
    generated = ROOT / "tests" / "_sync"
    files = [path for folder in HANDWRITTEN for path in (ROOT / folder).rglob("*.py")]
    return [path for path in files if generated not in path.parents]


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in sources()}
    long = {path: lines for path, lines in lengths.items() if lines > MAX_LINES}
    assert {path: lines for path, lines in long.items() if path not in LONG_TESTS} == {}
    assert long.keys() == LONG_TESTS, "an exception that nothing needs"


def test_no_function_is_too_long() -> None:
    found = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) else 0)
                found[f"{path.relative_to(ROOT)}: {node.name}"] = lines
    assert {name: lines for name, lines in found.items() if lines > MAX_FUNCTION_LINES} == {}


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_folder_is_a_flat_hall() -> None:
    counts: dict[str, int] = {}
    for path in sources():
        if path.name not in {"__init__.py", "conftest.py"}:
            folder = str(path.parent.relative_to(ROOT))
            counts[folder] = counts.get(folder, 0) + 1
    large = {folder: count for folder, count in counts.items() if count > MAX_MODULES}
    assert {folder: count for folder, count in large.items() if count > LARGE_FOLDERS.get(folder, 0)} == {}
    assert large.keys() == LARGE_FOLDERS.keys(), "an exception that nothing needs"
