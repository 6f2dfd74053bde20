"""Make the blocking twin `sandkasten_sync/` (and its tests) from the async sources.

The API is written once, in async form. Each file goes through five steps, all on text:

1. The source is held against the house rules: what unasync would mangle is refused, with its line.
2. Docstrings are rewritten, so that their examples are blocking code for `sandkasten_sync`.
3. unasync replaces the tokens: `await x` becomes `x`, `__aenter__` becomes `__enter__`, and so on.
4. The result is scanned for left-overs. Until here every line keeps its number, so that a left-over
   is reported with its line in the source.
5. A header is put on top, and ruff sorts the imports and formats.

Imports say what is shared: `from sandkasten.models import ExecResult` stays as it is, and both packages
have that one class; `from .session import Session` finds the session of the package it stands in.

Usage: `python scripts/generate_sync.py` writes the twin, with `--check` it only compares.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import unasync  # type: ignore[import-untyped]  # it has neither annotations nor stubs
from tokenize_rt import Token, src_to_tokens, tokens_to_src  # type: ignore[import-untyped]  # no py.typed

Files = dict[str, str]  # texts by their path below the root, written with forward slashes

# What unasync is to rename beyond its own table; each needs its reason, and one that nothing uses is refused.
RULES: dict[str, str] = {}

MODULES = (
    "__init__", "_beside", "_carriers", "_http", "_packageverbs", "_plainfiles", "_rawfiles", "_shellfiles",
    "client", "files", "process", "python", "paths", "session", "stream", "workspace",
)  # fmt: skip
TESTS = "tests/_async/"
TREES = {"sandkasten/": "sandkasten_sync/", TESTS: "tests/_sync/"}

# Where the two worlds really differ, both sides are written by hand.
BY_HAND = {
    "sandkasten_sync/_seam.py",
    "sandkasten_sync/_tls.py",
    "sandkasten_sync/_transport.py",
    "sandkasten_sync/py.typed",
    "tests/_sync/__init__.py",
    "tests/_sync/conftest.py",
    "tests/_sync/seam.py",
}

MARK = "# Made from "
HEADER = (
    f"{MARK}{{source}} by scripts/generate_sync.py.\n# Do not edit: change that file and run the script.\n\n"
)
ADVICE = "Edit the async sources, never the twin; then run `python scripts/generate_sync.py`."
DIFF_LINES = 40

# unasync leaves docstrings alone. Here only what cannot be prose is rewritten; an "await the answer" stays,
# to be found as a left-over.
TWINS = "|".join([*MODULES, "_seam"])
NAME = r"[A-Za-z_][\w.]*"
DOCSTRING_RULES = (
    (r"\basync (?=with |for |def )", ""),
    (rf"(?<![\w\])])\(await ({NAME}\([^()]*\))\)", r"\1"),  # (await x()).y
    (rf"\bawait (?={NAME}[(\[)`])", ""),
    (r"\bfrom sandkasten import\b", "from sandkasten_sync import"),
    (r"\bimport sandkasten\b(?!\.)", "import sandkasten_sync"),
    (rf"(?<![\w./])sandkasten\.(?=[A-Z]|(?:{TWINS})\b)", "sandkasten_sync."),
)

# What has no place in the twin, not even in comments and strings. `SyncX` is what unasync makes of an
# `AsyncX` it has no rule for; the imports would fetch the async classes.
LEFT_OVER = re.compile(
    r"\w*(?i:async|await|coroutine|anyio)\w*"
    r"|\b_*a(?:iter|next|enter|exit|close|closing|read|write|send|throw|connect)(?:_\w+)?\b"
    r"|\bSync[A-Z]\w*"
    rf"|\bsandkasten\.(?:{TWINS})\b|\bfrom sandkasten import (?=\(|.*\b(?:[A-Z]|(?:{TWINS})\b))"
    r"|\bimport sandkasten\b(?!\.)"
)


class TwinError(Exception):
    """The twin cannot be made of these sources; each line of the text names a file and a line."""


def check(root: Path) -> list[str]:
    """Say what is wrong with the twin in this tree; nothing is written."""
    return compare(root, generate(root))


def generate(root: Path, rules: Mapping[str, str] = RULES) -> Files:
    """Make all generated files, in memory.

    Raises:
        TwinError: a source breaks a house rule or leaves something async behind, or a rule is unused.
    """
    sources = {path: read_source(root, path) for path in source_paths(root)}
    refuse_all(house_rules(path, text, rules, sources) for path, text in sources.items())
    if (root / TESTS).is_dir():  # an sdist has no tests, and some rules may be theirs
        refuse_all([unused_rules(sources.values(), rules)])
    prepared = {path: prepare(text, rules) for path, text in sources.items()}
    with tempfile.TemporaryDirectory() as folder:
        drafts = run_unasync(Path(folder), prepared, rules)
        refuse_all(left_overs(path, draft) for path, draft in drafts.items())
        refuse_all(syntax_errors(path, draft) for path, draft in drafts.items())
        twin = {twin_path(path): HEADER.format(source=path) + draft for path, draft in drafts.items()}
        return run_ruff(root, Path(folder), twin)


def refuse_all(problems: Iterable[Iterable[str]]) -> None:
    """Raise if there is any problem, with all of them."""
    if found := dict.fromkeys(itertools.chain.from_iterable(problems)):
        raise TwinError("\n".join(found))


# ---- Sources


def source_paths(root: Path) -> list[str]:
    """List the files that a twin is made of."""
    tests = sorted(path.name for path in (root / TESTS).glob("test_*.py"))
    return [f"sandkasten/{name}.py" for name in MODULES] + [TESTS + name for name in tests]


def twin_path(path: str) -> str:
    """Say where the twin of an async file lies."""
    tree = next(tree for tree in TREES if path.startswith(tree))
    return TREES[tree] + path.removeprefix(tree)


def read_source(root: Path, path: str) -> str:
    """Read as unasync reads, and make sure that its tokeniser gives back what it is given."""
    if not (root / path).is_file():
        raise TwinError(f"{path}:1: is missing, and a twin is to be made of it")
    text = (root / path).read_text(encoding="utf-8")
    refuse_all([syntax_errors(path, text)])
    if tokens_to_src(src_to_tokens(text)).encode() != (root / path).read_bytes():
        raise TwinError(f"{path}:1: does not survive the tokeniser byte for byte; do its lines end in LF?")
    return text


def syntax_errors(path: str, text: str) -> Iterator[str]:
    """Compile, to know that it is Python."""
    try:
        compile(text, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        yield f"{path}:{error.lineno}: {error.msg}"


# ---- House rules


def house_rules(path: str, text: str, rules: Mapping[str, str], sources: Iterable[str]) -> Iterator[str]:
    """Find what unasync would get wrong."""
    tree = ast.parse(text)
    found = [
        *bad_tokens(src_to_tokens(text)),
        *bad_f_strings(tree, renames(rules)),
        *bad_annotations(tree),
        *bad_imports(tree, PurePosixPath(path).parent, {twin_path(source) for source in sources} | BY_HAND),
    ]
    return (f"{path}:{line}: {problem}" for line, problem in found)


def bad_tokens(tokens: Sequence[Token]) -> Iterator[tuple[int | None, str]]:
    """Find event loops, and `await(x)`: unasync drops what follows `await`, which must be a space."""
    for token, following in itertools.pairwise(tokens):
        if token.src in ("async", "await") and not following.src.startswith(" "):
            yield token.line, f"`{token.src}{following.src.rstrip()}`: put a space after `{token.src}`"
        if token.name == "NAME" and token.src in ("asyncio", "anyio"):
            yield token.line, f"`{token.src}` has no blocking form: what needs it belongs in the seam"


def bad_f_strings(tree: ast.Module, renamed: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Find async code in f-strings: up to Python 3.11 they are one token, which unasync passes over."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = ast.unparse(node)
            if LEFT_OVER.search(text) or not renamed.keys().isdisjoint(re.findall(r"\w+", text)):
                yield node.lineno, "async code in an f-string is not rewritten: give the value a name first"


def bad_annotations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Find quoted annotations, of which unasync only knows bare names, and what makes them needless."""
    fields = [getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns")]
    annotations = [field for field in fields if isinstance(field, ast.expr)]
    if annotations and "from __future__ import annotations" not in map(ast.unparse, tree.body):
        yield annotations[0].lineno, "annotations need `from __future__ import annotations` in this file"
    for text in itertools.chain.from_iterable(map(quoted, annotations)):
        yield text.lineno, f"take the quotes off the annotation {ast.unparse(text)}"


def quoted(annotation: ast.AST) -> Iterator[ast.Constant]:
    """Find the strings in an annotation; those inside `Literal` and `Annotated` are values."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield annotation
    generic = ast.unparse(annotation.value) if isinstance(annotation, ast.Subscript) else ""
    if generic.split(".")[-1] not in ("Literal", "Annotated"):
        yield from itertools.chain.from_iterable(map(quoted, ast.iter_child_nodes(annotation)))


def bad_imports(tree: ast.Module, folder: PurePosixPath, twins: set[str]) -> Iterator[tuple[int, str]]:
    """Find relative imports of modules that do not lie beside the twin."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
    for node in imports:
        module = node.module or "__init__"
        if twin_path(f"{folder}/{module.replace('.', '/')}.py") not in twins:
            yield node.lineno, f"`.{module}` has no twin: import what is shared by its absolute name"


def unused_rules(texts: Iterable[str], rules: Mapping[str, str]) -> Iterator[str]:
    """Find the rules that no source needs."""
    names = {token.src for text in texts for token in src_to_tokens(text) if token.name == "NAME"}
    own_lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    for name in rules.keys() - names:
        line = next((number for number, text in enumerate(own_lines, 1) if f'"{name}":' in text), 1)
        yield f"scripts/generate_sync.py:{line}: no source has the name `{name}`: remove its rule"


# ---- Rewriting


def renames(rules: Mapping[str, str] = RULES) -> dict[str, str]:
    """Join unasync's own table with ours."""
    return dict(unasync.Rule("", "", rules).token_replacements)


def prepare(text: str, rules: Mapping[str, str]) -> str:
    """Do what must be done before unasync; no line moves."""
    starts = docstring_starts(ast.parse(text))
    tokens = [
        token._replace(src=rewrite_docstring(token.src, rules)) if token.offset in starts else token
        for token in src_to_tokens(text)
    ]
    return str(tokens_to_src(unwrap_awaits(tokens)))


def docstring_starts(tree: ast.Module) -> set[tuple[int, int]]:
    """Find the strings that stand alone as statements: docstrings, those of attributes included."""
    alone = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    texts = [node for node in alone if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {(node.lineno, node.col_offset) for node in texts}


def rewrite_docstring(text: str, rules: Mapping[str, str] = RULES) -> str:
    """Make the code in a docstring blocking."""
    for pattern, replacement in DOCSTRING_RULES:
        text = re.sub(pattern, replacement, text)
    table = renames(rules)
    return re.sub(r"\w+", lambda word: table.get(word[0], word[0]), text)


def unwrap_awaits(tokens: Sequence[Token]) -> Iterator[Token]:
    """Take the parentheses off `(await x()).y`, of which `(x()).y` would be left.

    Python's grammar has only a primary after `await`, so nothing binds differently without them.
    """
    needless: set[int] = set()
    for start in range(1, len(tokens) - 1):
        is_call = tokens[start - 1].name == "NAME" or tokens[start - 1].src in (")", "]")
        if tokens[start].src == "(" and tokens[start + 1].src == "await" and not is_call:
            end = end_of_primary(tokens, start + 3)
            needless |= {start, end} if tokens[end].src == ")" else set()
    return (token for index, token in enumerate(tokens) if index not in needless)


def end_of_primary(tokens: Sequence[Token], start: int) -> int:
    """Find the token behind a run of names, dots and bracketed groups."""
    depth = 0
    for index in range(start, len(tokens)):
        token = tokens[index]
        if depth == 0 and token.name != "NAME" and token.src not in (".", "(", "["):
            return index
        depth += (token.src in ("(", "[", "{")) - (token.src in (")", "]", "}"))
    return len(tokens) - 1


def run_unasync(folder: Path, prepared: Files, rules: Mapping[str, str]) -> Files:
    """Let unasync work from file to file, as it does.

    It gets a folder of its own and absolute paths: with relative ones it can overwrite its sources.
    """
    write_files(folder, prepared)
    pairs = [
        (f"{folder.as_posix()}/{source}", f"{folder.as_posix()}/{twin}") for source, twin in TREES.items()
    ]
    unasync.unasync_files(
        [str(folder / path) for path in prepared],
        [unasync.Rule(source, twin, rules) for source, twin in pairs],
    )
    return {path: (folder / twin_path(path)).read_text(encoding="utf-8") for path in prepared}


def left_overs(path: str, draft: str) -> Iterator[str]:
    """Find what is still async, be it code, comment or text."""
    for number, line in enumerate(draft.split("\n"), 1):
        for word in LEFT_OVER.findall(line):
            yield f"{path}:{number}: `{word.strip()}` is left over: reword it or give it a rule or a seam"


def run_ruff(root: Path, folder: Path, twin: Files) -> Files:
    """Sort the imports and format, by the repository's own configuration."""
    write_files(folder, twin)
    # Which imports are first-party depends on what lies in `src`, and that must not be this folder.
    config = ["--config", str(root / "pyproject.toml"), "--config", f"src = [{json.dumps(str(root))}]"]
    for command in (["check", "--select=I", "--fix-only"], ["format"]):
        argv = [sys.executable, "-m", "ruff", *command, "--quiet", "--no-cache", *config, *twin]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TwinError(f"ruff {command[0]} failed: {done.stderr}")
    return {path: (folder / path).read_text(encoding="utf-8") for path in twin}


# ---- The tree


def write_files(root: Path, files: Files) -> None:
    """Write those that differ from what is there, with LF on every system."""
    for path, text in files.items():
        target = root / path
        if not target.is_file() or target.read_bytes() != text.encode():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode())


def update(root: Path, twin: Files) -> None:
    """Write the twin, and remove what an earlier run made of a source that is gone."""
    write_files(root, twin)
    for path in present(root) - twin.keys() - BY_HAND:
        if (root / path).read_text(encoding="utf-8").startswith(MARK):
            (root / path).unlink()


def present(root: Path) -> set[str]:
    """List the files in the twin's folders."""
    paths = [path for tree in TREES.values() for path in (root / tree).rglob("*.*")]
    return {path.relative_to(root).as_posix() for path in paths if path.suffix in (".py", ".typed")}


def compare(root: Path, twin: Files) -> list[str]:
    """Compare the tree with what it should be, both ways."""
    has_tests = (root / "tests").is_dir()
    expected = twin.keys() | {path for path in BY_HAND if has_tests or not path.startswith("tests/")}
    there = present(root)
    missing = [
        f"{path} is missing" + " (it is written by hand)" * (path in BY_HAND)
        for path in sorted(expected - there)
    ]
    stale = [f"{path} is stale: no source makes it, BY_HAND has it not" for path in sorted(there - expected)]
    different = [difference(root, path, twin[path]) for path in sorted(twin.keys() & there)]
    return missing + stale + list(filter(None, different))


def difference(root: Path, path: str, expected: str) -> str:
    """Show how a file differs from what its source gives; empty if it does not."""
    actual = (root / path).read_bytes().decode(errors="replace")
    if actual == expected:
        return ""
    names = (path, "what its source gives")
    diff = list(difflib.unified_diff(actual.splitlines(), expected.splitlines(), *names, lineterm=""))
    more = [f"… and {len(diff) - DIFF_LINES} more lines"] if len(diff) > DIFF_LINES else []
    return "\n".join([f"{path} differs from what its source gives:", *diff[:DIFF_LINES], *more])


def main() -> int:
    """Write the twin or check it; the exit code is 0 if it is then up to date."""
    parser = argparse.ArgumentParser(description="Make the blocking twin of the async sources.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if something is stale")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the repository")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    try:
        twin = generate(root)
    except TwinError as error:
        sys.exit(str(error))
    if not arguments.check:
        update(root, twin)
    if problems := compare(root, twin):
        sys.exit("\n".join([*problems, ADVICE]))
    print(f"The twin is up to date: {len(twin)} files.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
