"""The attributes that a daemon inherits from the process that started it, set right before anything else.

A program may ignore or block signals, run at another priority, or have low limits, for reasons of its own.
The daemon shall not have them, still less sandboxes, which inherit them from the daemon.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from types import FrameType

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Whoever ignores these means all that is started (nohup). The daemon goes on ignoring them, by a handler: the
# programs that it starts do not inherit that.
_MEANT = (*ENDING_SIGNALS, signal.SIGQUIT)
# Python ignores these itself, and gives them their meaning back in the programs that it starts.
_PYTHONS = (signal.SIGPIPE, signal.SIGXFSZ)
# Soft limits that a program may have lowered for itself. Sandboxes get limits of their own.
_LIMITS = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,  # a session takes five; 1,024 are there for programs that use select()
    resource.RLIMIT_NPROC,
)


def set_right(*, keep_ignored: bool) -> None:
    """Give this process what a program has that is started from a fresh shell.

    Args:
        keep_ignored: whether signals that end a daemon stay ignored if they are.
    """
    os.umask(0o022)  # the directories made for sandboxes are theirs; what is private says so itself
    _set_signals(keep_ignored=keep_ignored)
    _set_priority()
    for limit in _LIMITS:
        _raise_limit(limit)
    _dump_no_core()


def is_kept_ignored(number: signal.Signals) -> bool:
    """Return whether a signal was ignored from outside, and stays so."""
    return signal.getsignal(number) is _ignore


def _set_signals(*, keep_ignored: bool) -> None:
    """End properly, even before there is a server, and let every other signal do what it usually does."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *_PYTHONS}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore if keep_ignored and number in _MEANT else signal.SIG_DFL)
    for number in ENDING_SIGNALS:
        if not is_kept_ignored(number):
            signal.signal(number, _leave)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _set_priority() -> None:
    """Give up a better priority than others have; a worse one is meant for all that is started (nice)."""
    with contextlib.suppress(OSError):
        if os.sched_getscheduler(0) in {os.SCHED_FIFO, os.SCHED_RR}:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        if os.getpriority(os.PRIO_PROCESS, 0) < 0:
            os.setpriority(os.PRIO_PROCESS, 0, 0)


def _raise_limit(limit: int) -> None:
    _soft, hard = resource.getrlimit(limit)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(limit, (hard, hard))


def _dump_no_core() -> None:
    """Dump no core, neither of this process, which holds the key, nor of sandboxes, which inherit the limit.

    The limit is not 0: where dumps go to a program (apport, systemd-coredump), that is a root's on the host,
    fed by sandboxed code, and only 1 keeps the kernel from starting it (core(5)). But a process that may have
    none at all cannot have 1.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _ignore(_number: int, _frame: FrameType | None) -> None:
    return


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
