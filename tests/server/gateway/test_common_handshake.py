"""The usual handshake: whatever is answered without the library, the library answers alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.gateway import common_handshake, handshake
from server.gateway.handshake import Handshake
from server.gateway.request_head import RequestHead, parse

OURS = ["tchat.v1.msgpack", "tchat.v1.json"]
USUAL = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "tchat.v1.json",
}
UNUSUAL = {
    "Host": ["a", "b:80"],
    "Upgrade": ["WebSocket", "websocket, h2c", "websocket,", "websocket/13", ""],
    "Connection": ["upgrade", "keep-alive, Upgrade", "Keep-Alive,Upgrade", "Upgrade, ,", "keep-alive", "up grade", ""],
    "Sec-WebSocket-Version": ["12", "013", "13, 8", "8, 13", ""],
    "Sec-WebSocket-Key": ["dGhlIHNhbXBsZSBub25jZf==", "dGhlIHNhbXBsZSBub25j", "-GhlIHNhbXBsZSBub25jZQ==", "=" * 24, ""],
    "Sec-WebSocket-Protocol": ["tchat.v1.msgpack,tchat.v1.json", "x, tchat.v1.json", "x/1", "x y", ",", ""],
    "Origin": ["https://app.example", "https://evil.example", "null", ""],
    "Sec-WebSocket-Extensions": ["permessage-deflate; client_max_window_bits", "=;"],
    "X-Other": ["\xe9", ""],
}
NAMES = sorted(UNUSUAL)
TEXTS = st.text(st.sampled_from("aAwWgGsS13=/+,;. \t-\xdf\xff"), max_size=24)


def heads() -> st.SearchStrategy[RequestHead]:
    """Requests that differ from the usual one in a few fields, some of which are missing or come twice."""
    values = {name: st.one_of(st.sampled_from(UNUSUAL[name]), st.just(USUAL.get(name, "")), TEXTS) for name in NAMES}
    changes = st.lists(
        st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), st.lists(values[name], max_size=2))),
        max_size=3,
    )
    return st.builds(make_head, changes, st.sampled_from(("0", "1", "1", "1")))


def make_head(changes: list[tuple[str, list[str]]], minor: str) -> RequestHead:
    fields = {name: [value] for name, value in USUAL.items()} | dict(changes) | {"Host": ["a"]}
    lines = [f"{name}: {value}" for name, values in fields.items() for value in values]
    return parse("\r\n".join([f"GET /v1/ws HTTP/1.{minor}", *lines, "", ""]).encode("latin-1"))


@given(heads(), st.sampled_from(([], ["https://app.example"])), st.sampled_from((OURS, OURS[:1], [])))
def test_what_is_accepted_the_library_accepts_with_the_same_response(
    head: RequestHead, origins: list[str], ours: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("email.utils.formatdate", lambda *_args, **_options: "now")
        patched.setattr(common_handshake, "_make_date", lambda _at_s: "now")
        common = common_handshake.answer_common(head, ours, [*origins, None] if origins else None)
        patched.setattr(handshake, "answer_common", lambda *_: None)
        assert common is None or Handshake(ours, origins).answer(head) == common


@pytest.mark.parametrize("connection", ["Upgrade", "keep-alive, Upgrade"], ids=["apps", "browsers"])
@pytest.mark.parametrize("offered", ["tchat.v1.json", "tchat.v1.msgpack, tchat.v1.json"], ids=["one", "two"])
def test_the_usual_request_needs_no_library(connection: str, offered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(handshake, "ServerProtocol")
    changes = [("Connection", [connection]), ("Sec-WebSocket-Protocol", [offered]), ("X-Forwarded-For", ["1.2.3.4"])]
    response, subprotocol = Handshake(OURS, []).answer(make_head(changes, "1"))
    assert subprotocol == offered.split(",", maxsplit=1)[0]
    assert b"\r\nDate: " in response
