"""The limits that a session may be given."""

from __future__ import annotations

from attrs import field, frozen

from sandkasten.errors import SandkastenInputError
from sandkasten.local.limits.values import parse_size


def _size_in_bytes(value: int | str | None) -> int | None:
    if not isinstance(value, str):
        return value
    size_bytes = parse_size(value)
    if size_bytes is None:
        raise SandkastenInputError(
            f"{value!r:.80} is not a size: pass bytes, or a text such as '512m' or '1g'."
        )
    return size_bytes


@frozen(kw_only=True)
class Limits:
    """The limits of one session. Sizes are bytes; texts such as "512m" (powers of 1024) become bytes.

    In `create_session`, None is what the daemon gives its sessions; in a `SessionInfo`, None is no limit.

    Attributes:
        memory_bytes: memory of all its processes, with what they keep in /tmp. Where the daemon has no
            control groups, of each process.
        processes: processes and threads at one time.
        cpus: CPU seconds per second.
        file_bytes: the largest file it can write.
        tmp_bytes: what each of its file systems in memory holds (/tmp, the home directory, /dev/shm).
        workspace_bytes: what its workspace may take on the disk.
        output_bytes: a command's output that is kept.
    """

    memory_bytes: int | None = field(default=None, converter=_size_in_bytes)
    processes: int | None = None
    cpus: float | None = None
    file_bytes: int | None = field(default=None, converter=_size_in_bytes)
    tmp_bytes: int | None = field(default=None, converter=_size_in_bytes)
    workspace_bytes: int | None = field(default=None, converter=_size_in_bytes)
    output_bytes: int | None = field(default=None, converter=_size_in_bytes)
