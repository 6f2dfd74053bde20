"""One bubblewrap process, and the three descriptors that lead into it.

* terminal: a pseudo-terminal's master; what programs print
* control: a socket; commands in, results out
* tokens: a socket; one empty line per command (see `inside/bashrc`)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Callable
from importlib import resources

from sandkasten.local import bubblewrap, processes
from sandkasten.local.host import Identity, popen_identity
from sandkasten.local.policy import SandboxPolicy

_SUPERVISOR = (resources.files("sandkasten.local") / "inside" / "supervisor").read_text("utf-8")
_FIRST_FREE_DESCRIPTOR = 64
_REAP_TIMEOUT_MS = 10_000
# _IOW('T', 0x36, int), which Python's termios does not name.
_TIOCSIG = 0x40045436
_ROWS_COLUMNS = struct.pack("HHHH", 50, 200, 0, 0)


class Sandbox:
    """A running sandbox; made by `start`, ended by `kill`."""

    def __init__(
        self, process: subprocess.Popen[bytes], terminal: int, control: socket.socket, tokens: socket.socket
    ) -> None:
        """Own the process and the descriptors."""
        self._process = process
        self.terminal = terminal
        self.control = control
        self.tokens = tokens
        self._init_pidfd: int | None = None
        self._namespace = ""

    @classmethod
    def start(cls, bwrap: str, policy: SandboxPolicy, identity: Identity) -> Sandbox:
        """Start a sandbox; its shell reports on the control channel when it is ready.

        Must run in a thread that lives as long as the daemon: the kernel ends the sandbox with the
        *thread* that made it.
        """
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            terminal, slave = _open_terminal(identity)
            ours.callback(os.close, terminal)
            theirs.callback(os.close, slave)
            control, control_inside = socket.socketpair()
            tokens, tokens_inside = socket.socketpair()
            ours.push(control)
            ours.push(tokens)
            theirs.push(control_inside)
            theirs.push(tokens_inside)
            descriptors = (_out_of_the_way(tokens_inside), _out_of_the_way(control_inside))
            for descriptor in descriptors:
                theirs.callback(os.close, descriptor)
            process = subprocess.Popen(
                bubblewrap.arguments(bwrap, policy, supervisor_command(*descriptors)),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                pass_fds=descriptors,
                cwd="/",
                **popen_identity(identity),
            )
            ours.pop_all()
        for channel in (control, tokens):
            channel.setblocking(False)
        os.set_blocking(terminal, False)
        return cls(process, terminal, control, tokens)

    def identify(self) -> None:
        """Take hold of process 1, once it is known to run and before any command did.

        From here on it is signalled through a descriptor, which cannot come to mean another process.
        """
        with contextlib.suppress(OSError, IndexError, ValueError):
            init_pid = processes.only_child(self._process.pid)
            self._init_pidfd = os.pidfd_open(init_pid)
            self._namespace = processes.namespace(init_pid)

    @property
    def usage(self) -> processes.Usage:
        """What its processes use."""
        return processes.usage(self._process.pid)

    def foreground_group(self) -> int | None:
        """The process group that holds the terminal, in the host's numbers."""
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(self.terminal)
        return None

    def interrupt(self) -> None:
        """Send SIGINT to the foreground group; the kernel finds it, so there is no number to reuse."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.terminal, _TIOCSIG, signal.SIGINT)

    def signal_group(self, group: int | None, signal_number: signal.Signals) -> None:
        """Send a signal to a process group of the sandbox."""
        if group is not None:
            processes.kill_group(self._process.pid, self._namespace, group, signal_number)

    def kill(self) -> Callable[[], None]:
        """End every process of it and close the descriptors; call the result, in any thread, to reap."""
        init_pidfd, self._init_pidfd = self._init_pidfd, None
        if init_pidfd is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(init_pidfd, signal.SIGKILL)
        self._process.kill()
        self.control.close()
        self.tokens.close()
        os.close(self.terminal)
        return lambda: self._reap(init_pidfd)

    def _reap(self, init_pidfd: int | None) -> None:
        self._process.wait()
        if init_pidfd is not None:
            # Process 1 ends only after all others in its namespace did.
            poller = select.poll()
            poller.register(init_pidfd, select.POLLIN)
            poller.poll(_REAP_TIMEOUT_MS)
            os.close(init_pidfd)


def supervisor_command(tokens: int, control: int) -> list[str]:
    """Process 1 of a sandbox; the arguments are its descriptors' numbers.

    Bubblewrap starts it in a session without a terminal; the first bash opens the console, which
    makes that the session's terminal, and job control in the second bash finds it there.
    """
    bash = "bash --noprofile --norc"
    attach = f'exec {bash} -m -c "$0" supervisor "$@" 0<>/dev/console 1>&0 2>&0'
    return ["/bin/bash", *bash.split()[1:], "-c", attach, _SUPERVISOR, str(tokens), str(control)]


def _out_of_the_way(channel: socket.socket) -> int:
    """A copy whose number is none of the low ones that the scripts inside give a meaning."""
    return fcntl.fcntl(channel, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_DESCRIPTOR)


def _open_terminal(identity: Identity) -> tuple[int, int]:
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST  # output as it is: no CR is added
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, _ROWS_COLUMNS)
    if identity.drops:
        os.fchown(slave, identity.uid, identity.gid)  # programs open /dev/tty
    return master, slave
