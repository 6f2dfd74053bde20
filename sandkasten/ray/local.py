"""A cluster on this machine, for trying: nodes of Ray on a loopback address, which end with this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from sandkasten.ray.rules.leases import RESOURCE

_SESSIONS = 100
_STORE_BYTES = 80 * 1024 * 1024  # Ray's least; no objects of size are kept
# Ray takes 127.0.0.1 for a word that means this machine, and puts another address in its place.
_HOST = "127.0.0.2"


@contextmanager
def nodes(count: int, *, without_tokens: bool, sessions: int = _SESSIONS) -> Generator[str, None, None]:
    """Start nodes, and give the cluster's address; they end with the block."""
    os.environ["RAY_AUTH_MODE"] = "disabled" if without_tokens else "token"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # a busy machine takes longer than the 30
    if not without_tokens and not os.environ.get("RAY_AUTH_TOKEN"):
        command = [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token", "--generate"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    from ray.cluster_utils import Cluster  # noqa: PLC0415  (Ray reads the variables when it is imported)

    cluster = Cluster()
    try:
        for number in range(count):
            options = {"include_dashboard": False} if number == 0 else {}
            cluster.add_node(
                node_ip_address=_HOST,
                include_log_monitor=False,
                object_store_memory=_STORE_BYTES,
                resources={RESOURCE: sessions},
                wait=False,
                **options,
            )
        cluster.wait_for_nodes(60)
        yield cluster.address
    finally:
        cluster.shutdown()
