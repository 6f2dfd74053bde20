"""Texts for a model: results and errors as clean text of a bounded length.

Everything here is pure. A sandbox's output may be of any size and hold any character; the texts of this
module have at most `max_chars` characters, and none that steer a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sandkasten._cut import find_mark, mark
from sandkasten._offline import lacks_network
from sandkasten.errors import (
    CapacityExceededError,
    ExecTimeoutError,
    ExtensionMissingError,
    InsufficientStorageError,
    InvalidRequestError,
    ProcessNotFoundError,
    SandboxDirectoryNotEmptyError,
    SandboxFileExistsError,
    SandboxFileNotFoundError,
    SandboxIsDirectoryError,
    SandboxPermissionError,
    SandboxReadOnlyError,
    SandkastenAPIError,
    SandkastenError,
    SandkastenInputError,
    SearchTimeoutError,
)
from sandkasten.models import DirEntry, ExecResult, ReadResult, SearchResult, SessionInfo, SessionStats

# What a model can fix by doing something else. All other errors are for whoever runs the agent: a
# session that is gone, a daemon that cannot be reached.
FIXABLE = (
    ExecTimeoutError,
    InsufficientStorageError,
    InvalidRequestError,
    SandboxFileNotFoundError,
    SandboxFileExistsError,
    SandboxDirectoryNotEmptyError,
    SandboxPermissionError,
    SandkastenInputError,
    ProcessNotFoundError,
    SearchTimeoutError,
    CapacityExceededError,
    ExtensionMissingError,
)

_ADVICE: dict[type[SandkastenError], str] = {
    ExecTimeoutError: (
        "The shell goes on. Use a larger timeout_seconds, "
        "or run the command in the background: COMMAND > log.txt 2>&1 &"
    ),
    InsufficientStorageError: "Delete files that are not needed.",
    SandboxFileNotFoundError: "Look for it with the tool list.",
    SandboxIsDirectoryError: "Use the tool list for directories.",
    SandboxFileExistsError: "Choose another name, or pass overwrite.",
    SandboxDirectoryNotEmptyError: "Pass recursive to remove a directory with all that is in it.",
    ProcessNotFoundError: "See which there are with the tool list_processes.",
    SearchTimeoutError: "Use a simpler pattern, or look in fewer files.",
    ExtensionMissingError: "Do it with the tool exec.",
    SandboxPermissionError: "Change its mode with chmod.",
    SandboxReadOnlyError: "/workspace is read-only in this sandbox: write to /tmp, with the tool exec.",
}

NO_NETWORK = "[This sandbox has no network, so nothing can be downloaded. Do it with what is installed.]"
_PROGRAMS = {"python3": "Python", "node": "Node"}
_NOTICE = "[... {left_out} characters left out, lines {first} to {last} of {total}; {advice} ...]"
_NOTICE_CUT_BEFORE = "[... {left_out:,} bytes left out; {advice} ...]"
_NOTICE_CHARS = 150
_EXEC_ADVICE = "write long output to a file and look at parts of it"
_LIST_ADVICE = "see them with exec, ls and grep"
_READ_ADVICE = "see them with exec and sed -n"
# Among them C1, which some terminals obey, and lone surrogates, which cannot be sent as JSON.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# How far git looks for a NUL, too.
_SNIFFED_BYTES = 8000


def exec_text(result: ExecResult, max_chars: int, network: str | None = None) -> str:
    """Return a command's exit code and output, and the reason for its failure if it lacked a network."""
    header = f"exit code {result.exit_code}, directory {one_line(result.cwd)}\n"
    notes: list[str] = []
    if result.truncated and not find_mark(result.output):
        notes.append("[Output beyond the sandbox's limit was dropped.]")
    if lacks_network(result.exit_code, result.output, network):
        notes.append(NO_NETWORK)
    if result.shell_restarted:
        notes.append("[The shell ended and was started anew: variables that were not exported are gone.]")
    body = cleaned(settled(result.output)) or "(no output)"
    return assembled(header, body, max_chars, notes=notes, is_cut=result.truncated)


def surroundings_text(info: SessionInfo | None) -> str:
    """Return the session's programs and network, as far as its daemon reports them."""
    if info is None:
        return ""
    network = {
        "none": "It has no network.",
        "host": "It has the network of its host.",
    }.get(info.network or "", "")
    if info.programs is None:
        return network
    has = [f"{name} ({program})" for program, name in _PROGRAMS.items() if program in info.programs]
    lacks = [name for program, name in _PROGRAMS.items() if program not in info.programs]
    installed = f"{' and '.join(has)} {'are' if len(has) > 1 else 'is'} installed." if has else ""
    missing = f"There is no {' and no '.join(lacks)}." if lacks else ""
    return " ".join(filter(None, [network, installed, missing]))


def read_text(result: ReadResult, max_chars: int) -> str:
    """Return a file's content if it is text, otherwise its size."""
    size = f"{'more than ' if result.truncated else ''}{len(result.content)} bytes"
    header = f"{one_line(result.path)}, {size}\n"
    text = decoded(result.content, truncated=result.truncated)
    if text is None:
        return f"{header}This is not UTF-8 text. Look at it with a program: file, xxd, strings, python3."
    notes: list[str] = []
    if "\r\n" in text:
        notes.append("[Lines end in CR LF.]")
    if result.truncated:
        notes.append("[The file goes on after this.]")
    return assembled(header, cleaned(text) or "(empty)", max_chars, notes=notes, advice=_READ_ADVICE)


def page_text(result: ReadResult, offset: int, max_chars: int) -> tuple[str, int | None]:
    """Return one page of a file, and where the next one begins; None after the last one.

    The page ends at the end of a line where that does not cost much, and within no character.
    """
    content = result.content
    skipped = next((n for n in range(min(4, len(content))) if content[n] & 0xC0 != 0x80), 0) if offset else 0
    name = one_line(result.path)
    text = decoded(content[skipped:], truncated=result.truncated)
    if text is None:
        return (
            f"{name}\nThis is not UTF-8 text. Look at it with a program: file, xxd, strings, python3.",
            None,
        )
    begin = offset + skipped
    page = text[: max_chars - 2 * _NOTICE_CHARS - len(name)]
    is_last = len(page) == len(text) and not result.truncated
    page = page if is_last else _head(page)
    end = begin + len(page.encode())
    notes = "" if is_last else f"\n[The file goes on: offset {end}.]"
    body = cleaned(page).removesuffix("\n") if notes else cleaned(page)
    header = f"{name}, bytes {begin} to {end}\n"
    return f"{header}{body or '(nothing there)'}{notes}", None if is_last else end


def paths_text(paths: Sequence[str], max_chars: int) -> str:
    """Return paths, one a line."""
    lines = "".join(f"{one_line(path)}\n" for path in paths)
    return assembled("", lines or "(none)", max_chars, advice="use a narrower pattern")


def matches_text(found: SearchResult, max_chars: int) -> str:
    """Return the lines that match, each behind its path and its number."""
    lines = "".join(
        f"{one_line(match.path)}:{match.line_number}: {one_line(match.line, 500)}\n"
        for match in found.matches
    )
    notes = ["[There are more matches: use a narrower pattern.]"] if found.truncated else []
    return assembled("", lines or "(none)", max_chars, notes=notes, advice="use a narrower pattern")


def list_text(entries: Sequence[DirEntry], max_chars: int) -> str:
    """Return a directory's entries, one a line; names of directories end in a slash."""
    lines = "".join(map(_entry_line, entries))
    return assembled("", lines or "(empty)", max_chars, advice=_LIST_ADVICE)


def _entry_line(entry: DirEntry) -> str:
    kind = entry.kind or ("directory" if entry.is_dir else "file")
    size = "" if entry.size_bytes is None or entry.is_dir else str(entry.size_bytes)
    time = f"{entry.modified_at:%Y-%m-%d %H:%M}" if entry.modified_at else ""
    return f"{kind:<9} {size:>10} {time:<16} {one_line(entry.name)}{'/' * entry.is_dir}\n"


def stats_text(stats: SessionStats) -> str:
    """Return the memory and the CPU time that a session uses."""
    limit = f" of {_mib(stats.memory_limit)}" if stats.memory_limit else ""
    return f"memory {_mib(stats.memory_bytes)}{limit}, CPU time {stats.cpu_usage_usec / 1_000_000:.1f} s"


def error_text(error: SandkastenError, max_chars: int) -> str:
    """Return an error's sentence, the advice, and the output until then."""
    hint = "" if isinstance(error, SandkastenAPIError) else error.hint
    advice = next((_ADVICE[kind] for kind in type(error).__mro__ if kind in _ADVICE), hint)
    header = f"error: {' '.join(filter(None, [_as_sentence(one_line(error.what, 500)), one_line(advice)]))}\n"
    if not isinstance(error, ExecTimeoutError | InsufficientStorageError) or not error.output:
        return header.rstrip("\n")
    body = cleaned(settled(error.output))
    return assembled(f"{header}It printed until then:\n", body, max_chars, is_cut=error.truncated)


def bounded(text: str, max_chars: int, advice: str, *, is_cut: bool = False) -> str:
    """Keep the head and the tail of a text that is too long, with a notice about the part between them.

    The cuts are at ends of lines where that does not cost much. If the daemon had cut the text already, one
    notice counts both cuts.
    """
    if len(text) <= max_chars:
        return text
    room = (max_chars - _NOTICE_CHARS) // 2
    head, tail = _head(text[:room]), _tail(text[-room:])
    line_end = "" if head.endswith("\n") else "\n"
    end = len(text) - len(tail)
    if is_cut and (found := find_mark(text[len(head) : end])):
        cut_before = found[1] - len(mark(found[1]))
        left_out = len(text[len(head) : end].encode()) + cut_before
        notice = _NOTICE_CUT_BEFORE.format(advice=advice, left_out=left_out)
    else:
        notice = _NOTICE.format(
            advice=advice,
            left_out=end - len(head),
            first=head.count("\n") + 1,
            last=text.count("\n", 0, end - 1) + 1,
            total=text.count("\n", 0, len(text) - 1) + 1,
        )
    return f"{head}{line_end}{notice}\n{tail}"


def cleaned(text: str) -> str:
    r"""Make control characters visible, one for one; line ends become `\n`."""
    return _CONTROL.sub(_visible, text.replace("\r\n", "\n"))


def settled(text: str) -> str:
    """Collapse lines overwritten with carriage returns (progress bars) to their final text."""
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def decoded(content: bytes, *, truncated: bool) -> str | None:
    """Decode a file, which may have been cut within a character; None if it is not text."""
    if b"\0" in content[:_SNIFFED_BYTES]:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        cut_within_character = truncated and error.end == len(content) and len(content) - error.start < 4
        return content[: error.start].decode() if cut_within_character else None


def one_line(text: str, max_chars: int = 300) -> str:
    """Make a name or a message one line of a bounded length."""
    text = cleaned(text[: 2 * max_chars]).replace("\n", "␊")  # of two characters at most becomes one
    return text if len(text) <= max_chars else f"{text[: max_chars - 4]} ..."


def assembled(
    header: str,
    body: str,
    max_chars: int,
    *,
    notes: Sequence[str] = (),
    advice: str = _EXEC_ADVICE,
    is_cut: bool = False,
) -> str:
    footer = "".join(f"\n{note}" for note in notes)
    body = bounded(body, max_chars - len(header) - len(footer), advice, is_cut=is_cut)
    if footer:
        body = body.removesuffix("\n")
    return f"{header}{body}{footer}"


def _head(text: str) -> str:
    end = text.rfind("\n") + 1
    return text[:end] if end > len(text) // 2 else text


def _tail(text: str) -> str:
    start = text.find("\n") + 1
    return text[start:] if start <= len(text) // 2 else text


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of that control character
    return "␡" if code == 0x7F else "\ufffd"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:.1f} MiB"


def _as_sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
