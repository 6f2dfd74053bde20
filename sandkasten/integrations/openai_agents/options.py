"""The options of a sandbox agent's session."""

from __future__ import annotations

from typing import Literal

from agents.sandbox.session import BaseSandboxClientOptions

_TTL_SECONDS = 86_400  # an agent may wait for its model, or for its user, for long


class SandkastenSandboxClientOptions(BaseSandboxClientOptions):
    """The options of an agent's session; variables are in the manifest's `environment`.

    Attributes:
        image: as in `SandboxClient.create_session`, and so the others.
        network: `none` or `host`; None is what the daemon does by itself.
        limits: what the sandbox may take, as `{"memory_bytes": "512m"}`.
        packages: packages of Python that it has from the beginning.
        workspace_id: the workspace whose files it sees; they outlive it.
        ttl_seconds: how long it lives after its last use.
        exposed_ports: ports of the sandbox that programs of this machine may reach, whatever its network.
    """

    type: Literal["sandkasten"] = "sandkasten"  # pyright: ignore[reportIncompatibleVariableOverride]
    image: str = "python"
    network: Literal["none", "host"] | None = None
    limits: dict[str, int | float | str] | None = None
    packages: tuple[str, ...] = ()
    workspace_id: str | None = None
    ttl_seconds: int = _TTL_SECONDS
    exposed_ports: tuple[int, ...] = ()
