"""Who is handed the session of a dialog, when a new one begins, and which share a message names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.ids import new_id
from protocol.limits import SHARES_IN_FLIGHT_MAX
from tchat.crypto.envelope import Opened, Received
from tchat.crypto.errors import NotSharedError, TooManySharesError
from tchat.crypto.machine import CryptoMachine, KeysReceived
from tchat.crypto.megolm import (
    SESSION_MESSAGES_MAX,
    SESSION_MS_MAX,
    SLICES_PER_CHUNK_MAX,
)
from tchat.crypto.olm import DUMMY, KnownDevice
from tchat.crypto.state import MemoryState
from tests.tchat.crypto.devices import NOW_MS, VIEW, Phone, copy_channel, damaged, phone, slices

DIALOG = new_id()
OTHER_VIEW = bytes(32)


@pytest.fixture
def alice() -> Phone:
    return phone()


@pytest.fixture
def bob(alice: Phone) -> Phone:
    made = phone()
    alice.connect(made)
    return made


@pytest.fixture
def carol(alice: Phone) -> Phone:
    made = phone()
    alice.connect(made)
    return made


def test_each_device_but_the_own_gets_one_slice(alice: Phone, bob: Phone, carol: Phone) -> None:
    made = slices(alice, alice.share(DIALOG, alice, bob, carol))
    assert {device: len(bodies) for device, bodies in made.items()} == {bob.known.device: 1, carol.known.device: 1}


def test_messages_name_the_share_until_one_of_them_is_acked(alice: Phone, bob: Phone) -> None:
    share = alice.share(DIALOG, bob)
    assert share is not None
    first, second = (alice.seal(alice.place(DIALOG, n), b"") for n in (1, 2))
    assert first.share == second.share == share
    alice.machine.acked(DIALOG, 1, share)
    assert alice.seal(alice.place(DIALOG, 3), b"").share is None
    assert alice.machine.chunks_of(share) == []
    assert alice.share(DIALOG, bob) is None


def test_an_added_device_costs_one_slice_of_the_same_session(alice: Phone, bob: Phone, carol: Phone) -> None:
    alice.introduce(DIALOG, bob)
    before = alice.seal(alice.place(DIALOG, 1), b"").session
    share = alice.share(DIALOG, bob, carol, keys_seq=2, view=OTHER_VIEW)
    assert slices(alice, share).keys() == {carol.known.device}
    sealed = alice.seal(alice.place(DIALOG, 1, keys_seq=2), b"", view=OTHER_VIEW)
    assert (sealed.session, sealed.share) == (before, share)


def test_a_session_ends_when_a_reader_loses_a_device_that_got_no_slice_of_it(alice: Phone, bob: Phone) -> None:
    def session(removals: dict[bytes, tuple[int, int]]) -> bytes:
        shared = alice.machine.share(DIALOG, [bob.known], keys_seq=1, view=VIEW, now_ms=NOW_MS, removals=removals)
        assert shared.complete
        return alice.seal(alice.place(DIALOG, 1), b"").session

    alice.connect(bob)
    first = session({bob.known.principal: (1, 0)})
    assert session({bob.known.principal: (1, 0)}) == first
    assert session({bob.known.principal: (1, 0), new_id(): (1, 3)}) == first, "who comes never had it"
    second = session({bob.known.principal: (1, 1)})
    assert second != first
    assert session({bob.known.principal: (2, 1)}) not in (first, second)


def test_who_is_removed_gets_nothing_of_the_session_that_follows(alice: Phone, bob: Phone, carol: Phone) -> None:
    alice.introduce(DIALOG, bob, carol)
    before = alice.seal(alice.place(DIALOG, 1), b"").session
    share = alice.share(DIALOG, carol, keys_seq=2, view=OTHER_VIEW)
    sealed = alice.seal(alice.place(DIALOG, 1, keys_seq=2), b"after", view=OTHER_VIEW)
    assert sealed.session != before
    assert slices(alice, share).keys() == {carol.known.device}


def test_who_was_only_uploaded_a_slice_has_the_session(alice: Phone, bob: Phone, carol: Phone) -> None:
    """A share that was refused and never became live is in the server's database all the same."""
    refused = alice.share(DIALOG, bob, carol)
    first = alice.seal(alice.place(DIALOG, 1), b"")
    share = alice.share(DIALOG, bob, keys_seq=2)
    again = alice.seal(alice.place(DIALOG, 1, keys_seq=2), b"")
    assert again.session != first.session
    assert refused is not None
    assert alice.machine.chunks_of(refused) == []
    assert slices(alice, share).keys() == {bob.known.device}


def test_slices_of_a_share_that_was_refused_go_into_the_next_one(alice: Phone, bob: Phone, carol: Phone) -> None:
    refused = slices(alice, alice.share(DIALOG, bob))
    share = alice.share(DIALOG, bob, carol, keys_seq=2)
    made = slices(alice, share)
    assert made[bob.known.device] == refused[bob.known.device]
    assert made.keys() == {bob.known.device, carol.known.device}
    assert share is not None
    assert {(chunk.share, chunk.keys_seq) for chunk in alice.machine.chunks_of(share)} == {(share, 2)}


def test_a_device_with_new_keys_gets_a_new_session_and_its_old_keys_nothing(alice: Phone, bob: Phone) -> None:
    alice.introduce(DIALOG, bob)
    before = alice.seal(alice.place(DIALOG, 1), b"").session
    renewed = CryptoMachine(MemoryState(), bob.known.principal, bob.known.device, 2)
    again = Phone(renewed, MemoryState(), replace(bob.known, public=renewed.public))
    again.upload()
    alice.connect(again)
    share = alice.share(DIALOG, again, keys_seq=2)
    assert alice.seal(alice.place(DIALOG, 2, keys_seq=2), b"").session != before
    assert isinstance(again.take(alice, *slices(alice, share)[bob.known.device])[0], KeysReceived)


def test_a_new_generation_of_keys_uses_no_ratchet_of_the_one_before(alice: Phone, bob: Phone) -> None:
    """A store that was copied is behind: what it would seal with has sealed already."""
    alice.introduce(DIALOG, bob)
    before = alice.seal(alice.place(DIALOG, 1), b"")
    alice.machine = CryptoMachine(alice.state, alice.known.principal, alice.known.device, 2)
    assert alice.machine.to_claim([bob.known], NOW_MS) == [bob.known]
    with pytest.raises(NotSharedError):
        alice.seal(alice.place(DIALOG, 2), b"")
    alice.connect(bob)
    alice.share(DIALOG, bob)
    assert alice.seal(alice.place(DIALOG, 2), b"").session != before.session


def test_a_change_that_gives_nobody_keys_needs_a_share_without_slices(alice: Phone, bob: Phone) -> None:
    alice.introduce(DIALOG, bob)
    share = alice.share(DIALOG, bob, keys_seq=2)
    assert share is not None
    assert [chunk.slices for chunk in alice.machine.chunks_of(share)] == [[]]


def test_a_device_that_is_let_in_at_the_same_state_gets_a_share_of_its_own(
    alice: Phone, bob: Phone, carol: Phone
) -> None:
    """Somebody agreed to a changed identity: the members did not change, and a message may be under way."""
    first = alice.share(DIALOG, bob)
    second = alice.share(DIALOG, bob, carol)
    assert second not in (None, first)
    assert slices(alice, second).keys() == {bob.known.device, carol.known.device}


def test_a_new_session_begins_after_a_hundred_messages(alice: Phone, bob: Phone) -> None:
    alice.introduce(DIALOG, bob)
    sessions = {alice.seal(alice.place(DIALOG, n + 1), b"").session for n in range(SESSION_MESSAGES_MAX)}
    with pytest.raises(NotSharedError):
        alice.seal(alice.place(DIALOG, 200), b"")
    alice.share(DIALOG, bob)
    sessions.add(alice.seal(alice.place(DIALOG, 200), b"").session)
    assert len(sessions) == 2


def test_a_new_session_begins_after_seven_days(alice: Phone, bob: Phone) -> None:
    alice.introduce(DIALOG, bob)
    before = alice.seal(alice.place(DIALOG, 1), b"", now_ms=NOW_MS + SESSION_MS_MAX - 1).session
    with pytest.raises(NotSharedError):
        alice.seal(alice.place(DIALOG, 2), b"", now_ms=NOW_MS + SESSION_MS_MAX)
    alice.share(DIALOG, bob, now_ms=NOW_MS + SESSION_MS_MAX)
    assert alice.seal(alice.place(DIALOG, 2), b"", now_ms=NOW_MS + SESSION_MS_MAX).session != before


def test_nothing_is_sealed_while_somebody_lacks_the_session(alice: Phone, bob: Phone) -> None:
    stranger = phone()
    recipients = [bob.known, stranger.known]
    shared = alice.machine.share(DIALOG, recipients, keys_seq=1, view=VIEW, now_ms=NOW_MS)
    assert not shared.complete
    assert shared.unreachable == (stranger.known,)
    with pytest.raises(NotSharedError):
        alice.seal(alice.place(DIALOG, 1), b"")
    alice.connect(stranger)
    assert slices(alice, alice.share(DIALOG, bob, stranger)).keys() == {bob.known.device, stranger.known.device}
    alice.seal(alice.place(DIALOG, 1), b"")


def test_a_large_share_is_made_in_chunks(alice: Phone, bob: Phone) -> None:
    recipients = [KnownDevice(bob.known.principal, new_id(), bob.known.public) for _ in range(SLICES_PER_CHUNK_MAX + 1)]
    copy_channel(alice, bob, *recipients)
    first = alice.machine.share(DIALOG, recipients, keys_seq=1, view=VIEW, now_ms=NOW_MS)
    second = alice.machine.share(DIALOG, recipients, keys_seq=1, view=VIEW, now_ms=NOW_MS)
    assert (first.complete, second.complete) == (False, True)
    assert first.share == second.share is not None
    assert [len(chunk.slices) for chunk in alice.machine.chunks_of(second.share)] == [SLICES_PER_CHUNK_MAX, 1]


def test_a_bounded_number_of_shares_awaits_an_ack(alice: Phone, bob: Phone) -> None:
    """An Olm session keeps the keys of forty messages that it skipped."""
    dialogs = [new_id() for _ in range(SHARES_IN_FLIGHT_MAX + 2)]
    shares = [alice.share(dialog, bob) for dialog in dialogs[:SHARES_IN_FLIGHT_MAX]]
    with pytest.raises(TooManySharesError):
        alice.share(dialogs[-1], bob)
    alice.machine.acked(dialogs[0], 1, shares[0])
    alice.share(dialogs[-1], bob)
    alice.machine.forget_dialog(dialogs[1])
    alice.share(dialogs[-2], bob)


def test_a_device_whose_channel_broke_gets_the_session_again(alice: Phone, bob: Phone, carol: Phone) -> None:
    made = slices(alice, alice.share(DIALOG, bob, carol))
    carol.take(alice, *made[carol.known.device])
    bob.take(alice, *(damaged(bob, one) for one in made[bob.known.device]))
    (dummy,) = bob.connect(alice)
    assert isinstance(dummy, bytes)
    alice.take(bob, dummy)
    with pytest.raises(NotSharedError):
        alice.seal(alice.place(DIALOG, 1), b"")
    again = slices(alice, alice.share(DIALOG, bob, carol))
    assert again[carol.known.device] == made[carol.known.device]
    assert len(again[bob.known.device]) == 1
    bob.take(alice, *again[bob.known.device])
    opened = bob.open(alice.write(alice.place(DIALOG, 1), b"readable"))
    assert isinstance(opened, Opened)
    assert opened.content == b"readable"


def test_a_device_that_lost_its_channel_gets_the_session_again_when_it_hands_on_its_own(
    alice: Phone, bob: Phone
) -> None:
    share = alice.share(DIALOG, bob)
    bob.take(alice, *(damaged(bob, one) for one in slices(alice, share)[bob.known.device]))
    alice.machine.acked(DIALOG, 0, share)
    bob.connect(alice)
    alice.take(bob, *slices(bob, bob.share(DIALOG, alice))[alice.known.device])
    bob.take(alice, *slices(alice, alice.share(DIALOG, bob))[bob.known.device])
    opened = bob.open(alice.write(alice.place(DIALOG, 1), b"readable"))
    assert isinstance(opened, Opened)


def test_a_session_ends_with_a_reader_who_had_lost_it(alice: Phone, bob: Phone, carol: Phone) -> None:
    """What is lost may have been kept, and the server may still have it."""
    share = alice.share(DIALOG, bob, carol)
    before = alice.seal(alice.place(DIALOG, 1), b"").session
    alice.machine.acked(DIALOG, 1, share)
    bob.connect(alice)
    alice.take(bob, bob.machine.write_to(alice.known, DUMMY, {}))
    alice.share(DIALOG, carol, keys_seq=2, view=OTHER_VIEW)
    assert alice.seal(alice.place(DIALOG, 2, keys_seq=2), b"", view=OTHER_VIEW).session != before


def test_a_share_that_is_half_made_has_one_slice_for_a_device_whose_channel_broke(alice: Phone, bob: Phone) -> None:
    carol = phone()
    recipients = [bob.known, carol.known]
    assert not alice.machine.share(DIALOG, recipients, keys_seq=0, view=VIEW, now_ms=NOW_MS).complete
    bob.connect(alice)
    alice.take(bob, bob.machine.write_to(alice.known, DUMMY, {}))
    alice.connect(carol)
    made = slices(alice, alice.share(DIALOG, bob, carol, keys_seq=0))
    assert {device: len(bodies) for device, bodies in made.items()} == {bob.known.device: 1, carol.known.device: 1}


Action = tuple[str, int]
ACTIONS = st.tuples(st.sampled_from(["toggle", "post", "refused", "restart", "late"]), st.integers(0, 2))


@settings(max_examples=20, deadline=None)
@given(st.lists(ACTIONS, min_size=4, max_size=25))
def test_who_may_read_reads_and_nobody_else_with_everything_the_server_has(actions: list[Action]) -> None:
    """Devices come and go between messages, some of which the server refuses; slices of these it keeps."""
    writer, readers = phone(), [phone() for _ in range(3)]
    writer.connect(*readers)
    members, keys_seq, n = {0}, 1, 0
    events: list[tuple[Received, set[int]]] = []
    uploaded: dict[bytes, list[bytes]] = {}
    pending: list[tuple[int, bytes | None]] = []
    for action, number in actions:
        if action == "toggle":
            members ^= {number}
            keys_seq += 1
        elif action == "restart":
            known = writer.known
            writer.machine = CryptoMachine(writer.state, known.principal, known.device, 1)
        elif action == "late":
            while pending:
                writer.machine.acked(DIALOG, *pending.pop(0))
        else:
            n += 1
            share = writer.share(DIALOG, *(readers[member] for member in members), keys_seq=keys_seq)
            for device, bodies in slices(writer, share).items() if share else ():
                uploaded[device] = list(dict.fromkeys(uploaded.get(device, []) + bodies))
            sealed = writer.seal(writer.place(DIALOG, n, keys_seq=keys_seq), b"text")
            if action == "post":
                place = writer.place(DIALOG, n, keys_seq=keys_seq)
                event = Received(place, n, sealed.payload, sealed.session, sealed.commitment, VIEW)
                events.append((event, set(members)))
                pending.append((n, sealed.share))
            else:
                keys_seq += 1
    for number, reader in enumerate(readers):
        reader.take(writer, *uploaded.get(reader.known.device, ()))
        for event, could_read in events:
            assert isinstance(reader.open(event), Opened) == (number in could_read)
