"""The daemon's log on standard error: one event a line, for machines (JSON) or people (text).

An event is a name and plain fields. No field holds what a client runs, stores or authenticates with.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

FORMATS = ("json", "text")

_logger = logging.getLogger("sandkasten.local")


def tell(event: str, **fields: Any) -> None:
    """Log an event."""
    _logger.info(event, extra={"fields": fields})


def set_up(form: str) -> None:
    """Log events of this daemon, and of its libraries what is wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    _logger.setLevel(logging.INFO)
    _mute_parsers()


def _mute_parsers() -> None:
    """Drop the lines about each request or form that is not one, which may hold bytes of it.

    `Connections` logs how many requests there were, and each form has its line as a request.
    """
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)


def warnings_only() -> None:
    """Log what is wrong; the owner of the daemon sees no more of it."""
    _mute_parsers()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Of an event, or of any other record as the event "message"."""
        return json.dumps(_fields(self, record), default=str)


class TextFormatter(logging.Formatter):
    """One line of words a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line of time, level, event and `name=value`; no value can begin another line."""
        fields = dict(_fields(self, record))
        head = f"{fields.pop('time')} {fields.pop('level'):<7} {fields.pop('event')}"
        return " ".join([head, *(f"{name}={_word(value)}" for name, value in fields.items())])


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> Mapping[str, Any]:
    head = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
    }
    fields: Mapping[str, Any] | None = getattr(record, "fields", None)
    if fields is not None:
        return head | {"event": record.getMessage()} | dict(fields)
    tail = {"exception": formatter.formatException(record.exc_info)} if record.exc_info else {}
    return head | {"event": "message", "logger": record.name, "message": record.getMessage()} | tail


def _word(value: Any) -> str:
    text = str(value)
    is_plain = text.isascii() and text.isprintable() and text and not set(text) & {" ", '"', "="}
    return text if is_plain else json.dumps(text)
