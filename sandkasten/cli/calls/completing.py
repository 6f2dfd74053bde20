"""Completion of words on a command line: sessions, workspaces, images, and files on both sides.

Names from a sandbox end up in the line that its reader runs next, so only names without any meaning to a
shell are offered. Names that take long to get are not offered: the user is only typing.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from click.shell_completion import BashComplete, CompletionItem

from sandkasten.cli.calls.connecting import Where, find
from sandkasten.cli.parsing.arguments import Remote, parse_remote, session_place, workspace_place

if TYPE_CHECKING:
    import click

    from sandkasten_sync import SandboxClient, Session, Workspace

_SECONDS = 2.0
_HARMLESS = re.compile(r"[A-Za-z0-9_.,+@%=/-]+")
_FILE: CompletionItem[str] = CompletionItem("", type="file")  # the shell knows its own files


def session_ids(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return the ids of sessions that begin with the typed text."""
    with _client(ctx) as client:
        found = [] if client is None else client.list_sessions()
        return [_item(info.id, info.image) for info in found if info.id.startswith(incomplete)]


def workspace_ids(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return the ids of workspaces that begin with the typed text."""
    with _client(ctx) as client:
        found = [] if client is None else client.list_workspaces()
        return _items(info.id for info in found if info.id.startswith(incomplete))


def session_paths(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return sessions or, after a session and a colon, the entries of a directory in it."""
    if parse_remote(incomplete) is None:
        return [_item(f"{item.value}:", item.help) for item in session_ids(ctx, incomplete)]
    with _client(ctx) as client:
        return [] if client is None else _below(incomplete, session_place, client.get_session)


def workspace_paths(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return workspaces or, after a workspace and a colon, the entries of a directory in it."""
    if parse_remote(incomplete) is None:
        return [_item(f"{item.value}:") for item in workspace_ids(ctx, incomplete)]
    with _client(ctx) as client:
        return [] if client is None else _below(incomplete, workspace_place, client.workspace)


def local_files(_ctx: click.Context, _incomplete: str) -> list[CompletionItem[str]]:
    """Return the item that makes the shell complete its own files, if no other items are offered."""
    return [_FILE]


def images(_ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return the names of this machine's images that begin with the typed text."""
    from sandkasten.local.identity import Identity  # noqa: PLC0415
    from sandkasten.local.images.built_in import find_images  # noqa: PLC0415
    from sandkasten.local.images.catalogue import images_dir  # noqa: PLC0415  (the daemon's, Linux only)
    from sandkasten.local.images.store import ImageStore  # noqa: PLC0415
    from sandkasten.local.options import find_data_dir  # noqa: PLC0415

    identity = Identity.of_this_process()
    stored = ImageStore(images_dir(find_data_dir(None, identity)), identity).list()
    names = [*find_images(), *(image.name for image in stored)]
    return _items(name for name in names if name.startswith(incomplete))


class Bash(BashComplete):
    """Completion for bash, which takes a colon for the end of a word and gets only the text behind it."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Join the words that a colon has cut."""
        words = os.environ["COMP_WORDS"].split("\n")[: int(os.environ["COMP_CWORD"]) + 1]
        *args, incomplete = joined_at_colons(words)
        return args[1:], incomplete

    def complete(self) -> str:
        """Return the completions without the beginning that bash does not replace."""
        owner, colon, _path = self.get_completion_args()[1].rpartition(":")
        offered = super().complete()
        if not colon:
            return offered
        prefix = f"plain,{owner}:"
        plain = (line for line in offered.split("\n") if line.startswith(prefix))
        return "\n".join(f"plain,{line.removeprefix(prefix)}" for line in plain)


def joined_at_colons(words: list[str]) -> list[str]:
    """Return the words as the user typed them, from the words that bash splits them into; pure."""
    joined: list[str] = []
    for word in words:
        if joined and (word == ":" or joined[-1].endswith(":")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _below(
    incomplete: str, place: Callable[[str], Remote], find_owner: Callable[[str], Session | Workspace]
) -> list[CompletionItem[str]]:
    owner, _, typed = incomplete.partition(":")
    directory, begun = posixpath.split(typed)
    entries = find_owner(owner).list(place(f"{owner}:{directory}").path)
    found = (
        f"{posixpath.join(directory, e.name)}{'/' * e.is_dir}" for e in entries if e.name.startswith(begun)
    )
    return [_item(f"{owner}:{path}") for path in found if _HARMLESS.fullmatch(path)]


@contextmanager
def _client(ctx: click.Context) -> Generator[SandboxClient | None, None, None]:
    options = ctx.find_root().params
    found = find(Where(options.get("url"), options.get("api_key_file")))
    if found is None:
        yield None
        return
    from sandkasten_sync import SandboxClient  # noqa: PLC0415

    with SandboxClient(base_url=found.url, api_key=found.api_key, timeout=_SECONDS) as client:
        yield client


def _items(names: Iterable[str]) -> list[CompletionItem[str]]:
    return [_item(name) for name in names if _HARMLESS.fullmatch(name)]


def _item(value: str, about: str | None = None) -> CompletionItem[str]:
    return CompletionItem(value, help=about)
