"""The program of an interpreter: a Python of the image, which is sent the driver's text."""

from __future__ import annotations

from functools import cache
from importlib import resources

from sandkasten.local.sessions.interpreters.frames import packed

# Takes the control away from descriptor 0, where the code would find it, and runs what comes on it.
BOOTSTRAP = """\
import fcntl, os, socket, struct
n = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 100)
z = os.open(os.devnull, os.O_RDONLY)
os.dup2(z, 0)
os.close(z)
CONTROL = socket.socket(fileno=n)
def exactly(size):
    data = b""
    while len(data) < size:
        piece = CONTROL.recv(size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data
import json
source = json.loads(exactly(struct.unpack(">I", exactly(4))[0]).decode())["source"]
exec(compile(source, "<sandkasten>", "exec"), {"__name__": "sandkasten_driver", "CONTROL": CONTROL})
"""
NAMES = ("python3", "python")


def args_of(name: str) -> tuple[str, ...]:
    """Return the command line of an interpreter."""
    return (name, "-u", "-c", BOOTSTRAP)


@cache
def first_bytes() -> bytes:
    """Return what goes to an interpreter before the first frame: the driver."""
    driver = resources.files("sandkasten.local.sessions.interpreters") / "standin.py.txt"
    return packed({"source": driver.read_text("utf-8")})
