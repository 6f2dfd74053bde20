"""Check the English of docstrings and Markdown for the worst forms; the rules stand in CONTRIBUTING.md.

    python scripts/_english.py [FILE ...]

Without a file, every docstring and every page of the repository is checked. Generated files are not: the twin
follows its sources.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_GENERATED = ("sandkasten_sync/", "tests/_sync/", "docs/cli.md", "docs/faults.md")

_WORDS = {
    r"(?i)\bmend(s|ed|ing|able)?\b": "say fix, not mend",
    r"(?<!there )\b(is|are|was|were) none\b": "say not, or that the thing is missing, instead of 'is none'",
    r"(?i)(?<!not )\bbut for\b": "say except, not 'but for'",
    r"(?i)\b(tells?|told|telling)\b(?!( \w+){0,4} apart)": "say report, return, show or print, not tell",
    r"(?i)\bin the making\b": "say in progress or partial, not 'in the making'",
}
_NO_SUBJECT = re.compile(r"(How|Where|When|Why|That|Those|If)\b")
_HEADLESS = re.compile(r"(?:What|Who|Whom|Whose|Whether|Which)\b[^.?!]*")
# A sentence begins with the text or with a line of a list, or after the end of another one.
_BEGINNING = re.compile(r"(?:\A|(?<=[.?!] )|(?<=[.?!]\n)|(?<=\n\n))(?:[-*] |\d+\. )?\s*(?=[A-Z])")
_CODE = re.compile(r"``[^`]+``|`[^`\n]+`")


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield the offset and the name of each fault of some prose; code in backticks is not looked at."""
    prose = _CODE.sub(lambda code: "x" * len(code[0]), text)
    for pattern, advice in _WORDS.items():
        for found in re.finditer(pattern, prose):
            yield found.start(), f"{advice}: {_line_at(text, found.start())!r}"
    for offset in sorted({beginning.end() for beginning in _BEGINNING.finditer(prose)}):
        sentence = _HEADLESS.match(prose, offset)
        if sentence is not None and prose[sentence.end() : sentence.end() + 1] != "?":
            word = sentence[0].split()[0]
            yield sentence.start(), f"a sentence begins with {word!r}: {_line_at(text, sentence.start())!r}"


def faults_of_docstring(text: str) -> Iterator[tuple[int, str]]:
    """Yield the faults of a docstring: those of its prose, of its beginning and its first sentence's end."""
    prose = _without_blocks(text)
    yield from faults(prose)
    if headless := _NO_SUBJECT.match(prose.strip()):
        yield 0, f"a docstring begins with {headless[0]!r}, not with its subject: {_line_at(text, 0)!r}"
    summary = prose.strip().partition("\n\n")[0].rstrip()
    if not summary.endswith((".", ":", "?", "!", ")")):
        yield 0, f"a docstring does not end its first sentence with a period: {_line_at(text, 0)!r}"


def faults_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each fault in the docstrings of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                first = node.body[0].lineno
                for offset, fault in faults_of_docstring(text):
                    yield first + text.count("\n", 0, offset), fault


def faults_of_markdown(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each fault in a page; headings and code are not looked at."""
    for offset, fault in faults(_without_fences(source)):
        yield 1 + source.count("\n", 0, offset), fault


def _without_blocks(docstring: str) -> str:
    """Blank the literal blocks of a docstring: what is indented below a line that ends with `::`."""
    lines, kept, depth = docstring.split("\n"), [], None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if depth is not None and line.strip() and indent <= depth:
            depth = None
        kept.append(" " * len(line) if depth is not None else line)
        if depth is None and line.rstrip().endswith("::"):
            depth = indent
    return "\n".join(kept)


def _without_fences(page: str) -> str:
    """Blank the code, the comments and the headings of a page."""
    page = re.sub(r"<!--.*?-->", _blanked, page, flags=re.DOTALL)
    page = re.sub(r"^( *)(```|~~~).*?^ *\2", _blanked, page, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^(#|---|hide:|title:).*$", _blanked, page, flags=re.MULTILINE)


def _blanked(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


def _line_at(text: str, offset: int) -> str:
    begin = text.rfind("\n", 0, offset) + 1
    return text[begin:].partition("\n")[0].strip()[:100]


def faults_of_file(path: Path) -> list[str]:
    """Return the faults of a file, each with its place."""
    check = faults_of_python if path.suffix == ".py" else faults_of_markdown
    found = sorted(check(path.read_text("utf-8")))
    return [f"{path.relative_to(ROOT)}:{line}: {fault}" for line, fault in found]


def files() -> list[Path]:
    """Return the files of the repository that are checked."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    names = {name for name in listed if name.endswith((".py", ".md")) and not name.startswith(_GENERATED)}
    return [ROOT / name for name in sorted(names) if (ROOT / name).exists()]


def main() -> int:
    """Print the faults; return 1 if there are any."""
    paths = [Path(name).resolve() for name in sys.argv[1:]] or files()
    found = [fault for path in paths for fault in faults_of_file(path)]
    print("\n".join(found) or f"The English of {len(paths)} files is fine.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
