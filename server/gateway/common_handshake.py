"""The usual websocket handshake, answered without the library, which takes ten times as long.

What `answer_common` accepts, `websockets` accepts with the same response. All that is unusual is left to the library,
and so is every refusal.
"""

from __future__ import annotations

import re
import time
from collections.abc import Container, Sequence
from email.utils import formatdate
from functools import lru_cache

from websockets.utils import accept_key

from server.gateway.request_head import RequestHead

_CONNECTIONS = frozenset({"upgrade", "keep-alive, upgrade"})
_key = re.compile(r"[A-Za-z0-9+/]{22}==")
_subprotocols = re.compile(r"[-.0-9A-Za-z]++(?:, ?[-.0-9A-Za-z]++)*+")


def answer_common(
    head: RequestHead, subprotocols: Sequence[str], origins: Container[str | None] | None
) -> tuple[bytes, str] | None:
    """Return the response and the subprotocol; None for what is not the usual request, or must be refused.

    The method is GET. `subprotocols` in order of preference; `origins` with None if a request may have none.
    """
    fields = dict(head.fields)
    if not (
        len(fields) == len(head.fields)
        and head.minor_version == 1
        and fields.get("upgrade", "").lower() == "websocket"
        and fields.get("connection", "").lower() in _CONNECTIONS
        and fields.get("sec-websocket-version") == "13"
        and _key.fullmatch(key := fields.get("sec-websocket-key", ""))
        and (origins is None or fields.get("origin") in origins)
        and _subprotocols.fullmatch(listed := fields.get("sec-websocket-protocol", ""))
    ):
        return None
    offered = listed.replace(", ", ",").split(",")
    for name in subprotocols:
        if name in offered:
            return _make_response(accept_key(key), name), name
    return None


def _make_response(accept: str, subprotocol: str) -> bytes:
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nDate: {_make_date(int(time.time()))}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    ).encode()


@lru_cache(maxsize=1)
def _make_date(at_s: int) -> str:
    return formatdate(at_s, usegmt=True)
