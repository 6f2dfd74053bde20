"""The parser of answers: what it takes, what it refuses, and that it does not matter how the bytes come."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandkasten._transport.answers import MAX_HEAD_BYTES, Answer
from sandkasten._transport.requests import Outgoing, outgoing

HEAD = b"HTTP/1.1 200 OK\r\n"
PLAIN = HEAD + b"content-length: 4\r\n\r\nbody"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n1;x=y\r\nb\r\n3\r\nody\r\n0\r\nx: y\r\n\r\n"

# Taken: the bytes, the body, and whether the connection carries another request.
TAKEN = {
    "a length": (PLAIN, b"body", True),
    "chunks": (CHUNKED, b"body", True),
    "an empty body": (HEAD + b"content-length: 0\r\n\r\n", b"", True),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", b"", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "not modified": (b"HTTP/1.1 304 x\r\ncontent-length: 4\r\n\r\n", b"", True),
    "a farewell": (HEAD + b"connection: close\r\ncontent-length: 4\r\n\r\nbody", b"body", False),
    "two connections": (
        HEAD + b"connection: keep-alive\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody",
        b"body",
        False,
    ),
    "an old version": (b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nbody", b"body", False),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN, b"body", True),
    "hints": (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3 + PLAIN, b"body", True),
    "continue with a length": (b"HTTP/1.1 100 Continue\r\ncontent-length: 9\r\n\r\n" + PLAIN, b"body", True),
    "another answer": (PLAIN + PLAIN, b"body", False),
    "rubbish after it": (PLAIN + b"rubbish", b"body", False),
    "rubbish after chunks": (CHUNKED + b"rubbish", b"body", False),
    "an answer after a farewell": (
        HEAD + b"connection: close\r\ncontent-length: 4\r\n\r\nbody" + PLAIN,
        b"body",
        False,
    ),
    "a body where none is": (b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nbody", b"", False),
}
UNTIL_THE_END = {
    "no length": HEAD + b"\r\nbody",
    "no length, kept alive": HEAD + b"connection: keep-alive\r\n\r\nbody",
    "no length, old": b"HTTP/1.0 200 OK\r\n\r\nbody",
}
REFUSED = {
    "both lengths": HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "both lengths, turned": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n4\r\nbody\r\n",
    "a length twice": HEAD + b"content-length: 4\r\ncontent-length: 4\r\n\r\nbody",
    "two lengths": HEAD + b"content-length: 4\r\ncontent-length: 9\r\n\r\nbody",
    "a list of lengths": HEAD + b"content-length: 4, 4\r\n\r\nbody",
    "a negative length": HEAD + b"content-length: -4\r\n\r\nbody",
    "a length with a sign": HEAD + b"content-length: +4\r\n\r\nbody",
    "a length in hexadecimal": HEAD + b"content-length: 0x4\r\n\r\nbody",
    "no number": HEAD + b"content-length: \r\n\r\nbody",
    "a huge length": HEAD + b"content-length: 99999999999999999999\r\n\r\nbody",
    "another coding": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"transfer-encoding: chunked, chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "codings in two lines": HEAD
    + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "something like chunked": HEAD + b"transfer-encoding: xchunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "a chunk's size with a prefix": HEAD + b"transfer-encoding: chunked\r\n\r\n0x4\r\nbody\r\n0\r\n\r\n",
    "a chunk's size with a space": HEAD + b"transfer-encoding: chunked\r\n\r\n4 \r\nbody\r\n0\r\n\r\n",
    "a negative chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n-4\r\nbody\r\n0\r\n\r\n",
    "a huge chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nbody\r\n0\r\n\r\n",
    "a chunk that goes on": HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nbody\r\n0\r\n\r\n",
    "chunks with bare line feeds": HEAD + b"transfer-encoding: chunked\r\n\r\n4\nbody\n0\n\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 4\n\nbody",
    "bare carriage returns": b"HTTP/1.1 200 OK\rcontent-length: 4\r\rbody",
    "a folded header": HEAD + b"x: a\r\n b\r\ncontent-length: 4\r\n\r\nbody",
    "a space before the colon": HEAD + b"content-length : 4\r\n\r\nbody",
    "a null byte": HEAD + b"x: a\x00b\r\ncontent-length: 4\r\n\r\nbody",
    "a header without a name": HEAD + b": a\r\ncontent-length: 4\r\n\r\nbody",
    "another protocol": b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n" + PLAIN,
    "a status below those there are": b"HTTP/1.1 000 x\r\ncontent-length: 4\r\n\r\nbody",
    "a new version": b"HTTP/2.0 200 OK\r\ncontent-length: 4\r\n\r\nbody",
    "an unknown version": b"HTTP/1.7 200 OK\r\ncontent-length: 4\r\n\r\nbody",
    "a page": b"<html>",
    "another server": b"SSH-2.0-x\r\n",
    "continue, and a farewell": b"HTTP/1.1 100 Continue\r\nconnection: close\r\n\r\n" + PLAIN,
    "a long head": HEAD + b"x: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n",
    "a head that does not end": HEAD + b"x: " + b"y" * MAX_HEAD_BYTES,
    "many headers": HEAD + b"x: y\r\n" * (MAX_HEAD_BYTES // 6) + b"content-length: 4\r\n\r\nbody",
    "many answers before it": b"HTTP/1.1 103 x\r\nx: y\r\n\r\n" * (MAX_HEAD_BYTES // 6),
    "long trailers": HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * (MAX_HEAD_BYTES // 6),
}

WAYS = {"whole": 10**9, "in pieces": 7, "byte by byte": 1}
BOTH_WAYS = pytest.mark.parametrize("step", WAYS.values(), ids=WAYS)


def read(data: bytes, step: int = 10**9) -> Answer:
    answer = Answer()
    for start in range(0, len(data), step):
        answer.feed(data[start : start + step])
    return answer


@BOTH_WAYS
@pytest.mark.parametrize("name", TAKEN)
def test_an_answer_is_read_to_its_end_and_no_further(name: str, step: int) -> None:
    data, body, can_reuse = TAKEN[name]
    answer = read(data, step)
    assert (answer.is_complete, b"".join(answer.take()), answer.can_reuse) == (True, body, can_reuse)
    answer.end()
    assert not answer.can_reuse


@BOTH_WAYS
@pytest.mark.parametrize("name", UNTIL_THE_END)
def test_an_answer_without_a_length_ends_with_its_connection(name: str, step: int) -> None:
    answer = read(UNTIL_THE_END[name], step)
    assert not answer.is_complete
    answer.end()
    assert (answer.is_complete, b"".join(answer.take()), answer.can_reuse) == (True, b"body", False)


@BOTH_WAYS
@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_understood_in_two_ways_or_not_at_all_is_refused(name: str, step: int) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        read(REFUSED[name], step)


@pytest.mark.parametrize("data", [PLAIN, CHUNKED], ids=["length", "chunks"])
def test_an_answer_that_breaks_off_is_never_complete(data: bytes) -> None:
    for size in range(len(data)):
        answer = read(data[:size])
        assert not answer.is_complete
        with pytest.raises(httpx.RemoteProtocolError):
            answer.end()


def test_bytes_between_chunks_that_never_end_are_refused() -> None:
    answer = read(HEAD + b"transfer-encoding: chunked\r\n\r\n1;")
    with pytest.raises(httpx.RemoteProtocolError, match="between two chunks"):
        for _ in range(1000):
            answer.feed(b"x" * 1024)


def test_chunks_may_be_as_many_as_they_like() -> None:
    answer = read(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    for _ in range(2 * MAX_HEAD_BYTES):
        answer.feed(b"1\r\nx\r\n")
    assert answer.pending_bytes == 2 * MAX_HEAD_BYTES


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([PLAIN, CHUNKED, HEAD, b"\r\n", b"0", b": ", b"content-length: 1", b"\x00"])))
def test_whatever_comes_the_parser_ends_with_an_answer_or_an_error_of_the_peer(parts: list[bytes]) -> None:
    outcomes = set[object]()
    for step in WAYS.values():
        try:
            answer = read(b"".join(parts), step)
        except httpx.RemoteProtocolError:
            outcomes.add("refused")
        else:
            outcomes.add((answer.is_complete, b"".join(answer.take())))
    assert len(outcomes) == 1


# --- the other way


def sent(out: Outgoing, pieces: list[bytes]) -> bytes:
    return b"".join(bytes(data) for piece in pieces for data in out.framed(piece)) + out.end()


def test_a_request_is_written_as_it_is_meant() -> None:
    out = outgoing(httpx.Request("POST", "http://host/a%20b?c=d", json={"e": "f"}))
    assert out.head.startswith(b"POST /a%20b?c=d HTTP/1.1\r\nHost: host\r\n")
    assert out.head.endswith(b"\r\n\r\n")
    assert out.body == b'{"e":"f"}'


def test_a_body_of_unknown_length_goes_in_chunks() -> None:
    out = outgoing(httpx.Request("PUT", "http://host/", content=iter([b""])))
    assert out.body is None
    assert sent(out, [b"abc", b"", b"0123456789"]) == b"3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n"


@pytest.mark.parametrize("pieces", [[b"abc"], [b"abc", b"de"], []], ids=["short", "long", "empty"])
def test_a_body_that_is_not_as_long_as_its_head_says_is_not_sent_as_if_it_were(pieces: list[bytes]) -> None:
    out = outgoing(httpx.Request("PUT", "http://host/", headers={"Content-Length": "4"}, content=iter([b""])))
    with pytest.raises(httpx.LocalProtocolError):
        sent(out, pieces)


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nY: b"},
        {"X": "a\nb"},
        {"X": "a\x00b"},
        {"X\r\nY": "a"},
        {"X Y": "a"},
        {"": "a"},
        {"Content-Length": "9"},
        {"Transfer-Encoding": "chunked"},
    ],
    ids=repr,
)
def test_a_request_that_would_be_another_is_not_sent(headers: dict[str, str]) -> None:
    request = httpx.Request("POST", "http://host/", content=b"body")
    request.headers.update(headers)
    with pytest.raises(httpx.LocalProtocolError):
        outgoing(request)
