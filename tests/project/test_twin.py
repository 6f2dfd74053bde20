"""The blocking twin: how `scripts/generate_sync.py` makes it, guards it, and what comes out.

Nothing here writes to the repository: each test works on a project of a few lines.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TREES = ("sandkasten", "sandkasten_sync", "tests/_async", "tests/_sync", "scripts")
SOURCE = "sandkasten/session.py"
TWIN = "sandkasten_sync/session.py"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate_sync = load(ROOT / "scripts/generate_sync.py")


class Project:
    """A project of a few lines, in which one source matters."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in (*generate_sync.MODULES, "_wire", "models"):
            self.write(f"sandkasten/{name}.py", "")
        for path in generate_sync.BY_HAND:
            self.write(path, "")
        (root / "tests/_async").mkdir(parents=True)
        shutil.copy2(ROOT / "pyproject.toml", root)

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(text.encode())

    def twin_of(self, text: str, rules: Mapping[str, str] | None = None) -> str:
        """The twin that this source gets, without its header."""
        self.write(SOURCE, text)
        header = generate_sync.HEADER.format(source=SOURCE)
        twin: str = generate_sync.generate(self.root, rules or {})[TWIN]
        return twin.removeprefix(header).lstrip("\n")

    def refusal_of(self, text: str, rules: Mapping[str, str] | None = None) -> str:
        """The message with which this source is refused."""
        self.write(SOURCE, text)
        with pytest.raises(generate_sync.TwinError) as caught:
            generate_sync.generate(self.root, rules or {})
        return str(caught.value)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small project with scripts, tests and a twin that is up to date.

    The script works on it as on ours, in a tenth of the time.
    """
    project = Project(tmp_path / "repository")
    project.write(SOURCE, "class Session:\n    async def exec(self):\n        return await self.answer()\n")
    project.write("tests/_async/test_it.py", "async def test_it(session):\n    await session.exec()\n")
    shutil.copytree(ROOT / "scripts", project.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    generate_sync.update(project.root, generate_sync.generate(project.root))
    return project.root


def script(root: Path, *arguments: str, cwd: Path | None = None) -> tuple[int, str]:
    """The exit code of the script in this tree, and all that it says."""
    argv = [sys.executable, str(root / "scripts/generate_sync.py"), *arguments]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def call(root: Path, *arguments: str) -> tuple[int, str]:
    """The same, of the script's function: most of a script's time is its start."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(sys, "argv", ["generate_sync.py", "--root", str(root), *arguments])
        try:
            return generate_sync.main(), printed.getvalue()
        except SystemExit as end:
            return 1, f"{printed.getvalue()}{end.code}"


def state(root: Path, *trees: str) -> dict[Path, tuple[bytes, int]]:
    paths = [path for tree in trees for path in (root / tree).rglob("*.*") if path.is_file()]
    paths = [path for path in paths if "__pycache__" not in path.parts]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


# ---- The check


def test_an_edit_by_hand_is_caught_and_shown(repository: Path) -> None:
    with (repository / TWIN).open("a") as file:
        file.write("\nEDITED = True\n")
    code, said = call(repository, "--check")
    assert code == 1
    assert f"{TWIN} differs from what its source gives:" in said
    assert "-EDITED = True" in said
    assert "run `python scripts/generate_sync.py`" in said


def test_a_changed_source_is_caught(repository: Path) -> None:
    with (repository / SOURCE).open("a") as file:
        file.write("\nCHANGED = True\n")
    code, said = call(repository, "--check")
    assert code == 1
    assert "+CHANGED = True" in said


def test_a_long_difference_is_cut(repository: Path) -> None:
    (repository / TWIN).write_text("\n" * 500)
    code, said = call(repository, "--check")
    assert code == 1
    assert re.search(r"… and \d+ more lines", said)


@pytest.mark.parametrize(
    "path", ["sandkasten_sync/left.py", "sandkasten_sync/deep/left.py", "tests/_sync/test_left.py"]
)
def test_a_stale_file_is_caught(repository: Path, path: str) -> None:
    (repository / path).parent.mkdir(exist_ok=True)
    (repository / path).write_text("")
    code, said = call(repository, "--check")
    assert code == 1
    assert f"{path} is stale" in said


def test_a_cache_is_not_stale(repository: Path) -> None:
    cache = repository / "sandkasten_sync/__pycache__"
    cache.mkdir()
    (cache / "left.cpython-311.pyc").write_bytes(b"")
    assert call(repository, "--check")[0] == 0


@pytest.mark.parametrize(
    "path", [TWIN, "sandkasten_sync/_seam.py", "sandkasten_sync/py.typed", "tests/_sync/seam.py"]
)
def test_a_missing_file_is_caught(repository: Path, path: str) -> None:
    (repository / path).unlink()
    code, said = call(repository, "--check")
    assert code == 1
    assert f"{path} is missing" in said


def test_the_check_writes_nothing(repository: Path) -> None:
    (repository / TWIN).write_text("EDITED = True\n")
    (repository / "sandkasten_sync/client.py").unlink()
    before = state(repository, *TREES)
    assert call(repository, "--check")[0] == 1
    assert state(repository, *TREES) == before


def test_a_tree_without_tests_is_checked_for_its_packages(repository: Path) -> None:
    shutil.rmtree(repository / "tests")
    assert call(repository, "--check")[0] == 0
    (repository / TWIN).write_text("EDITED = True\n")
    assert call(repository, "--check")[0] == 1


# ---- Writing


def test_writing_makes_a_tree_right_again(repository: Path) -> None:
    (repository / TWIN).write_text("EDITED = True\n")
    (repository / "sandkasten_sync/client.py").unlink()
    code, said = call(repository)
    assert code == 0, said
    assert call(repository, "--check")[0] == 0


def test_writing_removes_the_twin_of_a_source_that_is_gone(repository: Path) -> None:
    source = repository / "tests/_async/test_gone.py"
    source.write_text("")
    call(repository)
    assert (repository / "tests/_sync/test_gone.py").exists()
    source.unlink()
    assert call(repository)[0] == 0
    assert not (repository / "tests/_sync/test_gone.py").exists()


def test_writing_leaves_a_stray_file_of_somebody_elses_and_reports_it(repository: Path) -> None:
    stray = repository / "sandkasten_sync/mine.py"
    stray.write_text("MINE = True\n")
    code, said = call(repository)
    assert code == 1
    assert "sandkasten_sync/mine.py is stale" in said
    assert stray.read_text() == "MINE = True\n"


def test_sources_and_what_is_written_by_hand_are_never_written_to(repository: Path) -> None:
    (repository / TWIN).write_text("EDITED = True\n")
    mine = [repository / path for path in generate_sync.BY_HAND]
    before = state(repository, "sandkasten", "tests/_async", "scripts")
    by_hand = [(path.read_bytes(), path.stat().st_mtime_ns) for path in mine]
    assert call(repository)[0] == 0
    assert state(repository, "sandkasten", "tests/_async", "scripts") == before
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in mine] == by_hand


def test_writing_twice_changes_nothing(repository: Path) -> None:
    call(repository)
    before = state(repository, *TREES)
    assert call(repository)[0] == 0
    assert state(repository, *TREES) == before


def test_the_current_directory_does_not_matter(repository: Path, tmp_path: Path) -> None:
    assert script(repository, "--check", cwd=repository / "sandkasten_sync")[0] == 0
    assert script(repository, "--check", "--root", "repository", cwd=tmp_path)[0] == 0


def test_another_root_can_be_given(project: Project) -> None:
    code, said = script(ROOT, "--root", str(project.root))
    assert code == 0, said
    assert (project.root / TWIN).read_text().startswith("# Made from sandkasten/session.py")


# ---- What a source becomes


def test_absolute_imports_are_shared_and_relative_ones_find_the_twin(project: Project) -> None:
    imports = """\
from sandkasten import _wire
from sandkasten.models import ExecResult

from ._seam import Lock
from .client import SandboxClient
"""
    assert project.twin_of(imports) == imports


def test_async_code_becomes_blocking_code(project: Project) -> None:
    source = '''\
"""A module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager


class Session:
    async def __aenter__(self) -> Session:
        return await self.start()

    @asynccontextmanager
    async def chunks(self) -> AsyncIterator[str]:
        async with self.lock, await self.open() as stream:
            async for chunk in stream:
                yield chunk

    async def __anext__(self) -> list[str]:
        raise StopAsyncIteration([x async for x in await self.y() if await x.z()])
'''
    twin = '''\
"""A module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class Session:
    def __enter__(self) -> Session:
        return self.start()

    @contextmanager
    def chunks(self) -> Iterator[str]:
        with self.lock, self.open() as stream:
            for chunk in stream:
                yield chunk

    def __next__(self) -> list[str]:
        raise StopIteration([x for x in self.y() if x.z()])
'''
    assert project.twin_of(source) == twin


@pytest.mark.parametrize(
    ("code", "twin"),
    [
        ("(await x.y(1)).z", "x.y(1).z"),
        ("(await x.y((1), [2]))[0] == (await z)", "x.y((1), [2])[0] == z"),
        ("not (await x).y", "not x.y"),
        ("await (await x.y()).z()", "x.y().z()"),
        ("f(await x)", "f(x)"),
        ("f(x)(await y)[z](await z)", "f(x)(y)[z](z)"),
        ("(await x or y).z", "(x or y).z"),
        ("(await x + 1).z", "(x + 1).z"),
        ("(await x, await y)[0]", "(x, y)[0]"),
        ("(await x,)[0]", "(x,)[0]"),
    ],
)
def test_parentheses_go_with_the_await_that_needed_them(project: Project, code: str, twin: str) -> None:
    assert project.twin_of(f"async def f():\n    return {code}\n") == f"def f():\n    return {twin}\n"


def test_examples_in_docstrings_are_rewritten(project: Project) -> None:
    source = '''\
class Session:
    """A session; `await session.exec()` runs `sandkasten.Session` commands, see `sandkasten.models`.

    Example::

        import sandkasten
        from sandkasten import SandboxClient
        from sandkasten.models import ExecResult

        async def main() -> None:
            async with sandkasten.SandboxClient() as client:
                async with await client.create_session() as session:
                    async for chunk in session.exec_stream("ls"):
                        print((await session.exec("ls")).output, await chunks[0])
    """

    size: int
    """Filled by `await session.stats()`."""
'''
    twin = '''\
class Session:
    """A session; `session.exec()` runs `sandkasten_sync.Session` commands, see `sandkasten.models`.

    Example::

        import sandkasten_sync
        from sandkasten_sync import SandboxClient
        from sandkasten.models import ExecResult

        def main() -> None:
            with sandkasten_sync.SandboxClient() as client:
                with client.create_session() as session:
                    for chunk in session.exec_stream("ls"):
                        print(session.exec("ls").output, chunks[0])
    """

    size: int
    """Filled by `session.stats()`."""
'''
    future = "from __future__ import annotations\n\n\n"
    assert project.twin_of(future + source) == future + twin


def test_a_string_that_is_no_docstring_is_left_alone(project: Project) -> None:
    source = 'TEXT = "sandkasten.Session"\n'
    assert project.twin_of(source) == source


def test_a_header_says_where_the_file_comes_from(project: Project) -> None:
    project.write("tests/_async/test_it.py", '"""Tests."""\n\nX = 1\n')
    twin = generate_sync.generate(project.root, {})["tests/_sync/test_it.py"]
    assert twin == (
        "# Made from tests/_async/test_it.py by scripts/generate_sync.py.\n"
        "# Do not edit: change that file and run the script.\n"
        '\n"""Tests."""\n\nX = 1\n'
    )


def test_a_rule_renames_code_and_docstrings(project: Project) -> None:
    source = 'def f():\n    """Call `aclose`."""\n    aclose()\n'
    twin = 'def f():\n    """Call `close`."""\n    close()\n'
    assert project.twin_of(source, {"aclose": "close"}) == twin


# ---- What is refused

FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    ("line", "text", "reason"),
    [
        (2, "async def f():\n    await(x)\n", "put a space after `await`"),
        (2, "async def f():\n    await\\\n        x\n", "put a space after `await`"),
        (2, "async def f():\n    f'{await x}'\n", "in an f-string"),
        (2, "async def f():\n    f'{[x async for x in y]}'\n", "in an f-string"),
        (1, "f'{x.__aenter__}'\n", "in an f-string"),
        (2, "\ndef f(x: int): ...\n", "annotations need `from __future__ import annotations`"),
        (2, "\nx: int = 1\n", "annotations need `from __future__ import annotations`"),
        (2, FUTURE + "def f(x: 'X'): ...\n", "take the quotes off the annotation 'X'"),
        (2, FUTURE + "def f() -> list['X']: ...\n", "take the quotes off the annotation 'X'"),
        (2, FUTURE + "x: 'X | None' = None\n", "take the quotes off the annotation 'X | None'"),
        (1, "import asyncio\n", "`asyncio` has no blocking form"),
        (1, "from anyio import sleep\n", "`anyio` has no blocking form"),
        (2, "\nfrom .models import ExecResult\n", "`.models` has no twin"),
        (2, "x = (\n  1 +)\n", "invalid syntax"),
    ],
)
def test_a_source_against_the_house_rules_is_refused(
    project: Project, line: int, text: str, reason: str
) -> None:
    refusal = project.refusal_of(text)
    assert refusal.startswith(f"{SOURCE}:{line}: ")
    assert reason in refusal


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("from typing import Awaitable", "Awaitable"),
        ("from contextlib import aclosing", "aclosing"),
        ("anext(x)", "anext"),
        ("x.aclose()", "aclose"),
        ("x.aiter_lines()", "aiter_lines"),
        ("AsyncThing()", "SyncThing"),
        ("_AsyncThing()", "_AsyncThing"),
        ("run(_run_async)", "_run_async"),
        ("# The awaited answer.", "awaited"),
        ("x = 'asyncio'", "asyncio"),
        ("x = 'AsyncIterator[int]'", "SyncIterator"),
        ("'''An asynchronous client.'''", "asynchronous"),
        ("'''Do not forget to await the answer.'''", "await"),
        ("from sandkasten import Session", "from sandkasten import"),
        ("from sandkasten import session", "from sandkasten import"),
        ("from sandkasten.session import Session", "sandkasten.session"),
        ("import sandkasten", "import sandkasten"),
        ("patch('sandkasten._seam.Lock')", "sandkasten._seam"),
    ],
)
def test_what_is_left_over_is_refused(project: Project, code: str, word: str) -> None:
    refusal = project.refusal_of(f"x = (\n    1\n)\n{code}\n")
    assert refusal == f"{SOURCE}:4: `{word}` is left over: reword it or give it a rule or a seam"


def test_all_problems_are_reported_at_once(project: Project) -> None:
    project.write("tests/_async/test_it.py", "import anyio\n")
    refusal = project.refusal_of("import asyncio\n\nx: 'int' = 1\n")
    assert [line.split(": ")[0] for line in refusal.splitlines()] == [
        "sandkasten/session.py:1",
        "sandkasten/session.py:3",
        "sandkasten/session.py:3",
        "tests/_async/test_it.py:1",
    ]


def test_strings_of_literal_and_annotated_may_stand_in_annotations(project: Project) -> None:
    source = FUTURE + '\nx: Literal["a"] | Annotated[int, "b"] = 1\n'
    assert project.twin_of(source) == source


def test_line_ends_that_would_be_lost_are_refused(project: Project) -> None:
    assert project.refusal_of("x = 1\r\n") == (
        f"{SOURCE}:1: does not survive the tokeniser byte for byte; do its lines end in LF?"
    )


def test_a_missing_source_is_refused(repository: Path) -> None:
    (repository / SOURCE).unlink()
    code, said = call(repository, "--check")
    assert code == 1
    assert f"{SOURCE}:1: is missing" in said


def test_a_rule_that_nothing_uses_is_refused(repository: Path) -> None:
    path = repository / "scripts/generate_sync.py"
    text, count = re.subn(r"(?m)^(RULES: .* = \{)", r'\1"no_such_name": "x",', path.read_text())
    path.write_text(text)
    line = next(n for n, content in enumerate(text.splitlines(), 1) if "no_such_name" in content)
    code, said = script(repository, "--check")
    assert (code, count) == (1, 1)
    assert (
        said == f"scripts/generate_sync.py:{line}: no source has the name `no_such_name`: remove its rule\n"
    )


# ---- The build


def build_hook(root: Path, target: str) -> Any:
    return load(root / "scripts/hatch_build.py").TwinHook(
        str(root), {}, None, None, str(root / "dist"), target
    )


TARGETS = [("wheel", "standard"), ("wheel", "editable"), ("sdist", "standard")]


@pytest.mark.parametrize(("target", "version"), TARGETS)
def test_a_build_with_a_stale_twin_fails(
    repository: Path, target: str, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / TWIN).write_text("EDITED = True\n")
    with pytest.raises(SystemExit) as caught:
        build_hook(repository, target).initialize(version, {})
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert f"{TWIN} differs from what its source gives:" in said
    assert "run `python scripts/generate_sync.py`" in said


def test_a_build_from_refused_sources_fails(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / SOURCE).write_text("import asyncio\n")
    with pytest.raises(SystemExit):
        build_hook(repository, "wheel").initialize("standard", {})
    assert f"{SOURCE}:1: `asyncio` has no blocking form" in capsys.readouterr().err


@pytest.mark.parametrize(("target", "version"), TARGETS)
def test_a_build_with_a_fresh_twin_goes_on(repository: Path, target: str, version: str) -> None:
    shutil.rmtree(repository / "tests")  # as in an sdist
    build_hook(repository, target).initialize(version, {})


# ---- The two packages


def packages() -> tuple[ModuleType, ModuleType]:
    return importlib.import_module("sandkasten"), importlib.import_module("sandkasten_sync")


def twins() -> Iterator[tuple[type, type]]:
    """The public classes of which there are two."""
    here, there = packages()
    modules = {f"sandkasten.{name}" for name in generate_sync.MODULES}
    for name in here.__all__:
        if getattr(getattr(here, name), "__module__", None) in modules:
            yield getattr(here, name), getattr(there, name)


def members(owner: type) -> dict[str, Any]:
    """Return the members for a caller, under their names in the twin: methods, properties, protocols."""
    table = generate_sync.renames()
    protocols = {"__init__", *table, *table.values()}
    names = [name for name in dir(owner) if not name.startswith("_") or name in protocols]
    return {table.get(name, name): inspect.getattr_static(owner, name) for name in names}


def method_pairs() -> Iterator[tuple[str, Any, Any]]:
    for one, other in twins():
        theirs = members(other)
        for name, member in members(one).items():
            if inspect.isfunction(member):
                yield f"{one.__name__}.{name}", member, theirs[name]


def parameters(function: Any) -> list[tuple[object, ...]]:
    signature = inspect.signature(function)
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


def test_both_packages_offer_the_same_names() -> None:
    here, there = packages()
    assert there.__all__ == here.__all__
    assert there.__version__ == here.__version__


def test_what_is_not_written_twice_is_the_same_object() -> None:
    here, there = packages()
    twice = {one.__name__ for one, _ in twins()}
    once = [name for name in here.__all__ if name not in twice]
    assert {"SandkastenError", "ExecResult"} <= set(once)
    assert [name for name in once if getattr(here, name) is not getattr(there, name)] == []


def test_what_is_written_twice_lives_in_modules_of_the_same_name() -> None:
    pairs = list(twins())
    assert {one.__name__ for one, _ in pairs} >= {"SandboxClient", "Session"}
    for one, other in pairs:
        assert other is not one
        assert other.__module__ == one.__module__.replace("sandkasten.", "sandkasten_sync.")


def test_twin_classes_have_the_same_members() -> None:
    for one, other in twins():
        assert members(one).keys() == members(other).keys(), one.__name__


def test_twin_methods_take_the_same_arguments() -> None:
    for name, one, other in method_pairs():
        assert parameters(one) == parameters(other), name


def test_twin_methods_have_the_same_annotations_but_for_what_is_renamed() -> None:
    for name, one, other in method_pairs():
        renamed = {key: generate_sync.rewrite_docstring(text) for key, text in one.__annotations__.items()}
        assert renamed == other.__annotations__, name


def test_no_method_of_the_blocking_twin_needs_an_await() -> None:
    waiting = [name for name, one, _ in method_pairs() if inspect.iscoroutinefunction(one)]
    assert {"SandboxClient.create_session", "SandboxClient.__enter__", "Session.exec"} <= set(waiting)
    for name, one, other in method_pairs():
        assert not inspect.iscoroutinefunction(other), name
        assert not inspect.isasyncgenfunction(other), name
        assert inspect.isasyncgenfunction(one) or inspect.isgeneratorfunction(
            one
        ) == inspect.isgeneratorfunction(other), name


def test_twin_docstrings_differ_only_in_their_examples() -> None:
    for one, other in twins():
        theirs = members(other)
        for name, member in [("", one), *members(one).items()]:
            expected = generate_sync.rewrite_docstring(inspect.getdoc(member) or "")
            assert (inspect.getdoc(theirs[name] if name else other) or "") == expected, (
                f"{one.__name__}.{name}"
            )
