"""The bodies of timeline events: what happened, as one tagged union.

A body is stored and fanned out as its msgpack bytes; every change that a member must learn of is one of
these. Tags are never reused; fields are only ever appended, with defaults. What people write is in
`payload` (opaque bytes); the name and description of a dialog are in the clear.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import Id
from protocol.kinds import Kind
from protocol.limits import (
    CONTENT_TYPE_CHARS_MAX,
    DESCRIPTION_CHARS_MAX,
    MEMBERS_PER_COMMAND_MAX,
    N_MAX,
    NAME_CHARS_MAX,
    PAYLOAD_BYTES_MAX,
    REACTION_BYTES_MAX,
    REF_CHARS_MAX,
    RETENTION_DAYS_MAX,
    URL_CHARS_MAX,
)

N = Annotated[int, msgspec.Meta(ge=1, le=N_MAX)]
Seq = Annotated[int, msgspec.Meta(ge=1, le=N_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=N_MAX)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=N_MAX)]
Payload = Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_BYTES_MAX)]
Reaction = Annotated[bytes, msgspec.Meta(max_length=REACTION_BYTES_MAX)]
ContentType = Annotated[str, msgspec.Meta(max_length=CONTENT_TYPE_CHARS_MAX)]
Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]
Description = Annotated[str, msgspec.Meta(max_length=DESCRIPTION_CHARS_MAX)]
Url = Annotated[str, msgspec.Meta(max_length=URL_CHARS_MAX)]
RefText = Annotated[str, msgspec.Meta(min_length=1, max_length=REF_CHARS_MAX)]
Commitment = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
MegolmSession = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
ViewHash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
LogHash = Annotated[bytes, msgspec.Meta(max_length=32)]
Ids = Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MEMBERS_PER_COMMAND_MAX)]


class Ref(msgspec.Struct, array_like=True, frozen=True):
    """A thing of the platform that an event is about: an order, a booking, a campaign, a payment."""

    type: RefText
    id: RefText


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What the server can read of an envelope beside its kind. `content_type` is constant when sealed.

    `keys_seq` is the `keys_seq` of the dialog when the envelope was made; `commitment` lets a receiver
    prove later what a sealed message contained; clients hide a posted message after `expires_at_ms`, and the
    server erases it.

    `session` is the Megolm session of a sealed payload, which needs a `commitment`. `share` names the slices that bring
    its keys to the devices that lack them; they were uploaded before (`upload_slices`).
    """

    content_type: ContentType = ""
    reply_to: Seq | None = None
    expires_at_ms: Millis | None = None
    ref: Ref | None = None
    keys_seq: Count = 0
    commitment: Commitment | None = None
    session: MegolmSession | None = None
    share: Id | None = None


class Settings(msgspec.Struct, array_like=True, frozen=True):
    """The settings of a dialog.

    A message is erased `message_retention_days` after it was posted; 0 keeps messages as long as the dialog.
    """

    is_public: bool = False
    allow_media: bool = True
    message_retention_days: Annotated[int, msgspec.Meta(ge=0, le=RETENTION_DAYS_MAX)] = 0
    moderation_enabled: bool = False


class MemberRole(msgspec.Struct, array_like=True, frozen=True):
    """A member and what they may do."""

    principal: Id
    role: Role


class LogHead(msgspec.Struct, array_like=True, frozen=True):
    """How far the device log of a person goes: `head` is the hash of its last entry. Generation 0: there is no log."""

    generation: Count = 0
    length: Count = 0
    head: LogHash = b""


LogHeads = Annotated[list[LogHead], msgspec.Meta(max_length=MEMBERS_PER_COMMAND_MAX + 1)]


class Signed(msgspec.Struct, array_like=True, frozen=True):
    """The signature of the author's device under a change of the members of a sealed dialog.

    It covers the members that the author saw: `view` is their hash at `keys_seq`.
    """

    keys_seq: Count
    view: ViewHash
    signature: Signature


class Invitation(msgspec.Struct, array_like=True, frozen=True):
    """The event with which `by` invited somebody, and what their device signed: what lets them into a sealed dialog."""

    by: Id
    device: Id
    n: N
    signed: Signed


class Body(msgspec.Struct, array_like=True, frozen=True, tag_field="tag"):
    """The base of every body in the union `AnyBody`."""


def tag_of(struct: type[msgspec.Struct]) -> int:
    """The number that stands for a type of message or body on the wire, and of a body in the store."""
    tag = struct.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


class Posted(Body, tag=1, frozen=True):
    """An envelope: a message, or a typed event of a service.

    `acting_for` is the business for which a service posts it. `requester` is the member who began the payment of which
    a service posts the first version: the server judges whether they may write here, and takes it out. Members set
    neither.
    """

    kind: Kind
    header: Header
    payload: Payload
    acting_for: Id | None = None
    requester: Id | None = None


class Edited(Body, tag=2, frozen=True):
    """The author replaced the envelope of message `target`; the highest `seq` wins."""

    target: Seq
    payload: Payload
    header: Header = Header()


class Deleted(Body, tag=3, frozen=True):
    """Message `target` was deleted for everybody, by its author or by an admin."""

    target: Seq


class Reacted(Body, tag=4, frozen=True):
    """A person's reaction to message `target`; their newest replaces older ones, an empty one withdraws it."""

    target: Seq
    payload: Reaction
    header: Header = Header()


class Erased(Body, tag=5, frozen=True):
    """Replaces content that was removed: the event keeps `seq`, author, device, `n`, `at_ms` and `messages`."""


class DialogCreated(Body, tag=10, frozen=True):
    """The first event of every dialog. In sealed groups `signature` is that of the author's device.

    `logs` are the device logs of `members`, in the same order; empty where nothing is sealed, or nobody has one. The
    server fills them in.
    """

    type: DialogType
    mode: Mode
    name: Name
    description: Description
    avatar_url: Url
    settings: Settings
    members: Annotated[list[MemberRole], msgspec.Meta(max_length=MEMBERS_PER_COMMAND_MAX + 1)]
    signature: Signature | None = None
    logs: LogHeads = []


class MembersAdded(Body, tag=11, frozen=True):
    """These joined as plain members: added by an admin, or one who joined alone, a public dialog or by an invitation.

    They have read up to here. In sealed dialogs the admin's device has signed it, or the `invitation` of who joined;
    `logs` are the device logs of `members`, in the same order; empty if nobody has one. The server fills them in.
    """

    members: Ids
    signed: Signed | None = None
    invitation: Invitation | None = None
    logs: LogHeads = []


class MemberRemoved(Body, tag=12, frozen=True):
    """An admin removed this member; it is the last event that this member receives."""

    member: Id


class MemberLeft(Body, tag=13, frozen=True):
    """The author left; it is the last event that the author receives."""


class Promoted(Body, tag=14, frozen=True):
    """This member became an admin: promoted by an admin, or as the longest-standing one when the last admin left.

    In sealed dialogs the device of the admin who promotes has signed it; who follows the last admin needs no signature.
    """

    member: Id
    signed: Signed | None = None


class Demoted(Body, tag=15, frozen=True):
    """This admin became a plain member."""

    member: Id


class SettingsChanged(Body, tag=16, frozen=True):
    """An admin changed the settings: the new value of each of them."""

    name: Name
    description: Description
    avatar_url: Url
    settings: Settings


class Pinned(Body, tag=17, frozen=True):
    """Message `target` is pinned for all members, instead of the one before; null: none is pinned."""

    target: Seq | None = None


class DialogDeleted(Body, tag=18, frozen=True):
    """An admin deleted the dialog: nothing can be added any more, and its timeline is erased after a grace."""


class DevicesChanged(Body, tag=19, frozen=True):
    """In a sealed dialog: the device log of the member `principal` goes as far as `log` now.

    The server writes it. Who seals reads the log, and hands keys to the devices that it has now.
    """

    principal: Id
    log: LogHead


class Muted(Body, tag=20, frozen=True):
    """In the `self` dialog: no notifications of `dialog` until then; 0 ends it."""

    dialog: Id
    until_ms: Millis


class Blocked(Body, tag=21, frozen=True):
    """In the `self` dialog: `principal` can no longer write to the author directly, or add the author to dialogs."""

    principal: Id


class Unblocked(Body, tag=22, frozen=True):
    """In the `self` dialog: the block of `principal` ended."""

    principal: Id


class ProfileChanged(Body, tag=23, frozen=True):
    """In the `self` dialog: the author's profile changed; fetch it from the HTTP API."""


class Invited(Body, tag=24, frozen=True):
    """In the `self` dialog: `by` invites its owner into `dialog`, which had this type and name.

    The invitation ends when the owner declines it or becomes a member, and holds only while `by` is an admin there.
    Into a sealed dialog the device of `by` has signed it.
    """

    dialog: Id
    by: Id
    type: DialogType
    name: Name
    signed: Signed | None = None


class Declined(Body, tag=25, frozen=True):
    """In the `self` dialog: its owner declined the invitation into `dialog`."""

    dialog: Id


AnyBody = (
    Posted
    | Edited
    | Deleted
    | Reacted
    | Erased
    | DialogCreated
    | MembersAdded
    | MemberRemoved
    | MemberLeft
    | Promoted
    | Demoted
    | SettingsChanged
    | Pinned
    | DialogDeleted
    | DevicesChanged
    | Muted
    | Blocked
    | Unblocked
    | ProfileChanged
    | Invited
    | Declined
)

decode_body = msgspec.msgpack.Decoder(AnyBody).decode
"""A body from the msgpack that is stored; raises msgspec.DecodeError."""


class TimelineEvent(msgspec.Struct, array_like=True, frozen=True, tag_field="tag", tag=70):
    """One event of a timeline: who did what, when, as number `seq` of the dialog.

    `messages` counts the messages of the dialog up to here, so that unread is a subtraction. The events of a
    dialog arrive in order of `seq`; a client drops those it has and fetches a gap with `history`.
    """

    dialog: Id
    seq: int
    author: Id
    device: Id
    n: int
    at_ms: int
    messages: int
    body: AnyBody


class TimelineEventRaw(msgspec.Struct, array_like=True, frozen=True, tag_field="tag", tag=70):
    """`TimelineEvent` with its body as stored msgpack bytes: what the server sends."""

    dialog: bytes
    seq: int
    author: bytes
    device: bytes
    n: int
    at_ms: int
    messages: int
    body: msgspec.Raw
