"""The authorities that a client trusts, before there is any connection."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest
import trustme

import sandkasten
import sandkasten_sync
from sandkasten._config import check_verify
from sandkasten.errors import SandkastenInputError

BOTH = pytest.mark.parametrize("package", [sandkasten, sandkasten_sync])


@BOTH
@pytest.mark.parametrize(
    ("name", "reason"), [("none.pem", "No such file"), ("text", "NO_CERTIFICATE"), ("nu\0l", "null")]
)
def test_a_place_without_certificates_is_named(
    tmp_path: Path, package: type[sandkasten], name: str, reason: str
) -> None:
    (tmp_path / "text").write_text("no certificate\n")
    with pytest.raises(SandkastenInputError, match=f"^verify is '.*{reason}.*PEM file"):
        package.SandboxClient(base_url="https://127.0.0.1:9", verify=f"{tmp_path}/{name}")


@BOTH
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
