"""The keeper: the actor that has the cluster's key, starts what is missing on a node, and cleans up.

It is no registry: all that it knows, it reads from Ray and from the nodes. When it is started again it asks a
node for the key, and otherwise begins anew.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from sandkasten.ray import cluster
from sandkasten.ray.node import Node, NodeOptions
from sandkasten.ray.rules.reconciling import Patience, Plan, compare

_ROUND_SECONDS = 3.0
# A round takes at most this part of the time, however many leases there are.
_MOST_BUSY = 0.1
_NODE_SECONDS = 3.0
_THREADS = 16


@dataclass(frozen=True)
class ClusterOptions:
    """The options of a cluster, the same for all its nodes and gateways.

    Attributes:
        node: those of the nodes' daemons.
        queue_seconds: for how long a session waits for room.
        shares_workspaces: whether all nodes have the same directory of workspaces.
    """

    node: NodeOptions = field(default_factory=NodeOptions)
    queue_seconds: float = 10.0
    shares_workspaces: bool = False


class Keeper:
    """The actor, in threads."""

    def __init__(self, options: ClusterOptions) -> None:
        """Begin to look after the cluster."""
        cluster.check_tokens(without_tokens=options.node.without_tokens)
        self._options = options
        self._key = _key_of_a_node() or secrets.token_urlsafe(32)
        self._patience = Patience(pending=options.queue_seconds + 15.0)
        self._plan = Plan()
        self._failures: dict[str, str] = {}
        self._stopping = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def key(self) -> str:
        """Return the cluster's key."""
        return self._key

    def options(self) -> ClusterOptions:
        """Return the options, for gateways."""
        return self._options

    def failures(self) -> dict[str, str]:
        """Return why the daemons of some nodes did not start, by the nodes' tags."""
        return dict(self._failures)

    def stop(self) -> None:
        """Start nothing more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._start_nodes()
                self._clean_up()
            except Exception as error:  # Ray's own errors are many; the next round may do
                print(f"A round of the keeper failed: {type(error).__name__}: {error}", file=sys.stderr)
            busy = time.monotonic() - started
            self._stopping.wait(max(_ROUND_SECONDS, busy / _MOST_BUSY))

    def _start_nodes(self) -> None:
        present = set(cluster.node_tags())
        for node_id, capacity in cluster.sandbox_nodes().items():
            tag = cluster.tag(node_id)
            if tag in present or self._stopping.is_set():
                continue
            host = next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == node_id)
            actor = (
                ray.remote(Node)
                .options(
                    name=cluster.node_actor_name(tag),
                    namespace=cluster.NAMESPACE,
                    lifetime="detached",
                    num_cpus=0,
                    max_restarts=-1,
                    max_concurrency=_THREADS,
                    scheduling_strategy=cluster.pinned(node_id),
                )
                .remote(host, tag, int(capacity), self._options.node, cluster.KEEPER)
            )
            threading.Thread(target=self._see_start, args=(tag, actor), daemon=True).start()

    def _see_start(self, tag: str, actor: Any) -> None:
        try:
            ray.get(actor.address.remote())
            self._failures.pop(tag, None)
        except ray.exceptions.RayError as error:
            self._failures[tag] = str(error).strip().rpartition("\n")[2]

    def _clean_up(self) -> None:
        """Compare leases with sessions, and remove what nobody has any more."""
        names = {
            node_id: cluster.node_actor_name(cluster.tag(node_id)) for node_id in cluster.sandbox_nodes()
        }
        nodes = {node_id: cluster.find(name) for node_id, name in names.items()}
        claims = _claims_of({node_id: actor for node_id, actor in nodes.items() if actor is not None})
        leases = list(cluster.leases())
        self._plan = compare(leases, claims, self._plan, time.monotonic(), self._patience)
        for lease_id in self._plan.remove:
            cluster.release(lease_id)
        for node_id, lease_ids in self._plan.end.items():
            nodes[node_id].end_sessions.remote(lease_ids)


def _claims_of(actors: Mapping[str, Any]) -> dict[str, list[str]]:
    """Ask all nodes at once; return the answers of those that gave one in time."""
    asked = {node_id: actor.claims.remote() for node_id, actor in actors.items()}
    claims: dict[str, list[str]] = {}
    if asked:
        answers, _late = ray.wait(list(asked.values()), num_returns=len(asked), timeout=_NODE_SECONDS)
        for node_id in (node_id for node_id, answer in asked.items() if answer in answers):
            with contextlib.suppress(ray.exceptions.RayError):  # it ended meanwhile
                claims[node_id] = ray.get(asked[node_id])
    return claims


def _key_of_a_node() -> str | None:
    """Return the key that the nodes' daemons have, if there are any."""
    for tag in cluster.node_tags():
        key = cluster.ask(cluster.find(cluster.node_actor_name(tag)), "key", seconds=_NODE_SECONDS)
        if isinstance(key, str):
            return key
    return None
