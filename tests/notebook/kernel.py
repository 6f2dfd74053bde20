"""A real kernel, spoken to as a notebook does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

_TIMEOUT_SECONDS = 20


@dataclass
class Outputs:
    """The outputs of a cell.

    Attributes:
        texts: the pieces of standard output, each with the time at which it came.
        displays: what was displayed, and last the cell's value, by MIME type.
        changes: the bundles that took the place of others, and the times that the output was cleared.
        error: the traceback as it is shown; empty if the cell went well.
    """

    texts: list[tuple[float, str]] = field(default_factory=list)
    displays: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    changes: list[Any] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.texts)


class Kernel:
    """Runs cells, one after another."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager = manager
        self._client = client

    @classmethod
    def start(cls, environment: dict[str, str], directory: Path) -> Kernel:
        """Start a kernel of this Python."""
        return cls(*start_new_kernel(env=environment, cwd=str(directory)))

    def stop(self) -> None:
        """End it as a notebook server does, if it has not ended."""
        self._client.stop_channels()
        self._manager.shutdown_kernel()

    def interrupt(self) -> None:
        """Interrupt it as the stop button does: the signal goes to all its processes."""
        os.killpg(self._manager.provisioner.pid, signal.SIGINT)

    def run(self, code: str, on_text: Callable[[str], object] | None = None) -> Outputs:
        """Run a cell to its end, whatever that is."""
        outputs = Outputs()

        def take(message: dict[str, Any]) -> None:
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                outputs.texts.append((time.monotonic(), content["text"]))
                if on_text is not None:
                    on_text(content["text"])
            elif kind in {"display_data", "execute_result"}:
                outputs.displays.append(content["data"])
            elif kind == "update_display_data":
                outputs.changes.append(content["data"])
            elif kind == "clear_output":
                outputs.changes.append(kind)

        reply = self._client.execute_interactive(code, timeout=_TIMEOUT_SECONDS, output_hook=take)
        if reply["content"]["status"] == "error":
            outputs.error = "\n".join(reply["content"]["traceback"])
        return outputs

    def ok(self, code: str) -> Outputs:
        """Run a cell that must go well."""
        outputs = self.run(code)
        assert outputs.error == "", outputs.error
        return outputs
