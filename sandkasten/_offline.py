"""The reason for a command's failure in a session without a network; pure, one for all that show results."""

from __future__ import annotations

import re

# How programs say that a name could not be resolved or a host not reached: libc and Python, curl, wget,
# busybox, git, apt, pip, npm and Node, Go, Rust, Java, ping. A refused connection is not among them, since
# every sandbox has a loopback.
_UNREACHABLE = re.compile(
    r"could(?: not|n't) resolve host|temporary failure (?:in name resolution|resolving)"
    r"|name or service not known|nodename nor servname|name does not resolve"
    r"|no address associated with hostname"
    r"|unable to resolve host address|bad address '|failed to resolve|nameresolutionerror|unknown ?host"
    r"|\beai_again\b|\benotfound\b|\benetunreach\b|\behostunreach\b|socket\.gaierror|getaddrinfo failed"
    r"|network (?:is )?unreachable|no route to host|failed to lookup address|: no such host\b"
    r"|failed to connect to (?!localhost|127\.|\[?::1)|bad hostname '|from versions: none\)",
    re.IGNORECASE,
)
# The reason stands at the end, where a long output is not searched in vain.
_SEARCHED_CHARS = 20_000


def lacks_network(exit_code: int, output: str, network: str | None) -> bool:
    """Return whether a command failed because its session has no network.

    Args:
        exit_code: how it ended.
        output: what it printed, or the end of that.
        network: the session's, as `SessionInfo.network`; None: not known, so nothing is claimed.
    """
    return exit_code != 0 and network == "none" and _UNREACHABLE.search(output[-_SEARCHED_CHARS:]) is not None
