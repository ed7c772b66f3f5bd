"""The websocket handshake (RFC 6455, section 4.2): a request head in, the response out.

`websockets` checks the headers of the handshake, but those of the usual one (`common_handshake.py`). This module checks
the path, refuses a body, and says in the refusal which subprotocol to offer. Compression is never negotiated:
ciphertext does not shrink.
"""

import logging
from collections.abc import Sequence

from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from server.gateway.common_handshake import answer_common
from server.gateway.request_head import HeadError, RequestHead

PATH = "/v1/ws"

_library_log = logging.getLogger(f"{__name__}.websockets")
_library_log.setLevel(logging.WARNING)


class Handshake:
    """What this port accepts; the same for every connection."""

    def __init__(self, subprotocols: Sequence[str], allowed_origins: Sequence[str]) -> None:
        """`subprotocols` in order of preference; if empty, no subprotocol is negotiated."""
        self._subprotocols = [Subprotocol(name) for name in subprotocols]
        # A request without an Origin does not come from a web page, so no page can be acting for its user.
        self._origins = [*(Origin(origin) for origin in allowed_origins), None] if allowed_origins else None

    def answer(self, head: RequestHead) -> tuple[bytes, str | None]:
        """Return the response and the subprotocol: "" if this port has none, None if the handshake is refused.

        Raises `HeadError` for a request that cannot be a handshake: another method or path, or a body.
        """
        if head.method != "GET":
            raise HeadError(400, "a request for a websocket must use GET")
        if head.has_body:
            raise HeadError(400, "a request for a websocket must have no body")
        if head.target.partition("?")[0] != PATH:
            raise HeadError(404, f"the websocket is at {PATH}")
        return answer_common(head, self._subprotocols, self._origins) or self._answer_any(head)

    def _answer_any(self, head: RequestHead) -> tuple[bytes, str | None]:
        protocol = ServerProtocol(
            origins=self._origins,
            subprotocols=self._subprotocols,
            select_subprotocol=_select_subprotocol,
            logger=_library_log,
        )
        response = protocol.accept(
            Request(head.target, Headers(head.fields), head.method, f"HTTP/1.{head.minor_version}")
        )
        return response.serialize(), (protocol.subprotocol or "") if response.status_code == 101 else None


def _select_subprotocol(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    ours = protocol.available_subprotocols
    if not ours:
        return None
    for name in ours:
        if name in offered:
            return name
    raise NegotiationError(f"offer one of the subprotocols {', '.join(ours)} in Sec-WebSocket-Protocol")
