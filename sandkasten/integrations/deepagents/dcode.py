"""Sandboxes for `dcode`, the command line of deepagents: `dcode --sandbox sandkasten`.

Install this package beside `dcode`, with the extras `deepagents` and `local`; its entry point does the rest.
With `SANDKASTEN_BASE_URL` set, the sandbox is on that daemon, otherwise on this machine.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from deepagents_code.integrations.sandbox_provider import (
    SandboxInstallHint,
    SandboxNotFoundError,
    SandboxProvider,
    SandboxProviderMetadata,
)

import sandkasten_sync
from sandkasten.client import SandboxClient
from sandkasten.errors import SessionExpiredError, SessionNotFoundError
from sandkasten.integrations.deepagents.backend import SandkastenBackend
from sandkasten.local.launch import LocalDaemon, start_daemon
from sandkasten.session import Session as AsyncSession

__all__ = ["SandkastenProvider"]

# A user may think for hours before the next command.
_TTL_SECONDS = 86_400


class SandkastenProvider(SandboxProvider):
    """The sandboxes of one `dcode`.

    The first one starts a daemon on this machine, which ends with `dcode`; with it all of them end.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._daemon: LocalDaemon | None = None
        self._client: sandkasten_sync.SandboxClient | None = None

    @property
    def metadata(self) -> SandboxProviderMetadata:
        """The directory in which the agent works, and the package to install."""
        return SandboxProviderMetadata(
            name="sandkasten",
            working_dir="/workspace",
            install=SandboxInstallHint(kind="package", name="sandkasten[deepagents,local]"),
            supports_sandbox_id=True,
        )

    def get_or_create(self, *, sandbox_id: str | None = None, **kwargs: Any) -> SandkastenBackend:
        """Make a sandbox, or find one that runs on the daemon of `SANDKASTEN_BASE_URL`.

        Args:
            sandbox_id: the session's id, of one that runs.
            kwargs: the arguments of `SandboxClient.create_session`, such as `image`, `network` and
                `workspace_id`; dcode takes them from its settings.

        Raises:
            SandboxNotFoundError: there is no such sandbox.
            SandkastenError: as `SandboxClient.create_session` does.
        """
        client = self._client = self._client or self._made()
        if sandbox_id is None:
            options: dict[str, Any] = {"ttl_seconds": _TTL_SECONDS, **kwargs}
            return _Backend(client.create_session(**options), self._address(), self._daemon)
        try:
            return _Backend(client.get_session(sandbox_id), self._address(), self._daemon)
        except (SessionNotFoundError, SessionExpiredError) as error:
            raise SandboxNotFoundError(str(error)) from error

    def delete(self, *, sandbox_id: str, **kwargs: Any) -> None:
        """End a sandbox; it may have ended.

        Args:
            sandbox_id: the session's id.
            kwargs: ignored.

        Raises:
            SandkastenError: the daemon does not do it.
        """
        client = self._client = self._client or self._made()
        try:
            client.get_session(sandbox_id).destroy()
        except (SessionNotFoundError, SessionExpiredError):
            return

    def _made(self) -> sandkasten_sync.SandboxClient:
        if not os.environ.get("SANDKASTEN_BASE_URL"):
            self._daemon = start_daemon()
        address = self._address()
        return sandkasten_sync.SandboxClient(base_url=address.base_url, api_key=address.api_key)

    def _address(self) -> _Address:
        if self._daemon is None:
            return _Address()
        target = self._daemon.target
        return _Address(f"unix://{target.socket_path}", target.api_key)


class _Address(NamedTuple):
    """A daemon's address for clients of both kinds; None is that of the environment."""

    base_url: str | None = None
    api_key: str | None = None


class _Backend(SandkastenBackend):
    """A backend for either form of call, and for any event loop: each has a client of its own."""

    def __init__(
        self, session: sandkasten_sync.Session, address: _Address, daemon: LocalDaemon | None
    ) -> None:
        super().__init__(session=session)
        self._address = address
        self._daemon = daemon  # which ends when nobody holds it
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncSession] = WeakKeyDictionary()

    async def _awaited(self) -> AsyncSession:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            client = SandboxClient(base_url=self._address.base_url, api_key=self._address.api_key)
            self._sessions[loop] = await client.get_session(self.id)
        return self._sessions[loop]
