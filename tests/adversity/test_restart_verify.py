"""The judge of the restart test, shown timelines on which each promise is broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest
from msgspec.structs import replace

from protocol import bodies
from protocol.bodies import TimelineEvent
from protocol.commands import Send
from protocol.dialog_types import DialogType, Mode, Role
from protocol.events import DialogState, KeySlice, KeySlices, MissedChanges
from protocol.kinds import Kind
from protocol.replies import Acked, Authenticated, Synced
from tchat.actions import Sent
from tests.adversity.restart_devices import Device
from tests.adversity.restart_server import SignIn
from tests.adversity.restart_timeline import Row, Timeline
from tests.adversity.restart_verify import (
    Violations,
    check_keys,
    check_numbers,
    check_received,
    check_sealed,
    check_sender,
    check_timeline,
)
from tests.adversity.restart_witness import Ledger, Received, Witness
from tests.support.sharing import KeyRing

ANN, BO, CY = (bytes([value]) * 16 for value in (1, 2, 3))
PHONE, LAPTOP = bytes([8]) * 16, bytes([9]) * 16
GROUP = bytes([20]) * 16


def posted(text: bytes) -> bodies.Posted:
    return bodies.Posted(Kind.MESSAGE, bodies.Header(), text)


def row(seq: int, body: bodies.AnyBody, *, n: int = 0) -> Row:
    return Row(GROUP, seq, ANN, PHONE, n or seq, 1000 + seq, seq, body)


CREATED = bodies.DialogCreated(
    DialogType.GROUP,
    Mode.OPEN,
    "g",
    "",
    "",
    bodies.Settings(),
    [bodies.MemberRole(ANN, Role.ADMIN), bodies.MemberRole(BO, Role.MEMBER), bodies.MemberRole(CY, Role.MEMBER)],
)
ROWS = [row(1, CREATED), row(2, posted(b"one")), row(3, bodies.MemberRemoved(BO)), row(4, posted(b"two"))]


def timeline(*rows: Row) -> Timeline:
    made = Timeline()
    for each in rows or ROWS:
        made.append(each)
    return made


def event(seq: int, body: bodies.AnyBody | None = None) -> TimelineEvent:
    return TimelineEvent(GROUP, seq, ANN, PHONE, seq, 1000 + seq, seq, body or ROWS[seq - 1].body)


@dataclass
class Sender:
    """As much of a device as its commands need."""

    ledger: Ledger = field(default_factory=Ledger)
    name: str = "ann1"
    principal: bytes = ANN
    signed_in: SignIn = field(default_factory=lambda: SignIn("ann1", ANN, PHONE, PHONE, ""))

    def said(self, n: int, text: bytes, acked_at: int) -> None:
        self.ledger.asked[n] = Send(0, GROUP, n, text)
        self.ledger.take(Sent(n, Acked(0, GROUP, n, acked_at, 1000 + acked_at, acked_at)))


def broken_by(sender: Sender, truth: Timeline) -> set[str]:
    violations = Violations()
    check_timeline(truth, violations)
    check_numbers([cast("Device", sender)], truth, violations)
    check_sender(cast("Device", sender), truth, violations)
    return set(violations.counts)


def honest() -> Sender:
    sender = Sender()
    for seq in (1, 3):
        sender.ledger.asked[seq] = Send(0, GROUP, seq, b"")
    sender.said(2, b"one", 2)
    sender.said(4, b"two", 4)
    return sender


def test_what_is_as_it_was_acked_breaks_nothing() -> None:
    assert broken_by(honest(), timeline()) == set()


@pytest.mark.parametrize(
    ("rows", "broken"),
    [
        (ROWS[:3], {"lost"}),
        ([*ROWS[:3], row(4, posted(b"other"))], {"lost"}),
        ([*ROWS, row(5, posted(b"three"), n=4)], {"duplicated"}),
        ([*ROWS, row(5, posted(b"two"))], {"duplicated"}),
        ([*ROWS[:2], ROWS[3]], {"lost"}),
    ],
    ids=["missing", "another body", "a number twice", "a text twice", "a hole in the numbers"],
)
def test_a_timeline_that_is_not_what_was_acked_is_found(rows: list[Row], broken: set[str]) -> None:
    assert broken_by(honest(), timeline(*rows)) == broken


def test_a_second_ack_that_differs_is_found() -> None:
    sender = honest()
    sender.ledger.replied(Acked(7, GROUP, 4, 5, 1005, 5))
    assert broken_by(sender, timeline()) == {"duplicated"}


def test_what_is_stored_again_after_its_history_was_lost_is_held_to_its_second_ack() -> None:
    sender = honest()
    again = Acked(7, GROUP, 4, 3, 1003, 3)
    sender.ledger.replied(again)
    sender.ledger.forget(lambda acked: acked.seq == 4)
    assert sender.ledger.acked[4].seq == 3
    assert broken_by(sender, timeline(*ROWS[:2], row(3, posted(b"two"), n=4))) == set()
    assert broken_by(sender, timeline()) == {"lost"}


def test_a_number_whose_only_ack_is_of_a_lost_history_may_be_stored_anywhere_or_not_at_all() -> None:
    sender = honest()
    sender.ledger.forget(lambda acked: acked.seq == 4)
    assert broken_by(sender, timeline(*ROWS[:3])) == set()
    assert broken_by(sender, timeline(*ROWS[:2], row(3, posted(b"two"), n=4))) == set()
    assert broken_by(sender, timeline(*ROWS[:3], row(4, posted(b"two")), row(5, posted(b"two"), n=4))) == {"duplicated"}


def test_what_was_refused_and_is_stored_is_found() -> None:
    sender = honest()
    sender.ledger.refused[3] = "internal"
    assert broken_by(sender, timeline()) == {"duplicated"}


def state(seq: int, first_seq: int, *, member: bool = True) -> DialogState:
    return DialogState(
        dialog=GROUP,
        type=DialogType.GROUP,
        mode=Mode.OPEN,
        name="g",
        description="",
        avatar_url="",
        settings=bodies.Settings(),
        role=Role.MEMBER,
        member=member,
        seq=seq,
        messages=seq,
        keys_seq=0,
        member_count=3,
        first_seq=first_seq,
        visible=[(1, 0)] if member else [(1, seq)],
        delivered=0,
        read=0,
        read_messages=0,
        muted_until_ms=0,
    )


def broken_for(principal: bytes, *messages: DialogState | TimelineEvent) -> set[str]:
    """What a client finds wrong that received this on one connection and showed all of it."""
    witness = Witness(principal, Ledger(), lambda _settled: None)
    witness.heard(Authenticated(1, principal, LAPTOP, 0, 1.0, 1, 1))
    for message in messages:
        witness.heard(message)
        witness.noticed(message)
    violations = Violations()
    check_received(principal, witness.take_received(), timeline(), violations)
    return set(violations.counts)


@pytest.mark.parametrize(
    ("messages", "broken"),
    [
        ([state(4, 1), *map(event, (1, 2, 3, 4))], set()),
        ([state(4, 3), *map(event, (3, 4))], set()),
        ([state(4, 1), *map(event, (1, 2, 4))], {"misordered"}),
        ([state(4, 1), *map(event, (1, 2, 2))], {"duplicated"}),
        ([state(4, 1), event(1), event(2, posted(b"other"))], {"misordered"}),
        ([state(4, 1), *map(event, (1, 2, 3, 4)), event(5, posted(b"never stored"))], {"lost"}),
    ],
    ids=["whole", "a window", "a hole", "twice", "another body", "not durable"],
)
def test_what_a_member_receives_is_compared_with_the_timeline(
    messages: list[DialogState | TimelineEvent], broken: set[str]
) -> None:
    assert broken_for(CY, *messages) == broken


@pytest.mark.parametrize(
    ("messages", "broken"),
    [
        ([state(2, 1), *map(event, (1, 2, 3))], set()),
        ([state(2, 1), *map(event, (1, 2, 3, 4))], {"leaked"}),
        ([state(3, 1, member=False), *map(event, (1, 2, 3))], set()),
        ([event(3)], set()),
    ],
    ids=["up to the removal", "past it", "received after it", "the end of what was never known"],
)
def test_a_removed_member_receives_nothing_after_the_removal(
    messages: list[DialogState | TimelineEvent], broken: set[str]
) -> None:
    assert broken_for(BO, *messages) == broken


@pytest.mark.parametrize(
    ("principal", "recovered", "broken"),
    [(BO, False, set()), (BO, True, {"misordered"}), (CY, False, {"misordered"})],
    ids=["who has left", "a resume", "who is a member"],
)
def test_a_sync_without_a_position_names_no_dialog_that_one_has_left(
    principal: bytes, recovered: bool, broken: set[str]
) -> None:
    witness = Witness(principal, Ledger(), lambda _settled: None)
    witness.heard(Authenticated(1, principal, LAPTOP, 0, 1.0, 1, 1))
    witness.heard(Synced(2, recovered))
    for message in (event(2), event(3)):
        witness.heard(message)
    violations = Violations()
    check_received(principal, witness.take_received(), timeline(), violations)
    assert set(violations.counts) == broken


AWAY = [
    *ROWS,
    row(5, bodies.Deleted(2)),
    row(6, bodies.Reacted(4, b"+")),
    row(7, bodies.MembersAdded([BO])),
    row(8, bodies.MemberRemoved(BO)),
    row(9, bodies.Reacted(7, b"+")),
]


@pytest.mark.parametrize(
    ("seq", "broken"),
    [(5, set()), (6, {"leaked"}), (9, {"leaked"})],
    ids=["of a message that one saw", "of one that one never saw", "after one had left"],
)
def test_who_returns_receives_what_was_done_to_what_they_may_see(seq: int, broken: set[str]) -> None:
    witness = Witness(BO, Ledger(), lambda _settled: None)
    witness.heard(MissedChanges(GROUP, 7, [event(seq, AWAY[seq - 1].body)]))
    violations = Violations()
    check_received(BO, witness.take_received(), timeline(*AWAY), violations)
    assert set(violations.counts) == broken


def test_a_stranger_receives_nothing() -> None:
    assert broken_for(LAPTOP, state(4, 1), event(1)) == {"leaked"}


SESSION = bytes([30]) * 32
TABLET = bytes([10]) * 16


def sealed_row(seq: int, session: bytes | None = SESSION) -> Row:
    header = bodies.Header(keys_seq=1, session=session)
    return row(seq, bodies.Posted(Kind.MESSAGE, header, b"%d" % seq))


def sealed_timeline(*rows: Row) -> Timeline:
    logs = [bodies.LogHead(1, 2, b"")] * 3
    return timeline(row(1, replace(CREATED, mode=Mode.SEALED, logs=logs)), *rows)


@dataclass
class Bo:
    """As much of a device of Bo as its keys need."""

    keys: KeyRing = field(default_factory=lambda: KeyRing(TABLET, {(PHONE, SESSION): 1}))
    name: str = "bo1"
    principal: bytes = BO


def test_what_is_in_the_clear_in_a_sealed_dialog_is_found() -> None:
    violations = Violations()
    check_sealed(sealed_timeline(sealed_row(2), sealed_row(3, None)), violations)
    assert violations.counts == {"leaked": 1}


@pytest.mark.parametrize(("session", "leaked"), [(SESSION, 1), (bytes(32), 0)], ids=["goes on", "is another one"])
def test_a_session_that_goes_on_after_a_removal_is_found(session: bytes, leaked: int) -> None:
    violations = Violations()
    rows = (sealed_row(2), row(3, bodies.MemberRemoved(BO)), sealed_row(4, session))
    check_keys(Bo(), sealed_timeline(*rows), violations)
    assert violations.counts["leaked"] == leaked


@pytest.mark.parametrize(("listed", "without"), [(2, 1), (3, 0), (0, 0)], ids=["then", "later", "never"])
def test_an_event_without_its_keys_is_found_if_its_device_was_listed(listed: int, without: int) -> None:
    truth, violations = sealed_timeline(sealed_row(2)), Violations()
    received = Received(without_keys=[event(2, sealed_row(2).body)], listed=listed)
    check_received(BO, received, truth, violations)
    assert violations.counts["without_keys"] == without


def test_an_event_is_without_keys_until_they_have_come() -> None:
    keys = KeyRing(TABLET)
    witness = Witness(BO, Ledger(), lambda _settled: None, keys)
    witness.heard(event(2, sealed_row(2).body))
    witness.heard(KeySlices([KeySlice(1, GROUP, ANN, PHONE, 1, SESSION + TABLET)]))
    witness.heard(event(3, sealed_row(3).body))
    assert [each.seq for each in witness.take_received().without_keys] == [2]


def test_who_is_being_signed_out_is_handed_no_keys() -> None:
    witness = Witness(BO, Ledger(), lambda _settled: None, KeyRing(TABLET))
    witness.ending = True
    witness.heard(event(2, sealed_row(2).body))
    assert witness.take_received().without_keys == []
