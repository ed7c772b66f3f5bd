"""One example of every message, for the reference page and for the tests that hold the codecs to it."""

from __future__ import annotations

import msgspec

from protocol import bodies as b
from protocol import commands as c
from protocol import events as e
from protocol import replies as r
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import from_text
from protocol.kinds import Kind

ANN = from_text("01936f5e-7d3a-7c11-8a44-0a1b2c3d4e5f")
BOB = from_text("01936f5e-9b20-7f02-9d31-1a2b3c4d5e6f")
PHONE = from_text("01936f60-0c11-7aa0-b1c2-2a3b4c5d6e7f")
TEAM = from_text("5be1d0a2-44c3-8f6b-9a07-3c4d5e6f7a8b")
AT_MS = 1_767_225_600_000
KEYS = b.Header(keys_seq=3)
SETTINGS = b.Settings(message_retention_days=365)

COMMANDS: tuple[c.Command, ...] = (
    c.Authenticate(1, "eyJhbGciOiJFZERTQSJ9.e30.c2ln"),
    c.Sync(2, "1.4711.ab", [c.HighWaterMark(TEAM, 41, 40)]),
    c.Heartbeat(0),
    c.SignOut(3),
    c.Send(4, TEAM, 1_767_225_600_000_001, b"hello", b.Header(reply_to=40, keys_seq=3)),
    c.Edit(5, TEAM, 1_767_225_600_000_002, 42, b"hello, all", KEYS),
    c.Delete(6, TEAM, 1_767_225_600_000_003, 42),
    c.React(7, TEAM, 1_767_225_600_000_004, 42, b"\xf0\x9f\x91\x8d"),
    c.History(8, TEAM, 1, 41, 50),
    c.Roster(9, TEAM),
    c.Receipt(0, c.HighWaterMark(TEAM, 42, 42)),
    c.Typing(0, TEAM),
    c.PresenceSubscribe(10, [BOB]),
    c.Create(11, 1_767_225_600_000_005, DialogType.GROUP, [BOB, PHONE], "Team"),
    c.Add(12, TEAM, 1_767_225_600_000_006, [BOB]),
    c.Remove(13, TEAM, 1_767_225_600_000_007, BOB),
    c.Leave(14, TEAM, 1_767_225_600_000_008),
    c.Promote(15, TEAM, 1_767_225_600_000_009, BOB),
    c.Demote(16, TEAM, 1_767_225_600_000_010, BOB),
    c.ChangeSettings(17, TEAM, 1_767_225_600_000_011, "Team", "All of us", settings=SETTINGS),
    c.Mute(18, TEAM, 1_767_225_600_000_012, AT_MS + 3_600_000),
    c.Block(19, BOB, 1_767_225_600_000_013),
    c.Unblock(20, BOB, 1_767_225_600_000_014),
)

BODIES: tuple[b.AnyBody, ...] = (
    b.Posted(Kind.MESSAGE, b.Header(reply_to=40, keys_seq=3), b"hello"),
    b.Edited(42, b"hello, all", KEYS),
    b.Deleted(42),
    b.Reacted(42, b"\xf0\x9f\x91\x8d"),
    b.Erased(),
    b.DialogCreated(
        DialogType.GROUP,
        Mode.SEALED,
        "Team",
        "",
        "",
        b.Settings(),
        [b.MemberRole(ANN, Role.ADMIN), b.MemberRole(BOB, Role.MEMBER)],
    ),
    b.MembersAdded([BOB]),
    b.MemberRemoved(BOB),
    b.MemberLeft(),
    b.Promoted(BOB),
    b.Demoted(BOB),
    b.SettingsChanged("Team", "All of us", "", SETTINGS),
    b.Muted(TEAM, AT_MS + 3_600_000),
    b.Blocked(BOB),
    b.Unblocked(BOB),
    b.ProfileChanged(),
)


def timeline_event(body: b.AnyBody) -> b.TimelineEvent:
    """An event with this body."""
    return b.TimelineEvent(TEAM, 42, ANN, PHONE, 1_767_225_600_000_001, AT_MS, 30, body)


MEMBERS = [r.Member(ANN, Role.ADMIN, "Ann", 42, 42), r.Member(BOB, Role.MEMBER, "Bob", 42, 40)]

REPLIES: tuple[r.Reply, ...] = (
    r.Authenticated(1, ANN, PHONE, AT_MS, 25.0, 64, 131_072),
    r.Synced(2, True),
    r.Acked(4, TEAM, 1_767_225_600_000_001, 42, AT_MS, 30),
    r.Done(3),
    r.Failed(5, "stale", "The members changed since this was made; ...", None, 45),
    r.HistoryPage(8, TEAM, [timeline_event(BODIES[0])], [], True),
    r.RosterPage(9, TEAM, MEMBERS),
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
)
