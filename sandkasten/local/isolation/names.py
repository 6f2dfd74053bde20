"""Host names in sandboxes that share the host's network: the host's resolvers and its /etc/hosts.

Sandboxes see copies in a directory that is mounted read-only, so that a file which the host replaced
(another network, a VPN) is replaced inside before the next command: a file that is mounted by itself would
stay the old one.

Nothing of the host's nsswitch.conf is taken: its modules (`resolve`, `mdns4`, `sss`) ask services by sockets
that no sandbox sees. Files and DNS are what every libc knows by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sandkasten.local.identity import Identity
from sandkasten.local.isolation.etc import LOCAL_HOSTS, OWN_FILES, Stamp, stamp_of

# Where it is mounted, below /etc; see `etc.OWN_ETC`.
DIRECTORY = "sandkasten/names"

# The first one that can be read. /etc/resolv.conf may be missing, or a link that leads nowhere, where all
# programs of the host ask systemd-resolved; the stub's address is the host's loopback, so inside reaches it.
_RESOLVERS = (
    "etc/resolv.conf",
    "run/systemd/resolve/stub-resolv.conf",
    "run/systemd/resolve/resolv.conf",
)
_HOSTS = ("etc/hosts",)


class HostNames:
    """The files by which sandboxes with the host's network find host names."""

    def __init__(self, directory: Path, identity: Identity, root: Path = Path("/")) -> None:
        """Write the files to a new directory.

        Args:
            directory: the daemon's own; sandboxes see it.
            identity: whom sandboxes run as; what that user may not read stays the host's.
            root: where the host's files are looked for.
        """
        self._directory = directory
        self._identity = identity
        self._root = root
        # Links below /etc to what is mounted: name there to target.
        self.links = {name: f"{DIRECTORY}/{name}" for name in ("hosts", "nsswitch.conf", "resolv.conf")}
        self._stamps: list[Stamp | None] | None = None
        directory.mkdir()
        directory.chmod(0o755)
        self._write("nsswitch.conf", OWN_FILES["nsswitch.conf"].replace("hosts: files", "hosts: files dns"))
        self.refresh()

    def mounts(self, etc: Mapping[str, str]) -> dict[str, str]:
        """Return what is mounted below /etc, name there to host path, in place of what others have."""
        kept = {name: path for name, path in etc.items() if name not in self.links}
        return kept | {DIRECTORY: str(self._directory)}

    def refresh(self) -> None:
        """Copy the host's files if they changed since the last time; costs a few microseconds if not."""
        stamps = [stamp_of(self._root / path) for path in (*_RESOLVERS, *_HOSTS)]
        if stamps == self._stamps:
            return
        # Its own names go first: what the host calls `sandbox` is not this one.
        with suppress(OSError):  # the disk is full, say: then names are as old as the last copy
            self._write("hosts", LOCAL_HOSTS + self._first_of(_HOSTS))
            self._write("resolv.conf", self._first_of(_RESOLVERS))
            self._stamps = stamps

    def _first_of(self, paths: tuple[str, ...]) -> str:
        for path in paths:
            with suppress(OSError):
                if self._identity.can_reach(self._root / path):
                    return (self._root / path).read_text("utf-8", "surrogateescape")
        return ""

    def _write(self, name: str, text: str) -> None:
        # By a rename, so that nobody reads half of it.
        new = self._directory / f".{name}"
        new.write_text(text, "utf-8", "surrogateescape")
        new.chmod(0o644)
        new.replace(self._directory / name)
