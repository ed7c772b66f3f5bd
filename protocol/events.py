"""Events: server to client, without a request. A client skips tags that it does not know."""

from __future__ import annotations

from typing import Annotated

import msgspec

from protocol.bodies import Count, Invited, Settings, TimelineEvent
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import Id
from protocol.limits import SLICES_PER_COMMAND_MAX
from protocol.replies import Member


class Event(msgspec.Struct, array_like=True, frozen=True, tag_field="tag"):
    """The base of every event except `TimelineEvent`, which history pages carry, too."""


class DialogState(Event, tag=71, frozen=True):
    """The current state of a dialog for this member. Sent in catch-up before the events of the dialog.

    `first_seq` is the first event that follows. Events between those that the client has and `first_seq` are
    outside the window or not visible to it; fetch older ones with `history`. `seq` and `messages` are the newest
    numbers. `visible` lists the intervals of `seq` that the member may read; the last one is `[from, 0]`, without
    an end, while they are a member. `members` is empty in large dialogs: use `roster`.
    `pinned` is the number of the pinned message, which may be outside the window, invisible or deleted.
    `invitations` are those that the member has not answered; only the `self` dialog has any. `invited_by` has of each
    the device that invited, and its number: with these it may be an `Invitation`. `deleted`: an admin has deleted the
    dialog, and it can only be read.
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
    pinned: int | None = None
    invitations: list[Invited] = []
    deleted: bool = False
    invited_by: list[tuple[Id, Count]] = []


class CaughtUp(Event, tag=72, frozen=True):
    """Catch-up is complete: from here on events come as they happen. Keep `position` for the next sync."""

    position: str


class HeartbeatReply(Event, tag=73, frozen=True):
    """The heartbeat of the server: the answer to `heartbeat`, and at intervals without a request.

    If `position` is not empty, keep it for the next sync once every event before it is applied.
    """

    position: str = ""


class ReceiptChanged(Event, tag=74, frozen=True):
    """How far a member has received and read. It may be the client's own principal, on another device."""

    dialog: Id
    principal: Id
    delivered: int
    read: int
    read_messages: int = 0


class TypingChanged(Event, tag=75, frozen=True):
    """A member is writing, or has stopped. Drop it after `typing_shown_s` seconds without another one."""

    dialog: Id
    principal: Id
    active: bool


class PresenceChanged(Event, tag=76, frozen=True):
    """Whether a followed person is connected, and when they last were."""

    principal: Id
    online: bool
    last_seen_ms: int = 0


class Draining(Event, tag=77, frozen=True):
    """This node shuts down: reconnect after a random delay within `spread_s`."""

    spread_s: float


class MissedChanges(Event, tag=78, frozen=True):
    """For a member who returns: what was done, while they were away, to messages that they may see.

    It comes between the `dialog_state` and the events of a catch-up that contains event `before_seq`, with which the
    member came back. `events` are edits, deletions and reactions, at most `missed_changes_max`, in order of `seq`;
    their numbers are outside of `visible`. `complete` false: there are too many, or the type of dialog shows its whole
    past. Then `events` is empty: drop everything of the dialog before `before_seq`, and read it again with `history`
    when it is needed.
    """

    dialog: Id
    before_seq: int
    events: list[TimelineEvent]
    complete: bool = True


class KeySlice(msgspec.Struct, array_like=True, frozen=True):
    """The keys of a session for this device, as `author` uploaded them from `device` (see `upload_slices`).

    `number` is what `confirm_slices` names. The share was made at the `keys_seq` of `dialog`.
    """

    number: int
    dialog: Id
    author: Id
    device: Id
    keys_seq: int
    body: bytes


class KeySlices(Event, tag=130, frozen=True):
    """Keys for this device: they come before the event whose header names their share.

    What is not confirmed (`confirm_slices`) comes again with the next sync, before everything else.
    """

    slices: Annotated[list[KeySlice], msgspec.Meta(max_length=SLICES_PER_COMMAND_MAX)]


class FromDevice(Event, tag=131, frozen=True):
    """A message of another device to this one; `dialog` is one that both their people are in.

    It comes again after a reconnect until it is confirmed, with its `number` and all before it.
    """

    number: int
    dialog: Id
    author: Id
    device: Id
    body: bytes


AnyEvent = (
    TimelineEvent
    | DialogState
    | CaughtUp
    | HeartbeatReply
    | ReceiptChanged
    | TypingChanged
    | PresenceChanged
    | Draining
    | MissedChanges
    | KeySlices
    | FromDevice
)
