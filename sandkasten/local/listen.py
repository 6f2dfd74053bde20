"""The address on which a daemon listens, TCP or a Unix socket, and the certificate that it shows there."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from sandkasten._directories import find_trouble
from sandkasten.local.options import OptionsError
from sandkasten.local.records import dataclass

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("sandkasten.local")

_BACKLOG = 1024
_UNIX = "unix:"
_LONGEST_PATH = 107


@dataclass(frozen=True)
class Address:
    """An address to listen at: a Unix socket, or host and port.

    Attributes:
        host: an IP address, or "" for a Unix socket.
        port: 0 is any that is free.
        path: the Unix socket's, or None.
    """

    host: str = ""
    port: int = 0
    path: Path | None = None

    @property
    def is_local(self) -> bool:
        """True if only this machine reaches it."""
        return self.path is not None or ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        """Return the address as people write addresses."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_UNIX}{self.path}" if self.path is not None else f"{host}:{self.port}"


def parse(text: str) -> Address:
    """Read `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `unix:/run/sandkasten.sock`.

    Raises:
        OptionsError: the text does not have one of these forms.
    """
    if text.startswith(_UNIX):
        path = Path(text.removeprefix(_UNIX).removeprefix("//"))
        if not path.is_absolute() or len(os.fsencode(path)) > _LONGEST_PATH:
            raise OptionsError(
                f"{text!r} is no socket: give unix: and an absolute path of at most 107 bytes."
            )
        return Address(path=path)
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not (port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
        raise OptionsError(
            f"{text!r} is no address to listen at. Give an IP address and a port, such as 127.0.0.1:8080 "
            "or [::1]:8080, or a socket's path, as unix:/run/sandkasten.sock."
        )
    return Address(str(address), int(port))


class Certificate:
    """A daemon's certificate and its private key, for TLS; read again when the files have changed."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both, which are PEM files; the certificate's has those up to the authority, too.

        Raises:
            OptionsError: a file cannot be read, or others can read the key, or the two do not fit.
        """
        self._certificate, self._key = certificate, key
        self._read_from = self._state()
        self._context = self._read()

    def context(self) -> ssl.SSLContext:
        """Return what the next connection uses; a certificate that was renewed needs no new daemon."""
        state = self._state()
        if state != self._read_from:
            self._read_from = state  # also if they cannot be read, which is said once
            try:
                self._context = self._read()
            except OptionsError as error:
                log.warning("The certificate stays as it was: %s", error)
        return self._context

    def _state(self) -> list[tuple[int, ...]]:
        """Return what changes with the files; nothing of one that is not there."""
        rows = list[tuple[int, ...]]()
        for path in (self._certificate, self._key):
            try:
                found = path.stat()
                times = found.st_mtime_ns, found.st_ctime_ns  # the latter also of another owner or mode
                rows.append((found.st_dev, found.st_ino, found.st_size, *times))
            except OSError:
                rows.append(())
        return rows

    def _read(self) -> ssl.SSLContext:
        # A daemon without TLS does not pay for loading it.
        import ssl  # noqa: PLC0415

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        path = self._certificate
        try:
            _plain_file(path)
            path = self._key
            found = _plain_file(path)
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise OptionsError(
                    f"Others than its owner can read the private key in {path}. Run: chmod 600 {path}"
                )
            if found.st_uid not in {0, os.geteuid()}:
                raise OptionsError(
                    f"Another user (uid {found.st_uid}) owns the private key in {path}. Take one of your own."
                )
            # With an empty password, since OpenSSL would ask a terminal for one otherwise.
            context.load_cert_chain(self._certificate, self._key, password="")
        except ssl.SSLError as error:
            raise OptionsError(
                f"{self._certificate} and {self._key} are no certificate with its private key "
                f"({error.reason or 'no password'}). Give two PEM files that belong together; the key must "
                "have no password."
            ) from error
        except OSError as error:
            raise OptionsError(
                f"The file {path} cannot be read: {error.strerror}. Correct its path."
            ) from error
        return context


def _plain_file(path: Path) -> os.stat_result:
    """Return the state of a file that can be read; another kind of file could keep its reader waiting."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a plain file")
    return found


@contextlib.contextmanager
def bound(address: Address, scheme: str = "http") -> Generator[tuple[socket.socket, str], None, None]:
    """Listen there; the socket, and the URL that clients use, which begins so if it is no Unix socket.

    Raises:
        OptionsError: it is in use, or not this user's to take.
    """
    try:
        listener = _unix_listener(address.path) if address.path is not None else _tcp_listener(address)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        sentence = f"The daemon cannot listen at {address}: {reason}. Choose another, or end what is there."
        raise OptionsError(sentence) from error
    with listener:
        if address.path is None:
            yield listener, f"{scheme}://{Address(address.host, listener.getsockname()[1])}"
            return
        try:
            yield listener, f"unix://{address.path}"
        finally:
            address.path.unlink(missing_ok=True)


def _tcp_listener(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    # Its connections inherit it. An answer is written in two parts, and the kernel would keep the second
    # one until the client acknowledged the first, which takes it 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _unix_listener(path: Path) -> socket.socket:
    """Bind here rather than in uvicorn, which lets everybody connect."""
    trouble = find_trouble(path.parent)
    if trouble is not None:
        raise OptionsError(
            f"The socket {path} could be replaced by others: {trouble} Run: {trouble.remedy}. "
            "Or choose another."
        )
    _remove_left_over(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)  # before it listens, so nobody came in
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_left_over(path: Path) -> None:
    """Remove the socket of a daemon that was killed; one that answers stays, and binding fails."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
