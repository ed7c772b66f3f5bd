"""The limits of the public port, in one place; `config.toml` says the same with a comment each."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_Count = Annotated[int, Meta(ge=1)]
_WholeSeconds = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(gt=0)]
_PerSecond = Annotated[float, Meta(gt=0)]


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the acceptor and the connections behind it allow. Every number is a maximum or a time-out."""

    message_bytes_max: _Count = 65_536
    """Of one websocket message, fragments joined; above it the connection closes with 1009."""
    head_bytes_max: _Count = 16_384
    """Of one request head, PROXY header included."""
    write_high_water_bytes: _Count = 65_536
    """Bytes waiting to be sent at which a connection counts as paused; it is writable again at a quarter of that."""

    handshake_timeout_s: _Seconds = 10.0
    """From the TCP connection to the end of its first request head."""
    close_timeout_s: _Seconds = 5.0
    """From our close frame to the end of the TCP connection, whatever the client does."""
    http_request_timeout_s: _Seconds = 30.0
    """For one HTTP request to arrive whole, and for a stalled reader of a response."""
    http_idle_timeout_s: _WholeSeconds = 15
    """Between two requests on one HTTP connection."""

    connections_max: _Count = 100_000
    """Of this node, websockets and HTTP together."""
    connections_per_address_max: _Count = 2_000
    """Of one address (of one /64 network in IPv6). Mobile networks put many people behind one address."""
    connects_per_s: _PerSecond = 2_000.0
    """New connections of this node; a second's worth may come at once."""
    connects_per_address_per_s: _PerSecond = 200.0
    """New connections of one address; a second's worth may come at once."""
    retry_after_s: _WholeSeconds = 10
    """What a refused client is told to wait when there is nothing to calculate it from."""

    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose PROXY header and forwarded header are believed."""
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    """The one header that those proxies set. Only it is read: a proxy passes on the other as the client sent it."""
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may open a websocket; empty allows all. A client that sends no Origin is no browser."""
