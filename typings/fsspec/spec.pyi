# What sandkasten/integrations/fsspec.py uses of fsspec, which has no types of its own.

from io import BytesIO
from typing import Any, ClassVar, Self

from fsspec.callbacks import Callback

class AbstractFileSystem:
    protocol: ClassVar[str]
    root_marker: ClassVar[str]
    cachable: ClassVar[bool]
    def __init__(self, **storage_options: Any) -> None: ...
    @classmethod
    def _strip_protocol(cls, path: Any) -> Any: ...
    @classmethod
    def _parent(cls, path: str) -> str: ...
    def isdir(self, path: str) -> bool: ...
    def open(self, path: str, mode: str = ..., **kwargs: Any) -> Any: ...
    def expand_path(
        self, path: str | list[str], recursive: bool = ..., maxdepth: int | None = ...
    ) -> list[str]: ...
    def rm(self, path: str | list[str], recursive: bool = ..., maxdepth: int | None = ...) -> None: ...
    def mv(
        self,
        path1: str | list[str],
        path2: str | list[str],
        recursive: bool = ...,
        maxdepth: int | None = ...,
        **kwargs: Any,
    ) -> None: ...
    def cat_file(self, path: str, start: int | None = ..., end: int | None = ..., **kwargs: Any) -> bytes: ...
    def get_file(
        self, rpath: str, lpath: Any, callback: Callback = ..., outfile: Any = ..., **kwargs: Any
    ) -> None: ...

class AbstractBufferedFile:
    fs: Any
    path: str
    mode: str
    autocommit: bool
    closed: bool
    buffer: BytesIO
    def __init__(
        self,
        fs: AbstractFileSystem,
        path: str,
        mode: str = ...,
        block_size: int | str | None = ...,
        autocommit: bool = ...,
        *,
        cache_options: dict[str, Any] | None = ...,
        size: int | None = ...,
        **kwargs: Any,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *args: object) -> None: ...
    def close(self) -> None: ...
