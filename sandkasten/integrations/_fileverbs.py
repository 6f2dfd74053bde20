"""The verbs for files that agents get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from pydantic import Field

from sandkasten._protocol import WORKSPACE
from sandkasten.integrations._text import list_text, matches_text, one_line, page_text, paths_text, read_text
from sandkasten.integrations._verb import Answer, Options, Verb, plain
from sandkasten.models import DirEntry, ReadResult, SearchResult, SessionInfo

if TYPE_CHECKING:
    from sandkasten.integrations._verb import AnySession

# More is not read to show so little of it; and some daemons have trouble with more than about 3.7 MB.
_MAX_READ_BYTES = 1024 * 1024
_MAX_MATCHES = 1000
_PATH = "Relative paths start in /workspace, wherever the shell is."


class Read(Verb):
    """Read a text file of the sandbox.

    A file that is very long is cut in the middle; with an offset it comes page by page.
    """

    tool_name: ClassVar[str] = "read"
    is_read_only: ClassVar[bool] = True
    path: str = Field(description=_PATH)
    offset: int | None = Field(
        default=None,
        ge=0,
        description="Begin at this byte, and read one page; the page says where the next one begins.",
    )

    def start(self, session: AnySession, options: Options) -> Any:
        """Read the file, or as much of it as makes sense."""
        if self.offset is None:
            return session.read(self.path, max_bytes=_MAX_READ_BYTES)
        return session.read(self.path, offset=self.offset, max_bytes=options.max_output_chars)

    def answer(self, result: ReadResult, options: Options, info: SessionInfo | None) -> Answer:
        """Return the file as text, and how much of it was read."""
        data = {"path": result.path, "read_bytes": len(result.content), "truncated": result.truncated}
        if self.offset is None:
            return Answer(read_text(result, options.max_output_chars), data)
        text, end = page_text(result, self.offset, options.max_output_chars)
        return Answer(text, data | {"offset": self.offset, "next_offset": end})


class Write(Verb):
    """Write a text file in the sandbox, replacing what is there. Missing directories are made."""

    tool_name: ClassVar[str] = "write"
    path: str = Field(description=_PATH)
    content: str = Field(description="The whole content of the file.")

    def start(self, session: AnySession, options: Options) -> Any:
        """Write the file."""
        return session.write(self.path, self.content)

    def answer(self, result: None, options: Options, info: SessionInfo | None) -> Answer:
        """Return how much was written."""
        size_bytes = len(self.content.encode())
        data = {"path": self.path, "written_bytes": size_bytes}
        return Answer(f"wrote {size_bytes} bytes to {one_line(self.path)}", data)


class List(Verb):
    """List a directory of the sandbox: kinds, sizes, times, names."""

    tool_name: ClassVar[str] = "list"
    is_read_only: ClassVar[bool] = True
    path: str = Field(description=_PATH)
    depth: int | None = Field(
        default=None, ge=1, le=100, description="How many levels of directories; null is one."
    )

    def start(self, session: AnySession, options: Options) -> Any:
        """List the directory."""
        return session.list(self.path, depth=self.depth or 1)

    def answer(self, result: Sequence[DirEntry], options: Options, info: SessionInfo | None) -> Answer:
        """Return the entries as text, and their fields."""
        entries = [attrs.asdict(entry, value_serializer=plain) for entry in result]
        return Answer(list_text(result, options.max_output_chars), {"path": self.path, "entries": entries})


class Append(Verb):
    """Add text to the end of a file in the sandbox; the file is made if it is missing."""

    tool_name: ClassVar[str] = "append"
    path: str = Field(description=_PATH)
    content: str = Field(description="The text to add, with its line ends.")

    def start(self, session: AnySession, options: Options) -> Any:
        """Add the text."""
        return session.append(self.path, self.content)

    def answer(self, result: None, options: Options, info: SessionInfo | None) -> Answer:
        """Return how much was added."""
        size_bytes = len(self.content.encode())
        data = {"path": self.path, "written_bytes": size_bytes}
        return Answer(f"added {size_bytes} bytes to {one_line(self.path)}", data)


class Glob(Verb):
    """Find files and directories of the sandbox by a pattern of their paths."""

    tool_name: ClassVar[str] = "glob"
    is_read_only: ClassVar[bool] = True
    pattern: str = Field(
        description="Such as **/*.py: ** is any number of directories, * any part of a name."
    )
    path: str | None = Field(default=None, description="The directory to look in; null is /workspace.")

    def start(self, session: AnySession, options: Options) -> Any:
        """Look for the paths."""
        return session.glob(self.pattern, self.path or WORKSPACE)

    def answer(self, result: Sequence[str], options: Options, info: SessionInfo | None) -> Answer:
        """Return the paths, one a line."""
        data = {"path": self.path or WORKSPACE, "paths": list(result)}
        return Answer(paths_text(result, options.max_output_chars), data)


class Search(Verb):
    """Search for a regular expression in the text files of the sandbox; gives paths and lines."""

    tool_name: ClassVar[str] = "search"
    is_read_only: ClassVar[bool] = True
    pattern: str = Field(description="A regular expression of Python.")
    path: str | None = Field(default=None, description="The directory to look in; null is /workspace.")
    glob: str | None = Field(default=None, description="Which files in it, such as **/*.py; null is all.")
    ignore_case: bool | None = Field(default=None, description="Whether a and A are the same.")

    def start(self, session: AnySession, options: Options) -> Any:
        """Search in the files."""
        return session.search(
            self.pattern,
            self.path or WORKSPACE,
            glob=self.glob or "**",
            ignore_case=bool(self.ignore_case),
            max_results=_MAX_MATCHES,
        )

    def answer(self, result: SearchResult, options: Options, info: SessionInfo | None) -> Answer:
        """Return the lines that match."""
        matches = [attrs.asdict(match) for match in result.matches]
        data = {"path": self.path or WORKSPACE, "matches": matches, "truncated": result.truncated}
        return Answer(matches_text(result, options.max_output_chars), data)


class Mkdir(Verb):
    """Make a directory in the sandbox, and its parents; the directory may be there already."""

    tool_name: ClassVar[str] = "mkdir"
    path: str = Field(description=_PATH)

    def start(self, session: AnySession, options: Options) -> Any:
        """Make the directory."""
        return session.mkdir(self.path, exist_ok=True)

    def answer(self, result: None, options: Options, info: SessionInfo | None) -> Answer:
        """Return that it is there."""
        return Answer(f"{one_line(self.path)}/ is there", {"path": self.path})


class Remove(Verb):
    """Remove a file or a directory of the sandbox."""

    tool_name: ClassVar[str] = "remove"
    path: str = Field(description=_PATH)
    recursive: bool | None = Field(
        default=None, description="Whether a directory goes with all that is in it."
    )

    def start(self, session: AnySession, options: Options) -> Any:
        """Remove it."""
        return session.remove(self.path, recursive=bool(self.recursive))

    def answer(self, result: None, options: Options, info: SessionInfo | None) -> Answer:
        """Return that it is gone."""
        return Answer(f"removed {one_line(self.path)}", {"path": self.path})


class Move(Verb):
    """Move or rename a file or a directory of the sandbox. Missing parents of the new path are made."""

    tool_name: ClassVar[str] = "move"
    path: str = Field(description=_PATH)
    to: str = Field(description="The new path itself, not a directory to move it into.")
    overwrite: bool | None = Field(default=None, description="Whether a file that is there may be replaced.")

    def start(self, session: AnySession, options: Options) -> Any:
        """Move it."""
        return session.move(self.path, self.to, overwrite=bool(self.overwrite))

    def answer(self, result: None, options: Options, info: SessionInfo | None) -> Answer:
        """Return where it is."""
        return Answer(
            f"moved {one_line(self.path)} to {one_line(self.to)}", {"path": self.path, "to": self.to}
        )
