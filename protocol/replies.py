"""Replies: server to client, one for each command with an `id` above 0, and one for every refusal."""

from __future__ import annotations

import msgspec

from protocol.bodies import TimelineEvent
from protocol.commands import RequestId
from protocol.dialog_types import Role
from protocol.ids import Id


class Reply(msgspec.Struct, array_like=True, frozen=True, tag_field="tag"):
    """What every reply starts with: the `id` of its command."""

    id: RequestId


class Authenticated(Reply, tag=50, frozen=True):
    """Who one is, and what the server expects: something at least every `heartbeat_s` seconds.

    `time_ms` is the server's clock; `in_flight_max` how many sends may await their ack;
    `message_bytes_max` the largest message.
    """

    principal: Id
    device: Id
    time_ms: int
    heartbeat_s: float
    in_flight_max: int
    message_bytes_max: int


class Synced(Reply, tag=51, frozen=True):
    """Catch-up begins.

    `recovered` false: forget what you hold of all dialogs; a window of each follows.
    """

    recovered: bool


class Acked(Reply, tag=52, frozen=True):
    """It is durable, at `seq`. A retry of the same `n` is answered with the same numbers."""

    dialog: Id
    n: int
    seq: int
    at_ms: int
    messages: int


class Done(Reply, tag=53, frozen=True):
    """It is done, and there is nothing to say about it."""


class Failed(Reply, tag=54, frozen=True):
    """It was refused and changed nothing: a stable code and a sentence that says what to do.

    `keys_seq` comes with `stale`.
    """

    code: str
    message: str
    retry_after_s: float | None = None
    keys_seq: int | None = None


class HistoryPage(Reply, tag=55, frozen=True):
    """Events in rising order. `more`: the range holds more than fitted.

    `later`: the edits, deletions and reactions that came after the page for messages in it.
    """

    dialog: Id
    events: list[TimelineEvent]
    later: list[TimelineEvent] = []
    more: bool = False


class Member(msgspec.Struct, array_like=True, frozen=True):
    """A member as others see them."""

    principal: Id
    role: Role
    name: str = ""
    delivered: int = 0
    read: int = 0


class RosterPage(Reply, tag=56, frozen=True):
    """Members in the order of their ids. `more`: ask again after the last one."""

    dialog: Id
    members: list[Member]
    more: bool = False


AnyReply = Authenticated | Synced | Acked | Done | Failed | HistoryPage | RosterPage
