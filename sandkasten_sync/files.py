# Made from sandkasten/files.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""The file verbs, which sessions and workspaces share."""

from __future__ import annotations

import builtins
import posixpath
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from attrs import evolve

from sandkasten import _checks as check
from sandkasten._names import is_text
from sandkasten._protocol import Extension
from sandkasten._tar import TarReader
from sandkasten._transfer import calls
from sandkasten._transfer.archives import Archive, Given, Ignored
from sandkasten._transfer.pieces import SMALL_BYTES, Progress
from sandkasten._transfer.places import check_tree_place, make_directories, place_for, remove_directories
from sandkasten._transfer.sources import Source, open_source, source_of
from sandkasten._transfer.targets import FileTarget, MemoryTarget
from sandkasten._transfer.trees import TreeTarget
from sandkasten.errors import SandboxIsDirectoryError, SandkastenConnectionError
from sandkasten.models import DirEntry, ReadResult, Rows, SearchResult

from ._seam import close_response, run_in_thread, told_here, uninterrupted
from .paths import PathVerbs

# How long somebody who was interrupted waits until a large half of a download is gone.
_CLEAN_UP_SECONDS = 60.0


class FileVerbs(PathVerbs):
    """Files of one session or one workspace.

    Paths are relative to /workspace, or absolute. In sessions of the embedded daemon they may lead wherever
    the session's own user may go, such as to /tmp; all others have /workspace. Missing parents are made.
    Files may be of any size, and their names any bytes: what is not UTF-8 is in a path as in `os.fsdecode`.

    On a daemon without the extension `files`, large ones and directories travel by commands in the
    session's shell; a workspace has none, and says so where it needs one.
    """

    __slots__ = ()

    def write(
        self,
        path: str | PurePosixPath,
        content: str | bytes,
        *,
        mode: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Write a file, replacing what is there; text is stored as UTF-8.

        The file is complete at once, or, if anything fails, what it was before.

        Args:
            path: where; missing parents are made.
            content: what is in it.
            mode: its permission bits, such as 0o755; None keeps those of the file that is there, or is 644.
            follow_symlinks: whether a symlink at the path is written through, as by `open`, if it stays
                inside. Without, the file takes its place; that needs the extension `files`.

        Raises:
            SandkastenInputError: an empty path, or content that is neither text nor bytes.
            InvalidRequestError: the path leads outside /workspace.
            InsufficientStorageError: the workspace or the disk is full.
            SandkastenError: any other failure.
        """
        path, content = check.sandbox_path(path), check.content(content)
        if not follow_symlinks:
            self._connection.require(Extension.FILES)
        is_plain = mode is None and follow_symlinks and is_text(path)
        if is_plain and 0 < len(content) <= SMALL_BYTES:
            self._connection.call(calls.write_json(self._of, path, content))
            return
        source = source_of(content, path)
        source.mode = None if mode is None else check.mode(mode, most=0o777)
        source.follow_symlinks = follow_symlinks
        self._send(path, source)

    def append(self, path: str | PurePosixPath, content: str | bytes) -> None:
        """Add to the end of a file, which is made if it is missing; text is stored as UTF-8.

        It is added in one go when all of it has arrived. If the connection breaks after that, the call fails
        though it was added: it is never repeated.

        Raises:
            SandkastenInputError: an empty path, or content that is neither text nor bytes.
            SandboxIsDirectoryError: it is a directory.
            InsufficientStorageError: the workspace or the disk is full.
            SandkastenError: any other failure.
        """
        path, content = check.sandbox_path(path), check.content(content)
        ways = self._ways(path)
        ways.append(path, source_of(content, path))

    def read(self, path: str | PurePosixPath, *, offset: int = 0, max_bytes: int | None = None) -> ReadResult:
        """Read a file into memory: all of it from `offset` on, or at most `max_bytes`.

        Code in the sandbox decides how large its files are: pass `max_bytes` if you do not trust it. Behind
        the end of a file there is nothing: then the content is empty.

        Raises:
            SandkastenInputError: an empty path, or an `offset` or `max_bytes` out of range.
            SandboxFileNotFoundError: there is no such file, or it is a link that leads out.
            SandboxIsDirectoryError: it is a directory.
            TooLargeError: it has more than 4 GiB, and `max_bytes` was not given.
            SandkastenError: any other failure.
        """
        path = check.sandbox_path(path)
        is_small = max_bytes is not None and check.max_bytes(max_bytes) <= SMALL_BYTES and is_text(path)
        if max_bytes is not None and is_small and not check.offset(offset):
            return self._connection.call(calls.read_json(self._of, path, max_bytes))
        target = MemoryTarget()
        ways = self._ways(path)
        truncated = ways.fetch(path, target, max_bytes, check.offset(offset))
        return ReadResult(content=target.commit(), path=path, truncated=truncated)

    def upload(
        self,
        file: str | Path | BinaryIO,
        *,
        dest_path: str | PurePosixPath = "/workspace",
        filename: str | None = None,
        on_progress: Progress | None = None,
    ) -> list[str]:
        """Copy a file or a directory of this machine into the directory `dest_path`; return its path there.

        `file` is a path, or an object open for binary reading, which is read from its beginning if it can
        seek; `filename` names it in the sandbox, and must be given where the object has no name of its own.
        Files keep their permission bits. A directory is merged with an existing one; symlinks that lead out
        of it are left out. A transfer that breaks is tried again where the source can be read again.

        Example::

            session.upload("data", on_progress=lambda done, total: print(done, "of", total))

        Args:
            file: what to copy.
            dest_path: the directory to copy it into.
            filename: its name there.
            on_progress: called with the bytes that were taken and, if that is known, with all of them; the
                count begins again if the transfer does.

        Raises:
            LocalFileError: there is no such file here.
            SandkastenInputError: a file-like object without a name, or one open as text; or what is sent
                changed meanwhile.
            InsufficientStorageError: the workspace or the disk is full.
            SandkastenError: any other failure.
        """
        check.sandbox_path(dest_path, name="dest_path")
        source = run_in_thread(partial(open_source, file, filename, told_here(on_progress)))
        try:
            return [self._send(posixpath.join(str(dest_path), source.name), source)]
        finally:
            source.close()

    def download(
        self,
        path: str | PurePosixPath,
        dest: str | Path,
        *,
        max_bytes: int | None = None,
        on_progress: Progress | None = None,
    ) -> Path:
        """Copy a file or a directory to this machine; return where it is.

        If `dest` is a directory, or a text that ends with a slash, the copy goes into that directory under
        its own name, as with `cp`; the directory is made if it is missing. Else it becomes `dest`. A file
        replaces one that is there; a directory must be new. It appears when it is complete; whatever
        interrupts it leaves nothing. Plain files keep their permission bits, as far as the umask allows.
        Nothing is written outside `dest`, whatever is in the sandbox: symlinks that lead out of a directory,
        devices, FIFOs and sockets are left out.

        Example::

            session.exec("mkdir -p results && date > results/now.txt")
            session.download("results", "results-of-today")

        Args:
            path: what to copy.
            dest: where to.
            max_bytes: the most that may come; None: as much as there is room for.
            on_progress: called with the bytes that came and, if that is known, with all of them.

        Raises:
            SandkastenInputError: `dest` cannot be written to.
            SandboxFileNotFoundError: there is no such file.
            TooLargeError: it is more than `max_bytes`, or than there is room for.
            SandkastenError: any other failure.
        """
        path = check.sandbox_path(path)
        made = run_in_thread(partial(make_directories, dest))
        try:
            place = run_in_thread(partial(place_for, dest, path))
            return self._download_to(place, path, max_bytes, on_progress)
        except BaseException:
            with uninterrupted(_CLEAN_UP_SECONDS):
                run_in_thread(partial(remove_directories, made))
            raise

    def list(self, path: str | PurePosixPath = "/workspace", *, depth: int = 1) -> list[DirEntry]:
        """List a directory, sorted by name; symlinks are not followed.

        With a `depth` of more than 1 the directories in it are listed as well, down to so many levels; names
        are then paths below `path`. Directories that may not be read are left out. Needs the extension
        `files`.

        Example::

            for entry in session.list():
                print(entry.name, entry.size_bytes)

        Raises:
            SandboxFileNotFoundError: there is no such directory.
            SandboxNotADirectoryError: it is a file.
            WorkspaceNotFoundError: nothing was ever written to this workspace.
            InvalidRequestError: the path leads outside /workspace.
            SandkastenError: any other failure.
        """
        path = check.sandbox_path(path)
        if check.whole_number(depth, "depth", "levels", 1, 100) > 1:
            self._connection.require(Extension.FILES)
            call = calls.find(self._of, path, depth, None)
            entries = self._connection.call(call)
            return Rows(entries)
        ways = self._ways(path)
        return Rows(ways.entries(path))

    def glob(self, pattern: str, path: str | PurePosixPath = "/workspace") -> builtins.list[str]:
        """Return the paths below a directory that match a pattern, sorted; symlinks are not followed.

        `*`, `?` and `[...]` stand for characters of a name, hidden names included, and `**` for any number
        of directories. Needs the extension `files`.

        Example::

            session.write("src/main.py", "print(1)")
            assert session.glob("**/*.py") == ["src/main.py"]

        Raises:
            SandkastenInputError: an empty pattern, or one that begins with a slash.
            SandboxFileNotFoundError: there is no such directory.
            InvalidRequestError: there is too much to look through.
            SandkastenError: any other failure.
        """
        path, pattern = check.sandbox_path(path), check.name_pattern(pattern, "pattern")
        self._connection.require(Extension.FILES)
        call = calls.find(self._of, path, None, pattern)
        entries = self._connection.call(call)
        return [entry.name for entry in entries]

    def search(
        self,
        pattern: str,
        path: str | PurePosixPath = "/workspace",
        *,
        glob: str = "**",
        ignore_case: bool = False,
        max_results: int = 1000,
        timeout_ms: int = 30_000,
    ) -> SearchResult:
        r"""Search for a regular expression in the lines of all files below a directory.

        Binary files and symlinks are left out. A pattern that takes for ever is ended, and keeps nobody else
        waiting. Needs the extension `files`.

        Example::

            session.write("src/main.py", "import os\nprint(os.name)\n")
            (found,) = (session.search(r"^import (\\w+)", glob="**/*.py")).matches
            assert (found.path, found.line_number) == ("src/main.py", 1)

        Args:
            pattern: a regular expression of Python's `re`.
            path: the directory.
            glob: which files, by their paths below it; see `glob`.
            ignore_case: whether letters of either case are the same.
            max_results: how many lines may come; at most 10,000.
            timeout_ms: how long it may take, in milliseconds; at most 60,000.

        Raises:
            InvalidPatternError: the pattern is no regular expression.
            SearchTimeoutError: it took too long.
            SandboxFileNotFoundError: there is no such directory.
            SandkastenError: any other failure.
        """
        params: dict[str, str | int] = {
            "path": check.sandbox_path(path),
            "pattern": check.pattern(pattern, "pattern"),
            "glob": check.name_pattern(glob, "glob"),
            "ignore_case": "true" if ignore_case else "false",
            "max_results": check.whole_number(max_results, "max_results", "lines", 1, 10_000),
        }
        timeout_ms = check.whole_number(timeout_ms, "timeout_ms", "milliseconds", 1, 60_000)
        self._connection.require(Extension.FILES)
        return self._connection.call(calls.search(self._of, params, timeout_ms))

    def archive(self, path: str | PurePosixPath = "/workspace") -> Iterator[bytes]:
        """Iterate over a directory as an uncompressed tar archive, in pieces.

        Members are named relative to the directory. Symlinks are in it as they are; devices, FIFOs and
        sockets are not. The archive has not been checked: unpack it with care (`tarfile` has a filter for
        that), or use `download`. Needs the extension `files`.

        Example::

            with open("workspace.tar", "wb") as file:
                for piece in session.archive():
                    file.write(piece)

        Raises:
            SandboxFileNotFoundError: there is no such directory.
            SandkastenError: any other failure; the archive is incomplete then.
        """
        path = check.sandbox_path(path)
        self._connection.require(Extension.FILES)
        response = self._connection.open_body(calls.get_tar(self._of, path))
        try:
            reader = TarReader(Ignored())
            for piece in self._connection.parts(response):
                run_in_thread(partial(calls.fed, reader, piece))
                yield piece
            calls.check_archive(reader, response)
        finally:
            close_response(response)

    def unpack(self, archive: Archive, path: str | PurePosixPath = "/workspace") -> None:
        """Unpack an uncompressed tar archive into a directory, which is made if it is missing.

        It is merged into what is there; each file is complete or not there. Directories, plain files and
        symlinks may be in it, under relative names without `..`. Needs the extension `files`.

        Args:
            archive: its bytes, a file that is open for binary reading, or an iterable of pieces.
            path: the directory.

        Raises:
            SandkastenInputError: `archive` does not give bytes.
            InvalidRequestError: it is no such archive.
            InsufficientStorageError: the workspace or the disk is full.
            SandkastenError: any other failure.
        """
        path = check.sandbox_path(path)
        self._connection.require(Extension.FILES)
        given = Given(archive)
        call = calls.put_tar(self._of, path, given.pieces)
        try:
            self._connection.call(evolve(call, idempotent=given.can_repeat))
        except SandkastenConnectionError:
            if given.failure is not None:  # it is why the connection broke
                raise given.failure from None
            raise

    def _download_to(
        self, place: Path, path: str, max_bytes: int | None, on_progress: Progress | None
    ) -> Path:
        try:
            return self._download_file(path, FileTarget(place, max_bytes, on_progress))
        except SandboxIsDirectoryError:
            run_in_thread(partial(check_tree_place, place))
            return self._download_tree(path, TreeTarget(place, max_bytes, on_progress))

    def _download_file(self, path: str, target: FileTarget) -> Path:
        ways = self._ways(path)
        try:
            ways.fetch(path, target)
            return run_in_thread(target.commit)
        finally:
            with uninterrupted(_CLEAN_UP_SECONDS):
                run_in_thread(target.discard)

    def _download_tree(self, path: str, target: TreeTarget) -> Path:
        ways = self._ways(path)
        try:
            ways.fetch_tree(path, target)
            return run_in_thread(target.commit)
        finally:
            with uninterrupted(_CLEAN_UP_SECONDS):
                run_in_thread(target.discard)

    def _send(self, path: str, source: Source) -> str:
        ways = self._ways(path)
        return ways.send(path, source)
