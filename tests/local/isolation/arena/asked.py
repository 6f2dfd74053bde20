"""Files that are asked about, of a session or of a workspace."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.local.box import Box


class Asked:
    """Files that are asked about: a session's, or a workspace's without one."""

    def __init__(self, box: Box, url: str, naive: Path) -> None:
        self.box = box
        self.url = url
        self.naive = naive

    def ask(self, call: str, path: str, **query: str) -> httpx.Response:
        return self.box.client.get(f"{self.url}/{call}", params={"path": path} | query)

    def stat(self, path: str, *, follow_symlinks: bool = True) -> httpx.Response:
        return self.ask("fs/stat", path, follow_symlinks=str(follow_symlinks).lower())

    def own_only(self, *paths: str) -> tuple[str, ...]:
        """Make sure that a session answers for what is in its sandbox; return the paths to be refused."""
        found = self.box.exec(f"stat -L -c '%n %s' {' '.join(paths)}")["output"].splitlines()
        sizes = (
            dict(line.split(" ") for line in found if line[:5] != "stat:") if self.url == self.box.url else {}
        )
        assert {path: str(self.stat(path).json()["size_bytes"]) for path in sizes} == sizes
        return tuple(path for path in paths if path not in sizes)

    def assert_no_oracle(self, path: str, nowhere: str) -> None:
        """Nobody learns from a refusal whether there is something."""
        answers = [self.stat(each) for each in (path, nowhere)]
        assert {answer.status_code for answer in answers} == {404}, [answer.text for answer in answers]
        assert {answer.json()["error_code"] for answer in answers} == {"FILE_NOT_FOUND"}
