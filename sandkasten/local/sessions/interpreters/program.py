"""The program of an interpreter: a Python of the image, which is sent the driver's text."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

NAMES = ("python3", "python")

# Takes the control away from descriptor 0, where the code would find it, and runs the texts that come first.
# Its number is far from those that programs use, and below the usual limit of 1024 open files.
BOOTSTRAP = """\
import os
def begin():
    for control in (1000, 200, 60):
        try:
            os.dup2(0, control, False)
            break
        except OSError:
            pass
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    def exactly(count):
        data = b""
        while len(data) < count:
            piece = os.read(control, count - len(data))
            if not piece:
                os._exit(0)
            data += piece
        return data
    names = {"__name__": "<sandkasten>"}
    while "serve" not in names:
        text = exactly(int.from_bytes(exactly(4), "big"))
        exec(compile(text, "<sandkasten>", "exec", 0, True), names)
    names["serve"](control)
begin()
"""


def args_of(name: str) -> tuple[str, ...]:
    """Return the command line of an interpreter."""
    return (name, "-c", BOOTSTRAP)


@cache
def first_bytes() -> bytes:
    """Return all that goes to an interpreter's control before the first request."""
    more = json.dumps({"op": "source", "texts": [_text("plain.py"), _text("showing.py")]}).encode()
    texts = [_text(name).encode() for name in ("channel.py", "surroundings.py", "driver.py")]
    return b"".join(len(data).to_bytes(4, "big") + data for data in (*texts, more))


def _text(name: str) -> str:
    return (resources.files("sandkasten.local.sessions.interpreters") / "inside" / name).read_text("utf-8")
