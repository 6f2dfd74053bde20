"""A sandbox's /etc: a few files of the daemon's own, and of the host's only what is public."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from sandkasten.local.isolation.policy import HOME, INSIDE_UID

# What programs need of the host's /etc: none of it names users, hosts or secrets.
_HOST_FILES = (
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


def own_etc(etc: Mapping[str, str]) -> dict[str, str]:
    """Return what of /etc is the daemon's own; the rest is the host's."""
    return {name: path for name, path in etc.items() if name.partition("/")[0] in OWN_ETC}


def make_etc(directory: Path, host: Path = Path("/etc")) -> dict[str, str]:
    """Write the daemon's own files; return what is mounted where: name below /etc to host path."""
    bashrc = resources.files("sandkasten.local.isolation") / "inside" / "bashrc"
    texts = dict(OWN_FILES) | {"sandkasten/bashrc": bashrc.read_text("utf-8")}
    mounted = {name: str(host / name) for name in _HOST_FILES if (host / name).exists()}
    if (host / "fonts/fonts.conf").is_file():
        mounted["fonts"] = str(host / "fonts")
    else:
        texts["fonts/fonts.conf"] = _FONTS
    for name, text in texts.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)
        mounted[name] = str(file)
    for path in (directory, *(path for path in directory.rglob("*") if path.is_dir())):
        path.chmod(0o755)
    return mounted
