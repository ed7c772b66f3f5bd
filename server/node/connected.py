"""Who is connected to this node: what its private port says of the principals that somebody asks for."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qs

import msgspec

from protocol.ids import from_text, to_text
from server.delivery.registry import Registry


class Connected(msgspec.Struct, frozen=True):
    """One device that has synced here. Ids are texts."""

    principal: str
    device: str
    sign_in: str
    live: bool
    """Whether it gets events as they come; else it reads what it missed from the timeline."""
    waiting_bytes: int
    stuck_s: float
    """For how long its socket has taken nothing; 0 when it takes."""


class Here(msgspec.Struct, frozen=True):
    """The answer of a node."""

    node: str
    incarnation: int
    connected: list[Connected]


def read_query(query: bytes) -> list[bytes]:
    """The principals of a query string, `principal=ID&principal=ID`. Raises ValueError."""
    return [from_text(text) for text in parse_qs(query.decode("ascii")).get("principal", [])]


def find_connected(registry: Registry, principals: Iterable[bytes], now: float) -> list[Connected]:
    """Their devices here; `now` in monotonic seconds."""
    return [
        Connected(
            to_text(principal),
            to_text(subscriber.device),
            to_text(subscriber.sign_in),
            subscriber.outbox.live,
            subscriber.outbox.size,
            0.0 if subscriber.outbox.stuck_since is None else round(now - subscriber.outbox.stuck_since, 1),
        )
        for principal in principals
        for subscriber in registry.subscribers_of(principal)
    ]
