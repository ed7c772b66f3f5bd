"""The websocket handshake: what is negotiated, and what a refusal says."""

import pytest

from server.gateway.handshake import Handshake
from server.gateway.request_head import HeadError, RequestHead, parse

OURS = ["tchat.v1.msgpack", "tchat.v1.json"]


def request(*lines: str, first: str = "GET /v1/ws HTTP/1.1", without: str = "") -> RequestHead:
    common = ["Host: a", "Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13"]
    common += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    kept = [line for line in common if not without or not line.startswith(without)]
    return parse("\r\n".join([first, *kept, *lines, "", ""]).encode())


def answer(head: RequestHead, *, origins: tuple[str, ...] = ()) -> tuple[str, str | None]:
    response, subprotocol = Handshake(OURS, origins).answer(head)
    return response.decode(), subprotocol


def test_our_preference_among_the_offered_subprotocols_is_taken() -> None:
    response, subprotocol = answer(request("Sec-WebSocket-Protocol: other, tchat.v1.json, tchat.v1.msgpack"))
    assert subprotocol == "tchat.v1.msgpack"
    assert response.startswith("HTTP/1.1 101 ")
    assert "Sec-WebSocket-Protocol: tchat.v1.msgpack\r\n" in response
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in response


@pytest.mark.parametrize("lines", [[], ["Sec-WebSocket-Protocol: chat, tchat.v2.json"]], ids=["none", "others"])
def test_without_a_common_subprotocol_the_refusal_says_what_to_offer(lines: list[str]) -> None:
    response, subprotocol = answer(request(*lines))
    assert subprotocol is None
    assert response.startswith("HTTP/1.1 400 ")
    assert "offer one of the subprotocols tchat.v1.msgpack, tchat.v1.json" in response


def test_without_subprotocols_of_ours_every_client_is_accepted() -> None:
    response, subprotocol = Handshake([], []).answer(request("Sec-WebSocket-Protocol: chat"))
    assert subprotocol == ""
    assert b"Sec-WebSocket-Protocol" not in response


def test_compression_is_never_negotiated() -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    response, subprotocol = answer(request(offer, "Sec-WebSocket-Protocol: tchat.v1.json"))
    assert subprotocol == "tchat.v1.json"
    assert "Extensions" not in response


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://app.example", 101), ("https://evil.example", 403), (None, 101)],
)
def test_only_pages_of_allowed_origins_are_accepted(origin: str | None, status: int) -> None:
    lines = ["Sec-WebSocket-Protocol: tchat.v1.json", *([f"Origin: {origin}"] if origin else [])]
    response, _ = answer(request(*lines), origins=("https://app.example",))
    assert response.startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request(without="Sec-WebSocket-Key"), 400),
        (request(without="Sec-WebSocket-Version"), 400),
        (request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (request(without="Connection"), 426),
        (request(first="GET /v1/ws HTTP/1.0"), 505),
    ],
    ids=["no key", "no version", "two keys", "no upgrade", "http/1.0"],
)
def test_a_malformed_handshake_is_refused_by_the_library(head: RequestHead, status: int) -> None:
    response, subprotocol = answer(head)
    assert subprotocol is None
    assert response.startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request(first="POST /v1/ws HTTP/1.1"), 400),
        (request("Content-Length: 5"), 400),
        (request("Transfer-Encoding: chunked"), 400),
        (request(first="GET /v1/websocket HTTP/1.1"), 404),
        (request(first="GET //v1/ws HTTP/1.1"), 404),
    ],
    ids=["post", "body", "chunked body", "other path", "almost the path"],
)
def test_a_request_that_cannot_be_a_handshake_is_refused_first(head: RequestHead, status: int) -> None:
    with pytest.raises(HeadError) as caught:
        answer(head)
    assert caught.value.status == status
