"""The pages of docs/: their code compiles, what is marked to run does what it says, their commands exist."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

import sandkasten.errors
from sandkasten.local.launch import LocalDaemon
from tests.alone import address_of, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "docs" / "examples").glob("*.md"))
MARK = "<!-- run -->"
# A fence, whatever its language; the mark before it; and the output after it.
_BLOCK = re.compile(
    rf"^(?P<mark>{re.escape(MARK)}\n+)?```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$"
    r"(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
_MAGIC = re.compile(r"(^|= )%", re.MULTILINE)  # cells of a notebook are not Python; tests/notebook runs them
# What a command of a shell may begin behind.
_SEPARATOR = re.compile(r"&&|\|\||[|;]|\$\(|[()]|\n")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class Block(NamedTuple):
    """A block of code on a page."""

    page: str
    line: int
    language: str
    code: str
    is_marked: bool
    output: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    return [
        Block(
            path.name,
            text.count("\n", 0, match.start("code")),
            match["language"],
            match["code"],
            match["mark"] is not None,
            match["output"],
        )
        for match in _BLOCK.finditer(text)
    ]


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
PYTHON = [block for block in BLOCKS if block.language == "python" and not _MAGIC.search(block.code)]
MARKED = [block for block in BLOCKS if block.is_marked]
SHELL = [block for block in BLOCKS if block.language in {"console", "bash", "sh"}]


def commands_in(code: str, *, has_prompts: bool = True) -> list[str]:
    """Return the programs that lines start: those behind a prompt, or all where there are no prompts."""
    prompt = r"\$ " if has_prompts else r"(?=\S)(?!#)"
    lines = re.findall(rf"^{prompt}((?:.*\\\n)*.*)", code, re.MULTILINE)
    parts = (part for line in lines for part in _SEPARATOR.split(without_texts(line.replace("\\\n", " "))))
    words = ([word for word in part.split() if not re.match(r"\w+=", word)] for part in parts)
    return [found[0] for found in words if found]


def without_texts(line: str) -> str:
    """Take quoted texts and the comment out of a line."""
    return re.sub(r"(^|\s)#.*", "", _QUOTED.sub("_", line))


def exists(command: str) -> bool:
    """Return whether this is a file of the repository, a program, or bash's own."""
    if "/" in command:
        in_venv = command.startswith(".venv/bin/") and shutil.which(Path(command).name) is not None
        return (ROOT / command).is_file() or in_venv
    builtin = ["/bin/bash", "-c", f"type -t -- {command}"]
    beside_python = (Path(sys.executable).parent / command).is_file()
    return beside_python or subprocess.run(builtin, stdout=subprocess.DEVNULL, check=False).returncode == 0


# ---- How pages are read


def test_blocks_are_read_with_their_mark_and_output(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        f"# Page\n\n{MARK}\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        "```python\n2\n```\n\n```toml\n```\n"
    )
    marked, plain, toml = blocks_of(page)
    assert (marked.code, marked.is_marked, marked.output, str(marked)) == (
        "print(1)\n",
        True,
        "1\n",
        "page.md:5",
    )
    assert (plain.code, plain.is_marked, plain.output) == ("2\n", False, None)
    assert toml.language == "toml"


def test_the_commands_of_a_line_are_found() -> None:
    code = "$ (umask 077; python3 -c 'a | b' > f)  # c | d\nnot | it\n$ id=$(sandkasten new) && A=1 ls | wc\n"
    assert commands_in(code) == ["umask", "python3", "sandkasten", "ls", "wc"]


def test_every_line_of_a_block_without_prompts_is_a_command() -> None:
    code = "# first | this\nscripts/test\n\nls \\\n  -l | wc  # all\n"
    assert commands_in(code, has_prompts=False) == ["scripts/test", "ls", "wc"]


def test_a_command_that_is_nowhere_does_not_exist() -> None:
    assert exists("scripts/test")
    assert exists("cd")
    assert not exists("scripts/tests")
    assert not exists("no-such-program")


def test_no_mark_is_lost() -> None:
    for path in PAGES:
        marked = [block for block in blocks_of(path) if block.is_marked and block.language == "python"]
        assert path.read_text("utf-8").count(f"\n{MARK}\n") == len(marked), path.name


# ---- What they say


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_on_the_pages_compiles(block: Block) -> None:
    compile(block.code, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_what_is_imported_from_sandkasten_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sandkasten"):
            assert node.module is not None
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


@pytest.mark.parametrize("block", MARKED, ids=str)
def test_what_is_marked_runs_and_prints_what_stands_below(
    block: Block, request: pytest.FixtureRequest, own_data_dir: Path
) -> None:
    # What is on the page about packages must be in an index.
    daemon: LocalDaemon = request.getfixturevalue(
        "package_daemon" if block.page == "packages.md" else "daemon"
    )
    assert block.output is not None, "write what it prints below it, as ```text"
    # Only a daemon of its own lists just what it made.
    address = {} if re.search(r"\blist_(sessions|workspaces)\(", block.code) else address_of(daemon)
    assert run(block.code, own_data_dir, address) == block.output


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_the_commands_of_the_pages_exist(block: Block) -> None:
    commands = commands_in(block.code, has_prompts=block.language == "console")
    assert commands
    assert [command for command in commands if not exists(command)] == []


# ---- The page of errors

ERRORS_PAGE = (ROOT / "docs" / "errors.md").read_text("utf-8")
ERRORS = [
    value
    for name, value in vars(sandkasten.errors).items()
    if isinstance(value, type) and issubclass(value, sandkasten.errors.SandkastenError) and name[0] != "_"
]


def test_the_tree_of_errors_is_that_of_the_source() -> None:
    doc = sandkasten.errors.__doc__ or ""
    drawn = re.findall(r"^ {4}((?:SandkastenError|[├│└ ]).*)$", doc, re.MULTILINE)
    assert len(drawn) > 20
    assert "\n".join(drawn) in ERRORS_PAGE


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_the_page_says_of_each_error_when_it_comes_and_what_to_do(error: type[httpx.HTTPError]) -> None:
    (row,) = re.findall(rf"^\| `{error.__name__}` \|(.*)\|$", ERRORS_PAGE, re.MULTILINE)
    assert all(cell.strip() for cell in row.split("|"))
    assert len(row.split("|")) == 2
