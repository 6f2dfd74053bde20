"""The tar format, in which directories travel between client and daemon: pure, and believing nothing.

The reader takes an archive in pieces of any size, and keeps no more of it than a header. It knows what
`header` here and GNU, BSD and BusyBox `tar` write: ustar with pax headers or GNU's long names. Archives with
anything that could be read in two ways are refused: bad checksums, sizes where there is no content, sparse
files, `..`, absolute names. A `Sink` decides what becomes of the members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

# What the daemon could not do, as the last thing in an archive; no other note means anything, or is kept.
ERROR_NOTE = "SANDKASTEN.error"

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)

_ZEROS = bytes(BLOCK_BYTES)
_MAX_EXTENSION_BYTES = 64 * 1024  # a path has 4 KiB, and a member two of them
_MAX_EXTENSIONS = 8  # before one member
_MAX_END_BYTES = 1024 * 1024  # archives are filled up with zeros to what a tape took at once
_MAX_OCTAL_SIZE = 8**11 - 1
_MAX_DIGITS = 20  # of a decimal size
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_TARGET = b"x", b"g", b"L", b"K"
_EXTENSIONS = {_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_TARGET}


class TarError(ValueError):
    """An archive that is damaged, or that nobody should unpack; the text says why."""


class Kind(Enum):
    """The kind of a member."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    DIRECTORY = b"5"
    SPECIAL = b"6"


_KINDS = {kind.value: kind for kind in Kind} | {
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"3": Kind.SPECIAL,
    b"4": Kind.SPECIAL,
}


@dataclass(frozen=True)
class Member:
    """One of the things in an archive.

    Attributes:
        path: the names on the way to it, none of them empty, `.` or `..`; the archive's root has none.
            Names are bytes; what is not UTF-8 in them is here as in `os.fsdecode` on Linux.
        kind: what it is.
        size_bytes: how much content follows.
        mode: its permission bits, those of 0o777.
        target: where a symlink points.
        mtime_seconds: when a file was changed; written, and ignored when read.
    """

    path: tuple[str, ...]
    kind: Kind
    size_bytes: int = 0
    mode: int = 0o644
    target: str = ""
    mtime_seconds: int = 0


class Sink(Protocol):
    """The receiver of the members of an archive, in order."""

    def begin(self, member: Member) -> None:
        """A member; of a file, the content follows."""
        ...

    def write(self, data: memoryview) -> None:
        """A part of the file's content."""
        ...

    def end(self) -> None:
        """Finish the file: all of its content came."""
        ...


# --- writing


def header(member: Member) -> bytes:
    """Return the header in front of a member's content."""
    name = ("/".join(member.path) or ".") + ("/" if member.kind is Kind.DIRECTORY else "")
    raw_name, raw_target = (text.encode("utf-8", "surrogateescape") for text in (name, member.target))
    records: dict[str, bytes] = {}
    if len(raw_name) > 100 or not raw_name.isascii():
        records["path"] = raw_name
    if len(raw_target) > 100 or not raw_target.isascii():
        records["linkpath"] = raw_target
    if member.size_bytes > _MAX_OCTAL_SIZE:
        records["size"] = b"%d" % member.size_bytes
    block = _block(raw_name, member.kind.value, member.size_bytes, member, raw_target)
    return (_extension(_PAX, records) if records else b"") + block


def note(records: Mapping[str, str]) -> bytes:
    """A header that is about the archive, and not about a member."""
    return _extension(_PAX_GLOBAL, {key: value.encode() for key, value in records.items()})


def padding(size_bytes: int) -> bytes:
    """Return the padding behind a file's content."""
    return bytes(-size_bytes % BLOCK_BYTES)


def _extension(kind: bytes, records: Mapping[str, bytes]) -> bytes:
    data = b"".join(_record(key.encode(), value) for key, value in records.items())
    plain = Member((), Kind.FILE)
    return _block(b"././@PaxHeader", kind, len(data), plain, b"") + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """A record begins with its own length, digits included."""
    rest = len(key) + len(value) + 3
    size = rest + len(str(rest))
    if len(str(size)) > len(str(rest)):
        size += 1
    return b"%d %s=%s\n" % (size, key, value)


def _block(name: bytes, kind: bytes, size_bytes: int, member: Member, target: bytes) -> bytes:
    size = size_bytes if size_bytes <= _MAX_OCTAL_SIZE else 0
    mtime = min(max(member.mtime_seconds, 0), _MAX_OCTAL_SIZE)
    before = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0" % (member.mode & 0o777, 0, 0),
            b"%011o\0%011o\0" % (size, mtime),
        )
    )
    after = kind + target[:100].ljust(100, b"\0") + b"ustar\x0000"
    block = (before + b" " * 8 + after).ljust(BLOCK_BYTES, b"\0")
    return before + b"%06o\0 " % sum(block) + block[156:]


# --- reading


class TarReader:
    """Reads an archive as it comes, and gives its members to a sink.

    Attributes:
        notes: what the archive says about itself, as `note` writes it.
    """

    def __init__(self, sink: Sink) -> None:
        """Begin before the first byte of an archive."""
        self.notes: dict[str, str] = {}
        self._sink = sink
        self._block = bytearray()
        self._zero_blocks = 0
        self._content_left = 0
        self._padding_left = 0
        self._extension: tuple[bytes, bytearray] | None = None  # the one that is being read
        self._extensions = 0  # since the last member
        self._overrides: dict[str, bytes] = {}

    def feed(self, data: bytes) -> None:
        """Read the next piece of an archive.

        Raises:
            TarError: this is not an archive that one should read.
        """
        view = memoryview(data)
        while view:
            view = view[self._take(view) :]

    def close(self) -> None:
        """Make sure that this was the end.

        Raises:
            TarError: the archive was cut off.
        """
        if self._zero_blocks < 2 or self._block:
            raise TarError("The archive ends too early.")

    def _take(self, view: memoryview) -> int:
        if self._content_left:
            part = view[: self._content_left]
            self._content_left -= len(part)
            self._take_content(part)
        elif self._padding_left:
            part = view[: self._padding_left]
            self._padding_left -= len(part)
        else:
            part = view[: BLOCK_BYTES - len(self._block)]
            self._block += part
            if len(self._block) == BLOCK_BYTES:
                block = bytes(self._block)
                self._block.clear()
                self._take_block(block)
        return len(part)

    def _take_content(self, part: memoryview) -> None:
        if self._extension is None:
            self._sink.write(part)
            if not self._content_left:
                self._sink.end()
        else:
            kind, data = self._extension
            data += part
            if not self._content_left:
                self._extension = None
                self._take_extension(kind, bytes(data))

    def _take_block(self, block: bytes) -> None:
        if block == _ZEROS:
            self._zero_blocks += 1
            if self._zero_blocks * BLOCK_BYTES > _MAX_END_BYTES:
                raise TarError("The archive goes on after its end.")
            return
        if self._zero_blocks:
            raise TarError("The archive goes on after its end.")
        _check_sum(block)
        kind = block[156:157]
        if kind in _EXTENSIONS:
            size = _number(block[124:136])
            self._extensions += 1
            if not 0 < size <= _MAX_EXTENSION_BYTES or self._extensions > _MAX_EXTENSIONS:
                raise TarError("The archive has headers that are empty, too long, or too many.")
            self._extension = kind, bytearray()
        else:
            size = self._take_member(block, kind)
        self._content_left = size
        self._padding_left = -size % BLOCK_BYTES

    def _take_extension(self, kind: bytes, data: bytes) -> None:
        if kind == _GNU_NAME:
            self._overrides["path"] = data.rstrip(b"\0")
        elif kind == _GNU_TARGET:
            self._overrides["linkpath"] = data.rstrip(b"\0")
        elif kind == _PAX:
            self._overrides |= _records(data)
        else:
            records = _records(data)
            known = {key: value for key, value in records.items() if key == ERROR_NOTE}
            self.notes |= {key: value.decode(errors="replace") for key, value in known.items()}

    def _take_member(self, block: bytes, kind: bytes) -> int:
        overrides, self._overrides, self._extensions = self._overrides, {}, 0
        if kind not in _KINDS or any(key.startswith("GNU.sparse.") for key in overrides):
            raise TarError("The archive has sparse files, or members of an unknown kind.")
        name = _text(overrides.get("path", _name(block)))
        member = Member(
            path=_path(name),
            kind=_KINDS[kind],
            size_bytes=_size(overrides["size"]) if "size" in overrides else _number(block[124:136]),
            mode=_number(block[100:108]) & 0o777,
            target=_text(overrides.get("linkpath", _until_nul(block[157:257]))),
        )
        if kind == b"\0" and name.endswith("/"):  # from before there was a kind for it
            member = Member(member.path, Kind.DIRECTORY, member.size_bytes, member.mode)
        if member.size_bytes and member.kind is not Kind.FILE:
            raise TarError(f"The archive's member {name[:100]!r} has content, though it is not a file.")
        if not member.path and member.kind is not Kind.DIRECTORY:
            raise TarError("The archive has a member without a name.")
        self._sink.begin(member)
        if member.kind is Kind.FILE and not member.size_bytes:
            self._sink.end()
        return member.size_bytes


def _check_sum(block: bytes) -> None:
    if sum(block[:148]) + sum(block[156:]) + 8 * 0x20 != _number(block[148:156]):
        raise TarError("The archive is damaged: a header's checksum is wrong.")


def _name(block: bytes) -> bytes:
    name, prefix = _until_nul(block[:100]), _until_nul(block[345:500])
    return prefix + b"/" + name if block[257:263] == b"ustar\0" and prefix else name


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(raw: bytes) -> str:
    if b"\0" in raw:
        raise TarError("The archive has a name with a NUL in it.")
    return raw.decode("utf-8", "surrogateescape")


def _path(name: str) -> tuple[str, ...]:
    names = tuple(part for part in name.split("/") if part not in {"", "."})
    if name.startswith("/") or ".." in names:
        raise TarError(f"The archive's member {name[:100]!r} leads out of it.")
    return names


def _number(field: bytes) -> int:
    """Octal digits, or after a first byte of 0x80 the number itself."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise TarError("The archive is damaged: a header has a bad number.")
    return int(digits, 8) if digits else 0


def _size(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise TarError("The archive is damaged: a header has a bad size.")
    return int(digits)


def _records(data: bytes) -> dict[str, bytes]:
    records: dict[str, bytes] = {}
    start = 0
    while start < len(data):
        digits = data[start : start + _MAX_DIGITS + 1].partition(b" ")[0]
        end = start + _size(digits)
        key, equals, value = data[start + len(digits) + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n") or end > len(data):
            raise TarError("The archive is damaged: a header has a bad record.")
        records[key.decode(errors="replace")] = value[:-1]
        start = end
    return records
