"""Ray, as far as it is needed here: the connection, the actors by name, and leases as placement groups.

All of Ray's calls block, so the gateway makes them in threads.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RaySystemError
from ray.util.placement_group import (
    PlacementGroup,
    PlacementGroupID,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sandkasten.ray.rules.leases import RESOURCE, Wanted, is_lease, no_room
from sandkasten.ray.rules.reconciling import Lease
from sandkasten.ray.rules.routing import tag_of_node

NAMESPACE = "sandkasten"
KEEPER = "keeper"
_NODE = "node-"
_NODE_ID_LABEL = "ray.io/node-id"
_CALL_SECONDS = 10.0
# Ray counts whole seconds here.
_WAIT_SECONDS = 1
_NAME_TAKEN = "already exists"
_STATES_OF_THE_GONE = frozenset({"REMOVED"})
_WITHOUT_TOKENS = (
    "Ray asks for no token here, so whoever reaches its ports runs code on every node. Turn tokens on "
    "before Ray starts, on all nodes: RAY_AUTH_MODE=token, and a token by `ray get-auth-token --generate`. "
    "Or say --without-tokens, if nobody else reaches these ports."
)


class ClusterError(Exception):
    """A cluster that cannot be used; the text says why, and what to do."""


@dataclass(frozen=True)
class Taken:
    """A lease that was had.

    Attributes:
        id: of its placement group.
        node_id: the node that it is on.
        is_new: whether this request made it; it may be a repetition of one that did.
    """

    id: str
    node_id: str
    is_new: bool


def connect(address: str, *, without_tokens: bool) -> None:
    """Connect this process to a running cluster.

    Raises:
        ClusterError: there is none, it is not this one's to use, or it asks for no tokens.
    """
    if not without_tokens:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    check_tokens(without_tokens=without_tokens)
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level="warning",
            ignore_reinit_error=True,
        )
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ClusterError(
            f"There is no cluster to use at {address!r}: {reason}. Start one with `ray start`, or for trying "
            "with: python -m sandkasten.ray up --local 3"
        ) from None


def check_tokens(*, without_tokens: bool) -> None:
    """Make sure that this process belongs to a cluster that asks for tokens.

    Raises:
        ClusterError: it does not, and nobody said that this is meant.
    """
    if not without_tokens and os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        raise ClusterError(_WITHOUT_TOKENS)


# --- nodes and actors


def sandbox_nodes() -> dict[str, float]:
    """Return the live nodes that sandboxes may run on, and how many sessions each takes."""
    return {
        node["NodeID"]: node["Resources"].get(RESOURCE, 0.0)
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get(RESOURCE, 0.0) >= 1
    }


def node_actor_name(tag: str) -> str:
    """Return the name of a node's actor."""
    return f"{_NODE}{tag}"


def node_tags() -> list[str]:
    """Return the tags of all nodes whose actors there are."""
    rows = ray.util.list_named_actors(all_namespaces=True)
    names = [row["name"] for row in rows if row["namespace"] == NAMESPACE]
    return sorted(name.removeprefix(_NODE) for name in names if name.startswith(_NODE))


def find(name: str) -> Any:
    """Return the handle of a named actor, or None."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def ask(actor: Any, method: str, *arguments: Any, seconds: float = _CALL_SECONDS) -> Any:
    """Call an actor's method and return the answer; None if none comes in time, or the actor is gone."""
    if actor is None:
        return None
    try:
        return ray.get(getattr(actor, method).remote(*arguments), timeout=seconds)
    except (GetTimeoutError, RayError):
        return None


def pinned(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Return the strategy that keeps an actor on one node."""
    return NodeAffinitySchedulingStrategy(node_id, soft=False)


# --- leases


def take(wanted: Wanted, seconds: float, *, node_id: str | None, avoid: Collection[str] = ()) -> Taken:
    """Take a lease, or find the one of an earlier request with the same name; blocks.

    Args:
        wanted: see there.
        seconds: for how long to wait for room.
        node_id: the node that it must be on; None: any.
        avoid: nodes that seem to be dead, although Ray does not know that yet.

    Raises:
        ApiError: CAPACITY_EXCEEDED, or INVALID_REQUEST if no node is large enough.
    """
    group, is_new = _make_or_find(wanted, node_id, avoid)
    deadline = time.monotonic() + seconds
    while True:
        is_placed = group.wait(_WAIT_SECONDS)
        row = placement_group_table(group)
        if is_placed and (found := row["bundles_to_node_id"].get(0)):
            return Taken(group.id.hex(), found, is_new)
        if row["state"] in _STATES_OF_THE_GONE:
            group, is_new = _make_or_find(wanted, node_id, avoid)
        elif time.monotonic() >= deadline:
            if is_new:
                release(group.id.hex())
            is_infeasible = row["stats"].get("scheduling_state") == "INFEASIBLE"
            raise no_room(wanted.resources, seconds, is_infeasible=is_infeasible)


def _make_or_find(wanted: Wanted, node_id: str | None, avoid: Collection[str]) -> tuple[PlacementGroup, bool]:
    selector = None
    if node_id is not None:
        selector = [{_NODE_ID_LABEL: node_id}]
    elif avoid:
        selector = [{_NODE_ID_LABEL: f"!in({','.join(sorted(avoid))})"}]
    while True:
        try:
            group = placement_group(
                [dict(wanted.resources)],
                strategy="SPREAD",
                name=wanted.name,
                lifetime="detached",
                bundle_label_selector=selector,
            )
        except RaySystemError as error:
            if _NAME_TAKEN not in str(error):
                raise
            with contextlib.suppress(ValueError):  # it was removed meanwhile
                return get_placement_group(wanted.name), False
        else:
            return group, True


def node_of_lease(name: str) -> str | None:
    """Return the node of a lease by its name, or None."""
    try:
        group = get_placement_group(name)
    except ValueError:
        return None
    return placement_group_table(group)["bundles_to_node_id"].get(0) or None


def release(lease_id: str) -> None:
    """Remove a lease; one that is gone stays gone."""
    remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(lease_id))))


def leases() -> Iterator[Lease]:
    """Yield the leases of all sessions."""
    for row in placement_group_table().values():
        if is_lease(row["name"]) and row["state"] not in _STATES_OF_THE_GONE:
            yield Lease(row["placement_group_id"], row["bundles_to_node_id"].get(0, ""))


def tag(node_id: str) -> str:
    """Return a node's tag."""
    return tag_of_node(node_id)
