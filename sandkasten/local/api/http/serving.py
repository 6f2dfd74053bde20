"""The parts of uvicorn that a daemon is made of; nothing else here imports uvicorn, see `late`."""

from __future__ import annotations

# isort: off
from sandkasten.local.api.http import late  # first

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server, ServerState

__all__ = [
    "ASGIReceiveEvent",
    "ASGISendEvent",
    "Config",
    "HttpToolsProtocol",
    "RequestResponseCycle",
    "Server",
    "ServerState",
    "late",
]
