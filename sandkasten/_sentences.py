"""The Go daemon's sentences, and which error each of them means; pure.

That daemon answers nearly every failure with INTERNAL_ERROR, or with a bare sentence in a stream, so its
sentence is the only sign. This table is the one place that knows them.
"""

from __future__ import annotations

import re

from attrs import frozen

from sandkasten._protocol import Code

# An error of these codes may be any error.
_VAGUE_CODES = {None, Code.INTERNAL_ERROR, Code.INVALID_REQUEST}


@frozen(eq=False, repr=False)
class _Row:
    """The meaning of a sentence.

    Attributes:
        code: the error code that the sentence stands for.
        sentence: a pattern to find in the sentence.
        request: a pattern to find in the path and query of the request.
    """

    code: str
    sentence: re.Pattern[str]
    request: re.Pattern[str]


def _row(code: str, sentence: str, request: str = "") -> _Row:
    return _Row(code, re.compile(sentence), re.compile(request))


_FILES = r"/fs(/\w+)?(\?|$)"

# The first row that fits counts, so narrow ones come first.
_ROWS = (
    _row(Code.SESSION_NOT_FOUND, r"^session not found: "),
    _row(Code.SESSION_EXPIRED, r"^session not running: .*\(status=expired\)"),
    _row(Code.SESSION_NOT_FOUND, r"^session not running: "),
    _row(Code.SESSION_EXPIRED, r"^session expired: "),
    _row(Code.SESSION_NOT_FOUND, r"read state: open \S*/state\.json: no such file or directory"),
    _row(Code.COMMAND_TIMEOUT, r"^command timeout: "),
    _row(Code.WORKSPACES_DISABLED, r"^workspaces not enabled$"),
    _row(Code.WORKSPACE_NOT_FOUND, r"^workspace not found: "),
    _row(Code.WORKSPACE_NOT_FOUND, r"\blstat \S*/workspaces/[a-z0-9-]+: no such file or directory"),
    _row(
        Code.INVALID_IMAGE, r"^create sandbox: image .* not found at |\bauto-pull image |^image not allowed: "
    ),
    _row(Code.READ_ONLY, r": read-only file system$"),
    _row(Code.PERMISSION_DENIED, r": permission denied$", _FILES),
    _row(Code.IS_DIRECTORY, r"\bis a directory$", _FILES),
    _row(Code.IS_DIRECTORY, r"must (be|point to) a file under /workspace$", _FILES),
    _row(Code.IS_DIRECTORY, r"^invalid file path$", r"/fs/read\?(.*&)?path=\.(&|$)"),
    _row(Code.INVALID_REQUEST, r"^invalid file path$|\bpath escapes workspace$", _FILES),
    _row(Code.INSUFFICIENT_STORAGE, r": no space left on device$"),
    _row(Code.FILE_NOT_FOUND, r": no such file or directory$", _FILES),
    _row(Code.NOT_A_DIRECTORY, r": not a directory$", _FILES),
)


def meant_code(code: str | None, sentence: str, request: str) -> str | None:
    """Return the error code that an error means: its own, unless that is vague and the sentence says more.

    Args:
        code: the error code that the daemon gave.
        sentence: the daemon's sentence.
        request: the path and query that were asked for.
    """
    if code not in _VAGUE_CODES:
        return code
    rows = (row for row in _ROWS if row.sentence.search(sentence) and row.request.search(request))
    return next((row.code for row in rows), code)
