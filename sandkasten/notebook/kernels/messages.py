"""The messages between notebooks and a kernel in a sandbox: signed anew, and what may be shown; pure.

A notebook's page runs what a kernel sends it: scripts in HTML, in SVG, in Markdown and in widgets act in the
reader's name, on the machine of the notebook server. So of a sandboxed kernel's messages only known ones go
through, and of what they display only what runs nothing: text and pictures as they are, plain tables written
anew, other HTML in a frame, SVG as an image, as in `pictures`. Each side has a key of its own, so that
nothing gets around this.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from sandkasten.notebook.markup.plain import plain_markup
from sandkasten.notebook.pictures import NotShownError, page_frame, svg_image

_DELIMITER = b"<IDS|MSG>"
_MAX_IDENTITIES = 8
_MAX_IDENTITY_BYTES = 1024
_MAX_HTML_CHARS = 4_000_000
_MAX_INSTEAD_CHARS = 20_000
_PICTURES = ("image/png", "image/jpeg", "image/gif")
# The kernel is one of Python; its own words on the language name exporters and modes of an editor.
_LANGUAGE = {
    "name": "python",
    "mimetype": "text/x-python",
    "codemirror_mode": {"name": "ipython", "version": 3},
    "pygments_lexer": "ipython3",
    "nbconvert_exporter": "python",
    "file_extension": ".py",
}

Fields = dict[str, Any]


class Keys:
    """The two keys: that of the clients, and that of the kernel."""

    def __init__(self, outside: bytes, inside: bytes) -> None:
        """Know them."""
        self._outside, self._inside = outside, inside

    def inward(self, frames: Sequence[bytes]) -> list[bytes] | None:
        """Return a client's message as the kernel gets it, or None: it is not signed."""
        return _signed_anew(frames, self._outside, self._inside)

    def outward(self, frames: Sequence[bytes], *, anything: bool = False) -> list[bytes] | None:
        """Return a kernel's message as clients get it, or None: they get it not.

        Args:
            frames: the parts of the message.
            anything: whether what it displays goes through as it is.
        """
        found = _signed_anew(frames, self._inside, self._outside)
        if found is None or anything:
            return found
        at = found.index(_DELIMITER)
        if at > _MAX_IDENTITIES or any(len(part) > _MAX_IDENTITY_BYTES for part in found[:at]):
            return None
        parts = _shown(found[at + 2 : at + 6])
        return None if parts is None else [*found[: at + 1], _signature(self._outside, parts), *parts]


def _signed_anew(frames: Sequence[bytes], old: bytes, new: bytes) -> list[bytes] | None:
    if _DELIMITER not in frames:
        return None
    at = frames.index(_DELIMITER)
    signature, parts = frames[at + 1 : at + 2], frames[at + 2 : at + 6]
    if len(parts) < 4 or not hmac.compare_digest(signature[0], _signature(old, parts)):
        return None
    return [*frames[: at + 1], _signature(new, parts), *frames[at + 2 :]]


def _signature(key: bytes, parts: Sequence[bytes]) -> bytes:
    return hmac.new(key, b"".join(parts), hashlib.sha256).hexdigest().encode() if key else b""


def _shown(parts: Sequence[bytes]) -> list[bytes] | None:
    """Return header, parent, metadata and content as they may be shown."""
    try:
        header, parent, _metadata, content = map(_fields, map(json.loads, parts))
        show = _SHOW.get(str(header.get("msg_type")))
        if show is None:
            return None
        return [json.dumps(part).encode() for part in (header, parent, {}, show(content))]
    except (ValueError, RecursionError):
        return None


def _fields(value: Any) -> Fields:
    return cast("Fields", value) if isinstance(value, dict) else {}


def _as_it_is(content: Fields) -> Fields:
    return content


def _display(content: Fields) -> Fields:
    transient = _fields(content.get("transient"))
    kept = {"display_id": str(transient["display_id"])} if "display_id" in transient else {}
    count = {"execution_count": content["execution_count"]} if "execution_count" in content else {}
    bundle = bundle_to_show(_fields(content.get("data")))
    return {"data": bundle, "metadata": _sizes(_fields(content.get("metadata"))), "transient": kept, **count}


def _execute_reply(content: Fields) -> Fields:
    expressions = {
        name: {**_fields(value), "data": bundle_to_show(_fields(_fields(value).get("data")))}
        for name, value in _fields(content.get("user_expressions")).items()
    }
    payload = content.get("payload")
    items = map(_fields, cast("Sequence[Any]", payload) if isinstance(payload, list) else ())
    return {**content, "user_expressions": expressions, "payload": [_payload(item) for item in items]}


def _payload(item: Fields) -> Fields:
    source = item.get("source")
    if source == "page":
        data = {"text/plain": str(_fields(item.get("data")).get("text/plain", ""))}
        return {"source": "page", "data": data, "start": 0}
    if source == "set_next_input":
        return {"source": source, "text": str(item.get("text", "")), "replace": item.get("replace") is True}
    return {"source": "ask_exit", "keepkernel": False} if source == "ask_exit" else {"source": "none"}


def _kernel_info(content: Fields) -> Fields:
    version = str(_fields(content.get("language_info")).get("version", ""))[:20]
    return {
        "status": "ok",
        "protocol_version": "5.3",
        "implementation": "ipython",
        "implementation_version": str(content.get("implementation_version", ""))[:20],
        "language_info": {**_LANGUAGE, "version": version},
        "banner": str(content.get("banner", ""))[:2000],
        "help_links": [],
        "debugger": False,
        "supported_features": [],
    }


def _inspection(content: Fields) -> Fields:
    text = str(_fields(content.get("data")).get("text/plain", ""))
    return {**content, "data": {"text/plain": text} if content.get("found") else {}, "metadata": {}}


def _no_comms(_content: Fields) -> Fields:
    return {"status": "ok", "comms": {}}


def _completion(content: Fields) -> Fields:
    return {**content, "metadata": {}}


_SHOW: Mapping[str, Callable[[Fields], Fields]] = {
    "clear_output": _as_it_is,
    "comm_info_reply": _no_comms,
    "complete_reply": _completion,
    "display_data": _display,
    "error": _as_it_is,
    "execute_input": _as_it_is,
    "execute_reply": _execute_reply,
    "execute_result": _display,
    "history_reply": _as_it_is,
    "input_request": _as_it_is,
    "inspect_reply": _inspection,
    "interrupt_reply": _as_it_is,
    "iopub_welcome": _as_it_is,
    "is_complete_reply": _as_it_is,
    "kernel_info_reply": _kernel_info,
    "shutdown_reply": _as_it_is,
    "status": _as_it_is,
    "stream": _as_it_is,
    "update_display_data": _display,
}


def bundle_to_show(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the representations of a value, by MIME type, that run nothing in the page that shows them."""
    shown = {kind: picture for kind in _PICTURES if (picture := _picture(data.get(kind))) is not None}
    page, drawing, text = (data.get(kind) for kind in ("text/html", "image/svg+xml", "text/plain"))
    if isinstance(page, str) and len(page) <= _MAX_HTML_CHARS:
        instead = text[:_MAX_INSTEAD_CHARS] if isinstance(text, str) else ""
        shown["text/html"] = plain_markup(page) or page_frame("output", page, instead=instead)
    elif isinstance(drawing, str) and len(drawing) <= _MAX_HTML_CHARS:
        with suppress(NotShownError):
            shown["text/html"] = svg_image("output", drawing.encode("utf-8", "replace"))
    if "application/json" in data:
        shown["application/json"] = data["application/json"]
    if isinstance(text, str):
        return {**shown, "text/plain": text}
    source = next(
        (each for kind in ("text/markdown", "text/latex") if isinstance(each := data.get(kind), str)), None
    )
    if source is None and not shown and data:
        kinds = ", ".join(sorted(map(str, data)))[:200]
        source = f"[Not shown: {kinds}. A kernel in a sandbox shows text and pictures.]"
    return shown if source is None else {**shown, "text/plain": source}


def _picture(content: Any) -> str | None:
    try:
        return base64.b64encode(base64.b64decode(content)).decode() if isinstance(content, str) else None
    except (binascii.Error, ValueError):
        return None


def _sizes(metadata: Fields) -> Fields:
    found = {kind: _fields(metadata.get(kind)) for kind in _PICTURES}
    numbers = {
        kind: {name: size[name] for name in ("width", "height") if isinstance(size.get(name), int | float)}
        for kind, size in found.items()
    }
    return {kind: size for kind, size in numbers.items() if size}
