"""Wheels that tests make themselves, and an index of them on loopback."""

from __future__ import annotations

import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

# Members of a wheel as hostile ones have them: name, content, and mode in the archive.
Member = tuple[str, str, int]


def make_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    programs: Mapping[str, str] | None = None,
    python: str | None = None,
    tag: str = "py3-none-any",
    members: Sequence[Member] = (),
) -> Path:
    """Write a wheel into the index below a directory; return its path."""
    folder = directory / name.lower().replace("_", "-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    metadata += [] if python is None else [f"Requires-Python: {python}"]
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in (files or {f"{name}.py": f"version = {version!r}\n"}).items():
            archive.writestr(member, content)
        for member, content, mode in members:
            info = zipfile.ZipInfo(member)
            info.external_attr = mode << 16
            archive.writestr(info, content)
        archive.writestr(f"{about}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        if programs is not None:
            rows = "".join(f"{program} = {target}\n" for program, target in programs.items())
            archive.writestr(f"{about}/entry_points.txt", f"[console_scripts]\n{rows}")
        archive.writestr(f"{about}/RECORD", "")
    return path


def make_source(directory: Path, name: str, mark: Path, version: str = "1.0") -> Path:
    """Write a source archive into the index, whose build would leave a mark; return its path."""
    folder = directory / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    backend = f"open({str(mark)!r}, 'w').write('ran')\nraise SystemExit(1)\n"
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    members = {"backend.py": backend, "setup.py": backend, "pyproject.toml": project}
    members["PKG-INFO"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(f"{name}-{version}/{member}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    return path


class Index:
    """An index on loopback, whose pages are the folders of a directory.

    Attributes:
        directory: where its wheels are.
        url: where it answers, with a key in it.
        requests: the paths that it was asked for.
        gate: while it is cleared, no request is answered.
    """

    def __init__(self, directory: Path, port: int) -> None:
        """Answer at a port."""
        self.directory = directory
        self.url = f"http://somebody:the-key@127.0.0.1:{port}"
        self.requests: list[str] = []
        self.gate = threading.Event()
        self.gate.set()


@contextmanager
def serving(directory: Path) -> Iterator[Index]:
    """Serve an index until the block ends."""
    index = Index(directory, 0)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            index.gate.wait()
            super().do_GET()

        def log_message(self, *_words: Any) -> None:
            index.requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(directory)))
    index.url = index.url.replace(":0", f":{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield index
    server.shutdown()
    server.server_close()
    thread.join()


def fill(directory: Path, mark: Path) -> None:
    """Make the wheels that the tests of all layers use; the mark is for code that nobody may run outside."""
    main = (
        "import sys\nimport base_part\n\ndef main():\n    print('tool', base_part.version, *sys.argv[1:])\n"
    )
    make_wheel(
        directory, "tool", requires=["base_part>=1"], files={"tool.py": main}, programs={"tool": "tool:main"}
    )
    for version in ("1.0", "2.0"):
        make_wheel(directory, "base_part", version)
    make_wheel(directory, "other", requires=["base_part<2"])
    make_wheel(directory, "newest", requires=["base_part>=2"])
    for name in ("six", "colorful"):
        make_wheel(directory, name)
    make_wheel(directory, "old", python="<3.5")
    make_wheel(directory, "elsewhere", tag="cp37-cp37m-win_amd64")
    make_source(directory, "source-only", mark)
    runs = f"import pathlib; pathlib.Path({str(mark)!r}).write_text('ran')\n"
    make_wheel(
        directory,
        "marking",
        files={"marking.py": runs, "marking.pth": f"import os; os.environ['MARKED'] = '1'; {runs}"},
    )
    for version in ("3.8", "3.14"):
        make_wheel(directory, f"for_{version.replace('.', '_')}")
