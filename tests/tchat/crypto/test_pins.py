"""A server that tells another story of somebody's devices is refused and shown, and gets no key for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import msgspec
import pytest

from protocol.device_log import LogReason, LogState
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.pins import (
    GivenLog,
    HeldError,
    Hold,
    LogVerdict,
    PinnedLog,
    agree,
    devices_for,
    judge,
    verify,
)
from tests.support.key_pairs import device_keys

BOB = bytes([0xB0]) * 16
PHONE, LAPTOP, TABLET = (bytes([number]) * 16 for number in (1, 2, 3))
GHOST = bytes([0x66]) * 16


@dataclass
class Bob:
    """A person who signs devices in and out, and the answers that an honest server gives about them."""

    identity: OwnIdentity = field(default_factory=lambda: OwnIdentity(BOB, 1))
    previous: bytes = b""
    numbers: count[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.log, first = self.identity.start(self.previous, 0)
        self.entries = [first]

    def add(self, device: bytes) -> None:
        self.log, entry = self.identity.add_device(self.log, device, device_keys(next(self.numbers)), 0)
        self.entries.append(entry)

    def remove(self, device: bytes) -> None:
        self.log, entry = self.identity.remove_device(self.log, device, 0)
        self.entries.append(entry)

    def anew(self) -> Bob:
        """The same person with a new identity and none of the devices."""
        return Bob(OwnIdentity(BOB, self.identity.generation + 1), self.log.head, self.numbers)

    def given(self, known: LogState | None = None) -> GivenLog:
        same = known is not None and known.generation == self.log.generation
        after = known.length if known is not None and same else 0
        return GivenLog(self.log.generation, self.log.length, self.log.head, self.entries[after:])


@pytest.fixture
def bob() -> Bob:
    """With a phone."""
    person = Bob()
    person.add(PHONE)
    return person


def pinned(bob: Bob, *, verified: bool = False) -> PinnedLog:
    pin = judge(BOB, None, bob.given()).pin
    assert pin is not None
    return msgspec.structs.replace(pin, verified=verified)


def shown(pin: PinnedLog | None, given: GivenLog) -> tuple[LogVerdict, PinnedLog]:
    judgement = judge(BOB, pin, given)
    assert judgement.pin is not None
    return judgement.verdict, judgement.pin


def held(pin: PinnedLog | None) -> Hold:
    with pytest.raises(HeldError) as refused:
        devices_for(pin)
    return refused.value.hold


def test_the_first_log_is_believed(bob: Bob) -> None:
    verdict, pin = shown(None, bob.given())
    assert verdict is LogVerdict.FIRST
    assert devices_for(pin) == {PHONE: device_keys(1)}


def test_a_log_that_goes_on_is_believed_as_far_as_it_goes(bob: Bob) -> None:
    pin = pinned(bob)
    assert shown(pin, bob.given(pin.log)) == (LogVerdict.SAME, pin)
    bob.add(LAPTOP)
    bob.remove(PHONE)
    verdict, pin = shown(pin, bob.given(pin.log))
    assert verdict is LogVerdict.GROWN
    assert devices_for(pin) == {LAPTOP: device_keys(2)}
    assert pin.log == bob.log


def test_an_honest_server_is_never_shown_as_a_liar(bob: Bob) -> None:
    pin = pinned(bob)
    for change in (bob.add, bob.remove) * 5:
        change(LAPTOP)
        verdict, pin = shown(pin, bob.given(pin.log))
        assert not verdict.sentence
        assert devices_for(pin) == bob.log.devices


def test_nobody_gets_keys_before_a_log_was_seen() -> None:
    assert held(None) is Hold.UNKNOWN
    assert judge(BOB, None, GivenLog(1, 0, b"")).pin is None


def test_a_rollback_is_refused(bob: Bob) -> None:
    before = bob.given()
    bob.remove(PHONE)
    verdict, pin = shown(pinned(bob), before)
    assert verdict is LogVerdict.SHORTER
    assert held(pin) is Hold.REFUSED
    assert pin.log == bob.log


def test_a_ghost_device_is_refused(bob: Bob) -> None:
    pin = pinned(bob)
    liar = OwnIdentity(BOB, 1)
    log, entry = liar.add_device(msgspec.structs.replace(bob.log, master=liar.public.master), GHOST, device_keys(66), 0)
    verdict, pin = shown(pin, GivenLog(1, log.length, log.head, [entry]))
    assert verdict is LogVerdict.FORKED
    assert held(pin) is Hold.REFUSED
    assert GHOST not in pin.log.devices


def test_an_entry_without_its_master_s_signature_is_refused(bob: Bob) -> None:
    pin = pinned(bob)
    bob.add(LAPTOP)
    forged = bob.entries[-1].replace(LAPTOP.hex().encode(), GHOST.hex().encode())
    judgement = judge(BOB, pin, GivenLog(1, bob.log.length, bob.log.head, [forged]))
    assert (judgement.verdict, judgement.reason) == (LogVerdict.WRONG, LogReason.WRONG_SIGNATURE)
    assert held(judgement.pin) is Hold.REFUSED


@pytest.mark.parametrize("longer", [False, True])
def test_a_fork_is_refused(bob: Bob, longer: bool) -> None:
    """Two logs signed by one master: made by two devices at once, or kept apart by the server."""
    other = Bob(bob.identity, numbers=bob.numbers)
    other.entries, other.log = list(bob.entries), bob.log
    bob.add(LAPTOP)
    pin = pinned(bob)
    other.add(TABLET)
    if longer:
        other.remove(PHONE)
    verdict, pin = shown(pin, other.given(pin.log))
    assert verdict is LogVerdict.FORKED
    assert held(pin) is Hold.REFUSED


def test_another_master_under_the_same_generation_is_a_fork(bob: Bob) -> None:
    swapped = Bob()
    swapped.add(GHOST)
    assert shown(pinned(bob), swapped.given())[0] is LogVerdict.FORKED


def test_a_log_that_is_not_what_its_head_says_is_refused(bob: Bob) -> None:
    pin = pinned(bob)
    bob.add(LAPTOP)
    bob.remove(PHONE)
    given = bob.given(pin.log)
    hidden_removal = GivenLog(1, given.length, given.head, given.entries[:1])
    judgement = judge(BOB, pin, hidden_removal)
    assert (judgement.verdict, judgement.reason) == (LogVerdict.WRONG, LogReason.WRONG_INDEX)
    assert shown(pin, GivenLog(1, given.length, bytes(32), given.entries))[0] is LogVerdict.WRONG


def test_a_server_that_tells_the_truth_again_is_believed_again(bob: Bob) -> None:
    old = bob.given()
    bob.add(LAPTOP)
    _, pin = shown(pinned(bob), old)
    assert held(pin) is Hold.REFUSED
    verdict, pin = shown(pin, bob.given(pin.log))
    assert verdict is LogVerdict.SAME
    assert devices_for(pin) == bob.log.devices


def test_a_new_identity_of_somebody_not_verified_is_a_notice(bob: Bob) -> None:
    anew = bob.anew()
    anew.add(LAPTOP)
    verdict, pin = shown(pinned(bob), anew.given())
    assert verdict is LogVerdict.CHANGED
    assert verdict.sentence
    assert devices_for(pin) == anew.log.devices


def test_a_swapped_identity_of_somebody_verified_gets_no_keys(bob: Bob) -> None:
    swapped = bob.anew()
    swapped.add(GHOST)
    verdict, pin = shown(pinned(bob, verified=True), swapped.given())
    assert verdict is LogVerdict.HELD
    assert held(pin) is Hold.IDENTITY_CHANGED


def test_a_held_identity_stays_held_while_its_log_grows(bob: Bob) -> None:
    anew = bob.anew()
    _, pin = shown(pinned(bob, verified=True), anew.given())
    anew.add(LAPTOP)
    verdict, pin = shown(pin, anew.given(pin.newest))
    assert (verdict, held(pin)) == (LogVerdict.HELD, Hold.IDENTITY_CHANGED)
    assert devices_for(agree(pin)) == anew.log.devices


def test_who_agrees_has_not_verified(bob: Bob) -> None:
    anew = bob.anew()
    pin = agree(shown(pinned(bob, verified=True), anew.given())[1])
    assert not pin.verified
    assert shown(pin, anew.anew().given())[0] is LogVerdict.CHANGED


def test_who_verifies_a_held_identity_sends_to_it(bob: Bob) -> None:
    anew = bob.anew()
    anew.add(LAPTOP)
    _, pin = shown(pinned(bob, verified=True), anew.given())
    assert verify(pin, bytes(32)) is None
    verified = verify(pin, anew.log.master)
    assert verified is not None
    assert devices_for(verified) == anew.log.devices
    assert shown(verified, anew.anew().given())[0] is LogVerdict.HELD


@pytest.mark.parametrize("verified", [False, True])
def test_who_verifies_the_identity_of_before_is_rid_of_an_impostor(bob: Bob, verified: bool) -> None:
    impostor = bob.anew()
    impostor.add(GHOST)
    _, pin = shown(pinned(bob, verified=verified), impostor.given())
    again = verify(pin, bob.log.master)
    assert again is not None
    assert shown(again, bob.given(again.log)) == (LogVerdict.SAME, again)
    assert devices_for(again) == bob.log.devices
    assert shown(again, impostor.given())[0] is LogVerdict.HELD


@pytest.mark.parametrize("verified", [False, True])
def test_the_identity_before_is_a_rollback(bob: Bob, verified: bool) -> None:
    """The devices of the old identity may be lost, and in somebody else's hands."""
    before = bob.given()
    _, pin = shown(pinned(bob, verified=verified), bob.anew().given())
    verdict, pin = shown(pin, before)
    assert verdict is LogVerdict.SHORTER
    assert held(pin) is Hold.REFUSED


def test_what_the_devices_of_an_identity_before_wrote_stays_believed(bob: Bob) -> None:
    """They get no keys, but what they sent before may still be on its way."""
    bob.add(LAPTOP)
    anew = bob.anew()
    for verified in (False, True):
        _, pin = shown(pinned(bob, verified=verified), anew.given())
        pin = agree(pin) if verified else pin
        assert pin.keys_at(LAPTOP, 1, bob.log.length) == device_keys(2)
        assert pin.keys_at(LAPTOP, 1, bob.log.length - 1) is None
        assert pin.keys_at(LAPTOP, 2, anew.log.length) is None
        assert devices_for(pin) == {}


def test_a_new_identity_has_a_new_master(bob: Bob) -> None:
    same = Bob(OwnIdentity.from_secret(BOB, 2, bob.identity.secret), bob.log.head)
    judgement = judge(BOB, pinned(bob), same.given())
    assert (judgement.verdict, judgement.reason) == (LogVerdict.WRONG, LogReason.REUSED_KEY)


def test_agreement_and_verification_do_not_believe_a_refused_log(bob: Bob) -> None:
    before, anew = bob.given(), bob.anew()
    _, pin = shown(pinned(bob, verified=True), anew.given())
    _, pin = shown(pin, before)
    verified = verify(pin, anew.log.master)
    assert held(agree(pin)) is held(verified) is Hold.REFUSED


def test_a_pin_is_kept_as_bytes(bob: Bob) -> None:
    _, pin = shown(pinned(bob, verified=True), bob.anew().given())
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(pin), type=PinnedLog) == pin


def test_every_judgement_that_stops_or_changes_something_is_shown() -> None:
    quiet = {LogVerdict.FIRST, LogVerdict.SAME, LogVerdict.GROWN}
    shown = {verdict for verdict in LogVerdict if verdict.sentence}
    assert shown == {verdict for verdict in LogVerdict if verdict.own_sentence} == set(LogVerdict) - quiet
