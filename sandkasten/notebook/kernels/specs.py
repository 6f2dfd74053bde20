"""The specification of a kernel in a sandbox, as Jupyter's clients find it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from sandkasten.notebook.kernels.sandboxed import Choice

_ARGV = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def specification(choice: Choice, shown: str) -> dict[str, object]:
    """Return the content of a `kernel.json`; pure."""
    config = {
        "environment": choice.environment,
        "image": choice.image,
        "workspace": choice.workspace,
        "copy_files": choice.copies_files,
        "show_anything": choice.shows_anything,
    }
    return {
        "argv": _ARGV if choice.environment else ["python3", *_ARGV[1:]],
        "display_name": shown,
        "language": "python",
        "interrupt_mode": "signal",
        "metadata": {
            "debugger": False,
            "kernel_provisioner": {"provisioner_name": "sandkasten", "config": config},
        },
    }


def install(name: str, shown: str, choice: Choice, prefix: str | None) -> Path:
    """Write the specification where Jupyter's clients of this user, or of a prefix, find it; return where.

    Raises:
        OSError: it cannot be written.
    """
    from jupyter_client.kernelspec import KernelSpecManager  # noqa: PLC0415  (only for this)

    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "kernel.json").write_text(json.dumps(specification(choice, shown), indent=1), "utf-8")
        place = KernelSpecManager().install_kernel_spec(directory, name, user=prefix is None, prefix=prefix)
    return Path(place)


def has_ipykernel(environment: str) -> bool:
    """Return whether an environment of Python has the package that kernels need."""
    return any(Path(environment).glob("lib*/python3*/site-packages/ipykernel"))
