"""A short run of sealed conversations, and that the tool sees what it looks for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from protocol.bodies import Header, Posted, TimelineEvent
from protocol.ids import new_id
from protocol.kinds import Kind
from tchat.crypto.errors import Reason
from tests.adversity.sealed import ZERO, talk
from tests.adversity.sealed_devices import Seen
from tests.adversity.sealed_verdict import Sealed, count_opened, count_reused, count_seen
from tests.engines.olm_machine import OlmMachine

pytestmark = pytest.mark.anyio

ANN, BOB, DIALOG = (new_id() for _ in range(3))
A_PHONE, B_PHONE, B_LAPTOP = (new_id() for _ in range(3))


def event(seq: int, *readers: bytes, index: int = 0) -> Sealed:
    header = Header(session=bytes(32), commitment=bytes(32))
    posted = Posted(Kind.MESSAGE, header, b"\x03\x08" + bytes([index]))
    owners = {A_PHONE: ANN, B_PHONE: BOB, B_LAPTOP: BOB}
    made = TimelineEvent(DIALOG, seq, ANN, A_PHONE, seq, 0, seq, posted)
    return Sealed(made, {device: owners[device] for device in readers})


async def test_who_may_read_does_and_nobody_else(database_url: str, tmp_path: Path, olm_machine: OlmMachine) -> None:
    said = await talk(database_url, tmp_path, [olm_machine], people=3, steps=15, seed=8)
    assert {name: said[name] for name in ZERO} == dict.fromkeys(ZERO, 0)
    assert said["deliveries"] > 20
    assert said["read_by_matrix"] > 0


async def test_keys_that_strangers_get_are_seen(database_url: str, tmp_path: Path) -> None:
    said = await talk(database_url, tmp_path, people=3, steps=20, seed=5, fault="read_by_others")
    assert said["read_by_others"] > 0


def test_what_was_read_late_or_never_is_seen() -> None:
    events = [event(seq, A_PHONE, B_PHONE) for seq in (1, 2, 3, 4)]
    seen = {
        A_PHONE: {one.where: Seen(None, None) for one in events},
        B_PHONE: {
            events[0].where: Seen(Reason.UNKNOWN_SESSION, None),
            events[1].where: Seen(Reason.UNKNOWN_MEMBERS, None),
            events[2].where: Seen(Reason.UNKNOWN_SESSION, Reason.UNKNOWN_SESSION),
        },
    }
    members = {(DIALOG, ANN), (DIALOG, BOB)}
    counts = count_seen(events, seen, (), members)
    assert (counts["deliveries"], counts["waited_for_logs"]) == (6, 1)
    assert (counts["undecrypted_at_receipt"], counts["undecrypted_ever"]) == (2, 2)
    assert count_seen(events, seen, [B_PHONE], members)["undecrypted_ever"] == 1
    waiting = {B_PHONE: {one.where: Seen(Reason.UNKNOWN_MEMBERS, Reason.UNKNOWN_MEMBERS) for one in events}}
    assert [count_seen(events, waiting, ended, members)["undecrypted_ever"] for ended in ([], [B_PHONE])] == [4, 0]
    unknown = {B_PHONE: {one.where: Seen(Reason.UNKNOWN_DEVICE, Reason.UNKNOWN_DEVICE) for one in events}}
    for made in (unknown, waiting):
        for present, closed in ((members, 0), ({(DIALOG, ANN)}, 4)):
            counts = count_seen(events, made, (), present)
            assert (counts["closed_to_former"], counts["undecrypted_ever"]) == (closed, 4 - closed)


def test_what_is_read_by_others_and_after_a_removal_is_seen() -> None:
    events = [event(1, A_PHONE, B_PHONE), event(2, A_PHONE, B_PHONE, B_LAPTOP), event(3, A_PHONE, B_PHONE)]
    everything = {one.where for one in events}
    assert count_opened(events, BOB, B_LAPTOP, everything) == {"read_after_removal": 1, "read_by_others": 0}
    assert count_opened(events, new_id(), new_id(), everything) == {"read_by_others": 3}
    assert count_opened(events, BOB, B_LAPTOP, {events[1].where}) == {}


def test_two_messages_under_one_key_are_seen() -> None:
    assert count_reused([event(1), event(2, index=1), event(3, index=1)]) == 1
    other = event(4, index=1)
    body = other.event.body
    assert isinstance(body, Posted)
    elsewhere = msgspec.structs.replace(body, header=msgspec.structs.replace(body.header, session=bytes([1]) * 32))
    assert count_reused([event(2, index=1), Sealed(msgspec.structs.replace(other.event, body=elsewhere), {})]) == 0
