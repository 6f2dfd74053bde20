"""The variables that the HTTP library reads by itself, the authorities that a client trusts, and loops."""

from __future__ import annotations

import asyncio
import gc
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import trustme

import sandkasten
import sandkasten_sync
from sandkasten._config import check_verify
from sandkasten.errors import SandkastenConnectionError, SandkastenError, SandkastenInputError
from sandkasten.testing import FakeDaemon

NOBODY = "http://127.0.0.1:9"
PROXIES = {
    "ALL_PROXY": "socks5://127.0.0.1:1",
    "all_proxy": "socks4://127.0.0.1:1",
    "HTTP_PROXY": "ftp://127.0.0.1:1",
    "HTTPS_PROXY": "http://[::1",
}
CERTIFICATES = {"SSL_CERT_FILE": "/nowhere.pem", "SSL_CERT_DIR": "/nowhere", "SSLKEYLOGFILE": "/nowhere/keys"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in CERTIFICATES:
        monkeypatch.delenv(name, raising=False)


def blocking(url: str) -> None:
    with sandkasten_sync.SandboxClient(base_url=url, max_retries=0) as client:
        client.health()


def in_a_loop(url: str) -> None:
    async def ask() -> None:
        async with sandkasten.SandboxClient(base_url=url, max_retries=0) as client:
            await client.health()

    asyncio.run(ask())


BOTH = pytest.mark.parametrize("ask", [blocking, in_a_loop])


@BOTH
@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, ask: object, name: str
) -> None:
    monkeypatch.setenv(name, PROXIES[name])
    with pytest.raises(SandkastenError, match=name) as caught:
        ask(NOBODY)  # type: ignore[operator]
    assert "unset it" in str(caught.value)


@BOTH
def test_no_proxy_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, ask: object) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "[::1],fe80::/10")
    with pytest.raises(SandkastenError, match="NO_PROXY"):
        ask(NOBODY)  # type: ignore[operator]


@BOTH
@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates_are_not_looked_for_where_there_is_no_tls(
    monkeypatch: pytest.MonkeyPatch, ask: object, name: str
) -> None:
    monkeypatch.setenv(name, CERTIFICATES[name])
    with FakeDaemon() as daemon:
        ask(daemon.url)  # type: ignore[operator]


@BOTH
def test_certificates_that_are_not_there_are_named_where_there_is_tls(
    monkeypatch: pytest.MonkeyPatch, ask: object
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(SandkastenInputError, match="SSL_CERT_FILE"):
        ask("https://127.0.0.1:9")  # type: ignore[operator]


@BOTH
def test_tls_checks_certificates(ask: object) -> None:
    with FakeDaemon() as daemon, pytest.raises(SandkastenConnectionError):
        ask(daemon.url.replace("http:", "https:"))  # type: ignore[operator]


async def call(method: Callable[[], Awaitable[object]]) -> None:
    await method()


def test_a_client_in_a_second_loop_says_so_and_can_be_closed_there() -> None:
    with FakeDaemon() as daemon:
        client = sandkasten.SandboxClient(base_url=daemon.url)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.health())

        async def use_and_close() -> None:
            with pytest.raises(SandkastenError, match="another event loop"):
                await client.health()

        asyncio.run(use_and_close())
        loop.run_until_complete(client.close())
        loop.close()


@pytest.mark.filterwarnings("ignore:unclosed", "ignore:Unclosed", "ignore:Exception ignored")
def test_a_client_whose_loop_has_ended_can_be_closed_in_another() -> None:
    """Its connections were the loop's: Python warns of them, as of all that is not closed in time."""
    with FakeDaemon() as daemon:
        client = sandkasten.SandboxClient(base_url=daemon.url)

        asyncio.run(call(client.health))
        asyncio.run(call(client.close))
        del client
    gc.collect()


def test_a_blocking_client_serves_all_threads() -> None:
    with FakeDaemon() as daemon, sandkasten_sync.SandboxClient(base_url=daemon.url) as client:
        client.health()
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(client.health().status))
        thread.start()
        thread.join()
        assert found == ["ok"]


@BOTH
def test_an_error_of_a_connection_without_tls_speaks_of_none(ask: object) -> None:
    with pytest.raises(SandkastenConnectionError) as caught:
        ask(NOBODY)  # type: ignore[operator]
    assert "ssl" not in str(caught.value)
    assert NOBODY in str(caught.value)


# --- verify

PACKAGES = pytest.mark.parametrize("package", [sandkasten, sandkasten_sync])


@PACKAGES
@pytest.mark.parametrize(
    ("name", "reason"), [("none.pem", "No such file"), ("text", "NO_CERTIFICATE"), ("nu\0l", "null")]
)
def test_a_place_without_certificates_is_named(
    tmp_path: Path, package: type[sandkasten], name: str, reason: str
) -> None:
    (tmp_path / "text").write_text("no certificate\n")
    with pytest.raises(SandkastenInputError, match=f"^verify is '.*{reason}.*PEM file"):
        package.SandboxClient(base_url="https://127.0.0.1:9", verify=f"{tmp_path}/{name}")


@PACKAGES
def test_an_empty_path_is_not_the_systems_authorities(package: type[sandkasten]) -> None:
    with pytest.raises(SandkastenInputError, match="verify is empty"):
        package.SandboxClient(base_url="https://127.0.0.1:9", verify="")


@PACKAGES
@pytest.mark.parametrize("verify", [5, None, b"ca.pem", ["ca.pem"]])
def test_what_names_no_certificates_is_refused(package: type[sandkasten], verify: object) -> None:
    with pytest.raises(SandkastenInputError, match=f"verify is of type {type(verify).__name__}"):
        package.SandboxClient(base_url="https://127.0.0.1:9", verify=verify)  # type: ignore[arg-type]


def test_files_directories_and_contexts_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    for verify in (file, str(file)):
        context = check_verify(verify)
        assert isinstance(context, ssl.SSLContext)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.cert_store_stats()["x509_ca"] == 1
    assert isinstance(check_verify(tmp_path), ssl.SSLContext)
    own = ssl.create_default_context()
    assert [check_verify(one) for one in (own, True, False)] == [own, True, False]


def test_a_client_of_ones_own_checks_certificates_by_itself() -> None:
    with httpx.Client() as own, pytest.raises(SandkastenInputError, match="Give it to that client"):
        sandkasten_sync.SandboxClient(base_url="https://127.0.0.1:9", http_client=own, verify=False)
