"""The comparison of leases with sessions: which of them nobody has any more; pure.

Ray moves the placement groups of a dead node to another one. A session does not move with its lease: it ended
with its node. So a lease that moved is removed at once, and one that no session claims after a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Lease:
    """A lease as Ray has it.

    Attributes:
        id: its id.
        node_id: the node that it is on; empty: none yet, or none any more.
    """

    id: str
    node_id: str


@dataclass(frozen=True)
class Seen:
    """The memory of a lease.

    Attributes:
        node_id: the first node that it was on; empty: none so far.
        unclaimed_since: when it was first seen without a session; None: it has one.
    """

    node_id: str
    unclaimed_since: float | None


@dataclass(frozen=True)
class Patience:
    """The times for which something may have no counterpart, in seconds.

    Attributes:
        pending: a lease that is on no node yet: a gateway waits for it.
        unclaimed: a lease on a node, until a session there claims it.
        orphaned: a session whose lease is gone.
    """

    pending: float = 25.0
    unclaimed: float = 8.0
    orphaned: float = 8.0


@dataclass(frozen=True)
class Plan:
    """The result of a comparison.

    Attributes:
        remove: leases that nobody has any more.
        end: sessions to be ended, by node, as the leases that they claim and do not have.
        seen: the memory for the next comparison.
        orphans: since when a claim has no lease.
    """

    remove: list[str] = field(default_factory=list[str])
    end: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    seen: dict[str, Seen] = field(default_factory=dict[str, Seen])
    orphans: dict[str, float] = field(default_factory=dict[str, float])


def compare(
    leases: Iterable[Lease],
    claims: Mapping[str, Iterable[str]],
    before: Plan,
    now: float,
    patience: Patience,
) -> Plan:
    """Compare leases with the sessions that claim them.

    Args:
        leases: all there are.
        claims: of each node that answered, the leases that its sessions claim, also those in progress.
        before: the last comparison.
        now: the time, in seconds of a clock that only goes forward.
        patience: for how long something may have no counterpart.
    """
    plan = Plan()
    claimed = {node_id: set(found) for node_id, found in claims.items()}
    known = set[str]()
    for lease in leases:
        known.add(lease.id)
        seen = before.seen.get(lease.id, Seen("", None))
        if seen.node_id and lease.node_id != seen.node_id:
            plan.remove.append(lease.id)
            continue
        seen = _look(lease, claimed, seen, now)
        limit = patience.unclaimed if lease.node_id else patience.pending
        if seen.unclaimed_since is not None and now - seen.unclaimed_since > limit:
            plan.remove.append(lease.id)
        else:
            plan.seen[lease.id] = seen
    for node_id, found in claimed.items():
        for lease_id in sorted(found - known):
            since = plan.orphans.setdefault(lease_id, before.orphans.get(lease_id, now))
            if now - since > patience.orphaned:
                plan.end.setdefault(node_id, []).append(lease_id)
    return plan


def _look(lease: Lease, claimed: Mapping[str, set[str]], seen: Seen, now: float) -> Seen:
    if lease.node_id and lease.node_id not in claimed:
        return Seen(lease.node_id, None)  # its node did not answer: Ray knows whether that is dead
    if lease.node_id and lease.id in claimed[lease.node_id]:
        return Seen(lease.node_id, None)
    is_new_here = lease.node_id != seen.node_id  # it has just been placed
    since = now if seen.unclaimed_since is None or is_new_here else seen.unclaimed_since
    return Seen(lease.node_id, since)
