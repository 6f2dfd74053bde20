"""The lease of room for a session: its name and its resources, from what a client asks for; pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sandkasten._options.rules import problem_with_name
from sandkasten._protocol import WORKSPACE_ID, Code
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.limits.values import LimitsError, read_limits

# A node has as much of this as it takes sessions.
RESOURCE = "sandkasten"
# The label of a session that names its lease, by which an ended session's room is freed.
LABEL = "sandkasten.lease"
_PREFIX = "sandkasten"


@dataclass(frozen=True)
class Wanted:
    """The room that a session needs.

    Attributes:
        name: the lease's name, the same for each repetition of a request.
        resources: what Ray sets aside for it.
        workspace_id: the workspace whose files it works on.
    """

    name: str
    resources: Mapping[str, float]
    workspace_id: str | None = None


def wanted(body: Mapping[str, Any], key: str | None) -> Wanted:
    """Return the room that a request for a session asks for.

    A session's name makes the lease's: two sessions cannot have one name, whichever gateways they come
    through. Otherwise it is the request's key, so that a repetition finds the first one's lease.

    Args:
        body: the request's.
        key: its `Idempotency-Key`, checked.

    Raises:
        ApiError: INVALID_REQUEST.
    """
    name, workspace_id = body.get("name"), body.get("workspace_id") or None
    if name is not None and (problem := problem_with_name(name)) is not None:
        raise invalid_request(problem)
    if workspace_id is not None and not (
        isinstance(workspace_id, str) and WORKSPACE_ID.fullmatch(workspace_id)
    ):
        raise ApiError(400, Code.INVALID_WORKSPACE, "workspace_id is not well formed.")
    if name is not None:
        lease = name_of(cast("str", name))
    else:
        lease = f"{_PREFIX}.once.{uuid.uuid4().hex}" if key is None else key_of(key)
    return Wanted(lease, resources_of(body.get("limits")), workspace_id)


def name_of(session_name: str) -> str:
    """Return the name of the lease of a session that has a name."""
    return f"{_PREFIX}.name.{session_name}"


def key_of(key: str) -> str:
    """Return the name of the lease of a session that was asked for with a key."""
    return f"{_PREFIX}.key.{key}"


def is_lease(name: str) -> bool:
    """Return whether a placement group of this name is a session's lease."""
    return name.startswith(f"{_PREFIX}.")


def resources_of(limits: Any) -> dict[str, float]:
    """Return what Ray sets aside: one place, and CPUs and memory where the session has limits of its own.

    Raises:
        ApiError: INVALID_REQUEST, limits that make no sense.
    """
    if limits is not None and not isinstance(limits, Mapping):
        raise invalid_request("'limits' must be an object.")
    try:
        numbers = read_limits(cast("Mapping[str, Any]", limits or {}))
    except LimitsError as error:
        raise invalid_request(str(error)) from None
    found = {RESOURCE: 1.0}
    if (cpus := numbers.get("cpus")) is not None:
        found["CPU"] = float(cpus)
    if (memory_bytes := numbers.get("memory_bytes")) is not None:
        found["memory"] = float(memory_bytes)
    return found


def with_lease(body: Mapping[str, Any], lease_id: str) -> dict[str, Any]:
    """Return the request as the daemon gets it, which notes the lease as a label.

    Raises:
        ApiError: INVALID_REQUEST, the labels are not an object.
    """
    labels = body.get("labels")
    if labels is not None and not isinstance(labels, Mapping):
        raise invalid_request("'labels' must be an object.")
    return {**body, "labels": {**cast("Mapping[str, Any]", labels or {}), LABEL: lease_id}}


def lease_of(session: Mapping[str, Any]) -> str | None:
    """Return the lease of a session, from a daemon's description of it."""
    labels = session.get("labels")
    found = cast("Mapping[str, Any]", labels).get(LABEL) if isinstance(labels, Mapping) else None
    return found if isinstance(found, str) else None


def no_room(resources: Mapping[str, float], seconds: float, *, is_infeasible: bool) -> ApiError:
    """Return the error for a lease that could not be had in time."""
    asked = ", ".join(f"{name}: {amount:g}" for name, amount in sorted(resources.items()))
    if is_infeasible:
        says = f"No node of this cluster is large enough for a session with {asked}. Ask for less."
        return invalid_request(says)
    says = f"The cluster had no room for a session with {asked} within {seconds:g} s. Try later."
    return ApiError(429, Code.CAPACITY_EXCEEDED, says)
