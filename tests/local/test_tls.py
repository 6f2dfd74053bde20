"""TLS between clients and a server: what is trusted, what is refused, and certificates that are renewed."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

import sandkasten
import sandkasten_sync
from sandkasten.errors import SandkastenConnectionError
from sandkasten.local.listen import Certificate
from sandkasten.local.options import OptionsError

from .test_server import KEY, Server, place, refused, serve

__all__ = ["place", "serve"]  # fixtures


class Authority:
    """One that certifies the server of a test, and its files."""

    def __init__(self, place: Path) -> None:
        self.trusted = place / "ca.pem"
        self.certificate = place / "chain.pem"
        self.key = place / "private.pem"
        self.words = ("--tls-certificate", self.certificate, "--tls-key", self.key)
        self.renew()

    def renew(self) -> None:
        """Make a new authority, certificate and key, in the place of the old ones."""
        authority = trustme.CA()
        made = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(self.trusted)
        self.key.unlink(missing_ok=True)
        self.key.touch(0o600)
        made.private_key_pem.write_to_path(self.key)
        self.certificate.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))


@pytest.fixture
def authority(place: Path) -> Authority:
    return Authority(place)


def test_a_session_over_tls(serve: Callable[..., Server], authority: Authority) -> None:
    server = serve(*authority.words)
    assert server.address.startswith("https://")
    content = secrets.token_bytes(3_000_000)
    where = {"base_url": server.address, "api_key": KEY}
    with (
        sandkasten_sync.SandboxClient(**where, verify=authority.trusted) as client,  # type: ignore[arg-type]
        client.create_session() as session,
    ):
        session.write("file", content)
        assert session.read("file").content == content
        with session.exec_stream("echo one; sleep 0.1; echo two") as stream:
            assert [chunk.output for chunk in stream][:2] == ["one\n", "two\n"]

    async def scenario() -> str:
        context = ssl.create_default_context(cafile=authority.trusted)
        async with (
            sandkasten.SandboxClient(**where, verify=context) as client,  # type: ignore[arg-type]
            await client.create_session() as session,
        ):
            await session.write("file", content)
            assert (await session.read("file")).content == content
            return (await session.exec("echo async")).output

    assert asyncio.run(scenario()) == "async\n"


def ask(url: str, verify: ssl.SSLContext | str | os.PathLike[str] | bool = True) -> None:
    with sandkasten_sync.SandboxClient(base_url=url, api_key=KEY, verify=verify, max_retries=0) as client:
        client.list_sessions()


async def ask_async(url: str, verify: ssl.SSLContext | str | os.PathLike[str] | bool = True) -> None:
    async with sandkasten.SandboxClient(base_url=url, api_key=KEY, verify=verify, max_retries=0) as client:
        await client.list_sessions()


BOTH = pytest.mark.parametrize(
    "ask", [ask, lambda *given: asyncio.run(ask_async(*given))], ids=["sync", "async"]
)


@BOTH
def test_trust(
    monkeypatch: pytest.MonkeyPatch,
    serve: Callable[..., Server],
    authority: Authority,
    ask: Callable[..., None],
) -> None:
    url = serve(*authority.words).address
    ask(url, authority.trusted)
    ask(url, str(authority.trusted))
    ask(url, False)
    with pytest.raises(SandkastenConnectionError, match=r"not one that this client trusts.*verify='ca\.pem'"):
        ask(url)
    with pytest.raises(SandkastenConnectionError, match="a name or an address that the certificate is for"):
        ask(url.replace("127.0.0.1", "localhost"), authority.trusted)  # the certificate is for the address
    with pytest.raises(SandkastenConnectionError, match="not one that this client trusts"):
        ask(url.replace("https", "HTTPS"))
    with pytest.raises(SandkastenConnectionError):
        ask(url.replace("https", "http"), authority.trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.trusted))
    ask(url)


@BOTH
def test_a_server_without_tls_is_not_taken_for_one_with_it(
    serve: Callable[..., Server], ask: Callable[..., None]
) -> None:
    with pytest.raises(SandkastenConnectionError):
        ask(serve().address.replace("http", "https"), False)


# --- what a server refuses


def test_half_of_a_pair_is_refused(place: Path, authority: Authority) -> None:
    for words in (authority.words[:2], authority.words[2:]):
        sentence = refused("--api-key-file", place / "key", *words)
        assert re.search("tls.certificate and .*tls.key belong together", sentence)


def test_tls_is_not_for_a_unix_socket(place: Path, authority: Authority) -> None:
    words = ("--api-key-file", place / "key", "--listen", f"unix:{place}/s", *authority.words)
    assert "is a Unix socket" in refused(*words)


def _read_by_others(authority: Authority) -> None:
    authority.key.chmod(0o640)


def _not_there(authority: Authority) -> None:
    authority.certificate.unlink()


def _of_another(authority: Authority) -> None:
    _replaced(authority.key, trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())


def _replaced(path: Path, content: bytes) -> None:
    """Put another file there, as renewals do: times of one that is written again may be the same."""
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_bytes(content)
    new.replace(path)


def _a_fifo(authority: Authority) -> None:
    authority.key.unlink()
    os.mkfifo(authority.key, 0o600)


def _with_a_password(authority: Authority) -> None:
    key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    kind = serialization.BestAvailableEncryption(b"a password")
    form = serialization.PrivateFormat.TraditionalOpenSSL
    _replaced(authority.key, key.private_bytes(serialization.Encoding.PEM, form, kind))


def _no_key(authority: Authority) -> None:
    authority.key.write_bytes(b"")


SPOILED = {
    _read_by_others: "Run: chmod 600",
    _not_there: "chain.pem cannot be read: No such file or directory",
    _of_another: "KEY_VALUES_MISMATCH",
    _with_a_password: "must have no password",
    _no_key: "no certificate with its private key",
    _a_fifo: "private.pem cannot be read: not a plain file",
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_files_that_are_no_certificate_with_its_key_are_refused(
    place: Path, authority: Authority, spoil: Callable[[Authority], None]
) -> None:
    spoil(authority)
    assert SPOILED[spoil] in refused("--api-key-file", place / "key", *authority.words)


# --- renewal


def test_a_certificate_that_was_renewed_is_used(serve: Callable[..., Server], authority: Authority) -> None:
    url = serve(*authority.words).address
    ask(url, authority.trusted)
    old = ssl.create_default_context(cafile=authority.trusted)
    authority.renew()
    ask(url, authority.trusted)
    with pytest.raises(SandkastenConnectionError, match="not one that this client trusts"):
        ask(url, old)


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_renewal_that_fails_leaves_the_last_one_and_is_reported_once(
    authority: Authority, caplog: pytest.LogCaptureFixture, spoil: Callable[[Authority], None]
) -> None:
    certificate = Certificate(authority.certificate, authority.key)
    first = certificate.context()
    spoil(authority)
    assert [certificate.context() for _ in range(3)] == [first] * 3
    assert len(caplog.records) == 1
    assert SPOILED[spoil] in caplog.text
    authority.renew()
    assert certificate.context() is not first


def test_files_that_were_not_valid_at_first_are_no_certificate(authority: Authority) -> None:
    _no_key(authority)
    with pytest.raises(OptionsError):
        Certificate(authority.certificate, authority.key)
