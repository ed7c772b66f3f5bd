"""Events: server to client, unasked. A client skips tags that it does not know."""

from __future__ import annotations

import msgspec

from protocol.bodies import Settings, TimelineEvent
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import Id
from protocol.replies import Member


class Event(msgspec.Struct, array_like=True, frozen=True, tag_field="tag"):
    """What every event is but `TimelineEvent`, which history pages carry too."""


class DialogState(Event, tag=71, frozen=True):
    """What a dialog is right now, for this member. Sent in catch-up before the dialog's events.

    `first_seq` is the first event that follows or is already held: what lies between what a client
    holds and `first_seq` was cut off by the window (or is not visible to it), to be had by `history`.
    `seq`, `messages` are the newest; `visible` the intervals of `seq` that one may see (the last one
    open-ended, `[from, 0]`, while one is a member); `members` is empty for large dialogs (`roster`).
    """

    dialog: Id
    type: DialogType
    mode: Mode
    name: str
    description: str
    avatar_url: str
    settings: Settings
    role: Role
    member: bool
    seq: int
    messages: int
    keys_seq: int
    member_count: int
    first_seq: int
    visible: list[tuple[int, int]]
    delivered: int
    read: int
    read_messages: int
    muted_until_ms: int
    members: list[Member] = []


class CaughtUp(Event, tag=72, frozen=True):
    """Catch-up is complete: from here on events are live. Keep `position` for the next sync."""

    position: str


class HeartbeatReply(Event, tag=73, frozen=True):
    """The server's heartbeat.

    A non-empty `position` replaces the one that is held, once all events before it have been dealt with.
    """

    position: str = ""


class ReceiptChanged(Event, tag=74, frozen=True):
    """How far a member (possibly oneself, on another device) has received and read."""

    dialog: Id
    principal: Id
    delivered: int
    read: int
    read_messages: int = 0


class TypingChanged(Event, tag=75, frozen=True):
    """A member is writing, or has stopped. Forget it after ten seconds."""

    dialog: Id
    principal: Id
    active: bool


class PresenceChanged(Event, tag=76, frozen=True):
    """Whether somebody one follows is connected, and when last."""

    principal: Id
    online: bool
    last_seen_ms: int = 0


class Draining(Event, tag=77, frozen=True):
    """This node goes down: reconnect after a random delay within `spread_s`."""

    spread_s: float


AnyEvent = (
    TimelineEvent
    | DialogState
    | CaughtUp
    | HeartbeatReply
    | ReceiptChanged
    | TypingChanged
    | PresenceChanged
    | Draining
)
