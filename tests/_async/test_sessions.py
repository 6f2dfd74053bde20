"""Sessions' lives, images and keys, against the real embedded daemon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from sandkasten.errors import (
    AuthenticationError,
    InvalidImageError,
    SandkastenAPIError,
    SandkastenError,
    SessionExpiredError,
    SessionNotFoundError,
)
from sandkasten.local.launch import LocalDaemon, LocalOptions
from tests.held import HeldDaemon

from .seam import PACKAGE, SandboxClient, Session, together


async def test_the_daemon_says_what_it_is(client: SandboxClient) -> None:
    health = await client.health()
    assert (health.status, health.server) == ("ok", "sandkasten-local")


async def test_info_tells_of_a_session(session: Session, client: SandboxClient) -> None:
    await session.exec("cd /tmp")
    info = await session.info()
    assert (info.id, info.image, info.status, info.cwd) == (session.id, "python", "running", "/tmp")
    assert info.workspace_id is None
    assert abs(datetime.now(UTC) - info.created_at) < timedelta(seconds=30)
    assert info.expires_at - info.created_at >= timedelta(seconds=1799)
    assert session.id in [listed.id for listed in await client.list_sessions()]


async def test_stats_are_real_numbers(session: Session) -> None:
    before = await session.stats()
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    await session.exec(f"python3 -c '{burn}'")
    hold = 'import time; x = bytearray(80_000_000); open("held", "w"); time.sleep(100)'
    await session.exec(f"python3 -c '{hold}' & until [ -e held ]; do sleep 0.01; done")
    after = await session.stats()
    assert after.memory_bytes > before.memory_bytes + 70_000_000
    assert after.cpu_usage_usec >= before.cpu_usage_usec + 300_000
    assert after.memory_limit is None or after.memory_limit > 80_000_000


async def test_a_session_is_found_again_by_its_id(session: Session, client: SandboxClient) -> None:
    await session.exec("variable=here")
    again = await client.get_session(session.id)
    assert (await again.exec("echo $variable")).output == "here\n"


async def test_a_destroyed_session_is_not_found(client: SandboxClient) -> None:
    session = await client.create_session()
    await session.destroy()
    for call in (session.info, session.stats, session.destroy):
        with pytest.raises(SessionNotFoundError, match="was destroyed") as caught:
            await call()
        assert (caught.value.status_code, caught.value.error_code) == (404, "SESSION_NOT_FOUND")
    assert session.id not in [listed.id for listed in await client.list_sessions()]


async def test_leaving_the_block_of_a_destroyed_session_is_no_error(client: SandboxClient) -> None:
    async with await client.create_session() as session:
        await session.destroy()


async def test_the_blocks_own_error_is_the_one_that_is_seen(client: SandboxClient) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        async with await client.create_session():
            await client.close()
            raise RuntimeError("mine")


async def test_an_unknown_session_is_not_found(client: SandboxClient) -> None:
    with pytest.raises(SessionNotFoundError, match="deadbeef-123"):
        await client.get_session("deadbeef-123")


async def test_an_unused_session_expires_and_a_used_one_does_not(held_daemon: HeldDaemon) -> None:
    target = held_daemon.target
    async with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        used = await client.create_session(ttl_seconds=10)
        unused = await client.create_session(ttl_seconds=10)
        for _ in range(3):
            held_daemon.advance(6)
            await used.exec("true")
        with pytest.raises(SessionExpiredError) as caught:
            await unused.exec("true")
        assert (caught.value.status_code, caught.value.error_code) == (410, "SESSION_EXPIRED")
        await used.destroy()


async def test_an_unknown_image_is_refused_with_those_there_are(client: SandboxClient) -> None:
    with pytest.raises(InvalidImageError, match=r"There are: base, .*python") as caught:
        await client.create_session(image="windows")
    assert caught.value.status_code == 400


async def test_python_is_in_the_python_image(session: Session) -> None:
    assert (await session.exec("python3 -c 'print(6 * 7)'")).output == "42\n"
    assert (await session.exec("env python -c 'print(6 * 7)'")).output == "42\n"


async def test_the_places_that_programs_expect_are_there(session: Session) -> None:
    result = await session.exec("cd /opt && echo x >/var/tmp/x && cat /tmp/x && ls /etc/fonts/fonts.conf")
    assert result.output == "x\n/etc/fonts/fonts.conf\n"
    assert not (await session.exec("touch /opt/x /var/x 2>/dev/null")).ok


async def test_a_wrong_key_is_refused(daemon: LocalDaemon) -> None:
    url = f"unix://{daemon.target.socket_path}"
    for key in ("wrong", None):
        async with SandboxClient(base_url=url, api_key=key) as client:
            assert (await client.health()).status == "ok"
            with pytest.raises(AuthenticationError, match="SANDKASTEN_API_KEY") as caught:
                await client.list_sessions()
            assert caught.value.status_code == 401


async def test_errors_are_httpx_errors_as_users_know_them(client: SandboxClient) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await client.get_session("deadbeef-123")
    assert caught.value.response.status_code == 404
    assert caught.value.request.method == "GET"
    assert isinstance(caught.value, SandkastenAPIError)
    assert caught.value.request_id


async def test_the_client_without_an_address_has_a_daemon_of_its_own() -> None:
    async with SandboxClient(local=LocalOptions(default_ttl_seconds=77)) as client:
        async with await client.create_session() as session:
            assert (await session.exec("echo 'Hello, World!'")).output == "Hello, World!\n"
            info = await session.info()
            assert info.expires_at - info.created_at < timedelta(seconds=80)
        first, second = await together(client.create_session, client.create_session)
        assert len(await client.list_sessions()) == 2
        assert first.id != second.id


async def test_two_first_calls_start_one_daemon() -> None:
    async with SandboxClient() as client:
        await together(client.health, client.health, client.create_session)
        assert len(await client.list_sessions()) == 1


async def test_a_closed_client_says_so(client: SandboxClient) -> None:
    await client.close()
    await client.close()
    with pytest.raises(SandkastenError, match="closed"):
        await client.health()


async def test_the_address_comes_from_the_environment(
    daemon: LocalDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDKASTEN_BASE_URL", f"unix://{daemon.target.socket_path}")
    monkeypatch.setenv("SANDKASTEN_API_KEY", daemon.target.api_key or "")
    async with SandboxClient() as client:
        assert isinstance(await client.list_sessions(), list)


def test_this_is_the_package_under_test() -> None:
    assert SandboxClient.__module__ == f"{PACKAGE}.client"
