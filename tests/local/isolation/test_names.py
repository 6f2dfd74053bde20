"""Host names in sandboxes that share the host's network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandkasten.local.identity import Identity
from sandkasten.local.isolation.names import HostNames

ROOT = Path(__file__).resolve().parents[3]
SELF = Identity(os.geteuid(), drops=False)
STUB = "run/systemd/resolve/stub-resolv.conf"

# Runs one daemon in namespaces of its own, whose network is only loopback and whose /etc may be changed, and
# asks for names in all the ways that hosts are set up.
ARENA = Path(__file__).parents[1] / "programs" / "names.py"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Names that a sandbox found, by how the host was set up meanwhile."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        ["unshare", *as_root, "--net", "--mount", sys.executable, ARENA],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize(
    "host",
    ["a file", "a link to a file", "replaced meanwhile", "a link that leads nowhere", "a registered image"],
)
def test_a_name_is_found_by_the_hosts_resolver(found: dict[str, Any], host: str) -> None:
    assert found[host] == "10.99.0.7"


def test_names_of_the_hosts_file_are_found(found: dict[str, Any]) -> None:
    assert found["the host's /etc/hosts"] == "10.99.0.8"
    assert found["the host's /etc/hosts, replaced meanwhile"] == "10.99.0.9"


def test_its_own_names_are_its_own_whatever_the_host_calls_so(found: dict[str, Any]) -> None:
    assert found["sandbox"] == "127.0.0.1"
    assert found["localhost"] in {"127.0.0.1", "::1"}


def test_without_the_hosts_network_nothing_of_the_hosts_names_is_seen(found: dict[str, Any]) -> None:
    assert found["no network, resolver"] == "none"
    assert found["no network, hosts"] == "none"
    assert found["no network, files"] == ""


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"etc/resolv.conf": "nameserver 1.1.1.1\n", STUB: "nameserver 127.0.0.53\n"}, "1.1.1.1"),
        ({STUB: "nameserver 127.0.0.53\n"}, "127.0.0.53"),
        ({"run/systemd/resolve/resolv.conf": "nameserver 9.9.9.9\n"}, "9.9.9.9"),
        ({}, ""),
    ],
)
def test_the_first_resolver_file_there_is_counts(
    tmp_path: Path, files: dict[str, str], expected: str
) -> None:
    names = HostNames(tmp_path / "names", SELF, machine(tmp_path, files))
    text = (tmp_path / "names" / "resolv.conf").read_text()
    assert text.removeprefix("nameserver ").strip() == expected
    assert names.links["resolv.conf"] == "sandkasten/names/resolv.conf"


def test_what_comes_and_goes_on_the_host_comes_and_goes_inside(tmp_path: Path) -> None:
    names = HostNames(tmp_path / "names", SELF, machine(tmp_path, {"etc/hosts": "10.0.0.1 old\n"}))
    seen = tmp_path / "names" / "hosts"
    assert seen.read_text().endswith("10.0.0.1 old\n")
    (tmp_path / "etc" / "new").write_bytes(b"10.0.0.2 n\xffw\n")
    (tmp_path / "etc" / "new").replace(tmp_path / "etc" / "hosts")
    names.refresh()
    assert seen.read_bytes().endswith(b"10.0.0.2 n\xffw\n")
    (tmp_path / "etc" / "hosts").unlink()
    names.refresh()
    assert seen.read_text() == "127.0.0.1 localhost sandbox\n::1 localhost\n"


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    names = HostNames(tmp_path / "names", SELF, machine(tmp_path, {"etc/hosts": "10.0.0.1 a\n"}))
    before = (tmp_path / "names" / "hosts").stat().st_ino
    names.refresh()
    assert (tmp_path / "names" / "hosts").stat().st_ino == before


def test_what_the_sandboxes_user_may_not_read_stays_the_hosts(tmp_path: Path) -> None:
    machine(tmp_path, {"etc/hosts": "10.0.0.1 secret\n"})
    (tmp_path / "etc" / "hosts").chmod(0o600)
    HostNames(tmp_path / "names", Identity(60_777, drops=True), tmp_path)
    assert "secret" not in (tmp_path / "names" / "hosts").read_text()
