"""What goes into and comes out of storage, in plain structs. Ids are 16 bytes, times Unix milliseconds."""

from __future__ import annotations

import enum

import msgspec

from protocol.bodies import Body, Erased, TimelineEventRaw, tag_of
from protocol.dialog_types import DialogType
from protocol.events import DialogState

BLANK = msgspec.Raw(msgspec.msgpack.encode(Erased()))
"""The body of an erased row."""
_ERASED = tag_of(Erased)


class PrincipalType(enum.IntEnum):
    """What a principal is: a member or an author."""

    PERSON = 1
    BOT = 2
    BUSINESS = 3
    SERVICE = 4


class PrincipalStatus(enum.IntEnum):
    """What a principal may do at all."""

    ACTIVE = 1
    SUSPENDED = 2
    DELETED = 3


class Entry(msgspec.Struct, frozen=True):
    """A content event to append. `body` is the msgpack of a `protocol.bodies` struct.

    `tag` is the body's tag; `target` the seq it is about; `counts` whether it counts as a message. In a sealed dialog
    `keys_seq` must be that of the dialog, and `session` one that has been shared with all who may read, or is so by
    `share`. `keys_seq` None: the entry may be in the clear there. `requester`: the entry of a service is judged as that
    member's, too.
    """

    dialog: bytes
    author: bytes
    device: bytes
    n: int
    tag: int
    body: bytes
    counts: bool = False
    target: int | None = None
    keys_seq: int | None = None
    expires_at_ms: int | None = None
    session: bytes | None = None
    share: bytes | None = None
    requester: bytes | None = None


class ChangeEntry(msgspec.Struct, frozen=True):
    """A change to append and apply: of a roster, of settings, of an older event, or of a person's own state.

    The body is all that storage judges and applies. `n` 0: the server makes the change, without idempotency.
    `over_daily_limit`: the author may not make it today, so only a repetition of it is answered with an ack.
    """

    dialog: bytes
    author: bytes
    device: bytes
    n: int
    body: Body
    over_daily_limit: bool = False


class VerdictCode(enum.IntEnum):
    """What was decided about an entry.

    OK and DUPLICATE are durable at `seq`. TARGET_ARCHIVED: nothing was written; the event that it is about, or one that
    an earlier entry of the device is about, is in the archive only, and must be put back first. After UNAVAILABLE and
    INTERNAL the fate is unknown until the same entry is submitted again.
    """

    OK = 0
    DUPLICATE = 1
    CONFLICT = 2
    NUMBER_PASSED = 3
    STALE = 4
    NOT_FOUND = 5
    ROLE_REQUIRED = 6
    BLOCKED = 7
    SUSPENDED = 8
    EVENT_NOT_FOUND = 9
    PRINCIPAL_NOT_FOUND = 10
    MEMBERS_BOUND = 11
    ALREADY_MEMBER = 12
    NOT_MEMBER = 13
    LAST_ADMIN = 14
    FIXED_ROSTER = 15
    BUSY = 16
    UNAVAILABLE = 17
    INTERNAL = 18
    NOT_ALLOWED = 19
    CONSENT_REQUIRED = 20
    DIALOGS_BOUND = 21
    INVITATIONS_BOUND = 22
    NOT_SEALED = 23
    """In a sealed dialog, without the marks of an envelope."""
    DAILY_LIMIT = 24
    TARGET_ARCHIVED = 25
    SIGNATURE_REQUIRED = 26


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The fate of one entry, and the dialog's head after its flush. `erased`: a DUPLICATE of an erased row."""

    code: VerdictCode
    seq: int = 0
    at_ms: int = 0
    messages: int = 0
    member_count: int = 0
    roster_seq: int = 0
    keys_seq: int = 0
    erased: bool = False


class ChangeResult(msgspec.Struct, frozen=True):
    """The verdict on a change, and the events that it appended, to be routed (none when refused)."""

    verdict: Verdict
    events: tuple[TimelineEventRaw, ...] = ()


class ErasureStep(msgspec.Struct, frozen=True):
    """What one step of erasing did: the rows it looked at, and whether more is due.

    `oldest_due_ms` is since when the oldest of that is due; None: nothing is. `lacking`: a dialog, and the first and
    last of its numbers that have left the journal and must be put back before a later step can go on there.
    """

    rows: int
    more: bool
    oldest_due_ms: int | None
    lacking: tuple[bytes, int, int] | None = None


class DialogRoster(msgspec.Struct, frozen=True):
    """The members of a dialog as of `roster_seq`: by principal, the first number to deliver to them."""

    type: DialogType
    roster_seq: int
    members: dict[bytes, int]


class DialogRow(msgspec.Struct, frozen=True):
    """A dialog as one member sees it now: its state, without `first_seq`, and perhaps without `members`.

    `head_seq` is the newest number, visible or not; `unseen_from` the first that the client may lack; `joined_seq` that
    of the event with which the member came last.
    """

    state: DialogState
    head_seq: int
    unseen_from: int
    joined_seq: int


class SignInState(enum.IntEnum):
    """Whether a sign-in is valid."""

    LIVE = 1
    REVOKED = 2
    SUSPENDED = 3
    DELETED = 4


class SnapshotPage(msgspec.Struct, frozen=True):
    """Some dialogs of a snapshot: those that changed since the horizon `since`, or all, each with a window.

    `after` says where the next page begins; None: this is the last one.
    """

    dialogs: tuple[DialogRow, ...]
    after: bytes | None
    since: int | None
    window: int


class KeysHeld(msgspec.Struct, frozen=True):
    """What there is of a device with keys: its highest `n`, the generation of its keys, and how many are left.

    `slices`: some may wait for it.
    """

    n_max: int = 0
    generation: int = 0
    one_time: int = 0
    fallback_used: bool = False
    slices: bool = False


class Snapshot(msgspec.Struct, frozen=True):
    """What a sync starts from: the new horizon, and the first page of the dialogs that it sends.

    `keys` are those of the device of the sign-in; all 0 of one that has never uploaded any.
    """

    sign_in: SignInState
    epoch: int
    horizon: int
    recovered: bool
    page: SnapshotPage
    keys: KeysHeld = KeysHeld()


class Later(msgspec.Struct, frozen=True):
    """What was done later to the messages `first..last`, by the message's number.

    Of each message its edits and deletion, then its reactions, both from the newest to the oldest.
    """

    first: int
    last: int
    events: dict[int, list[TimelineEventRaw]]


class TimelineRow(msgspec.Struct, frozen=True):
    """A row of a timeline as it is stored: the event, the tag of its body, and the seq that it is about."""

    event: TimelineEventRaw
    tag: int
    target: int | None = None


def blank_row(row: TimelineRow) -> TimelineRow:
    """The row after its erasure: all but its body and tag stays."""
    return TimelineRow(msgspec.structs.replace(row.event, body=BLANK), _ERASED, row.target)


class HorizonReading(msgspec.Struct, frozen=True):
    """Every transaction with an id below `horizon` has ended; those from `next_xid` on had not begun."""

    horizon: int
    next_xid: int


class IncarnationRow(msgspec.Struct, frozen=True):
    """One life of a node. `lease` grows while it works; `ended`: another node has ended it, or it has itself.

    `fenced_at`: a stamp past all that it wrote; None while it may still write.
    """

    incarnation: int
    node: str
    lease: int
    ended: bool
    fenced_at: int | None = None


class ClusterReading(HorizonReading, frozen=True):
    """A horizon, and the nodes that share the database at that moment, the one that asks included.

    `recent_horizon`: every transaction with an id below it has ended, but for those that began long ago.
    """

    recent_horizon: int
    epoch: int
    incarnations: tuple[IncarnationRow, ...]


class WrittenRow(msgspec.Struct, frozen=True, gc=False):
    """An event as it is in the journal; `roster_seq` is that of its dialog when it was read, or of a later moment."""

    event: TimelineEventRaw
    roster_seq: int
    stamp: int


class ReceiptRow(msgspec.Struct, frozen=True):
    """How far a member has received and read. `again`: an earlier call with it had an unknown fate."""

    dialog: bytes
    principal: bytes
    delivered: int
    read: int
    again: bool = False


class RaisedReceipt(msgspec.Struct, frozen=True):
    """A receipt that grew; `shared` when other members may see it.

    `read_messages` None: the event `read` is in the archive only, and nothing was raised until it is put back.
    """

    dialog: bytes
    principal: bytes
    delivered: int
    read: int
    read_messages: int | None
    shared: bool
    member_count: int
