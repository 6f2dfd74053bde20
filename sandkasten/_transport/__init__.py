"""HTTP/1.1 over plain sockets, below httpx: what both twins share, and the async side.

`requests` makes a request's bytes, `answers` reads an answer's; both are pure. `asynchronous` carries them on
asyncio; its blocking twin is `sandkasten_sync/_transport.py`, written by hand as well.
"""
