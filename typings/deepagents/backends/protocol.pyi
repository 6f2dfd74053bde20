class FileDownloadResponse:
    def __init__(self, path: str, content: bytes | None = ..., error: str | None = ...) -> None: ...

class FileUploadResponse:
    def __init__(self, path: str, error: str | None = ...) -> None: ...

class ExecuteResponse:
    def __init__(self, output: str, exit_code: int | None = ..., truncated: bool = ...) -> None: ...

class DeleteResult:
    def __init__(self, error: str | None = ..., path: str | None = ...) -> None: ...

class LsResult:
    def __init__(
        self, error: str | None = ..., entries: list[dict[str, str | bool]] | None = ...
    ) -> None: ...

class GlobResult:
    error: str | None
    matches: list[dict[str, str | bool]] | None

class GrepResult:
    error: str | None
    matches: list[dict[str, str | int]] | None

class SandboxBackendProtocol: ...
