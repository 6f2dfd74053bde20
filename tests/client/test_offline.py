"""A command that failed for want of a network is told apart from every other."""

from __future__ import annotations

import pytest

from sandkasten._offline import lacks_network

OFFLINE = [
    "curl: (6) Could not resolve host: example.org",
    "curl: (7) Failed to connect to 1.1.1.1 port 80 after 0 ms: Couldn't connect to server",
    "wget: unable to resolve host address 'example.org'",
    "wget: bad address 'example.org'",
    "fatal: unable to access 'https://example.org/x/': Could not resolve host: example.org",
    "ssh: Could not resolve hostname example.org: Name or service not known",
    "Err:1 http://deb.example.org stable InRelease\n  Temporary failure resolving 'deb.example.org'",
    "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>",
    "OSError: [Errno 101] Network is unreachable",
    "ERROR: Could not find a version that satisfies the requirement x (from versions: none)\nERROR: No match",
    "npm error code EAI_AGAIN\nnpm error request to https://registry.example.org/x failed",
    "Error: getaddrinfo ENOTFOUND example.org",
    "go: example.org/x: dial tcp: lookup example.org: no such host",
    "error: dns error: failed to lookup address information: Name or service not known",
    "java.net.UnknownHostException: example.org",
    "connect: Network is unreachable",
    "x IO::Socket::INET: Bad hostname 'example.org:80' at -e line 1.",
]
OTHER = [
    "",
    "ModuleNotFoundError: No module named 'requests'",
    "curl: (7) Failed to connect to localhost port 9 after 0 ms: Couldn't connect to server",
    "curl: (7) Failed to connect to 127.0.0.1 port 9 after 0 ms: Couldn't connect to server",
    "ConnectionRefusedError: [Errno 111] Connection refused",
    "grep: hosts: No such file or directory",
    "ERROR: No matching distribution found for x (from versions: 1.0, 2.0)",
    "make: *** No rule to make target 'host'.  Stop.",
]


@pytest.mark.parametrize("output", OFFLINE)
def test_what_says_that_a_host_cannot_be_reached_is_known(output: str) -> None:
    assert lacks_network(1, f"working\n{output}\n", "none")
    assert lacks_network(1, "x" * 1_000_000 + output, "none")


@pytest.mark.parametrize("output", OTHER)
def test_other_failures_are_left_alone(output: str) -> None:
    assert not lacks_network(1, output, "none")


@pytest.mark.parametrize(("exit_code", "network"), [(0, "none"), (1, "host"), (1, None), (1, "other")])
def test_nothing_is_claimed_of_a_success_or_of_another_network(exit_code: int, network: str | None) -> None:
    assert not any(lacks_network(exit_code, output, network) for output in OFFLINE)
