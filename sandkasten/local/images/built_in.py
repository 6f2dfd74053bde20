"""The images that this machine has: its own /usr, under the names of the languages installed there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from sandkasten.local.errors import ApiError
from sandkasten.local.isolation.policy import OTHER_NAMES, Image

_ROOT_DIRECTORIES = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
_PROGRAM_DIRECTORIES = ("/usr/local/bin", "/usr/bin")

# What an image needs beyond bash.
_PROGRAM_OF_IMAGE: Mapping[str, str | None] = {"base": None, "python": "python3", "node": "node"}
_INTERPRETERS = ("python3", "node")


def find_images() -> dict[str, Image]:
    """Look what the machine offers."""
    read_only = {"/usr": "/usr"}
    links: dict[str, str] = {}
    for name in _ROOT_DIRECTORIES:
        path = f"/{name}"
        if os.path.islink(path):
            links[path] = os.readlink(path)
        elif os.path.isdir(path):
            read_only[path] = path
    return {
        name: Image(name, read_only, links | _other_names(name))
        for name, program in _PROGRAM_OF_IMAGE.items()
        if program is None or _is_in_usr(program)
    }


def _other_names(image: str) -> dict[str, str]:
    """Return links for what people call the image's program, where it has only its full name here."""
    if image != "python" or _is_in_usr("python"):
        return {}
    found = (f"{directory}/python3" for directory in _PROGRAM_DIRECTORIES)
    return {f"{OTHER_NAMES}/python": next(path for path in found if os.path.exists(path))}


def choose(images: Mapping[str, Image], name: str) -> Image:
    """Find an image by its name.

    Raises:
        ApiError: INVALID_IMAGE; the text lists what there is.
    """
    if name not in images:
        raise ApiError(
            400,
            "INVALID_IMAGE",
            f"There is no image {name[:64]!r} here. {_listed(images)}{_missing(name)}",
            details={"images": sorted(images)},
        )
    return images[name]


def programs_of(image: Image) -> tuple[str, ...]:
    """Return which interpreters an image has, of those that people ask for."""
    return tuple(program for program in _INTERPRETERS if _has(image, program))


def _has(image: Image, program: str) -> bool:
    inside = {path: host for host, path in image.read_only.items()}
    places = (("/usr", "local/bin"), ("/usr", "bin"), ("/bin", ""))
    found = (os.path.join(inside[top], below, program) for top, below in places if top in inside)
    beside = (f"{host}/{program}" for path, host in image.beside.items() if path.endswith("/bin"))
    # A link is not followed: in an image of its own it leads to elsewhere in the image.
    return any(map(os.path.lexists, (*found, *beside)))


def _listed(names: Iterable[str]) -> str:
    return f"There are: {', '.join(sorted(names))}."


def _missing(name: str) -> str:
    program = _PROGRAM_OF_IMAGE.get(name)
    return f" ({name!r} needs {program} below /usr on this machine.)" if program else ""


def _is_in_usr(program: str) -> bool:
    paths = (os.path.realpath(f"{directory}/{program}") for directory in _PROGRAM_DIRECTORIES)
    return any(path.startswith("/usr/") and os.access(path, os.X_OK) for path in paths)
