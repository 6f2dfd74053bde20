"""Numbers that both twins' connections share."""

from __future__ import annotations

import httpx

# Every running exec holds a connection, so a limit on them would be a limit on sessions at work, and
# reaching it would look like a hang. Idle ones are dropped before a daemon or a proxy drops them.
POOL_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=4.0)
