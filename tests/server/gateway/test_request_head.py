"""The first request head: what is accepted, and what is refused because two parsers may read it differently."""

import time

import pytest

from server.gateway.request_head import HeadError, RequestHead, find_end, parse

MAX = 1000
GET = b"GET /v1/ws?x HTTP/1.1\r\nHost: a\r\nX-Two: 1\r\nx-two:  2 \t\r\nX-Empty:\r\n\r\n"


def head(*lines: str, first: str = "POST / HTTP/1.1", host: str = "Host: a") -> bytes:
    return "\r\n".join([first, *([host] if host else []), *lines, "", ""]).encode("latin-1")


def refusal(data: bytes) -> HeadError:
    with pytest.raises(HeadError) as caught:
        parse(data)
    return caught.value


def test_a_head_is_parsed() -> None:
    fields = [("host", "a"), ("x-two", "1"), ("x-two", "2"), ("x-empty", "")]
    assert parse(GET) == RequestHead("GET", "/v1/ws?x", 1, fields, len(GET))
    assert parse(GET).get_values("x-two") == ["1", "2"]


def test_a_head_ends_at_its_empty_line_however_it_is_split() -> None:
    data = bytearray()
    seen = 0
    for byte in GET[:-1]:
        data.append(byte)
        assert find_end(data, seen, MAX) is None
        seen = len(data)
    data += GET[-1:] + b"more\n"
    assert find_end(data, seen, MAX) == len(GET)
    assert find_end(data, 0, MAX) == len(GET)
    assert find_end(b"", 0, MAX) is None


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02", b"\x00", b"\r\n", b" GET /", b"get / HTTP/1.1", b"A" * 17, b"GET / HTTP/1.1\nHost: a\r\n"],
    ids=["tls", "binary", "empty line", "space", "lower case", "no method", "bare lf"],
)
def test_what_cannot_become_a_head_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(HeadError) as caught:
        find_end(data, 0, MAX)
    assert caught.value.status == 400


def test_a_bare_lf_is_found_in_a_later_segment() -> None:
    first = b"GET / HTTP/1.1\r\nHost: a\r"
    assert find_end(first, 0, MAX) is None
    assert find_end(first + b"\n", len(first), MAX) is None
    with pytest.raises(HeadError):
        find_end(first + b"\nX: y\n", len(first), MAX)


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["endless", "whole"])
def test_a_head_larger_than_the_limit_is_refused(end: bytes) -> None:
    with pytest.raises(HeadError) as caught:
        find_end(b"GET /" + b"a" * MAX + end, 0, MAX)
    assert caught.value.status == 431


@pytest.mark.parametrize(
    "data",
    [
        head("Content-Length: 5", "Transfer-Encoding: chunked"),
        head("Content-Length: 5", "Content-Length: 6"),
        head("Content-Length: 5, 5"),
        head("Content-Length: +5"),
        head("Content-Length: 0x5"),
        head("Content-Length:"),
        head("Transfer-Encoding: gzip, chunked"),
        head("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        head("Transfer-Encoding: xchunked"),
        head("Transfer-Encoding: chunked", first="POST / HTTP/1.0"),
        head("Content-Length : 5"),
        head("X: a", " folded: yes"),
        head(" X: a"),
        head(": a"),
        head("no colon"),
        head("X: a\rb"),
        head("X: a\x00b"),
        head(host=""),
        head("Host: b"),
        head("Host: b", first="GET / HTTP/1.0"),
        head(first="POST / HTTP/2.0"),
        head(first="POST  / HTTP/1.1"),
        head(first="POST /a b HTTP/1.1"),
        head(first="POST /"),
        head(first="POST /\xe9 HTTP/1.1"),
    ],
)
def test_an_ambiguous_or_malformed_head_is_refused(data: bytes) -> None:
    assert refusal(data).status == 400


@pytest.mark.parametrize(
    ("lines", "wants", "body"),
    [
        (["Upgrade: websocket"], True, False),
        (["upgrade: h2c, WebSocket"], True, False),
        (["Upgrade: h2c"], False, False),
        (["Content-Length: 0"], False, False),
        (["Content-Length: 1"], False, True),
        (["Transfer-Encoding: Chunked"], False, True),
    ],
)
def test_whether_a_head_wants_a_websocket_and_has_a_body(lines: list[str], wants: bool, body: bool) -> None:
    request = parse(head(*lines))
    assert (request.wants_websocket, request.has_body) == (wants, body)


def test_http_1_0_needs_no_host() -> None:
    assert parse(head(first="GET / HTTP/1.0", host="")).minor_version == 0


def test_a_line_of_many_spaces_is_refused_as_fast_as_any_other() -> None:
    data = head("X: " + " " * 16_000 + "\x00")
    started = time.process_time()
    assert refusal(data).status == 400
    assert time.process_time() - started < 0.5
