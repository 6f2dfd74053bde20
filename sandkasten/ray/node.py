"""A node's actor: it owns the node's daemon, frees the room of ended sessions, and ends what hangs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandkasten.ray import cluster
from sandkasten.ray.daemonprocess import DaemonProcess
from sandkasten.ray.rules.leases import LABEL

_LOOK_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
_MOST_FAILURES = 3


@dataclass(frozen=True)
class NodeOptions:
    """The options of a node's daemon.

    Attributes:
        words: of the daemon's command line.
        without_tokens: whether Ray may be without tokens.
    """

    words: tuple[str, ...] = ()
    without_tokens: bool = False


class Node:
    """The actor. It runs in threads: each method is one call of the gateway's or the keeper's."""

    def __init__(self, host: str, tag: str, sessions: int, options: NodeOptions, key: str) -> None:
        """Start the daemon; an error ends the actor, and says what is missing here.

        Args:
            host: the node's address.
            tag: with what its sessions' ids begin.
            sessions: how many there may be.
            options: see `NodeOptions`.
            key: the name of the actor that has the cluster's key.
        """
        cluster.check_tokens(without_tokens=options.without_tokens)
        self._key: str = cluster.ask(cluster.find(key), "key", seconds=60.0) or _no_key()
        words = ["--node-tag", tag, "--max-sessions", str(sessions), *options.words]
        self._daemon = DaemonProcess(host, self._key, words)
        self._claims = set[str]()
        for work in (self._end_with_daemon, self._watch):
            threading.Thread(target=work, daemon=True).start()

    def address(self) -> str:
        """Return the daemon's URL."""
        return self._daemon.url

    def key(self) -> str:
        """Return the cluster's key, for a keeper that was started again."""
        return self._key

    def facts(self) -> dict[str, Any]:
        """Return what the daemon says of itself, with its process."""
        found: dict[str, Any] = self._get("/v1/node")
        return {**found, "address": self._daemon.url, "pid": self._daemon.pid, "actor_pid": os.getpid()}

    def claims(self) -> list[str]:
        """Return the leases that sessions have, also those in progress."""
        return sorted(self._current_claims())

    def end_sessions(self, lease_ids: Sequence[str]) -> None:
        """End the sessions of leases that are gone."""
        for session in self._get("/v1/sessions"):
            if session.get("labels", {}).get(LABEL) in lease_ids:
                self._request("DELETE", f"/v1/sessions/{session['id']}")

    def stop(self) -> None:
        """End the daemon in good order."""
        self._daemon.stop()

    def _current_claims(self) -> set[str]:
        facts = self._get("/v1/node")
        return {labels[LABEL] for labels in (*facts["sessions"], *facts["starting"]) if LABEL in labels}

    def _watch(self) -> None:
        """Free the room of sessions that ended by themselves, and kill a daemon that does not answer."""
        failures = 0
        while True:
            time.sleep(_LOOK_SECONDS)
            try:
                claims = self._current_claims()
            except OSError:
                failures += 1
                if failures >= _MOST_FAILURES:
                    print(f"The daemon does not answer, {failures} times: it is killed.", file=sys.stderr)
                    self._daemon.kill()
                continue
            failures = 0
            for lease_id in self._claims - claims:
                with contextlib.suppress(Exception):  # the keeper finds what is left
                    cluster.release(lease_id)
            self._claims = claims

    def _end_with_daemon(self) -> None:
        """End this process with the daemon, so that Ray starts both again."""
        self._daemon.wait()
        os._exit(1)

    def _get(self, path: str) -> Any:
        return json.loads(self._request("GET", path))

    def _request(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(  # noqa: S310  (the daemon's URL is ours)
            self._daemon.url + path, method=method, headers={"Authorization": f"Bearer {self._key}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_ANSWER_SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if method == "DELETE":
                return b""  # it ended meanwhile
            raise OSError(str(error)) from error


def _no_key() -> str:
    raise cluster.ClusterError("The keeper of the cluster's key does not answer. Try again.")
