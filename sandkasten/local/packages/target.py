"""The Python of an image: how it is found, and which wheels fit it; pure, except for reading links."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from sandkasten.local.isolation.policy import Image
from sandkasten.local.records import dataclass

# Where a Python is looked for; what users put into their own directories does not count.
SEARCHED = "/usr/local/bin:/usr/bin:/bin"
_PROBE = """\
import json, os, platform, sys, sysconfig
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except (ValueError, OSError, AttributeError):
    libc = None
info = sys.implementation.version
print(json.dumps({
    "executable": os.path.realpath(sys.executable), "libc": libc, "machine": platform.machine(),
    "bits": sys.maxsize.bit_length() + 1, "threads": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "markers": {
        "implementation_name": sys.implementation.name,
        "implementation_version": "%d.%d.%d" % info[:3],
        "os_name": os.name, "platform_machine": platform.machine(), "platform_release": platform.release(),
        "platform_system": platform.system(), "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "platform_python_implementation": platform.python_implementation(),
        "python_version": ".".join(platform.python_version_tuple()[:2]), "sys_platform": sys.platform,
    },
}))
"""
PROBE_COMMAND = f"env -i PATH={SEARCHED} LC_ALL=C.UTF-8 python3 -I -c '{_PROBE}'"
_MARKERS = frozenset({
    "implementation_name", "implementation_version", "os_name", "platform_machine", "platform_release",
    "platform_system", "platform_version", "python_full_version", "platform_python_implementation",
    "python_version", "sys_platform",
})  # fmt: skip
_OF_THE_KERNEL = frozenset({"platform_release", "platform_version"})
_LINK = re.compile(r"(?:.*/)?python(3\.[0-9]{1,2})t?")
_PYTHON = re.compile(r"/[A-Za-z0-9._/+-]{1,100}")
_MACHINES = frozenset({"x86_64", "aarch64", "i686", "armv7l", "ppc64le", "s390x", "riscv64"})
# Wheels of these names are older than those that name the version of the C library.
_OLD_MANYLINUX = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_MUSL = ("musllinux_1_2", "musllinux_1_1", "musllinux_1_0")


class TargetError(Exception):
    """An image whose Python takes no packages; the text says why."""


@dataclass(frozen=True)
class Target:
    """A Python that packages are for.

    Attributes:
        version: such as 3.11.
        python: its path in the sandbox.
        abi: the name of its binary interface.
        platforms: the platforms of wheels that it takes, the best first.
        markers: what requirements may depend on.
    """

    version: str
    python: str
    abi: str
    platforms: tuple[str, ...]
    markers: Mapping[str, str]

    @property
    def arguments(self) -> list[str]:
        """The words that make pip look for wheels that fit."""
        words = ["--implementation", "cp", "--python-version", self.markers["python_full_version"]]
        words += ["--abi", self.abi]
        return [*words, *(word for platform in self.platforms for word in ("--platform", platform))]

    @property
    def key(self) -> str:
        """A text that no other target has; the version of the kernel has no part in it."""
        markers = {name: value for name, value in self.markers.items() if name not in _OF_THE_KERNEL}
        return json.dumps([self.version, self.python, self.abi, self.platforms, markers])


def minor_of(image: Image) -> str | None:
    """Return the version of an image's Python as `3.11`, from its name; None if that does not say.

    Nothing is installed beside an environment, whose Python does not look elsewhere. A link of a registered
    image is not followed, since it may lead anywhere.
    """
    if image.beside:
        return None
    inside = {path: host for host, path in image.read_only.items()}
    for directory in SEARCHED.split(":"):
        top, _, below = directory.lstrip("/").partition("/")
        if f"/{top}" not in inside:
            continue
        program = os.path.join(inside[f"/{top}"], below, "python3")
        try:
            target = os.readlink(program) if image.has_own_etc else os.path.realpath(program, strict=True)
        except OSError:
            continue
        found = _LINK.fullmatch(target)
        return found[1] if found else None
    return None


def read_target(said: str, minor: str) -> Target:
    """Return the target from what the probe printed.

    Raises:
        TargetError: it is no Python that packages can be had for.
    """
    try:
        row: Any = json.loads(said.strip().splitlines()[-1])
        markers = cast("dict[str, str]", row["markers"])
        if set(markers) != _MARKERS or not all(isinstance(value, str) for value in markers.values()):
            raise ValueError
        python, machine, libc = str(row["executable"]), str(row["machine"]), row["libc"]
        if not _PYTHON.fullmatch(python) or machine not in _MACHINES:
            raise ValueError
        if row["bits"] == 32:
            machine = {"x86_64": "i686", "aarch64": "armv7l"}.get(machine, machine)
        platforms = tuple(f"{name}_{machine}" for name in _platform_names(libc))
    except (ValueError, LookupError, TypeError):
        raise TargetError("its Python does not say which packages fit it") from None
    if markers["implementation_name"] != "cpython":
        raise TargetError("its Python is not CPython")
    if not markers["python_full_version"].startswith(f"{minor}."):
        raise TargetError("its Python has another version than its name says")
    abi = f"cp{minor.replace('.', '')}{'t' if row['threads'] else ''}"
    return Target(minor, python, abi, platforms, markers)


def _platform_names(libc: Any) -> Iterator[str]:
    if libc is None:
        yield from _MUSL
    else:
        found = re.fullmatch(r"glibc 2\.([0-9]{1,3})(?:\..*)?", libc)
        if found is None:
            raise ValueError("an unknown C library")
        for minor in range(int(found[1]), 4, -1):
            yield f"manylinux_2_{minor}"
            if minor in _OLD_MANYLINUX:
                yield _OLD_MANYLINUX[minor]
    yield "linux"
