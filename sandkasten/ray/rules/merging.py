"""The answers of several daemons as one: lists, metrics and health; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)")
_COMMENT = re.compile(r"# (?:HELP|TYPE) ([A-Za-z_:][A-Za-z0-9_:]*) ")
# A histogram's samples have names of their own.
_SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


def merged_metrics(texts: Mapping[str, str]) -> str:
    """Return the metrics of all nodes in Prometheus's text format, each sample with its node's tag."""
    families: dict[str, tuple[list[str], list[str]]] = {}
    for tag, text in sorted(texts.items()):
        for line in text.splitlines():
            if comment := _COMMENT.match(line):
                comments, _samples = families.setdefault(comment[1], ([], []))
                if line not in comments:
                    comments.append(line)
            elif sample := _SAMPLE.fullmatch(line):
                name, labels, value = sample.groups()
                base = _SUFFIX.sub("", name)
                _comments, samples = families.setdefault(base if base in families else name, ([], []))
                inside = f'node="{tag}"' + (f",{labels}" if labels else "")
                samples.append(f"{name}{{{inside}}} {value}")
    lines = [line for comments, samples in families.values() for line in (*comments, *samples)]
    return "".join(f"{line}\n" for line in lines)


def merged_health(answers: Sequence[Mapping[str, Any]], server: str, version: str) -> dict[str, Any]:
    """Return what a gateway says of itself: it can do what all its daemons can."""
    lists = [[name for name in answer.get("extensions", ()) if isinstance(name, str)] for answer in answers]
    common = set(lists[0]).intersection(*lists[1:]) if lists else set[str]()
    extensions = [name for name in (lists[0] if lists else []) if name in common]
    return {"status": "ok", "server": server, "version": version, "extensions": extensions}


def merged_workspaces(lists: Iterable[Any]) -> dict[str, Any]:
    """Return all workspaces, each once: nodes with a shared directory all list the same."""
    found: dict[str, Any] = {}
    for answer in lists:
        for row in answer.get("workspaces", ()):
            found.setdefault(row["id"], row)
    return {"workspaces": [found[name] for name in sorted(found)]}
