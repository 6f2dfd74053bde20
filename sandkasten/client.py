"""The client: where sessions and workspaces come from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from sandkasten import _wire
from sandkasten._config import (
    check_concurrency,
    check_max_retries,
    check_timeout,
    check_verify,
    resolve_target,
)
from sandkasten._options.calls import (
    image_name,
    labelled,
    labels_of,
    session_options,
    with_options,
)
from sandkasten._options.environments import PythonEnvironment
from sandkasten._protocol import Extension
from sandkasten._retry import RetryPolicy
from sandkasten.errors import SandkastenError, SandkastenInputError
from sandkasten.local.launch import LocalOptions
from sandkasten.local.limits.values import SessionLimits
from sandkasten.models import Health, Limits, SessionInfo, WorkspaceInfo

from ._http import Connection
from ._seam import Each, HTTPClient, result_of, spread
from .session import Session
from .workspace import Workspace

if TYPE_CHECKING:
    import ssl

R = TypeVar("R")
T = TypeVar("T")


class SandboxClient:
    """Talks to one Sandkasten daemon; without an address, to an embedded one of its own.

    The embedded daemon starts at the first call and ends with the client (or with its process,
    however that ends); workspaces stay on disk.

    Example::

        from sandkasten import SandboxClient

        async with SandboxClient() as client:
            async with await client.create_session() as session:
                result = await session.exec("echo 'Hello, World!'")
                print(result.output)
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 120.0,
        max_retries: int = 2,
        http_client: HTTPClient | None = None,
        local: LocalOptions | None = None,
        verify: ssl.SSLContext | str | os.PathLike[str] | bool = True,
    ) -> None:
        """Remember where the daemon is; nothing is opened yet.

        Args:
            base_url: the daemon's URL, `unix:///path` for a socket; None means `SANDKASTEN_BASE_URL`,
                else the embedded daemon.
            api_key: its key; None means `SANDKASTEN_API_KEY`, else none.
            timeout: how long, in seconds, the daemon may stay silent beyond what the call itself
                allows (an exec: its `timeout_ms`), and for how long after a failure it may be tried again.
            max_retries: how often a call that failed in passing is tried again, where that does no harm
                (`docs/retries.md` says where); 0 for never.
            http_client: an httpx client of your own, with your proxies, certificates and hooks; you close
                it. It needs a `base_url`, since the embedded daemon is reached by a socket of its own.
            local: options of the embedded daemon.
            verify: for an `https://` URL, the path of a PEM file with the certificates of the authorities to
                trust (or of a directory of them, as `openssl rehash` makes it), or a context of your own.
                True trusts those that httpx trusts: `SSL_CERT_FILE`, else the package certifi. False trusts
                everybody between here and there.

        Raises:
            SandkastenInputError: a URL, key, timeout, number of retries or certificates that cannot be meant.
        """
        _check_local(local, named=base_url is not None or api_key is not None)
        if http_client is not None and verify is not True:
            raise SandkastenInputError(
                "verify= is about connections that http_client= makes by itself.", "Give it to that client."
            )
        target = resolve_target(
            base_url, api_key, os.environ, needs_url=http_client is not None, verify=check_verify(verify)
        )
        timeout_seconds = check_timeout(timeout)
        retries = RetryPolicy(check_max_retries(max_retries), timeout_seconds)
        self._connection = Connection(target, local, timeout_seconds, retries, http_client)

    def __repr__(self) -> str:
        return f"<SandboxClient of {self._connection!r}>"

    async def create_session(
        self,
        *,
        image: str | PythonEnvironment = "python",
        ttl_seconds: int | None = None,
        workspace_id: str | None = None,
        network: Literal["none", "host"] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | PurePosixPath | None = None,
        limits: Limits | SessionLimits | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        packages: Sequence[str] = (),
    ) -> Session:
        """Make a sandbox with its shell.

        The arguments `env`, `cwd`, `limits`, `labels` and `name` need the extension `session-options`.

        Example::

            limits = Limits(memory_bytes="512m", processes=64)
            async with await client.create_session(
                env={"LANG": "de_DE.UTF-8"}, cwd="project", limits=limits, labels={"job": "17"}
            ) as session:
                print((await session.exec("pwd")).output)

        Args:
            image: what is installed in it: `base`, `python`, `node`, or what the operator added; or an
                environment of Python, such as `PythonEnvironment(".venv")` (extension `environments`):
                the session's `info().python_environment` lists what of it was left out.
            ttl_seconds: how long it lives after its last use, up to 86400; None or 0 is the daemon's
                default. A command that waits or runs is a use to its end, and so is a transfer of files;
                `Session.renew` changes it.
            workspace_id: the workspace to mount at /workspace; None gives a directory that ends with
                the session.
            network: `host` shares the daemon's machine's network, with all that can be reached from
                there; `none` has no network. None is what the daemon does by itself, on the embedded
                one `none`. Needs the extension `network`.
            env: variables of the session's shell, and of one that takes its place; at most 256 with 64 KiB
                together. Nobody can ask for them afterwards, other than the code in the sandbox.
            cwd: the directory in which the shell begins, made if it is not there; relative to /workspace.
            limits: what the session may take, as far as that is less than the daemon's limits. A limit that
                its machine cannot keep is refused. With limits of its own a session is not taken from those
                that are kept ready, and takes longer to make.
            labels: what you want to note about it, for `list_sessions`: at most 32, with names of
                `A-Z a-z 0-9 . _ / -` and values of one line.
            name: another word for its id, for as long as it runs: 1 to 63 of `A-Z a-z 0-9 _ -`.
            packages: packages of Python that it has from the beginning, with all that they need: names, with
                versions if you like, as in `["pandas", "matplotlib>=3.9"]`. The daemon fetches a set once.
                Needs the extension `packages`.

        Raises:
            PackageError: a package cannot be had; the text says which one, and why.
            ExtensionMissingError: a daemon that leaves no choice of what was given.
            InvalidRequestError: limits beyond the daemon's, or that its machine cannot keep; a `cwd` that is
                no directory and cannot be one.
            NameTakenError: a running session has the name.
            InvalidImageError: no such image; the text lists those there are.
            CapacityExceededError: the daemon has as many sessions as it may.
            SandkastenInputError: an argument no daemon accepts.
            SandkastenError: any other failure.
        """
        options = session_options(env, cwd, limits, labels, name)
        image_options, image_to_ask = image_name(image)
        call = _wire.create_session(image_to_ask, ttl_seconds, workspace_id, network)
        call = with_options(call, {**options, **image_options})
        if image_options:
            await self._connection.require(Extension.ENVIRONMENTS)
        if network is not None:
            await self._connection.require(Extension.NETWORK)
        if options:
            await self._connection.require(Extension.SESSION_OPTIONS)
        if packages:
            from sandkasten._packages.calls import with_packages  # noqa: PLC0415  (few need packages)

            call = with_packages(call, packages)
            await self._connection.require(Extension.PACKAGES)
        info = await self._connection.call(call)
        return Session(self._connection, info.id, info)

    async def map(
        self,
        function: Each[Session, T, R],
        items: Iterable[T],
        *,
        concurrency: int = 8,
        image: str | PythonEnvironment = "python",
        ttl_seconds: int | None = None,
        network: Literal["none", "host"] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | PurePosixPath | None = None,
        limits: Limits | SessionLimits | None = None,
        labels: Mapping[str, str] | None = None,
        packages: Sequence[str] = (),
    ) -> list[R]:
        r"""Call `function(session, item)` for every item, each with a session of its own.

        Example::

            async def grade(session, answer):
                await session.write("answer.py", answer)
                return (await session.exec("python3 answer.py")).output

            async with SandboxClient() as client:
                outputs = await client.map(grade, ["print(1)", "print(2)"])

            assert outputs == ["1\n", "2\n"]

        Args:
            function: what to do with an item.
            items: taken one by one, as sessions become free.
            concurrency: how many sessions there are at a time.
            image: as in `create_session`, and so the others.
            ttl_seconds: their lifetime.
            network: their network.
            env: their variables.
            cwd: the directory in which their shells begin.
            limits: what each of them may take.
            labels: what is noted about each of them.
            packages: the packages that each of them has.

        Returns:
            The results, in the order of the items. The first error ends all of it; either way, every session
            is destroyed by then.

        Raises:
            SandkastenInputError: a concurrency below 1; a function of the other package's kind.
            SandkastenError: as `create_session` does; and whatever the function raises.
        """
        check_concurrency(concurrency)
        at_work, failed = set[Session](), list[bool]()

        async def run(item: T) -> R:
            session = await self.create_session(
                image=image, ttl_seconds=ttl_seconds, network=network,
                env=env, cwd=cwd, limits=limits, labels=labels, packages=packages,
            )  # fmt: skip
            async with session:
                at_work.add(session)
                try:
                    if failed:  # while this session was being made
                        raise SandkastenError("Another item failed, so this one was not begun.")
                    return await result_of(function(session, item))
                except Exception as error:
                    if not failed:  # else it is because of another item
                        error.add_note(f"SandboxClient.map was at the item {item!r:.200}.")
                    raise
                finally:
                    at_work.discard(session)

        async def end_all() -> None:
            failed.append(True)
            for session in list(at_work):
                with suppress(SandkastenError):
                    await session.destroy()

        return await spread(run, items, concurrency, end_all)

    async def get_session(self, session_id: str) -> Session:
        """Find a session that exists already, by its id or its name; the `Session` goes by the id.

        Raises:
            SessionNotFoundError: the daemon knows no such session.
            SessionExpiredError: its lifetime passed.
            SandkastenError: any other failure.
        """
        info = await self._connection.call(_wire.get_session(session_id))
        return Session(self._connection, info.id, info)

    async def list_sessions(self, *, labels: Mapping[str, str] | None = None) -> list[SessionInfo]:
        """List the daemon's running sessions.

        Args:
            labels: only those that have all of these. Needs the extension `session-options`.

        Raises:
            ExtensionMissingError: a daemon without labels.
            SandkastenInputError: labels that no session can have.
            SandkastenError: any other failure.
        """
        wanted = labels_of(labels)
        if wanted:
            await self._connection.require(Extension.SESSION_OPTIONS)
        return labelled(await self._connection.call(_wire.list_sessions()), wanted)

    def workspace(self, workspace_id: str) -> Workspace:
        """Reach a workspace's files without a session; nothing is sent yet.

        Raises:
            SandkastenInputError: the id is not 2 to 64 of `a-z 0-9 -`.
        """
        return Workspace(self._connection, workspace_id)

    async def list_workspaces(self) -> list[WorkspaceInfo]:
        """List the workspaces there are.

        Raises:
            SandkastenError: any failure.
        """
        return await self._connection.call(_wire.list_workspaces())

    async def delete_workspace(self, workspace_id: str) -> None:
        """Delete a workspace and all its files.

        Raises:
            WorkspaceNotFoundError: there is no workspace of this id (the Go daemon does not say so).
            SandkastenError: any other failure.
        """
        await self._connection.call(_wire.delete_workspace(workspace_id))

    async def health(self) -> Health:
        """Ask whether the daemon is well, and what it can do; needs no key.

        Raises:
            SandkastenError: it cannot be reached, or is not well.
        """
        return await self._connection.call(_wire.health())

    async def close(self) -> None:
        """Close all connections, and end the embedded daemon with all its sessions."""
        await self._connection.close()

    async def __aenter__(self) -> SandboxClient:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _check_local(local: object, *, named: bool) -> None:
    """Make sure that these are options, and for a daemon that is used."""
    if local is None:
        return
    if not isinstance(local, LocalOptions):
        raise SandkastenInputError(
            f"local is of type {type(local).__name__}.", "Pass LocalOptions, as LocalOptions(max_sessions=8)."
        )
    if named:
        raise SandkastenInputError(
            "local= is about the embedded daemon, base_url= and api_key= are about another.", "Pass either."
        )
