"""Requests made by hand: what `httpx.Client.build_request` makes, without what is the same for every call."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import httpx

from sandkasten._version import __version__

# Each session has a few URLs, which its calls use again and again. They cost about 1 kB each.
_KEPT_URLS = 256


class Builder:
    """Makes the requests to one daemon."""

    def __init__(self, base_url: str) -> None:
        """Make the headers of all requests, which a call replaces by naming them as they are spelled here."""
        self._fixed = {
            "Host": httpx.URL(base_url).netloc.decode("ascii"),
            "Accept": "*/*",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"sandkasten/{__version__} python-httpx/{httpx.__version__}",
        }

    def small(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        headers: dict[str, str],
        timeouts: dict[str, float],
    ) -> httpx.Request:
        """Return a request whose body is JSON, or that has none."""
        lines = self._fixed | headers
        content = b""
        if body is not None:
            text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            content = text.encode()
            lines["Content-Type"] = "application/json"
        if content or method in {"POST", "PUT", "PATCH"}:
            lines["Content-Length"] = str(len(content))
        request = httpx.Request(
            method,
            _url(url),
            headers=_encoded(lines),
            stream=httpx.ByteStream(content),
            extensions={"timeout": timeouts},
        )
        request.read()
        return request

    def large(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        timeouts: dict[str, float],
        **body: Any,
    ) -> httpx.Request:
        """Return a request whose body httpx makes."""
        lines = self._fixed | headers
        return httpx.Request(method, _url(url), headers=lines, extensions={"timeout": timeouts}, **body)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


@functools.lru_cache(_KEPT_URLS)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)
