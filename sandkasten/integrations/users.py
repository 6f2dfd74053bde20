"""A workspace for each user of a service, with any framework or without one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

from sandkasten.client import SandboxClient
from sandkasten.errors import SandkastenInputError
from sandkasten.session import Session


def workspace_id_for_user(user_id: str) -> str:
    """Name the workspace of a user: the same for the same id, never the same for two ids.

    Ids may be any text, while workspaces have short names of few characters; so the name is a hash.

    Raises:
        SandkastenInputError: the id is empty, or not a `str`; that would be one workspace for all.
    """
    if not isinstance(user_id, str) or not user_id:
        raise SandkastenInputError(f"user_id is {user_id!r}: it must be a str that is not empty.")
    digest = hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).digest()
    return f"user-{base64.b32encode(digest).decode().rstrip('=').lower()}"


@asynccontextmanager
async def sandbox_for_user(
    client: SandboxClient,
    user_id: str,
    *,
    image: str = "python",
    ttl_seconds: int | None = None,
    network: Literal["none", "host"] | None = None,
) -> AsyncGenerator[Session, None]:
    """Give a user a session of their own, with the files of their last session.

    The session ends with the block; /workspace stays. Blocks of one user at the same time share /workspace,
    each with a shell of its own.

    Example::

        async with sandbox_for_user(client, "ada@example.com") as session:
            await session.exec("date >> visits.txt")

    Args:
        client: the client that makes the session.
        user_id: any text that names the user; several services on one daemon put their name before it.
        image: as in `SandboxClient.create_session`.
        ttl_seconds: likewise.
        network: likewise.

    Raises:
        SandkastenInputError: the id is empty.
        SandkastenError: as `create_session` does.
    """
    session = await client.create_session(
        image=image, ttl_seconds=ttl_seconds, network=network, workspace_id=workspace_id_for_user(user_id)
    )
    async with session:
        yield session
