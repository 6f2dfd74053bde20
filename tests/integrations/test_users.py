"""Each user of a service has a workspace of their own."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from sandkasten import SandboxClient, SandkastenInputError
from sandkasten.integrations.users import sandbox_for_user, workspace_id_for_user

IDS = [
    "a",
    "A",
    "a ",
    "ada@example.com",
    "Ada@example.com",
    "é",
    "e\u0301",
    "../b",
    "x" * 10_000,
    "\0",
    "\ud800",
    "�",
]


async def test_every_id_has_a_workspace_and_no_two_have_the_same(client: SandboxClient) -> None:
    names = [workspace_id_for_user(user_id) for user_id in IDS]
    assert len(set(names)) == len(IDS)
    for name in names:
        assert client.workspace(name).id == name  # which refuses what is not well formed


def test_the_same_id_has_the_same_workspace_for_ever() -> None:
    # Changing this would take their files from all users.
    expected = "user-wx6ilzkxkx46bubquefliqu3nmuujbk7tigwab375azl5s6edvza"
    assert workspace_id_for_user("ada@example.com") == workspace_id_for_user("ada@example.com") == expected


@pytest.mark.parametrize("user_id", ["", None, 7, b"ada"])
def test_an_id_that_would_be_shared_by_accident_is_refused(user_id: Any) -> None:
    with pytest.raises(SandkastenInputError, match="must be a str that is not empty"):
        workspace_id_for_user(user_id)


async def test_a_user_finds_their_files_again_and_nobody_elses(client: SandboxClient) -> None:
    ada, bob = f"ada {secrets.token_hex(8)}", f"bob {secrets.token_hex(8)}"
    async with sandbox_for_user(client, ada) as session:
        await session.write("note.txt", "remember")
        first_id = session.id
    async with sandbox_for_user(client, ada) as session, sandbox_for_user(client, bob) as other:
        assert session.id != first_id
        assert (await session.read("note.txt")).text == "remember"
        assert (await other.exec("ls /workspace")).output == ""
    assert first_id not in {info.id for info in await client.list_sessions()}
    for user in (ada, bob):
        await client.delete_workspace(workspace_id_for_user(user))


async def test_options_of_the_session_are_passed_on(client: SandboxClient) -> None:
    user = f"eve {secrets.token_hex(8)}"
    async with sandbox_for_user(client, user, image="base", ttl_seconds=77) as session:
        info = await session.info()
        assert info.image == "base"
        assert 60 <= (info.expires_at - info.created_at).total_seconds() <= 90
    await client.delete_workspace(workspace_id_for_user(user))
