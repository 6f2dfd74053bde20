"""A program with a connection to Ray, which answers questions: Ray stays out of the tests' process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import ray

from sandkasten.ray import cluster


def parent_of(pid: int) -> int:
    """Return a process's parent: of an actor it is the raylet."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def nodes() -> dict[str, Any]:
    """Return the processes of each node that answers."""
    found = {}
    for node_id in cluster.sandbox_nodes():
        tag = cluster.tag(node_id)
        facts = cluster.ask(cluster.find(cluster.node_actor_name(tag)), "facts", seconds=5.0)
        if facts:
            found[tag] = {
                "node_id": node_id,
                "daemon": facts["pid"],
                "actor": facts["actor_pid"],
                "raylet": parent_of(facts["actor_pid"]),
                "url": facts["address"],
            }
    return found


def answer(question: str) -> Any:
    """Return what the question asks for."""
    if question == "nodes":
        return nodes()
    if question == "leases":
        return [[lease.id, cluster.tag(lease.node_id) if lease.node_id else ""] for lease in cluster.leases()]
    if question == "processes":  # of Ray, for sessions: none
        return len(ray.util.list_named_actors(all_namespaces=True))
    raise ValueError(question)


answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Ray prints now and then
cluster.connect("auto", without_tokens=False)
print(json.dumps("ready"), file=answers, flush=True)
for line in sys.stdin:
    print(json.dumps(answer(line.strip())), file=answers, flush=True)
os._exit(0)
