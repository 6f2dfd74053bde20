"""JSON in requests: how much of it there may be, and how it is read without keeping everybody else waiting.

While `json` works, nothing else of the daemon does: neither its event loop nor its other threads. So what
is larger than a few pages is read by a decoder that lets others go on between two values, and that has a
bound for their number, since many small values take thirty times their bytes in memory, and seconds.
"""

from __future__ import annotations

import binascii
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

from sandkasten._protocol import MAX_COMMAND_BYTES
from sandkasten.local.api.bodystream import pieces_of
from sandkasten.local.api.http.exchange import whole_body
from sandkasten.local.api.http.messages import Request
from sandkasten.local.errors import invalid_request
from sandkasten.local.limits.jsonvalues import FewValues, TooManyValuesError
from sandkasten.local.threads import in_thread

T = TypeVar("T")
Fields = dict[str, Any]

# What a body may have. A session's fields are short names and numbers.
CREATION_BYTES = 256 * 1024
# Each byte of a command may be escaped with six, as \u0001 is.
COMMAND_BYTES = 6 * MAX_COMMAND_BYTES + 64 * 1024
# A file of the largest readable size in base64, with room for the rest.
CONTENT_BYTES = 160 * 1024 * 1024

# What is decoded at once takes at most some milliseconds, whatever it is.
_AT_ONCE_BYTES = 64 * 1024
# A body needs ten at most, and clients may add fields that are not known here.
_MAX_VALUES = 1000
_BASE64_PIECE_CHARS = 1024 * 1024  # whole groups of four


async def read_json(
    request: Request,
    max_bytes: int,
    make: Callable[[Fields], T],
    *,
    may_be_empty: bool = False,
    most_values: int = _MAX_VALUES,
) -> T:
    """Read a request's body, and return what `make` makes of its object; in a thread, if it is large.

    Raises:
        ApiError: it is too large, does not come, is no JSON object, or `make` refuses it.
    """
    data = await _received(request, max_bytes)
    request.digest = digest_of(data)
    return await parse_json(data, make, may_be_empty=may_be_empty, most_values=most_values)


def digest_of(data: bytes | bytearray) -> bytes:
    """Return the digest of a body, by which it is known again."""
    return hashlib.sha256(data).digest()


async def parse_json(
    data: bytearray,
    make: Callable[[Fields], T],
    *,
    may_be_empty: bool = False,
    most_values: int = _MAX_VALUES,
) -> T:
    """Return what `make` makes of an object; in a thread, if it is large. The data is cleared.

    Raises:
        ApiError: it is no JSON object, or `make` refuses it.
    """

    def work() -> T:
        return make({} if may_be_empty and not data else _object(data, most_values))

    return work() if len(data) <= _AT_ONCE_BYTES else await in_thread(work)


async def _received(request: Request, max_bytes: int) -> bytearray:
    whole = whole_body(request.receive)  # of most requests it is here, and nothing is waited for
    data = bytearray(whole or b"")
    if whole is None:
        async for piece, _more in pieces_of(request):
            data += piece
            if len(data) > max_bytes:
                break
    if len(data) > max_bytes:
        raise invalid_request(f"The body is larger than {max_bytes} bytes. Send less.")
    return data


def _object(data: bytearray, most_values: int) -> Fields:
    is_small = len(data) <= _AT_ONCE_BYTES
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        data.clear()  # it may be large, and so may what is made of it
        body: Any = json.loads(text) if is_small else FewValues(most_values).decode(text)
    except TooManyValuesError:
        raise invalid_request("The body has too many values. Send fewer fields.") from None
    except (ValueError, RecursionError):
        raise invalid_request("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise invalid_request("The body is not a JSON object.")
    return cast("Fields", body)


def decode_base64(text: str) -> io.BytesIO:
    """Decode strict base64, in pieces; the result is at its beginning.

    Raises:
        ValueError: it is not that.
    """
    content = io.BytesIO()
    for start in range(0, len(text), _BASE64_PIECE_CHARS):
        piece = text[start : start + _BASE64_PIECE_CHARS]
        if "=" in piece and start + len(piece) < len(text):
            raise binascii.Error("there is padding in its middle")
        content.write(binascii.a2b_base64(piece, strict_mode=True))
    content.seek(0)
    return content


# --- fields of an object


def text_of(body: Fields, name: str, default: str | None = None, *, any_name: bool = False) -> str:
    """Return a field that is a string; without a default it must be there.

    Args:
        body: the object.
        name: the field's.
        default: what a field means that is not there.
        any_name: whether bytes that are not UTF-8 may stand in it, as in `os.fsdecode`.

    Raises:
        ApiError: INVALID_REQUEST, it is not one.
    """
    value = body.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise invalid_request(f"'{name}' must be given as a string.")
    try:
        value.encode("utf-8", "surrogatepass" if any_name else "strict")
    except UnicodeEncodeError:
        raise invalid_request(f"'{name}' is not valid Unicode.") from None
    return value


def number_of(body: Fields, name: str, maximum: int) -> int | None:
    """Return a field that is a whole number from 0 on, or None if it is not there.

    Raises:
        ApiError: INVALID_REQUEST, it is not one.
    """
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise invalid_request(f"'{name}' must be a whole number from 0 to {maximum}.")
    return value


def flag_of(body: Fields, name: str) -> bool:
    """Return a field that is true or false; false if it is not there.

    Raises:
        ApiError: INVALID_REQUEST, it is neither.
    """
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise invalid_request(f"'{name}' must be true or false.")
    return bool(value)


def object_of(body: Fields, name: str) -> Fields | None:
    """Return a field that is an object, or None if it is not there.

    Raises:
        ApiError: INVALID_REQUEST, it is not one.
    """
    value = body.get(name)
    if not isinstance(value, dict | None):
        raise invalid_request(f"'{name}' must be an object.")
    return cast("Fields | None", value)
