"""A file system for fsspec, which pandas and others open files by; needs the extra `fsspec`.

The files of one session or workspace, under URLs that begin with `sandkasten://`::

    import pandas

    from sandkasten_sync import SandboxClient

    with SandboxClient() as client, client.create_session() as session:
        session.exec("seq 10 > numbers.csv").check()
        table = pandas.read_csv("sandkasten://numbers.csv", storage_options={"session": session})

fsspec loads this module when it sees the first such URL.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import secrets
import weakref
from collections.abc import Sequence
from datetime import datetime
from typing import Any, BinaryIO, ClassVar, cast

import sandkasten_sync
from sandkasten.errors import (
    SandboxNotADirectoryError,
    SandkastenInputError,
)
from sandkasten.integrations._missing import missing
from sandkasten_sync.files import FileVerbs

try:
    from fsspec.callbacks import DEFAULT_CALLBACK, Callback
    from fsspec.spec import AbstractFileSystem
except ModuleNotFoundError as error:
    raise missing(error, "fsspec") from None

from sandkasten.integrations._opened import SandkastenFile, entry_info, not_found, progress_of, stat_info

__all__ = ["SandkastenFile", "SandkastenFileSystem"]

_ROOT = "/workspace"


class SandkastenFileSystem(AbstractFileSystem):
    """The files of one session or one workspace.

    Paths are relative to /workspace. `sandkasten://data/a.csv` and `sandkasten:///workspace/data/a.csv` are
    the same file.

    Example::

        files = SandkastenFileSystem(session)
        with files.open("data/a.csv", "w") as file:
            file.write("a,b")
        assert files.cat("data/a.csv") == b"a,b"
    """

    protocol: ClassVar[str] = "sandkasten"
    root_marker: ClassVar[str] = ""
    # An instance belongs to a client of its own or the caller's; the text of its options does not say which.
    cachable: ClassVar[bool] = False

    def __init__(
        self,
        session: sandkasten_sync.Session | str | None = None,
        workspace: sandkasten_sync.Workspace | str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        **options: Any,
    ) -> None:
        """Bind to a session or to a workspace; give one of them.

        Args:
            session: a session of `sandkasten_sync`, or the id or the name of one.
            workspace: a workspace of `sandkasten_sync`, or the id of one.
            base_url: the daemon's URL, with an id; None is the default of `SandboxClient`.
            api_key: its key; None is the default of `SandboxClient`.
            options: options of fsspec's own.

        Raises:
            SandkastenInputError: not one of session and workspace, or one of another kind.
            SessionNotFoundError: the daemon has no session of this id.
            SandkastenError: the daemon cannot be reached.
        """
        super().__init__(**options)
        if (session is None) == (workspace is None):
            raise SandkastenInputError(
                "A file system is of one session or of one workspace.",
                'Pass session= or workspace=, as in storage_options={"session": session}.',
            )
        owner: object = workspace if session is None else session
        if isinstance(owner, str):
            owner = self._found(owner, is_session=session is not None, base_url=base_url, api_key=api_key)
        elif base_url is not None or api_key is not None:
            raise SandkastenInputError(
                "base_url and api_key are for the id of a session or of a workspace.",
                "Leave them out: the object that you pass knows its daemon.",
            )
        wanted: type[FileVerbs] = sandkasten_sync.Workspace if session is None else sandkasten_sync.Session
        if not isinstance(owner, wanted):
            raise SandkastenInputError(
                f"This is a {type(owner).__module__}.{type(owner).__name__}.",
                f"Pass a {wanted.__name__} of sandkasten_sync, or an id.",
            )
        self.files: FileVerbs = owner

    def _found(self, of: str, *, is_session: bool, base_url: str | None, api_key: str | None) -> FileVerbs:
        client = sandkasten_sync.SandboxClient(base_url=base_url, api_key=api_key)
        weakref.finalize(self, client.close)
        return client.get_session(of) if is_session else client.workspace(of)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in cast("Sequence[Any]", path)]
        return cls._inside(path)

    @classmethod
    def _inside(cls, path: Any) -> str:
        stripped: str = super()._strip_protocol(path)
        if stripped == _ROOT or stripped.startswith(f"{_ROOT}/"):
            stripped = stripped[len(_ROOT) :].lstrip("/")
        return "" if stripped == "." else stripped.removeprefix("./")

    # ---- what is there

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a directory, or say what a file is; with `detail` as dictionaries, otherwise by name.

        Raises:
            FileNotFoundError: there is nothing.
            SandkastenError: any other failure.
        """
        path = self._inside(path)
        try:
            with not_found(path):
                entries = self.files.list(path or _ROOT)
        except SandboxNotADirectoryError:
            found = [self.info(path)]
        else:
            found = [entry_info(posixpath.join(path, entry.name), entry) for entry in entries]
        return found if detail else [info["name"] for info in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Say what a path is; a symlink is followed.

        Returns:
            `name`, `type`, and, where the daemon says, `size`, `mtime` (a datetime) and `mode`.

        Raises:
            FileNotFoundError: there is nothing, or it is a symlink that leads nowhere.
            SandkastenError: any other failure.
        """
        path = self._inside(path)
        with not_found(path):
            return stat_info(path, self.files.stat(path or _ROOT))

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether there is anything at a path; a daemon that cannot say is an error."""
        try:
            self.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def modified(self, path: str) -> datetime:
        """Return when a path was last written to; code in the sandbox can set that.

        Raises:
            NotImplementedError: this daemon does not say.
            FileNotFoundError: there is nothing.
            SandkastenError: any other failure.
        """
        found: datetime | None = self.info(path)["mtime"]
        if found is None:
            raise NotImplementedError("This daemon does not say when a file was written to.")
        return found

    # ---- content

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        size = None
        if mode == "rb":
            info = self.info(path)
            if info["type"] == "directory":
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            size = info["size"]
            if size is None:  # this daemon cannot give a part of it either
                return io.BytesIO(self.files.read(path).content)
        if mode == "xb" and self.files.exists(path, follow_symlinks=False):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return SandkastenFile(
            self, path, mode, block_size, autocommit, cache_options=cache_options, size=size, **options
        )

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Read a file, or its bytes from `start` up to `end`; negative ones count from its end.

        Raises:
            FileNotFoundError: there is no such file.
            IsADirectoryError: it is a directory.
            SandkastenError: any other failure.
        """
        first = start or 0
        if first < 0 or (end is not None and end < 0):
            return super().cat_file(path, start, end, **options)
        if end is not None and end <= first:
            return b""
        path = self._inside(path)
        with not_found(path):
            return self.files.read(
                path or _ROOT, offset=first, max_bytes=None if end is None else end - first
            ).content

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Write a file at once; with the mode `create`, something that is there is a `FileExistsError`."""
        with self.open(path, "xb" if mode == "create" else "wb") as file:
            file.write(value)

    def get_file(
        self,
        rpath: str,
        lpath: str | BinaryIO,
        callback: Callback = DEFAULT_CALLBACK,
        outfile: Any = None,
        **options: Any,
    ) -> None:
        """Copy a file to this machine, complete or not at all; of a directory, make an empty one.

        Raises:
            FileNotFoundError: there is no such file.
            IsADirectoryError: a directory is at its destination.
            SandkastenError: any other failure.
        """
        if outfile is not None or not isinstance(lpath, str | os.PathLike):
            super().get_file(rpath, lpath, callback, outfile, **options)
        elif self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
        elif os.path.isdir(lpath):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), lpath)
        else:
            rpath = self._inside(rpath)
            with not_found(rpath):
                self.files.download(rpath, lpath, on_progress=progress_of(callback))

    def put_file(
        self,
        lpath: str,
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **_: Any,
    ) -> None:
        """Copy a file of this machine, complete or not at all; of a directory, make an empty one.

        Raises:
            FileExistsError: something is there, and the mode is `create`.
            SandkastenError: any other failure.
        """
        rpath = self._inside(rpath)
        if os.path.isdir(lpath):
            self.makedirs(rpath, exist_ok=True)
            return
        with open(lpath, "rb") as file:
            self.store(cast("BinaryIO", file), rpath, is_new=mode == "create", callback=callback)

    def store(
        self, file: BinaryIO, path: str, *, is_new: bool = False, callback: Callback = DEFAULT_CALLBACK
    ) -> None:
        """Make a file of what is in an open one; with `is_new` it replaces nothing.

        Raises:
            FileExistsError: something is there, and it has to be new.
            SandkastenError: any other failure.
        """
        folder, name = posixpath.split(path)
        if not name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        # Only a move fails, in the same step, if something has come to be there.
        place = f".{secrets.token_hex(8)}.new" if is_new else name
        progress = progress_of(callback)
        self.files.upload(file, dest_path=folder or _ROOT, filename=place, on_progress=progress)
        if is_new:
            part = posixpath.join(folder, place)
            try:
                self.files.move(part, path)
            except BaseException:
                self.files.remove(part, missing_ok=True)
                raise

    # ---- changes

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Make a directory, and its parents as far as they are missing.

        Raises:
            FileExistsError: something is there.
            FileNotFoundError: a parent is missing, and `create_parents` is false.
            SandkastenError: any other failure.
        """
        self.files.mkdir(self._inside(path) or _ROOT, parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory with its parents; one that is there is an error, unless `exist_ok` is true."""
        self.files.mkdir(self._inside(path) or _ROOT, exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory; a file is a `NotADirectoryError`."""
        if self.info(path)["type"] != "directory":
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self.rm_file(path)

    def rm_file(self, path: str) -> None:
        """Remove a file, a symlink, or an empty directory.

        Raises:
            FileNotFoundError: there is nothing.
            SandkastenError: any other failure.
        """
        path = self._inside(path)
        with not_found(path):
            self.files.remove(path or _ROOT)

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove what is at a path or at several, or all that a pattern matches.

        Args:
            path: a path, a pattern, or a list of these.
            recursive: whether directories go with all that is in them.
            maxdepth: how many levels of them; None is all, in one call.

        Raises:
            FileNotFoundError: there is nothing.
            SandkastenError: any other failure.
        """
        if maxdepth is not None:
            super().rm(path, recursive, maxdepth)
            return
        for each in reversed(self.expand_path(path)):
            self.files.remove(each or _ROOT, recursive=recursive)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file within the sandbox, replacing one that is there; of a directory, make an empty one.

        Raises:
            FileNotFoundError: there is no such file.
            SandkastenError: any other failure.
        """
        path1, path2 = self._inside(path1), self._inside(path2)
        if self.isdir(path1):
            self.makedirs(path2, exist_ok=True)
            return
        with not_found(path1):
            self.files.copy(path1, path2, overwrite=True)

    def mv(
        self,
        path1: str | list[str],
        path2: str | list[str],
        recursive: bool = False,
        maxdepth: int | None = None,
        **options: Any,
    ) -> None:
        """Move a file or a directory in one step, replacing a file that is there.

        If `path2` is a directory, or ends with a slash, the new place is in it. Lists and patterns are
        copied and removed, as fsspec does it.

        Raises:
            FileNotFoundError: there is nothing to move.
            SandkastenError: any other failure.
        """
        if isinstance(path1, list) or isinstance(path2, list) or any(sign in path1 for sign in "*?["):
            super().mv(path1, path2, recursive, maxdepth, **options)
            return
        source, target = self._inside(path1), self._inside(path2)
        if source == target:
            return
        if path2.endswith("/") or self.isdir(path2):
            target = posixpath.join(target, posixpath.basename(source))
        with not_found(source):
            self.files.move(source or _ROOT, target or _ROOT, overwrite=True)
