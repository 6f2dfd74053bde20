"""An embedded daemon for one command, which starts while the client is being imported.

Both take a fifth of a second, and neither needs the other until both are ready.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandkasten.local.launch import LocalDaemon
    from sandkasten_sync import SandboxClient


@contextmanager
def embedded_client() -> Generator[SandboxClient, None, None]:
    """Yield a client of a daemon that ends with the block, and at the latest with this process.

    Raises:
        LocalDaemonError: the daemon cannot run here.
    """
    start = _Start()
    try:
        from sandkasten_sync import SandboxClient  # noqa: PLC0415  (meanwhile)

        target = start.result().target
        with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
            yield client
    finally:
        start.stop()


class _Start(threading.Thread):
    """The thread that starts the daemon, as a daemon thread, so that Ctrl-C does not wait for it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._daemon: LocalDaemon | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        from sandkasten.local.launch import LocalOptions, start_daemon  # noqa: PLC0415

        try:
            # One command needs one session: none is kept ready for a second.
            self._daemon = start_daemon(LocalOptions(pool_size=0))
        except BaseException as error:
            self._error = error

    def result(self) -> LocalDaemon:
        self.join()
        if self._error is not None:
            raise self._error
        assert self._daemon is not None
        return self._daemon

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()
