"""The application's table of rows and its headers, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from sandkasten.local.api.app import App, Row
from sandkasten.local.api.asgi import answer, browser_guard, open_guard
from sandkasten.local.api.http.messages import Message, Request, Response, Scope, headers_of
from sandkasten.local.observe.observer import Observer


def app_of(*rows: str) -> App:
    """Return an application whose handlers answer with their row and the names in the path."""

    def row(words: str) -> Row:
        method, path = words.split()

        async def handle(request: Request) -> Response:
            return answer([words, dict(request.path_params)])

        return Row(method, path, handle)

    return App([row(words) for words in rows], open_guard, Observer())


def ask(app: App, method: str, path: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> list[Message]:
    """Return what is sent in answer to a request."""
    sent: list[Message] = []

    async def receive() -> Message:
        pytest.fail("it has no body")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    asyncio.run(app(scope, receive, send))
    return sent


APP = app_of(
    "GET /a", "POST /a/{x}/run", "GET /a/{x}/{y}", "DELETE /a/{x}/{y}", "GET /a/b/c", "GET /a/{other}/{z}"
)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/a", b'["GET /a",{}]'),
        ("HEAD", "/a", b'["GET /a",{}]'),
        ("POST", "/a/1/run", b'["POST /a/{x}/run",{"x":"1"}]'),
        ("GET", "/a/1/run", b'["GET /a/{x}/{y}",{"x":"1","y":"run"}]'),
        ("GET", "/a/b/c", b'["GET /a/b/c",{}]'),
        ("GET", "/a/b/d", b'["GET /a/{x}/{y}",{"x":"b","y":"d"}]'),
        ("GET", "/a/\0/{y}", b'["GET /a/{x}/{y}",{"x":"\\u0000","y":"{y}"}]'),
    ],
)
def test_the_row_of_a_request_is_found(method: str, path: str, body: bytes) -> None:
    start, content = ask(APP, method, path)
    assert (start["status"], content["body"]) == (200, body)


@pytest.mark.parametrize(
    "path", ["", "/", "/a/", "a", "//a", "/a/1", "/a/1/", "/a//2", "/a/1/2/3", "/{x}", "/\0"]
)
def test_a_path_that_no_row_has_is_not_found(path: str) -> None:
    assert ask(APP, "GET", path)[0]["status"] == 404


def test_a_path_says_by_which_methods_it_is_asked() -> None:
    start, content = ask(APP, "PUT", "/a/1/run")
    assert start["status"] == 405
    assert (b"allow", b"GET, POST, DELETE") in start["headers"]
    assert b"GET, POST, DELETE" in content["body"]


def test_each_answer_has_the_id_of_its_request() -> None:
    for path in ("/a", "/nowhere"):
        assert (b"x-request-id", b"mine") in ask(APP, "GET", path, [(b"x-request-id", b"mine")])[0]["headers"]


def test_two_values_of_a_header_pass_for_none_of_them() -> None:
    headers = headers_of(
        [(b"host", b"localhost"), (b"accept", b"a"), (b"host", b"127.0.0.1"), (b"accept", b"b")]
    )
    assert headers == {"host": "localhost, 127.0.0.1", "accept": "a, b"}
    assert not browser_guard(headers)
    assert browser_guard({"host": "localhost"})
