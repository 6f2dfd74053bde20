"""Sessions by the first characters of their ids, as people type them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandkasten.cli.output.failures import USAGE, CommandLineError

if TYPE_CHECKING:
    from sandkasten_sync import SandboxClient, Session

# Such ids are whole, so no daemon is asked which ones there are.
_WHOLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{3,4}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHOWN = 5


def session(client: SandboxClient, typed: str) -> Session:
    """Return the session whose name is the typed text, or whose id begins with it.

    Raises:
        CommandLineError: several ids begin with the text.
        SandkastenError: the daemon cannot be asked.
    """
    if _WHOLE.fullmatch(typed):
        return client.get_session(typed)
    sessions = client.list_sessions()
    named = [info.id for info in sessions if info.name == typed]
    return client.get_session(named[0] if named else complete(typed, [info.id for info in sessions]))


def complete(typed: str, ids: Sequence[str]) -> str:
    """Return the one id that begins with the typed text, or the text itself if no id does; pure.

    Raises:
        CommandLineError: several ids begin with the text.
    """
    found = [typed] if typed in ids else [known for known in ids if known.startswith(typed)]
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:_SHOWN])
        more = " and more" if len(found) > _SHOWN else ""
        raise CommandLineError(
            f"{len(found)} sessions begin with {typed!r}: {shown}{more}. Type more of the id.", USAGE
        )
    return found[0] if found else typed
