"""The notebook's sessions, by name: made when they are first used, gone with the kernel at the latest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sandkasten._options.environments import PythonEnvironment
from sandkasten._packages.calls import PackageInfo
from sandkasten._protocol import MAX_TTL_SECONDS
from sandkasten.errors import SandkastenError
from sandkasten_sync import SandboxClient, Session

# A notebook may lie untouched overnight, and its variables with it.
_TTL_SECONDS = MAX_TTL_SECONDS


@dataclass(frozen=True)
class SessionOptions:
    """The options with which a session is made."""

    image: str | PythonEnvironment = "python"
    network: Literal["none", "host"] | None = None
    workspace_id: str | None = None
    packages: tuple[str, ...] = ()


class NotebookSessions:
    """All sessions of one kernel, on one client."""

    def __init__(self, make_client: Callable[[], SandboxClient] = SandboxClient) -> None:
        """Start without any; the client comes with the first session."""
        self._make_client = make_client
        self._client: SandboxClient | None = None
        self._sessions: dict[str, Session] = {}
        self._options: dict[str, SessionOptions] = {}
        # Where a session's shell was when Python ran last.
        self.directories: dict[str, str] = {}

    def get(self, name: str) -> Session:
        """The session of this name, made as it was before if it is not there.

        Raises:
            SandkastenError: it cannot be made.
        """
        if name not in self._sessions:
            self._sessions[name] = self._make(self._options.get(name, SessionOptions()))
        return self._sessions[name]

    def find(self, name: str) -> Session | None:
        """Return the session of this name, or None if it was not made yet."""
        return self._sessions.get(name)

    def new(self, name: str, options: SessionOptions) -> Session:
        """Make a session, in place of the one that has this name.

        Raises:
            SandkastenError: it cannot be made; the other one is still there.
        """
        session = self._make(options)
        self.close(name)
        self._sessions[name] = session
        self._options[name] = options
        return session

    def install(self, name: str, requirements: list[str]) -> list[PackageInfo]:
        """Give a session packages, and those that are made in its place; return all that it has.

        Raises:
            SandkastenError: a package cannot be had.
        """
        installed = self.get(name).install(*requirements)
        options = self._options.get(name, SessionOptions())
        self._options[name] = replace(options, packages=(*options.packages, *requirements))
        return installed

    def reset(self, name: str) -> Session:
        """End the session and make another one like it.

        Raises:
            SandkastenError: it cannot be made.
        """
        self.close(name)
        return self.get(name)

    def close(self, name: str) -> bool:
        """End a session; say whether there was one. That it is gone already is fine."""
        session = self._sessions.pop(name, None)
        if session is not None:
            with contextlib.suppress(SandkastenError):
                session.destroy()
        return session is not None

    def close_all(self) -> None:
        """End all sessions and the embedded daemon; the next use starts anew."""
        for name in list(self._sessions):
            self.close(name)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def ids(self) -> Mapping[str, str]:
        """The ids of the sessions there are, by name."""
        return {name: session.id for name, session in self._sessions.items()}

    def _make(self, options: SessionOptions) -> Session:
        if self._client is None:
            self._client = self._make_client()
        return self._client.create_session(
            image=options.image,
            ttl_seconds=_TTL_SECONDS,
            workspace_id=options.workspace_id,
            network=options.network,
            packages=options.packages,
        )
