"""The commands `up`, `status` and `down`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import ray

from sandkasten.ray import cluster, local
from sandkasten.ray.keeper import ClusterOptions, Keeper
from sandkasten.ray.node import NodeOptions

_START_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_KEEPER_THREADS = 16
_HOW_TO_START = "Start Ray on the nodes with: ray start --resources='{\"sandkasten\": 100}'"


def up(options: argparse.Namespace) -> int:
    """Serve sandboxes on a cluster; the exit code."""
    if options.allow_host_network and options.without_tokens:
        says = (
            "--allow-host-network and --without-tokens exclude each other: a session with its node's network "
        )
        print(f"{says}could drive Ray. Drop one of them.", file=sys.stderr)
        return 2
    try:
        if options.local is None:
            return _up(options, options.address)
        with local.nodes(
            options.local, without_tokens=options.without_tokens, sessions=options.sessions
        ) as address:
            code = _up(options, address)
            if code == 0:
                print("The cluster runs until Ctrl-C.", flush=True)
                _wait_for_signal()
                _end()
            ray.shutdown()
            return code
    except cluster.ClusterError as error:
        print(error, file=sys.stderr)
        return 1


def _up(options: argparse.Namespace, address: str) -> int:
    cluster.connect(address, without_tokens=options.without_tokens)
    start(
        ClusterOptions(
            node=NodeOptions(daemon_words(options), options.without_tokens),
            queue_seconds=options.queue_seconds,
            shares_workspaces=options.shares_workspaces,
        )
    )
    ready, failed = wait_for_nodes(_START_SECONDS)
    print(f"{len(ready)} nodes serve sandboxes: {', '.join(sorted(ready)) or 'none'}.", flush=True)
    for tag, reason in sorted(failed.items()):
        print(f"{tag} does not: {reason}", file=sys.stderr)
    if not ready and not failed:
        print(f"No node has the resource 'sandkasten'. {_HOW_TO_START}", file=sys.stderr)
    return 0 if ready and not failed else 1


def daemon_words(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the options of a node's daemon, as its command line has them."""
    names = ("data_dir", "pool_size", "default_ttl", "allowed_packages", "package_index")
    words = [f"--{name.replace('_', '-')}={value}" for name in names if (value := getattr(options, name))]
    return (*words, "--allow-host-network") if options.allow_host_network else tuple(words)


def _wait_for_signal() -> None:
    """Wait until somebody ends this process; Ray's own handlers would print a trace of its stack."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    while not ended.wait(_LOOK_SECONDS):
        pass


def start(options: ClusterOptions) -> None:
    """Start the keeper, which starts the nodes' actors; if there is one, it stays.

    Raises:
        ClusterError: it cannot run.
    """
    try:
        keeper = (
            ray.remote(Keeper)
            .options(
                name=cluster.KEEPER,
                namespace=cluster.NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                max_concurrency=_KEEPER_THREADS,
            )
            .remote(options)
        )
        ray.get(keeper.options.remote(), timeout=_START_SECONDS)
    except ray.exceptions.RayError as error:
        raise cluster.ClusterError(str(error).strip().rpartition("\n")[2]) from None


def wait_for_nodes(seconds: float) -> tuple[set[str], dict[str, str]]:
    """Wait until each node serves or cannot; return the tags of those that do, and why others do not."""
    deadline = time.monotonic() + seconds
    while True:
        wanted = {cluster.tag(node_id) for node_id in cluster.sandbox_nodes()}
        failed: dict[str, str] = cluster.ask(cluster.find(cluster.KEEPER), "failures") or {}
        ready = {tag for tag in wanted - failed.keys() if _address(tag) is not None}
        if wanted == ready | failed.keys() or time.monotonic() >= deadline:
            return ready, failed
        time.sleep(_LOOK_SECONDS)


def _address(tag: str) -> Any:
    return cluster.ask(cluster.find(cluster.node_actor_name(tag)), "address", seconds=_START_SECONDS)


def status(options: argparse.Namespace) -> int:
    """Print nodes, capacity and sessions; the exit code."""
    try:
        cluster.connect(options.address, without_tokens=options.without_tokens)
    except cluster.ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    nodes = cluster.sandbox_nodes()
    leases = list(cluster.leases())
    print(f"{'NODE':<10} {'SESSIONS':>8} {'CAPACITY':>8} {'LEASES':>6}  {'VERSION':<10} ADDRESS")
    silent = 0
    for node_id, capacity in sorted(nodes.items(), key=lambda item: cluster.tag(item[0])):
        tag = cluster.tag(node_id)
        facts: dict[str, Any] = cluster.ask(cluster.find(cluster.node_actor_name(tag)), "facts") or {}
        silent += not facts
        sessions = len(facts["sessions"]) if facts else "-"
        held = sum(lease.node_id == node_id for lease in leases)
        where = facts.get("address", "does not answer")
        print(f"{tag:<10} {sessions:>8} {capacity:>8g} {held:>6}  {facts.get('version', '-'):<10} {where}")
    waiting = sum(not lease.node_id for lease in leases)
    if waiting:
        print(f"{waiting} sessions wait for room.")
    return 1 if silent or not nodes else 0


def down(options: argparse.Namespace) -> int:
    """End all sessions and the actors; the exit code."""
    try:
        cluster.connect(options.address, without_tokens=options.without_tokens)
    except cluster.ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    _end()
    return 0


def _end() -> None:
    keeper = cluster.find(cluster.KEEPER)
    cluster.ask(keeper, "stop")
    actors = [cluster.find(cluster.node_actor_name(tag)) for tag in cluster.node_tags()]
    for actor in [*actors, keeper]:
        if actor is not None:
            if actor is not keeper:
                with contextlib.suppress(ray.exceptions.RayError):
                    actor.stop.remote()
            ray.kill(actor, no_restart=True)
    for lease in list(cluster.leases()):
        cluster.release(lease.id)
