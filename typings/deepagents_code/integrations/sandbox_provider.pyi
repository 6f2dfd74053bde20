from typing import Any

from deepagents.backends.protocol import SandboxBackendProtocol

class SandboxNotFoundError(Exception): ...

class SandboxInstallHint:
    def __init__(self, kind: str, name: str) -> None: ...

class SandboxProviderMetadata:
    def __init__(
        self,
        name: str,
        working_dir: str,
        install: SandboxInstallHint | None = ...,
        supports_sandbox_id: bool = ...,
    ) -> None: ...

class SandboxProvider:
    @property
    def metadata(self) -> SandboxProviderMetadata | None: ...
    def get_or_create(self, *, sandbox_id: str | None = ..., **kwargs: Any) -> SandboxBackendProtocol: ...
    def delete(self, *, sandbox_id: str, **kwargs: Any) -> None: ...
