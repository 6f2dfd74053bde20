"""Requests made by hand: what `httpx.Client.build_request` makes, without what is the same for every call."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import httpx

from sandkasten._version import __version__

# Each session has a few URLs, which its calls use again and again.
_KEPT_URLS = 1024


class Builder:
    """Makes the requests to one daemon."""

    def __init__(self, base_url: str) -> None:
        """Make the headers that all of them have."""
        self._fixed = [
            (b"Host", httpx.URL(base_url).netloc),
            (b"Accept", b"*/*"),
            (b"Accept-Encoding", b"gzip, deflate"),
            (b"User-Agent", f"sandkasten/{__version__} python-httpx/{httpx.__version__}".encode("ascii")),
        ]

    def small(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        timeouts: Mapping[str, float | None],
    ) -> httpx.Request:
        """Return a request whose body is JSON, or that has none."""
        lines = [*self._fixed, *_encoded(headers)]
        content = b""
        if body is not None:
            text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            content = text.encode()
            lines += (b"Content-Length", b"%d" % len(content)), (b"Content-Type", b"application/json")
        elif method in {"POST", "PUT", "PATCH"} and "Content-Length" not in headers:
            lines.append((b"Content-Length", b"0"))
        request = httpx.Request(
            method,
            _url(url),
            headers=lines,
            stream=httpx.ByteStream(content),
            extensions={"timeout": timeouts},
        )
        request.read()
        return request

    def large(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        timeouts: Mapping[str, float | None],
        **body: Any,
    ) -> httpx.Request:
        """Return a request whose body httpx makes."""
        lines = [*self._fixed, *_encoded(headers)]
        return httpx.Request(method, _url(url), headers=lines, extensions={"timeout": timeouts}, **body)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


@functools.lru_cache(_KEPT_URLS)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)
