"""Sandboxes for the sandbox agents of the OpenAI Agents SDK; needs the extra `openai-agents`.

A run's sandbox is a session::

    from agents import RunConfig, Runner
    from agents.sandbox import SandboxAgent, SandboxRunConfig

    from sandkasten import SandboxClient
    from sandkasten.integrations.openai_agents.sandbox import SandkastenSandboxClient

    async with SandboxClient() as client:
        config = RunConfig(sandbox=SandboxRunConfig(client=SandkastenSandboxClient(client)))
        agent = SandboxAgent(name="coder")
        result = await Runner.run(agent, "Which Python is installed?", run_config=config)

The session ends with the run. A run that waits for an approval keeps the files as a snapshot, and goes on in
a new session with them, in another process too.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from sandkasten.integrations._missing import missing

try:
    from agents.sandbox import Manifest, SnapshotSpec, resolve_snapshot
    from agents.sandbox.errors import ConfigurationError, ErrorCode
    from agents.sandbox.session import BaseSandboxClient, Dependencies, Instrumentation, SandboxSession
except ModuleNotFoundError as error:
    raise missing(error, "openai-agents") from None

from sandkasten.integrations._adapters.making import made
from sandkasten.integrations._adapters.whole import GONE
from sandkasten.integrations.openai_agents.options import SandkastenSandboxClientOptions
from sandkasten.integrations.openai_agents.session import (
    SandkastenSandboxSession,
    SandkastenSandboxSessionState,
    refuse_user,
)
from sandkasten.session import Session

if TYPE_CHECKING:
    from agents.sandbox.session import SandboxSessionState
    from agents.sandbox.snapshot import SnapshotBase

    from sandkasten.client import SandboxClient

__all__ = [
    "SandkastenSandboxClient",
    "SandkastenSandboxClientOptions",
    "SandkastenSandboxSession",
    "SandkastenSandboxSessionState",
]


class SandkastenSandboxClient(BaseSandboxClient[SandkastenSandboxClientOptions | None]):
    """The maker of the sandboxes of agents, on the daemon of a client."""

    backend_id = "sandkasten"
    supports_default_options = True

    def __init__(
        self,
        client: SandboxClient,
        *,
        instrumentation: Instrumentation | None = None,
        dependencies: Dependencies | None = None,
    ) -> None:
        """Send nothing yet.

        Args:
            client: the client whose daemon has the sessions.
            instrumentation: as the SDK's own clients take it.
            dependencies: likewise.
        """
        self._client = client
        self._instrumentation = instrumentation or Instrumentation()
        self._dependencies = dependencies

    async def create(
        self,
        *,
        snapshot: SnapshotSpec | SnapshotBase | None = None,
        manifest: Manifest | None = None,
        options: SandkastenSandboxClientOptions | None = None,
    ) -> SandboxSession:
        """Make a session; it gets the files of the manifest, or of the snapshot, when it is started.

        Raises:
            ConfigurationError: a manifest with users, or with files of this machine to be mounted.
            SandkastenError: as `SandboxClient.create_session` does.
        """
        manifest = self._validate_manifest_for_create(manifest or Manifest())
        options = options or SandkastenSandboxClientOptions()
        session = await self._made(options)
        session_id = uuid.uuid4()
        state = SandkastenSandboxSessionState(
            session_id=session_id,
            manifest=manifest,
            snapshot=resolve_snapshot(snapshot, str(session_id)),
            sandbox_id=session.id,
            options=options,
            exposed_ports=options.exposed_ports,
        )
        return self._wrapped(state, session)

    async def resume(self, state: SandboxSessionState) -> SandboxSession:
        """Find the session of a state, or make another one, which gets the snapshot when it starts.

        Raises:
            TypeError: the state of another client.
            ConfigurationError: as `create` does.
            SandkastenError: as `SandboxClient.create_session` does.
        """
        if not isinstance(state, SandkastenSandboxSessionState):
            raise TypeError(f"The state is a {type(state).__name__}, not a SandkastenSandboxSessionState.")
        state.assert_path_grants_rebound()
        self._validate_manifest_for_create(state.manifest)
        has_files = True
        try:
            session = await self._client.get_session(state.sandbox_id)
        except GONE:
            session = await self._made(state.options)
            state.sandbox_id = session.id
            has_files = state.options.workspace_id is not None
            state.workspace_root_ready &= has_files
        return self._wrapped(state, session, has_files=has_files)

    async def delete(self, session: SandboxSession) -> SandboxSession:
        """End the session; it may have ended already.

        Raises:
            TypeError: the session of another client.
        """
        state = session.state
        if not isinstance(state, SandkastenSandboxSessionState):
            raise TypeError(f"The session is one of {state.type}, not of sandkasten.")
        with suppress(*GONE):  # gone is what was wanted
            await (await self._client.get_session(state.sandbox_id)).destroy()
        return session

    def deserialize_session_state(self, payload: dict[str, object]) -> SandboxSessionState:
        """Return the state that `serialize_session_state` made a payload of."""
        return self._deserialize_session_state_payload(payload, SandkastenSandboxSessionState)

    def _validate_manifest_for_create(self, manifest: Manifest) -> Manifest:
        for user in (*manifest.users, *(user for group in manifest.groups for user in group.users)):
            refuse_user(user)
        if mounted := [grant.path for grant in manifest.extra_path_grants if grant.host_path is not None]:
            raise ConfigurationError(
                message=(
                    f"The manifest would mount a directory of this machine at {mounted[0]}, and a sandbox "
                    "sees none. Add it as a LocalDir entry, which copies it."
                ),
                error_code=ErrorCode.SANDBOX_CONFIG_INVALID,
                op="start",
                context={"paths": mounted},
                retryable=False,
            )
        return super()._validate_manifest_for_create(manifest)

    async def _made(self, options: SandkastenSandboxClientOptions) -> Session:
        making = self._client.create_session(
            image=options.image,
            network=options.network,
            limits=options.limits,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            packages=options.packages,
            workspace_id=options.workspace_id,
            ttl_seconds=options.ttl_seconds,
        )
        return await made(making, Session.destroy)

    def _wrapped(
        self, state: SandkastenSandboxSessionState, session: Session, *, has_files: bool = False
    ) -> SandboxSession:
        inner = SandkastenSandboxSession(state, session, has_files=has_files)
        return self._wrap_session(inner, instrumentation=self._instrumentation)
