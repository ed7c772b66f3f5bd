"""Commands: client to server.

Each carries an `id` that its reply repeats; 0 asks for no reply where success needs none (receipts, typing,
heartbeat); a refusal is answered all the same.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from protocol.bodies import (
    Count,
    Description,
    Header,
    Ids,
    Millis,
    N,
    Name,
    Payload,
    Reaction,
    Seq,
    Settings,
    Url,
)
from protocol.dialog_types import DialogType, Mode
from protocol.ids import Id
from protocol.kinds import Kind
from protocol.limits import (
    HISTORY_EVENTS_MAX,
    MEMBERS_PER_COMMAND_MAX,
    POSITION_CHARS_MAX,
    PRESENCE_SUBSCRIPTIONS_MAX,
    RECEIPTS_PER_SYNC_MAX,
    ROSTER_MEMBERS_MAX,
    TOKEN_CHARS_MAX,
)

RequestId = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Token = Annotated[str, msgspec.Meta(max_length=TOKEN_CHARS_MAX)]
PositionText = Annotated[str, msgspec.Meta(max_length=POSITION_CHARS_MAX)]


class HighWaterMark(msgspec.Struct, array_like=True, frozen=True):
    """High-water marks of the author in one dialog; they only grow."""

    dialog: Id
    delivered: Count = 0
    read: Count = 0


class Command(msgspec.Struct, array_like=True, frozen=True, tag_field="tag", gc=False):
    """What every command starts with."""

    id: RequestId


class Authenticate(Command, tag=1, frozen=True):
    """The first command; again on a live session, with a newer token, to prolong it.

    `device` is needed only with tokens of other issuers that name none.
    """

    token: Token
    device: Id | None = None


class Sync(Command, tag=2, frozen=True):
    """Ask for all that changed since `position` (empty: from nothing), then for live events."""

    position: PositionText = ""
    marks: Annotated[list[HighWaterMark], msgspec.Meta(max_length=RECEIPTS_PER_SYNC_MAX)] = []


class Heartbeat(Command, tag=3, frozen=True):
    """Say that one is there; answered with the server's heartbeat."""


class SignOut(Command, tag=4, frozen=True):
    """End this sign-in: its refresh token dies and the connection closes."""


class Send(Command, tag=10, frozen=True):
    """Post an envelope."""

    dialog: Id
    n: N
    payload: Payload
    header: Header = Header()
    kind: Kind = Kind.MESSAGE


class Edit(Command, tag=11, frozen=True):
    """Replace the envelope of one's own message."""

    dialog: Id
    n: N
    target: Seq
    payload: Payload
    header: Header = Header()


class Delete(Command, tag=12, frozen=True):
    """Delete one's own message for all, or as admin anybody's."""

    dialog: Id
    n: N
    target: Seq


class React(Command, tag=13, frozen=True):
    """Set one's reaction to a message; empty withdraws it."""

    dialog: Id
    n: N
    target: Seq
    payload: Reaction


class History(Command, tag=20, frozen=True):
    """A page of a timeline: up to `limit` events with `from_seq <= seq <= to_seq`.

    The newest ones when `newest_first`, else the oldest; always returned in rising order.
    """

    dialog: Id
    from_seq: Seq = 1
    to_seq: Seq = 2**53 - 1
    limit: Annotated[int, msgspec.Meta(ge=1, le=HISTORY_EVENTS_MAX)] = 50
    newest_first: bool = True


class Roster(Command, tag=21, frozen=True):
    """A page of the members of a dialog, in the order of their ids, after `after`."""

    dialog: Id
    after: Id = bytes(16)
    limit: Annotated[int, msgspec.Meta(ge=1, le=ROSTER_MEMBERS_MAX)] = 100


class Receipt(Command, tag=22, frozen=True):
    """Say how far one has received and read."""

    mark: HighWaterMark


class Typing(Command, tag=23, frozen=True):
    """Say that one is writing, or has stopped."""

    dialog: Id
    active: bool = True


class PresenceSubscribe(Command, tag=24, frozen=True):
    """Replace the set of people whose presence one follows; only those one shares a direct dialog with."""

    principals: Annotated[list[Id], msgspec.Meta(max_length=PRESENCE_SUBSCRIPTIONS_MAX)]


class Create(Command, tag=30, frozen=True):
    """Create a dialog; the author becomes its admin. A direct dialog that exists is returned instead.

    `members` are the others (the author is one in any case): exactly one for a direct dialog.
    """

    n: N
    type: DialogType
    members: Annotated[list[Id], msgspec.Meta(max_length=MEMBERS_PER_COMMAND_MAX)]
    name: Name = ""
    mode: Mode | None = None
    description: Description = ""
    avatar_url: Url = ""
    settings: Settings = Settings()


class Add(Command, tag=31, frozen=True):
    """Add members as an admin; or oneself to a public dialog."""

    dialog: Id
    n: N
    members: Ids


class Remove(Command, tag=32, frozen=True):
    """Remove a member as an admin."""

    dialog: Id
    n: N
    member: Id


class Leave(Command, tag=33, frozen=True):
    """Leave; when the last admin leaves, the longest-standing member becomes one."""

    dialog: Id
    n: N


class Promote(Command, tag=34, frozen=True):
    """Make a member an admin."""

    dialog: Id
    n: N
    member: Id


class Demote(Command, tag=35, frozen=True):
    """Make an admin a plain member."""

    dialog: Id
    n: N
    member: Id


class ChangeSettings(Command, tag=36, frozen=True):
    """Set name, description, avatar and settings, all of them."""

    dialog: Id
    n: N
    name: Name
    description: Description = ""
    avatar_url: Url = ""
    settings: Settings = Settings()


class Mute(Command, tag=37, frozen=True):
    """Mute a dialog for oneself until then; 0 ends it."""

    dialog: Id
    n: N
    until_ms: Millis


class Block(Command, tag=38, frozen=True):
    """Block a principal."""

    principal: Id
    n: N


class Unblock(Command, tag=39, frozen=True):
    """End a block."""

    principal: Id
    n: N


Content = Send | Edit | Delete | React
"""Commands that are pipelined: many may be under way at once."""

Change = Create | Add | Remove | Leave | Promote | Demote | ChangeSettings | Mute | Block | Unblock

AnyCommand = (
    Authenticate
    | Sync
    | Heartbeat
    | SignOut
    | Send
    | Edit
    | Delete
    | React
    | History
    | Roster
    | Receipt
    | Typing
    | PresenceSubscribe
    | Create
    | Add
    | Remove
    | Leave
    | Promote
    | Demote
    | ChangeSettings
    | Mute
    | Block
    | Unblock
)
