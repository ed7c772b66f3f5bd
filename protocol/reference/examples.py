"""One example of every message, for the reference page and for the tests of the codecs.

A command or body whose fields speak for themselves needs no example of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from protocol import bodies as b
from protocol import commands as c
from protocol import device_commands as d
from protocol import events as e
from protocol import key_commands as k
from protocol import payment_commands as p
from protocol import replies as r
from protocol import share_commands as s
from protocol.command_rules import Command
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import from_text
from protocol.kinds import Kind
from protocol.report_commands import Report

ANN = from_text("01936f5e-7d3a-7c11-8a44-0a1b2c3d4e5f")
BOB = from_text("01936f5e-9b20-7f02-9d31-1a2b3c4d5e6f")
PHONE = from_text("01936f60-0c11-7aa0-b1c2-2a3b4c5d6e7f")
TEAM = from_text("5be1d0a2-44c3-8f6b-9a07-3c4d5e6f7a8b")
SHARE = from_text("01936f61-1d22-7bb1-92d3-3b4c5d6e7f80")
PAYMENT = from_text("01936f62-2e33-7cc2-a3e4-4c5d6e7f8091")
AT_MS = 1_767_225_600_000
KEYS = b.Header(keys_seq=3)
SETTINGS = b.Settings(message_retention_days=365)

FIRST_N = 1_767_225_600_000_000

_BY_FIELD = {
    "dialog": TEAM,
    "target": 42,
    "payload": b"\xf0\x9f\x91\x8d",
    "member": BOB,
    "members": [BOB],
    "principal": BOB,
    "principals": [BOB],
    "until_ms": AT_MS + 3_600_000,
}
"""What a required field of this name holds in the example of a struct that has no example of its own."""

NAMED_KEY = k.NamedKey("AAAAAAAAAAA", b'{"key":"..."}')
"""Objects of keys are cut short in examples."""

BACKUP_VALUE = d.BackupValue(b"\x5b" * 32, 9_007_199_254_740_991, b"...")

_OWN_COMMANDS: tuple[Command, ...] = (
    c.Authenticate(1, "eyJhbGciOiJFZERTQSJ9.e30.c2ln"),
    c.Sync(2, "1.4711.ab", [c.HighWaterMark(TEAM, 41, 40)]),
    c.Heartbeat(0),
    c.Send(4, TEAM, FIRST_N + 4, b"hello", b.Header(reply_to=40, keys_seq=3)),
    c.Edit(5, TEAM, FIRST_N + 5, 42, b"hello, all", KEYS),
    c.History(8, TEAM, 1, 41, 50),
    c.Receipt(0, c.HighWaterMark(TEAM, 42, 42)),
    c.Typing(0, TEAM),
    c.Skip(12, TEAM, FIRST_N + 4),
    c.Create(13, FIRST_N + 13, DialogType.GROUP, [BOB, PHONE], "Team"),
    c.ChangeSettings(19, TEAM, FIRST_N + 19, "Team", "All of us", settings=SETTINGS),
    k.UploadKeys(21, 1, b'{"algorithms":"..."}', [NAMED_KEY]),
    k.ClaimKeys(22, 1, TEAM, [PHONE]),
    k.ReadDevices(23, TEAM, [k.KnownLog(BOB, 1, 2)]),
    k.AppendDeviceLog(24, [b'{"action":"..."}']),
    k.PutIdentity(25, b'{"keys":"..."}', b'{"keys":"..."}', b'{"keys":"..."}'),
    s.UploadSlices(26, SHARE, TEAM, bytes(32), 3, [s.Slice(PHONE, b'{"algorithm":"..."}')]),
    s.ConfirmSlices(0, [4711]),
    d.SendToDevice(28, SHARE, TEAM, [d.DeviceMessage(PHONE, b'{"type":"..."}')]),
    d.ConfirmToDevice(0, 12),
    Report(27, TEAM, 42, bytes(32), b"hello", "It threatens me."),
    d.PutBackup(29, 1, [BACKUP_VALUE]),
    d.ReadBackup(30, 1),
    p.Pay(31, TEAM, FIRST_N + 31, p.PayAction.REQUEST, party=BOB, amount_minor=150_000, currency="THB"),
    p.ReadPayment(32, PAYMENT),
)

_OWN_BODIES: tuple[b.AnyBody, ...] = (
    b.Posted(Kind.MESSAGE, b.Header(reply_to=40, keys_seq=3), b"hello"),
    b.Edited(42, b"hello, all", KEYS),
    b.DialogCreated(
        DialogType.GROUP,
        Mode.SEALED,
        "Team",
        "",
        "",
        b.Settings(),
        [b.MemberRole(ANN, Role.ADMIN), b.MemberRole(BOB, Role.MEMBER)],
    ),
    b.DevicesChanged(BOB, b.LogHead(1, 3, b"\x5b" * 32)),
    b.SettingsChanged("Team", "All of us", "", SETTINGS),
    b.Invited(TEAM, BOB, DialogType.GROUP, "Team"),
)


def _example_of(struct: type[msgspec.Struct], **values: object) -> Any:
    """The example of a struct: its required fields, by their names."""
    fields = [field.name for field in msgspec.structs.fields(struct) if field.required]
    return struct(**{name: (_BY_FIELD | values)[name] for name in fields})


def _commands() -> Iterator[Command]:
    own = {type(example): example for example in _OWN_COMMANDS}
    for number, command in enumerate(c.COMMANDS, 1):
        yield own.get(command) or _example_of(command, id=number, n=FIRST_N + number)


def _bodies() -> Iterator[b.AnyBody]:
    own = {type(example): example for example in _OWN_BODIES}
    for body in get_args(b.AnyBody):
        yield own.get(body) or _example_of(body)


COMMANDS: tuple[Command, ...] = tuple(_commands())
BODIES: tuple[b.AnyBody, ...] = tuple(_bodies())


def timeline_event(body: b.AnyBody) -> b.TimelineEvent:
    """An event with this body."""
    return b.TimelineEvent(TEAM, 42, ANN, PHONE, FIRST_N + 4, AT_MS, 30, body)


MEMBERS = [r.Member(ANN, Role.ADMIN, "Ann", 42, 42), r.Member(BOB, Role.MEMBER, "Bob", 42, 40)]

REPLIES: tuple[r.Reply, ...] = (
    r.Authenticated(1, ANN, PHONE, AT_MS, 25.0, 64, 131_072, 20.0, 100, 50.0, 200),
    r.Synced(2, True),
    r.Acked(4, TEAM, FIRST_N + 4, 42, AT_MS, 30),
    r.Done(3),
    r.Failed(5, "stale", "The members changed since this was made; ...", None, 45),
    r.HistoryPage(8, TEAM, [timeline_event(BODIES[0])], [], True),
    r.RosterPage(9, TEAM, MEMBERS),
    r.KeysUploaded(21, 50, False),
    r.ClaimedKeys(22, [r.ClaimedKey(PHONE, NAMED_KEY.id, NAMED_KEY.key)]),
    r.DevicesPage(
        23,
        TEAM,
        [r.PersonDevices(BOB, 1, 3, bytes(32), [b'{"action":"..."}'], devices=[r.DeviceKeys(PHONE, 1, b"{}")])],
    ),
    r.RosterSnapshot(27, TEAM, 3, [r.MemberThen(ANN, Role.ADMIN, 1, b.LogHead(1, 3, b"\x5b" * 32))]),
    r.SlicesUploaded(26, False, [PHONE]),
    r.BackupPage(30, [BACKUP_VALUE]),
    r.PaymentAnswer(31, PAYMENT, 1, "requested", BOB, ANN, 150_000, "THB", dialog=TEAM),
)

EVENTS: tuple[msgspec.Struct, ...] = (
    timeline_event(BODIES[0]),
    e.DialogState(
        dialog=TEAM,
        type=DialogType.GROUP,
        mode=Mode.SEALED,
        name="Team",
        description="",
        avatar_url="",
        settings=b.Settings(),
        role=Role.ADMIN,
        member=True,
        seq=42,
        messages=30,
        keys_seq=3,
        member_count=2,
        first_seq=41,
        visible=[(1, 0)],
        delivered=40,
        read=40,
        read_messages=28,
        muted_until_ms=0,
        members=MEMBERS,
    ),
    e.CaughtUp("1.4712.cd"),
    e.HeartbeatReply("1.4713.ef"),
    e.ReceiptChanged(TEAM, BOB, 42, 42, 30),
    e.TypingChanged(TEAM, BOB, True),
    e.PresenceChanged(BOB, False, AT_MS),
    e.Draining(10.0),
    e.MissedChanges(TEAM, 42, [timeline_event(BODIES[2])]),
    e.KeySlices([e.KeySlice(4711, TEAM, ANN, PHONE, 3, b'{"algorithm":"..."}')]),
    e.FromDevice(12, TEAM, BOB, PHONE, b'{"type":"..."}'),
)
