"""A sandbox's /etc: a few files of the daemon's own, and of the host's only what is public.

Each mount costs bubblewrap much time, so one directory of the daemon's is mounted, with copies of the host's
files. Directories of the host's are mounted in it, as they may be large, and change.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path

from sandkasten.local.identity import Identity
from sandkasten.local.isolation.policy import HOME, INSIDE_UID

# What programs need of the host's /etc, files and directories: none of it names users, hosts or secrets.
_PUBLIC = (
    "alternatives",
    "ca-certificates",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
)

LOCAL_HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost\n"

OWN_FILES: Mapping[str, str] = {
    "passwd": (
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        f"sandbox:x:{INSIDE_UID}:{INSIDE_UID}:sandbox:{HOME}:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "group": f"root:x:0:\nsandbox:x:{INSIDE_UID}:\nnogroup:x:65534:\n",
    "hosts": LOCAL_HOSTS,
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
}


# Without it every program that draws text complains (matplotlib at each picture), and some find no font.
_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir>/usr/local/share/fonts</dir>
  <dir prefix="xdg">fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""


# The first parts of all these names. A registered image has all else in /etc of its own.
OWN_ETC = frozenset({*OWN_FILES, "sandkasten"})

_BASHRC = "sandkasten/bashrc"
# Where something is mounted, see `policy.CLOSED_BASH`.
_BASH = "sandkasten/bash"

Stamp = tuple[int, ...]


class Etc:
    """The directories from which sandboxes have their /etc, for all sandboxes of a daemon."""

    def __init__(self, directory: Path, identity: Identity, host: Path = Path("/etc")) -> None:
        """Write the files.

        Args:
            directory: the daemon's own; sandboxes see what is below it.
            identity: whom sandboxes run as; what that user may not read stays the host's.
            host: where the host's files are looked for.
        """
        self._directory = directory
        self._identity = identity
        self._host = host
        self._made: dict[str, tuple[dict[str, str], list[tuple[Path, Path]]]] = {}
        self._stamps: dict[Path, Stamp | None] = {}
        self.whole()

    @property
    def own(self) -> dict[str, str]:
        """The files for images with an /etc of their own: name below /etc to host path."""
        return {name: f"{self._directory}/plain/{name}" for name in (*OWN_FILES, _BASHRC)}

    def whole(self, links: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return what is mounted at /etc (its name is "") and below; the files are as the host has them now.

        Args:
            links: name below /etc to the target of a link, which is there in place of a file of the daemon's.
        """
        kind = "linked" if links else "plain"
        if kind not in self._made:
            self._made[kind] = self._make(self._directory / kind, links or {})
        mounts, copied = self._made[kind]
        for original, copy in copied:
            self._refresh(original, copy)
        return mounts

    def _make(
        self, directory: Path, links: Mapping[str, str]
    ) -> tuple[dict[str, str], list[tuple[Path, Path]]]:
        """Make a directory; return what is mounted, and which files are copied to where."""
        bashrc = resources.files("sandkasten.local.isolation") / "inside" / "bashrc"
        texts = {name: text for name, text in OWN_FILES.items() if name not in links}
        texts |= {_BASHRC: bashrc.read_text("utf-8"), _BASH: ""}
        mounts = {name: str(self._host / name) for name in _PUBLIC if (self._host / name).is_dir()}
        if (self._host / "fonts/fonts.conf").is_file():
            mounts["fonts"] = str(self._host / "fonts")
        else:
            texts["fonts/fonts.conf"] = _FONTS
        for name in (*mounts, *(os.path.dirname(target) for target in links.values())):
            _make_public(directory / name)
        for name, text in texts.items():
            _write(directory / name, text.encode())
        for name, target in links.items():
            (directory / name).unlink(missing_ok=True)  # of an attempt that failed
            (directory / name).symlink_to(target)
        copied = [(self._host / name, directory / name) for name in _PUBLIC if name not in mounts]
        return {"": str(directory), **mounts}, copied

    def _refresh(self, original: Path, copy: Path) -> None:
        """Copy a file if it changed since the last time; costs a few microseconds if not."""
        stamp = stamp_of(original)
        if copy in self._stamps and self._stamps[copy] == stamp:
            return
        with suppress(OSError):  # the disk is full, say: then it is as old as the last copy
            if original.is_file() and self._identity.can_reach(original.resolve()):
                _write(copy, original.read_bytes())
            else:
                copy.unlink(missing_ok=True)
            self._stamps[copy] = stamp


def stamp_of(path: Path) -> Stamp | None:
    """Return what changes whenever a file does; None if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _make_public(directory: Path) -> None:
    """Make a directory that everybody may read, whatever the umask is."""
    if not directory.is_dir():
        _make_public(directory.parent)
        directory.mkdir()
        directory.chmod(0o755)


def _write(path: Path, content: bytes) -> None:
    # By a rename, so that nobody reads half of it.
    _make_public(path.parent)
    new = path.with_name(f".{path.name}")
    new.write_bytes(content)
    new.chmod(0o644)
    new.replace(path)
