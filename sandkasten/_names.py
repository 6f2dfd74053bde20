"""Names of files that are not UTF-8: how client and daemon carry them; pure.

To Linux a name is bytes. In Python those that are not UTF-8 are lone surrogates (`os.fsdecode`), and so they
are in every path that this library takes or gives: U+DC80 to U+DCFF stand for the bytes 80 to FF.

On the wire a path in a query is percent-encoded byte for byte (`path=caf%E9`). In JSON, which has no bytes,
`name` and `path` are for people (what is not UTF-8 is U+FFFD there), and `name_base64` or `path_base64`
stands beside them where that lost something: clients that do not know it see what they always saw.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, quote, urlencode


def is_text(name: str) -> bool:
    """Return whether a name is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_name(name: str) -> bool:
    """Return whether a name is UTF-8, or stands for bytes that are not."""
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def to_json(field: str, name: str) -> dict[str, str]:
    """Return the fields that carry a name."""
    if is_text(name):
        return {field: name}
    raw = name.encode("utf-8", "surrogateescape")
    return {field: raw.decode(errors="replace"), f"{field}_base64": base64.b64encode(raw).decode()}


def from_json(field: str, answer: Any) -> Any:
    """Return a JSON object with the true name in its field; whatever else it is, as it is.

    Raises:
        ValueError: what should be base64 is not.
    """
    if not isinstance(answer, Mapping):
        return answer
    known = cast("Mapping[str, Any]", answer)
    encoded = known.get(f"{field}_base64")
    if not isinstance(encoded, str):
        return known
    raw = base64.b64decode(encoded, validate=True)
    return {**known, field: raw.decode("utf-8", "surrogateescape")}


def query_of(params: Mapping[str, str | int]) -> str:
    """Return a query that carries all names."""
    return urlencode(params, quote_via=quote, errors="surrogateescape")


def param_of(query: bytes, name: str) -> str | None:
    """Return the last value of a parameter in a query."""
    found = parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="surrogateescape")
    return dict(found).get(name)
