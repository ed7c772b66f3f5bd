"""Commands: client to server, each declared once.

A command carries an `id` that its reply repeats. With `id` 0 it gets neither `done` nor `failed`: that is for commands
that need no answer (receipt, typing, heartbeat).

The `rule` of a command states the rest: in which states it is allowed, what it appends and where, what it costs, with
which codes it may be refused. The session, the order of a sender, the client's outbox, the reference page and the
tests read the rule. The handler is found by the name of the tag.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, get_args

import msgspec

from protocol import bodies as b
from protocol.bodies import Count, Description, Header, Ids, Millis, N, Name, Payload, Reaction, Seq, Settings, Url
from protocol.command_rules import (
    FROM_THE_START,
    READ_CODES,
    WHEN_LIVE,
    Command,
    CommandRule,
    Timeline,
    change_rule,
    content_rule,
)
from protocol.device_commands import OfKeys
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.ids import NIL, Id
from protocol.kinds import Kind
from protocol.limits import (
    HISTORY_EVENTS_MAX,
    MEMBERS_PER_COMMAND_MAX,
    N_MAX,
    POSITION_CHARS_MAX,
    PRESENCE_SUBSCRIPTIONS_MAX,
    RECEIPTS_PER_SYNC_MAX,
    ROSTER_MEMBERS_MAX,
    TOKEN_CHARS_MAX,
)
from protocol.payment_commands import OfPayments
from protocol.states import SessionState

Token = Annotated[str, msgspec.Meta(max_length=TOKEN_CHARS_MAX)]
PositionText = Annotated[str, msgspec.Meta(max_length=POSITION_CHARS_MAX)]

_ABOUT_OTHERS = (ErrorCode.PRINCIPAL_NOT_FOUND, ErrorCode.BLOCKED, ErrorCode.DAILY_LIMIT)
_BRINGS_IN = (*_ABOUT_OTHERS, ErrorCode.DIALOGS_BOUND, ErrorCode.CONSENT_REQUIRED)
_JOINS = (ErrorCode.ALREADY_MEMBER, ErrorCode.MEMBERS_BOUND, ErrorCode.SIGNATURE_REQUIRED)
_LETS_READ = (ErrorCode.FIXED_ROSTER, ErrorCode.ROLE_REQUIRED, ErrorCode.SIGNATURE_REQUIRED)


class HighWaterMark(msgspec.Struct, array_like=True, frozen=True):
    """How far the author has received and read one dialog. Each number only grows; a lower one changes nothing."""

    dialog: Id
    delivered: Count = 0
    read: Count = 0


class Authenticate(Command, tag=1, frozen=True):
    """The first command. Send it again with a newer token to prolong the session.

    `device` is needed only with a token of an external issuer that names no device.
    """

    rule: ClassVar = CommandRule(
        states=FROM_THE_START,
        codes=frozenset(
            {
                ErrorCode.TOKEN_INVALID,
                ErrorCode.TOKEN_EXPIRED,
                ErrorCode.SIGNED_OUT,
                ErrorCode.SUSPENDED,
                ErrorCode.WRONG_PERSON,
                ErrorCode.INVALID_ARGUMENT,
                ErrorCode.RATE_LIMITED,
                ErrorCode.UNAVAILABLE,
            }
        ),
    )

    token: Token
    device: Id | None = None


class Sync(Command, tag=2, frozen=True):
    """Ask for everything that changed since `position` (empty: everything), then for events as they happen.

    `receipts` repeats the client's own receipts, since those sent before a disconnect may be lost. They are not taken
    when `position` is of another epoch.
    """

    rule: ClassVar = CommandRule(
        states=frozenset({SessionState.AUTHENTICATED}),
        # looks at every dialog of the person, and sends a window of each without a position; and looks up each receipt
        cost=lambda command: 10 + len(command.receipts) // 20,
        codes=frozenset({ErrorCode.SIGNED_OUT, ErrorCode.SUSPENDED, ErrorCode.UNAVAILABLE}),
    )

    position: PositionText = ""
    receipts: Annotated[list[HighWaterMark], msgspec.Meta(max_length=RECEIPTS_PER_SYNC_MAX)] = msgspec.field(
        default_factory=list
    )


class Heartbeat(Command, tag=3, frozen=True):
    """Show that the client is alive; the answer is `heartbeat_reply`, and then `done` if there is an `id`."""

    rule: ClassVar = CommandRule(states=FROM_THE_START)


class SignOut(Command, tag=4, frozen=True):
    """End this sign-in: its refresh token becomes invalid and the connection closes."""

    rule: ClassVar = CommandRule(
        states=frozenset({SessionState.AUTHENTICATED, SessionState.LIVE}), codes=frozenset({ErrorCode.UNAVAILABLE})
    )


class Send(Command, tag=10, frozen=True):
    """Post an envelope."""

    rule: ClassVar = content_rule(b.Posted, ErrorCode.STALE, ErrorCode.INVALID_ARGUMENT, ErrorCode.NOT_ALLOWED)

    dialog: Id
    n: N
    payload: Payload
    header: Header = Header()
    kind: Kind = Kind.MESSAGE


class Edit(Command, tag=11, frozen=True):
    """Replace the envelope of a message of one's own."""

    rule: ClassVar = content_rule(b.Edited, ErrorCode.STALE, ErrorCode.INVALID_ARGUMENT)

    dialog: Id
    n: N
    target: Seq
    payload: Payload
    header: Header = Header()


class Delete(Command, tag=12, frozen=True):
    """Delete a message for everybody: its author may, and an admin; not while its kind must be kept (see kinds)."""

    rule: ClassVar = change_rule(b.Deleted, ErrorCode.EVENT_NOT_FOUND, ErrorCode.NOT_ALLOWED)

    dialog: Id
    n: N
    target: Seq


class React(Command, tag=13, frozen=True):
    """Set the author's reaction to a message; an empty payload withdraws it."""

    rule: ClassVar = content_rule(b.Reacted, ErrorCode.STALE, ErrorCode.INVALID_ARGUMENT)

    dialog: Id
    n: N
    target: Seq
    payload: Reaction
    header: Header = Header()


class History(Command, tag=20, frozen=True):
    """A page of a timeline: up to `limit` events with `from_seq <= seq <= to_seq`.

    The newest of them if `newest_first`, else the oldest; the page is in rising order in both cases.
    """

    rule: ClassVar = CommandRule(states=WHEN_LIVE, cost=lambda command: 1 + command.limit // 50, codes=READ_CODES)

    dialog: Id
    from_seq: Seq = 1
    to_seq: Seq = N_MAX
    limit: Annotated[int, msgspec.Meta(ge=1, le=HISTORY_EVENTS_MAX)] = 50
    newest_first: bool = True


class Roster(Command, tag=21, frozen=True):
    """A page of the members of a dialog, in the order of their ids, after `after`."""

    rule: ClassVar = CommandRule(states=WHEN_LIVE, cost=lambda command: 1 + command.limit // 50, codes=READ_CODES)

    dialog: Id
    after: Id = NIL
    limit: Annotated[int, msgspec.Meta(ge=1, le=ROSTER_MEMBERS_MAX)] = 100


class Receipt(Command, tag=22, frozen=True):
    """Report how far the author has received and read a dialog. Only the newest high-water mark matters.

    With `id` 0 a high-water mark of a dialog that the author is not in is dropped without an answer.
    """

    rule: ClassVar = CommandRule(states=WHEN_LIVE, codes=READ_CODES)

    high_water: HighWaterMark


class Typing(Command, tag=23, frozen=True):
    """Report that the author is writing, or has stopped."""

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda _command: 4,  # goes to up to a hundred members, and is worthless a moment later
        codes=READ_CODES | {ErrorCode.BLOCKED},
    )

    dialog: Id
    active: bool = True


class PresenceSubscribe(Command, tag=24, frozen=True):
    """Replace the set of people whose presence this session follows.

    Each must share a direct dialog with the author; others are ignored.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda command: 1 + len(command.principals) // 20,
        codes=frozenset({ErrorCode.UNAVAILABLE}),
    )

    principals: Annotated[list[Id], msgspec.Meta(max_length=PRESENCE_SUBSCRIPTIONS_MAX)]


class Skip(Command, tag=25, frozen=True):
    """Give up a number that was refused for now: later numbers of its dialog do not wait for it any more.

    `awaited_n` is that of the `failed` with `earlier_first`. A number that is not awaited changes nothing.
    """

    rule: ClassVar = CommandRule(states=WHEN_LIVE)

    dialog: Id
    awaited_n: N


class Create(Command, tag=30, frozen=True):
    """Create a dialog; the author becomes its admin. If the direct dialog exists, the answer names that one.

    `members` are the other members: exactly one for a direct dialog. Types that are "named" (see the table of types)
    need a `name`. A direct dialog keeps its messages: `message_retention_days` is 0 there. Anybody may begin a direct
    dialog with anybody who has not blocked them; into other dialogs come only those who let the author add them:
    `invite` the others. The creation of a sealed group is signed by the author's device.
    """

    rule: ClassVar = change_rule(
        b.DialogCreated,
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.MEMBERS_BOUND,
        ErrorCode.SIGNATURE_REQUIRED,
        *_BRINGS_IN,
        timeline=Timeline.CREATED,
        cost=lambda command: 1 + len(command.members) // 10,
    )

    n: N
    type: DialogType
    members: Annotated[list[Id], msgspec.Meta(max_length=MEMBERS_PER_COMMAND_MAX)]
    name: Name = ""
    mode: Mode | None = None
    description: Description = ""
    avatar_url: Url = ""
    settings: Settings = Settings()
    signature: b.Signature | None = None


class Add(Command, tag=31, frozen=True):
    """Add members as an admin, or join a public dialog by adding oneself.

    In sealed dialogs it is signed, at the present `keys_seq` of the dialog: else it is `stale`; sign again. The server
    checks that there is a signature; members check whose it is.
    """

    rule: ClassVar = change_rule(
        b.MembersAdded,
        *_LETS_READ,
        *_JOINS,
        ErrorCode.STALE,
        *_BRINGS_IN,
        cost=lambda command: 1 + len(command.members) // 10,
    )

    dialog: Id
    n: N
    members: Ids
    signed: b.Signed | None = None


class Remove(Command, tag=32, frozen=True):
    """Remove a member as an admin."""

    rule: ClassVar = change_rule(
        b.MemberRemoved,
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.FIXED_ROSTER,
        ErrorCode.ROLE_REQUIRED,
        ErrorCode.NOT_MEMBER,
    )

    dialog: Id
    n: N
    member: Id


class Leave(Command, tag=33, frozen=True):
    """Leave a dialog. When the last admin leaves, the longest-standing member becomes admin."""

    rule: ClassVar = change_rule(b.MemberLeft, ErrorCode.FIXED_ROSTER)

    dialog: Id
    n: N


class Promote(Command, tag=34, frozen=True):
    """Make a member an admin. In sealed dialogs it is signed, at the present `keys_seq`: else it is `stale`."""

    rule: ClassVar = change_rule(b.Promoted, *_LETS_READ, ErrorCode.NOT_MEMBER, ErrorCode.STALE)

    dialog: Id
    n: N
    member: Id
    signed: b.Signed | None = None


class Demote(Command, tag=35, frozen=True):
    """Make an admin a plain member."""

    rule: ClassVar = change_rule(
        b.Demoted, ErrorCode.FIXED_ROSTER, ErrorCode.ROLE_REQUIRED, ErrorCode.NOT_MEMBER, ErrorCode.LAST_ADMIN
    )

    dialog: Id
    n: N
    member: Id


class ChangeSettings(Command, tag=36, frozen=True):
    """Set name, description, avatar and settings: all of them at once. A sealed dialog cannot become public."""

    rule: ClassVar = change_rule(
        b.SettingsChanged, ErrorCode.INVALID_ARGUMENT, ErrorCode.ROLE_REQUIRED, ErrorCode.NOT_ALLOWED
    )

    dialog: Id
    n: N
    name: Name
    description: Description = ""
    avatar_url: Url = ""
    settings: Settings = Settings()


class Pin(Command, tag=40, frozen=True):
    """Pin a message for all members, as an admin; the one before is unpinned."""

    rule: ClassVar = change_rule(b.Pinned, ErrorCode.ROLE_REQUIRED, ErrorCode.EVENT_NOT_FOUND)

    dialog: Id
    n: N
    target: Seq


class Unpin(Command, tag=41, frozen=True):
    """Let no message be pinned, as an admin."""

    rule: ClassVar = change_rule(b.Pinned, ErrorCode.ROLE_REQUIRED)

    dialog: Id
    n: N


class DeleteDialog(Command, tag=42, frozen=True):
    """Delete a dialog for all its members, as an admin; this cannot be undone.

    From then on every command that would add to it is refused with `dialog_not_found`. Its members can read it until
    the platform erases it, a month later by default; then it is in no sync any more.
    """

    rule: ClassVar = change_rule(b.DialogDeleted, ErrorCode.ROLE_REQUIRED)

    dialog: Id
    n: N


class Mute(Command, tag=37, frozen=True):
    """Mute a dialog for the author until then; 0 ends it."""

    rule: ClassVar = change_rule(b.Muted, timeline=Timeline.SELF)

    dialog: Id
    n: N
    until_ms: Millis


class Block(Command, tag=38, frozen=True):
    """Block a principal: they cannot write to the author directly, or add the author to dialogs."""

    rule: ClassVar = change_rule(b.Blocked, ErrorCode.PRINCIPAL_NOT_FOUND, timeline=Timeline.SELF)

    principal: Id
    n: N


class Unblock(Command, tag=39, frozen=True):
    """End a block."""

    rule: ClassVar = change_rule(b.Unblocked, ErrorCode.PRINCIPAL_NOT_FOUND, timeline=Timeline.SELF)

    principal: Id
    n: N


class Invite(Command, tag=45, frozen=True):
    """Invite a person into a dialog as an admin, since they let the author not add them. They accept or decline.

    The event is in the `self` dialog of `member`, so `acked` names that one, with 0 for `seq` and `messages`. While an
    invitation of the same person into the same dialog is open, or after it was declined, another one is acked and
    changes nothing. Into a sealed dialog it is signed.
    """

    rule: ClassVar = change_rule(
        b.Invited,
        *_LETS_READ,
        ErrorCode.ALREADY_MEMBER,
        ErrorCode.INVITATIONS_BOUND,
        *_ABOUT_OTHERS,
        timeline=Timeline.INVITED,
    )

    dialog: Id
    n: N
    member: Id
    signed: b.Signed | None = None


class Accept(Command, tag=46, frozen=True):
    """Join a dialog into which the author is invited. Without such an invitation it is `dialog_not_found`.

    Into a sealed dialog it brings what the inviter signed, of the event `invited`: the other members check it. Such an
    invitation ends when `roster_events_max` changes of members and their devices have come since.
    """

    rule: ClassVar = change_rule(b.MembersAdded, *_JOINS, ErrorCode.DIALOGS_BOUND)

    dialog: Id
    n: N
    invitation: b.Invitation | None = None


class Decline(Command, tag=47, frozen=True):
    """Decline an invitation into a dialog; the inviter is not notified."""

    rule: ClassVar = change_rule(b.Declined, timeline=Timeline.SELF)

    dialog: Id
    n: N


Numbered = (
    Send
    | Edit
    | Delete
    | React
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
    | Pin
    | Unpin
    | DeleteDialog
    | Invite
    | Accept
    | Decline
)
"""Commands with an `n`: each appends the body that its rule names."""

_OfSessions = Authenticate | Sync | Heartbeat | SignOut
Unnumbered = _OfSessions | History | Roster | Receipt | Typing | PresenceSubscribe | Skip | OfKeys | OfPayments
"""Commands that append nothing."""

AnyCommand = Unnumbered | Numbered

COMMANDS: tuple[type[Command], ...] = tuple(sorted(get_args(AnyCommand), key=b.tag_of))
"""All commands, in the order of their tags."""
