"""The provisioner `sandkasten`: Jupyter's clients start kernels by it, in sandboxes."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any, cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Bool, Unicode

from sandkasten.notebook.kernels.proxy import CHANNELS
from sandkasten.notebook.kernels.sandboxed import (
    CannotStartKernelError,
    Choice,
    Loop,
    SandboxedKernel,
)


class SandboxProvisioner(KernelProvisionerBase):
    """Runs a kernel in a session without a network.

    A specification's `metadata.kernel_provisioner.config` sets the traits; `sandkasten kernel install` writes
    such specifications.
    """

    environment = Unicode("", help="The path of an environment of Python; empty: the image's.")
    image = Unicode("python", help="The image, if there is no environment.")
    workspace = Unicode("", help="A workspace that keeps the files; empty: they end with the kernel.")
    copy_files = Bool(False, help="Whether the notebook's directory is copied in at the start.")
    show_anything = Bool(False, help="Whether scripts and widgets of the kernel reach the notebook.")

    _loop: Loop | None = None
    _kernel: SandboxedKernel | None = None

    @property
    def has_process(self) -> bool:
        """True if there is a kernel, running or not."""
        return self._kernel is not None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Choose addresses and a key for the clients, and write the file that names them."""
        manager: Any = self.parent
        if kwargs.pop("transport_encryption", "disabled") == "required":
            raise CannotStartKernelError("Kernels in a sandbox have no transport encryption. Turn it off.")
        extra = kwargs.pop("extra_arguments", [])
        # Variables of this process are none of the kernel's business.
        env = dict(self.kernel_spec.env or {})
        manager.write_connection_file()
        self.connection_info = manager.get_connection_info()
        prepared = await super().pre_launch(cmd=[*self.kernel_spec.argv, *extra], **{**kwargs, "env": env})
        return {**prepared, "env": env}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel.

        Raises:
            CannotStartKernelError: it does not start; the text says why.
        """
        info = self.connection_info
        key = info.get("key", b"")
        urls = {channel: _url(cast("Mapping[str, Any]", info), channel) for channel in CHANNELS}
        if self._loop is None:
            self._loop = Loop()
        kernel = self._kernel or SandboxedKernel(self._choice())
        place = str(kwargs.get("cwd") or os.getcwd())
        signing = key if isinstance(key, bytes) else str(key).encode()
        try:
            await self._loop.do(kernel.start(cmd, kwargs.get("env") or {}, signing, urls, place))
        except BaseException:
            self._end_loop()
            raise
        self._kernel = kernel
        return info

    def _choice(self) -> Choice:
        return Choice(
            environment=self.environment,
            image=self.image,
            workspace=self.workspace,
            copies_files=self.copy_files,
            shows_anything=self.show_anything,
        )

    async def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return 0 if self._kernel is None else self._kernel.exit_code

    async def wait(self) -> int | None:
        """Wait for its end, and return the exit code."""
        return 0 if self._kernel is None or self._loop is None else await self._loop.do(self._kernel.wait())

    async def send_signal(self, signum: int) -> None:
        """Send it a signal; an interrupt is one."""
        if self._kernel is not None and self._loop is not None:
            await self._loop.do(self._kernel.signal(signum))

    async def kill(self, restart: bool = False) -> None:
        """Kill it."""
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """Ask it to end."""
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        """End all that it started; without a restart, the session too."""
        if self._kernel is None or self._loop is None:
            return
        await self._loop.do(self._kernel.end() if restart else self._kernel.close())
        if not restart:
            self._end_loop()

    def _end_loop(self) -> None:
        if self._loop is not None:
            self._loop.stop()
        self._kernel = self._loop = None


def _url(info: Mapping[str, Any], channel: str) -> str:
    transport, ip, port = info["transport"], info["ip"], info[f"{channel}_port"]
    return f"tcp://{ip}:{port}" if transport == "tcp" else f"{transport}://{ip}-{port}"
