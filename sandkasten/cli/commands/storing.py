"""`workspace push` and `pull`: a workspace as one archive, wherever fsspec can store it."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from sandkasten.cli.calls.connecting import Where, open_any_client
from sandkasten.cli.calls.owners import WORKSPACES
from sandkasten.cli.calls.streaming import signals_end_us
from sandkasten.cli.output.failures import CommandLineError
from sandkasten.cli.parsing import arguments
from sandkasten.cli.parsing.arguments import Remote

if TYPE_CHECKING:
    from sandkasten_sync import SandboxClient

_PIECE_BYTES = 1024 * 1024

# A key or a password in a URL must not come back in a sentence.
_SECRET = re.compile(r"(?<=://)\S*@|\?[^\s'\"]*")

_place = click.argument(
    "place", type=arguments.workspace_place, metavar="WORKSPACE[:/PATH]",
    shell_complete=arguments.offering("workspace_ids"),
)  # fmt: skip
_store = click.argument("url", type=arguments.local_path, metavar="URL")


@click.command("push")
@_place
@_store
@click.pass_obj
def push_command(where: Where, place: Remote, url: str) -> None:
    """Store a workspace, or a directory in it, as one archive.

    URL is a path of this machine, or any URL for which fsspec has a package: s3://bucket/notes.tar needs
    s3fs, gs:// needs gcsfs, and so on; their settings come from where these packages look for them. The
    archive is an uncompressed tar, and is there whole or not at all.

    \b
      sandkasten workspace push notes s3://bucket/notes.tar
      sandkasten workspace pull notes s3://bucket/notes.tar
    """
    with signals_end_us(), open_any_client(where) as client:
        _check_that_it_exists(client, place)
        with _failing_in_words(url), _stored_whole(url) as file:
            for piece in WORKSPACES.files(client, place).archive(place.path):
                file.write(piece)


@click.command("pull")
@_place
@_store
@click.pass_obj
def pull_command(where: Where, place: Remote, url: str) -> None:
    """Unpack a stored archive into a workspace, or a directory in it.

    Either is made if it is missing. The archive is merged into what is there: files of the same name are
    replaced, others stay. `push` says what URL may be.
    """
    with signals_end_us(), open_any_client(where) as client:
        with _failing_in_words(url):
            system, path = _system_of(url)
            file = system.open(path, "rb")
        with file:
            WORKSPACES.files(client, place).unpack(_pieces(file, url), place.path)


def _check_that_it_exists(client: SandboxClient, place: Remote) -> None:
    """Refuse a workspace that nobody made: reading would make it, and store nothing."""
    if place.owner not in {found.id for found in client.list_workspaces()}:
        raise CommandLineError(
            f"There is no workspace {place.owner!r}. See them with: sandkasten workspace ls"
        )


def _pieces(file: BinaryIO, url: str) -> Generator[bytes, None, None]:
    with _failing_in_words(url):
        while piece := file.read(_PIECE_BYTES):
            yield piece


@contextlib.contextmanager
def _stored_whole(url: str) -> Generator[BinaryIO, None, None]:
    """Open a file for writing that is there once the block has ended well, and otherwise as it was.

    It has another name until then: fsspec's transactions are not kept by all of its packages.
    """
    system, path = _system_of(url)
    partial = f"{path}.part-{secrets.token_hex(4)}"
    try:
        with system.open(partial, "wb") as file:
            yield file
        system.mv(partial, path)
    except BaseException:
        with contextlib.suppress(Exception):  # it may not have come to be
            system.rm(partial)
        raise


def _system_of(url: str) -> tuple[Any, str]:
    """Return the file system that a URL names, and the path in it."""
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415  (an extra, and slow to load)
    except ModuleNotFoundError as error:
        raise CommandLineError("fsspec is not installed. Run: pip install 'sandkasten[fsspec]'") from error
    return url_to_fs(url)


@contextlib.contextmanager
def _failing_in_words(url: str) -> Generator[None, None, None]:
    """Let errors of a storage come as sentences; each of its packages has errors of its own."""
    from sandkasten.errors import SandkastenError  # noqa: PLC0415  (loaded with the client)

    try:
        yield
    except (SandkastenError, CommandLineError):
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        shown = _SECRET.sub("", f"{url} cannot be used ({type(error).__name__}: {reason})")
        raise CommandLineError(
            f"{shown}. Check the URL, the package for its kind of storage, and what you may do there."
        ) from error
