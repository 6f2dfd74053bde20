"""One session for each item, and none left behind."""

from __future__ import annotations

import pytest

from sandkasten.errors import SandkastenInputError
from tests.soon import soon

from .seam import SandboxClient, Session


async def ids(client: SandboxClient) -> set[str]:
    """The sessions there are: the daemon is shared with other tests."""
    return {info.id for info in await client.list_sessions()}


async def test_results_come_in_the_order_of_the_items(client: SandboxClient) -> None:
    async def double(session: Session, number: int) -> int:
        await session.exec(f"sleep 0.{9 - number}")
        return int((await session.exec(f"echo $(({number} * 2))")).output)

    before = await ids(client)
    assert await client.map(double, range(6), concurrency=3) == [0, 2, 4, 6, 8, 10]
    assert await ids(client) == before


async def test_no_items_are_no_results(client: SandboxClient) -> None:
    async def fail(session: Session, item: object) -> None:
        raise AssertionError("called")

    assert await client.map(fail, []) == []


async def test_every_item_has_a_session_of_its_own_and_no_more_than_asked_at_a_time(
    client: SandboxClient,
) -> None:
    async def look(session: Session, item: int) -> tuple[str, str, int]:
        before = (await session.exec("ls; touch mine")).output
        return session.id, before, len(await ids(client) - there)

    there = await ids(client)
    found = await client.map(look, range(7), concurrency=2)
    assert len({session_id for session_id, _, _ in found}) == 7
    assert {before for _, before, _ in found} == {""}
    assert max(count for _, _, count in found) <= 2


async def test_the_first_failure_ends_all_of_it_at_once(client: SandboxClient) -> None:
    async def fail(session: Session, number: int) -> None:
        if number == 2:
            raise ValueError("the second")
        await session.exec("sleep 100")

    before = await ids(client)
    with soon(), pytest.raises(ValueError, match="the second") as caught:
        await client.map(fail, range(50), concurrency=4)
    assert caught.value.__notes__ == ["SandboxClient.map was at the item 2."]
    assert await ids(client) == before


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True])
async def test_a_concurrency_that_cannot_be_is_refused(client: SandboxClient, concurrency: int) -> None:
    async def fail(session: Session, item: object) -> None:
        raise AssertionError("called")

    with pytest.raises(SandkastenInputError, match="concurrency"):
        await client.map(fail, [1], concurrency=concurrency)
