"""The program that joins a kernel's sockets with standard input and output, inside the sandbox.

It is sent as text and run by the sandbox's Python, 3.8 or later, with the standard library only. Its argument
is what the paths of the sockets begin with. See `frames`.
"""

from __future__ import annotations

import importlib.util
import os
import select
import socket
import struct
import sys

HEADER = struct.Struct(">BHI")
OPEN, DATA, CLOSE, READY = 1, 2, 3, 4
PIECE = 65536
# What a side does not read is held up to here; then the other side waits, or the connection ends.
MOST = 16 * 1024 * 1024


class Relay:
    """Moves bytes until standard input ends."""

    def __init__(self, prefix: str) -> None:
        """Know where the sockets are."""
        self.prefix = prefix
        self.sockets: dict[int, socket.socket] = {}
        self.pending: dict[int, bytearray] = {}
        self.came = bytearray()
        found = importlib.util.find_spec("ipykernel") is not None
        self.leaving = bytearray(HEADER.pack(READY, 0, 1) + bytes([found]))

    def run(self) -> None:
        """Move bytes."""
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        while True:
            poller = select.poll()
            poller.register(0, select.POLLIN)
            if self.leaving:
                poller.register(1, select.POLLOUT)
            numbers: dict[int, int] = {}
            for number, sock in self.sockets.items():
                reads = select.POLLIN if len(self.leaving) < MOST else 0
                writes = select.POLLOUT if self.pending[number] else 0
                numbers[sock.fileno()] = number
                poller.register(sock, reads | writes)
            for descriptor, event in poller.poll():
                if descriptor == 0:
                    if not self.read_input():
                        return
                elif descriptor == 1:
                    if event & (select.POLLERR | select.POLLHUP):
                        return
                    self.write_output()
                elif numbers[descriptor] in self.sockets:
                    self.serve(numbers[descriptor], event)

    def read_input(self) -> bool:
        """Take what the host sent; return False at the end."""
        try:
            data = os.read(0, PIECE)
        except BlockingIOError:
            return True
        self.came += data
        while len(self.came) >= HEADER.size:
            kind, number, length = HEADER.unpack_from(self.came)
            end = HEADER.size + length
            if len(self.came) < end:
                break
            content = bytes(self.came[HEADER.size : end])
            del self.came[:end]
            self.take(kind, number, content)
        return bool(data)

    def take(self, kind: int, number: int, content: bytes) -> None:
        """Do what a frame says."""
        if kind == OPEN:
            sock = socket.socket(socket.AF_UNIX)
            self.sockets[number], self.pending[number] = sock, bytearray()
            try:
                sock.connect(f"{self.prefix}-{content[0]}")
                sock.setblocking(False)
            except OSError:
                self.end(number)
        elif kind == DATA and number in self.sockets:
            self.pending[number] += content
            if len(self.pending[number]) > MOST:
                self.end(number)
        elif kind == CLOSE and number in self.sockets:
            self.sockets.pop(number).close()
            del self.pending[number]

    def serve(self, number: int, event: int) -> None:
        """Move the bytes of a connection."""
        sock, pending = self.sockets[number], self.pending[number]
        try:
            if event & select.POLLOUT and pending:
                del pending[: sock.send(pending)]
            if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = sock.recv(PIECE)
                if not data:
                    self.end(number)
                else:
                    self.leaving += HEADER.pack(DATA, number, len(data)) + data
        except BlockingIOError:
            return
        except OSError:
            self.end(number)

    def write_output(self) -> None:
        """Send the host what is there."""
        try:
            del self.leaving[: os.write(1, self.leaving)]
        except BlockingIOError:
            return

    def end(self, number: int) -> None:
        """End a connection, and say so."""
        self.sockets.pop(number).close()
        del self.pending[number]
        self.leaving += HEADER.pack(CLOSE, number, 0)


if __name__ == "__main__":
    Relay(sys.argv[1]).run()
