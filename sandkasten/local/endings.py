"""The ends of sessions and commands: the words that the daemon, its numbers and its log have in common."""

from __future__ import annotations

from enum import StrEnum


class EndReason(StrEnum):
    """The reason why a session ended."""

    DESTROYED = "destroyed"
    EXPIRED = "expired"
    LOST = "lost"  # its sandbox ended by itself
    STOPPED = "stopped"  # with the daemon
    UNCLAIMED = "unclaimed"  # its client left before it knew of it, and did not come back


class JobEnd(StrEnum):
    """The end of a command, or of a process beside the shell."""

    OK = "ok"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # stopped for those who had asked for it
    LOST = "lost"  # with its sandbox, or before it began
    OUT_OF_MEMORY = "out_of_memory"  # ended by the kernel
    OVER_QUOTA = "over_quota"  # stopped, since the workspace became too large
    TIMEOUT = "timeout"  # stopped at its deadline

    def told(self, *, is_signal: bool = False) -> str:
        """Return the word that clients read in a result.

        Args:
            is_signal: whether a signal ended the process, which nothing here sent.
        """
        return _TOLD.get(self, "signal" if is_signal else "exited")


_TOLD = {
    JobEnd.INTERRUPTED: "interrupted",
    JobEnd.LOST: "lost",
    JobEnd.OUT_OF_MEMORY: "out_of_memory",
    JobEnd.OVER_QUOTA: "disk_full",
    JobEnd.TIMEOUT: "timeout",
}
