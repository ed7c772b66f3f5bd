"""Replies: server to client, one for each command with an `id` above 0, and for messages that are no commands."""

from __future__ import annotations

import msgspec

from protocol.bodies import LogHead, TimelineEvent
from protocol.command_rules import RequestId
from protocol.device_commands import BackupValue
from protocol.dialog_types import Role
from protocol.errors import ErrorCode
from protocol.ids import Id
from protocol.key_commands import KeyId


class Reply(msgspec.Struct, array_like=True, frozen=True, tag_field="tag"):
    """The base of every reply: the `id` of its command."""

    id: RequestId


class Authenticated(Reply, tag=50, frozen=True):
    """The identity of this session, and what the server expects: a message at least every `heartbeat_s` seconds.

    `time_ms` is the server's clock, `in_flight_max` the number of pipelined commands that the server works on at once,
    `message_bytes_max` the size of the largest message that the client may send. The rates are those of this device
    for pipelined commands and for others: on average, and at once. Above them commands wait in the server, and their
    answers come later.
    """

    principal: Id
    device: Id
    time_ms: int
    heartbeat_s: float
    in_flight_max: int
    message_bytes_max: int
    sends_per_s: float = 0.0
    sends_burst: int = 0
    commands_per_s: float = 0.0
    commands_burst: int = 0


class Synced(Reply, tag=51, frozen=True):
    """Catch-up begins.

    `recovered` false: drop the state of all dialogs; a window of each follows.

    The rest is what the server has of this device: the highest `n` in a dialog of its principal, the generation of its
    keys, how many one-time keys are left, and whether its fallback key was given to somebody. Numbers that are above
    the client's own say that its store is older than the device: it must not encrypt from it.
    """

    recovered: bool
    n_max: int = 0
    key_generation: int = 0
    one_time_keys: int = 0
    fallback_used: bool = False


class Acked(Reply, tag=52, frozen=True):
    """The command is durable, at `seq`. A retry with the same `n` gets the same numbers."""

    dialog: Id
    n: int
    seq: int
    at_ms: int
    messages: int


class Done(Reply, tag=53, frozen=True):
    """The command is done; there is no result."""


class Failed(Reply, tag=54, frozen=True):
    """The command was refused and changed nothing: a stable code, and a sentence that says what to do.

    `keys_seq` comes with `stale`, `awaited_n` with `earlier_first`: the refused number that comes first.
    """

    code: str
    message: str
    retry_after_s: float | None = None
    keys_seq: int | None = None
    awaited_n: int | None = None

    @property
    def temporary(self) -> bool:
        """Whether the same command may succeed later. Unknown codes of a newer server count as permanent."""
        try:
            return ErrorCode(self.code).temporary
        except ValueError:
            return False


class HistoryPage(Reply, tag=55, frozen=True):
    """Events in rising order. `more`: the range has more events than fit into the page.

    `later`: edits, deletions and reactions of messages in the page that came after it, or while the member was away.
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
    """Members in the order of their ids. `more`: ask again with `after` set to the last one."""

    dialog: Id
    members: list[Member]
    more: bool = False


class KeysUploaded(Reply, tag=120, frozen=True):
    """The keys are stored. `one_time_keys` are left of this device; `fallback_used`: upload a new fallback key."""

    one_time_keys: int
    fallback_used: bool


class ClaimedKey(msgspec.Struct, array_like=True, frozen=True):
    """A key of a device. `fallback`: others may have got the same."""

    device: Id
    id: KeyId
    key: bytes
    fallback: bool = False


class ClaimedKeys(Reply, tag=121, frozen=True):
    """The keys that were claimed. Of a device that is not listed there is none: it has no keys, or is no member's."""

    keys: list[ClaimedKey]


class DeviceKeys(msgspec.Struct, array_like=True, frozen=True):
    """The keys of a device, as its client uploaded them. Believe them only if the device log has them, too."""

    device: Id
    generation: int
    keys: bytes


class PersonDevices(msgspec.Struct, array_like=True, frozen=True):
    """What the server has of a person's identity and devices.

    `generation`, `length` and `head` are those of their device log; 0, 0 and nothing if there is none. `entries` go on
    after those that the asker has of this generation; or begin with the first. When there are fewer than up to
    `length`, ask again for the rest. `former`: they have left the dialog; nothing is said of what they have now: the
    log ends where the dialog has last named it, and no keys are shown.
    """

    principal: Id
    generation: int = 0
    length: int = 0
    head: bytes = b""
    entries: list[bytes] = []
    master: bytes = b""
    self_signing: bytes = b""
    user_signing: bytes = b""
    devices: list[DeviceKeys] = []
    former: bool = False


class DevicesPage(Reply, tag=122, frozen=True):
    """Of the people those who are or were members, in the order asked. `more`: ask again for those who are missing."""

    dialog: Id
    people: list[PersonDevices]
    more: bool = False


class MemberThen(msgspec.Struct, array_like=True, frozen=True):
    """A member as they were at some event: they joined with event `joined`; `log` as the events up to there say."""

    principal: Id
    role: Role
    joined: int
    log: LogHead = LogHead()


class RosterSnapshot(Reply, tag=125, frozen=True):
    """The members at the `keys_seq` that is signed in the event that brought the asker, and the changes up to there.

    No members: the asker was there from the beginning, nothing was signed, or too much has changed since. With `after`
    or `since` there are events only.
    """

    dialog: Id
    keys_seq: int = 0
    members: list[MemberThen] = []
    events: list[TimelineEvent] = []
    more: bool = False


class SlicesUploaded(Reply, tag=124, frozen=True):
    """The slices are stored. With `complete` an event may name the share.

    Else `missing` devices need a slice of this session. `extra` devices were handed the session, in this share or an
    earlier one, and may not read any more: begin another session. Both lists end after `share_devices_named_max`.
    """

    complete: bool
    missing: list[Id] = []
    extra: list[Id] = []


class BackupPage(Reply, tag=123, frozen=True):
    """Values of the backup, in the order of their keys. `more`: ask again with `after` set to the last one."""

    values: list[BackupValue]
    more: bool = False


class PaymentAnswer(Reply, tag=126, frozen=True):
    """A payment as commerce has it now. States are those of payment events; `fee_minor` is shown to the payee."""

    payment: Id
    version: int
    state: str
    payer: Id
    payee: Id
    amount_minor: int
    currency: str
    captured_minor: int = 0
    refunded_minor: int = 0
    fee_minor: int = 0
    dialog: Id | None = None
    order: Id | None = None
    expires_at_ms: int | None = None


AnyReply = (
    Authenticated
    | Synced
    | Acked
    | Done
    | Failed
    | HistoryPage
    | RosterPage
    | KeysUploaded
    | ClaimedKeys
    | DevicesPage
    | RosterSnapshot
    | SlicesUploaded
    | BackupPage
    | PaymentAnswer
)
