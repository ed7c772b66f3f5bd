"""Two devices compare their keys by another way than the server: they end with the same result, or with none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import vodozemac
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.canonical import decode_canonical, encode_canonical, to_base64
from tchat.crypto.compared import CancelCode, Compared, MessageType, Party, VerificationCancelledError
from tchat.crypto.qr import BadCodeError, QrCode, QrMode
from tchat.crypto.sas import EMOJI
from tchat.crypto.verification import TIMEOUT_MS, Phase, Verification, VerificationMessage
from tests.support.key_pairs import device_keys

NOW = 1_000_000
ALICE = Party(bytes([0xA1]) * 16, bytes([1]) * 16, device_keys(1).ed25519, device_keys(11).ed25519)
BOB = Party(bytes([0xB0]) * 16, bytes([2]) * 16, device_keys(2).ed25519, device_keys(12).ed25519)
LAPTOP = replace(BOB, device=bytes([3]) * 16, ed25519=device_keys(3).ed25519)
OLD, NEW = BOB, replace(LAPTOP, master=None)
MALLORY = device_keys(66).ed25519


class Pair:
    """Two devices, each with what it believes of the other; messages wait until they are delivered."""

    def __init__(self, alice: Party = ALICE, bob: Party = BOB, *, of_alice: Party | None = None) -> None:
        self.alice, sent = Verification.ask(alice, [bob], NOW)
        (request,) = sent
        self.bob = Verification.asked(bob, of_alice or alice, request.content, NOW)
        self.waiting: list[tuple[Verification, VerificationMessage]] = []
        self.seen: list[tuple[MessageType, bytes]] = []
        self.devices = {id(self.alice): alice.device, id(self.bob): bob.device}
        self.change: Callable[[MessageType, dict[str, object]], None] = lambda *_: None

    def does(self, who: Verification, messages: list[VerificationMessage]) -> None:
        self.waiting += [(who, message) for message in messages]

    def deliver(self) -> None:
        while self.waiting:
            sender, message = self.waiting.pop(0)
            receiver = self.bob if sender is self.alice else self.alice
            content = decode_canonical(message.content)
            self.change(message.kind, content)
            self.seen.append((message.kind, message.content))
            self.does(
                receiver, receiver.receive(self.devices[id(sender)], message.kind, encode_canonical(content), NOW)
            )

    def ready(self) -> Pair:
        self.does(self.bob, self.bob.accept(NOW))
        self.deliver()
        return self

    def comparing(self, starter: str = "alice") -> Pair:
        who: Verification = getattr(self, starter)
        self.does(who, who.start_sas(NOW))
        self.deliver()
        return self

    def both(self, step: Callable[[Verification], list[VerificationMessage]]) -> Pair:
        for who in (self.alice, self.bob):
            self.does(who, step(who))
        self.deliver()
        return self

    @property
    def results(self) -> tuple[Compared | None, Compared | None]:
        return self.alice.compared, self.bob.compared

    @property
    def phases(self) -> tuple[Phase, Phase]:
        return self.alice.phase, self.bob.phase


def confirm(who: Verification) -> list[VerificationMessage]:
    return who.confirm(NOW)


CANCELLED = (Phase.CANCELLED, Phase.CANCELLED)
DONE = (Phase.DONE, Phase.DONE)


@pytest.mark.parametrize("starter", ["alice", "bob"])
def test_both_show_the_same_symbols_and_then_believe_each_other(starter: str) -> None:
    pair = Pair().ready().comparing(starter)
    assert pair.phases == (Phase.COMPARING, Phase.COMPARING)
    assert pair.alice.shown == pair.bob.shown is not None
    assert pair.both(confirm).phases == DONE
    assert pair.results == (Compared(BOB.master, BOB.ed25519), Compared(ALICE.master, ALICE.ed25519))


def test_nobody_believes_before_both_people_have_confirmed() -> None:
    pair = Pair().ready().comparing()
    pair.does(pair.alice, pair.alice.confirm(NOW))
    pair.deliver()
    assert pair.phases == (Phase.CONFIRMED, Phase.COMPARING)
    assert pair.results == (None, None)


def test_two_starts_at_once_are_one_exchange() -> None:
    pair = Pair().ready()
    pair.both(lambda who: who.start_sas(NOW))
    assert pair.phases == (Phase.COMPARING, Phase.COMPARING)
    assert pair.both(confirm).phases == DONE


def test_a_new_device_learns_the_master_key_from_an_old_one() -> None:
    pair = Pair(OLD, NEW).ready().comparing().both(confirm)
    assert pair.results == (Compared(None, NEW.ed25519), Compared(OLD.master, OLD.ed25519))


@pytest.mark.parametrize("changed", ["master", "ed25519"])
def test_a_swapped_key_is_noticed(changed: str) -> None:
    """The server gave Bob other keys for Alice than she has."""
    believed = replace(ALICE, master=MALLORY) if changed == "master" else replace(ALICE, ed25519=MALLORY)
    pair = Pair(of_alice=believed).ready().comparing().both(confirm)
    assert pair.bob.cancelled is CancelCode.KEY_MISMATCH
    assert pair.bob.compared is None


def test_whoever_replaces_the_first_key_makes_other_symbols() -> None:
    pair = Pair().ready()
    keys = [vodozemac.Sas().public_key.to_base64()]

    def replace_first_key(kind: MessageType, content: dict[str, object]) -> None:
        if kind is MessageType.KEY and keys:
            content["key"] = keys.pop()

    pair.change = replace_first_key
    pair.comparing()
    assert pair.phases == (Phase.COMPARING, Phase.COMPARING)
    assert pair.alice.shown != pair.bob.shown
    pair.both(confirm)
    assert CancelCode.KEY_MISMATCH in {pair.alice.cancelled, pair.bob.cancelled}
    assert pair.results == (None, None)


def changed_at(at: MessageType, field: str, value: object) -> Callable[[MessageType, dict[str, object]], None]:
    def change(kind: MessageType, content: dict[str, object]) -> None:
        if kind is at:
            content[field] = value

    return change


BOBS_KEY = vodozemac.Sas().public_key.to_base64()
WRONG: dict[str, tuple[MessageType, str, object, CancelCode]] = {
    "a key of zeros": (MessageType.KEY, "key", to_base64(bytes(32)), CancelCode.INVALID_MESSAGE),
    "a key that is none": (MessageType.KEY, "key", "é", CancelCode.INVALID_MESSAGE),
    "a key that is a number": (MessageType.KEY, "key", 7, CancelCode.INVALID_MESSAGE),
    "another commitment": (MessageType.ACCEPT, "commitment", "é", CancelCode.MISMATCHED_COMMITMENT),
    "another key than was committed to": (MessageType.KEY, "key", BOBS_KEY, CancelCode.MISMATCHED_COMMITMENT),
    "another hash": (MessageType.ACCEPT, "hash", "md5", CancelCode.INVALID_MESSAGE),
    "another way of MACs": (
        MessageType.ACCEPT,
        "message_authentication_code",
        "hkdf-hmac-sha256",
        CancelCode.INVALID_MESSAGE,
    ),
    "no MAC of the keys": (MessageType.MAC, "mac", {}, CancelCode.KEY_MISMATCH),
    "a MAC of nothing": (MessageType.MAC, "keys", "", CancelCode.KEY_MISMATCH),
    "too many MACs": (
        MessageType.MAC,
        "mac",
        {str(number): "" for number in range(17)},
        CancelCode.INVALID_MESSAGE,
    ),
    "another transaction": (MessageType.ACCEPT, "transaction_id", "x", CancelCode.INVALID_MESSAGE),
    "an unknown method": (MessageType.START, "method", "m.hats.v1", CancelCode.UNKNOWN_METHOD),
    "no common hash": (MessageType.START, "hashes", ["md5"], CancelCode.UNKNOWN_METHOD),
    "no common agreement": (MessageType.START, "key_agreement_protocols", [], CancelCode.UNKNOWN_METHOD),
    "a start without offers": (MessageType.START, "hashes", None, CancelCode.INVALID_MESSAGE),
    "another start than was sent": (MessageType.START, "note", "x", CancelCode.MISMATCHED_COMMITMENT),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_message_changed_on_its_way_ends_the_verification(what: str) -> None:
    kind, field, value, code = WRONG[what]
    pair = Pair().ready()
    pair.change = changed_at(kind, field, value)
    pair.comparing()
    if pair.phases == (Phase.COMPARING, Phase.COMPARING):
        pair.both(confirm)
    assert code in {pair.alice.cancelled, pair.bob.cancelled}
    assert pair.results == (None, None)


def test_symbols_that_differ_are_told_to_the_other_side() -> None:
    pair = Pair().ready().comparing()
    pair.does(pair.alice, pair.alice.cancel())
    pair.deliver()
    assert pair.phases == CANCELLED
    assert pair.alice.cancelled is pair.bob.cancelled is CancelCode.MISMATCHED_SAS


def test_who_does_not_want_to_verify_says_so() -> None:
    pair = Pair()
    pair.does(pair.bob, pair.bob.cancel())
    pair.deliver()
    assert pair.phases == CANCELLED
    assert pair.alice.cancelled is CancelCode.USER
    assert pair.alice.cancel() == []


@pytest.mark.parametrize("phase", ["asked", "ready", "comparing"])
def test_a_verification_ends_by_itself(phase: str) -> None:
    pair = Pair()
    if phase != "asked":
        pair.ready()
    if phase == "comparing":
        pair.comparing()
    assert pair.alice.tick(NOW + TIMEOUT_MS - 1) == []
    pair.does(pair.alice, pair.alice.confirm(NOW + TIMEOUT_MS) or pair.alice.tick(NOW + TIMEOUT_MS))
    pair.deliver()
    assert pair.phases == CANCELLED
    assert pair.alice.cancelled is pair.bob.cancelled is CancelCode.TIMEOUT


@pytest.mark.parametrize("late_ms", [TIMEOUT_MS, -300_001])
def test_an_old_request_or_one_of_the_future_is_refused(late_ms: int) -> None:
    _, (request,) = Verification.ask(ALICE, [BOB], NOW)
    with pytest.raises(VerificationCancelledError):
        Verification.asked(BOB, ALICE, request.content, NOW + late_ms)


def test_a_request_of_another_device_is_refused() -> None:
    _, (request,) = Verification.ask(ALICE, [BOB], NOW)
    with pytest.raises(VerificationCancelledError):
        Verification.asked(BOB, LAPTOP, request.content, NOW)


@pytest.mark.parametrize(
    ("me", "they"),
    [(ALICE, replace(BOB, master=None)), (replace(ALICE, master=None), BOB), (NEW, replace(OLD, master=None))],
)
def test_without_a_master_key_there_is_nothing_to_compare(me: Party, they: Party) -> None:
    with pytest.raises(AssertionError):
        Verification.ask(me, [they], NOW)


def test_the_first_device_that_answers_takes_part() -> None:
    alice, requests = Verification.ask(ALICE, [BOB, LAPTOP], NOW)
    assert {message.device for message in requests} == {BOB.device, LAPTOP.device}
    laptop = Verification.asked(LAPTOP, ALICE, requests[1].content, NOW)
    (ready,) = laptop.accept(NOW)
    (cancel,) = alice.receive(LAPTOP.device, ready.kind, ready.content, NOW)
    assert (cancel.device, cancel.kind) == (BOB.device, MessageType.CANCEL)
    assert decode_canonical(cancel.content)["code"] == CancelCode.ACCEPTED
    assert alice.receive(BOB.device, ready.kind, ready.content, NOW) == []
    assert alice.phase is Phase.READY


def test_a_message_out_of_turn_ends_the_verification() -> None:
    for kind in (
        MessageType.ACCEPT,
        MessageType.KEY,
        MessageType.MAC,
        MessageType.DONE,
        MessageType.READY,
        MessageType.REQUEST,
    ):
        pair = Pair().ready()
        content = encode_canonical({"transaction_id": pair.alice.transaction})
        pair.does(pair.alice, pair.alice.receive(BOB.device, kind, content, NOW))
        pair.deliver()
        assert pair.phases == CANCELLED
        assert pair.bob.cancelled is CancelCode.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("number", range(5))
def test_a_repeated_message_brings_nobody_further(number: int) -> None:
    pair = Pair().ready().comparing()
    kind, content = pair.seen[number]
    pair.bob.receive(ALICE.device, kind, content, NOW)
    assert pair.bob.phase in {Phase.COMPARING, Phase.CANCELLED}


FIELDS = st.dictionaries(
    st.sampled_from(["key", "mac", "keys", "method", "code", "methods", "from_device", "secret", "commitment"]),
    st.one_of(st.text(max_size=5), st.integers(0, 9), st.none(), st.lists(st.text(max_size=3), max_size=2)),
)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(list(MessageType)), FIELDS, st.booleans())
def test_no_message_is_more_than_refused(kind: MessageType, fields: dict[str, object], comparing: bool) -> None:
    pair = Pair().ready()
    if comparing:
        pair.comparing()
    content = encode_canonical({**fields, "transaction_id": pair.alice.transaction})
    pair.alice.receive(BOB.device, kind, content, NOW)
    assert pair.alice.compared is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"transaction_id":7}', b"\xff"])
def test_what_is_no_message_ends_the_verification(content: bytes) -> None:
    pair = Pair().ready()
    pair.alice.receive(BOB.device, MessageType.START, content, NOW)
    assert pair.alice.cancelled is CancelCode.INVALID_MESSAGE


SCANS = {
    "two people": (ALICE, BOB, QrMode.OTHER_PERSON, Compared(BOB.master, None), Compared(ALICE.master, None)),
    "an old device and a new one": (
        OLD,
        NEW,
        QrMode.OWN_DEVICE_TRUSTS_MASTER,
        Compared(None, NEW.ed25519),
        Compared(OLD.master, None),
    ),
    "a new device and an old one": (
        NEW,
        OLD,
        QrMode.OWN_DEVICE_IS_NEW,
        Compared(OLD.master, None),
        Compared(None, NEW.ed25519),
    ),
}


@pytest.mark.parametrize("who", SCANS)
def test_who_scans_a_code_and_who_shows_it_believe_each_other(who: str) -> None:
    shows, scans, mode, *verified = SCANS[who]
    pair = Pair(shows, scans).ready()
    assert code_of(pair).mode is mode
    pair.does(pair.bob, pair.bob.scan(QrCode.decode(code_of(pair).encode()), NOW))
    pair.deliver()
    assert pair.phases == (Phase.SCANNED, Phase.CONFIRMED)
    assert pair.results == (None, None)
    pair.does(pair.alice, pair.alice.confirm(NOW))
    pair.deliver()
    assert pair.phases == DONE
    assert list(pair.results) == verified


def code_of(pair: Pair) -> QrCode:
    assert pair.alice.code is not None
    return pair.alice.code


@pytest.mark.parametrize("field", ["first", "second"])
def test_a_code_with_other_keys_is_refused(field: str) -> None:
    pair = Pair().ready()
    code = replace(code_of(pair), first=MALLORY) if field == "first" else replace(code_of(pair), second=MALLORY)
    pair.does(pair.bob, pair.bob.scan(code, NOW))
    pair.deliver()
    assert pair.phases == CANCELLED
    assert pair.alice.cancelled is pair.bob.cancelled is CancelCode.KEY_MISMATCH


def test_a_code_of_another_verification_is_refused() -> None:
    pair = Pair().ready()
    pair.bob.scan(code_of(Pair().ready()), NOW)
    assert pair.bob.cancelled is CancelCode.INVALID_MESSAGE
    other = Pair().ready()
    other.bob.scan(replace(code_of(other), mode=QrMode.OWN_DEVICE_IS_NEW), NOW)
    assert other.bob.cancelled is CancelCode.INVALID_MESSAGE


def test_who_did_not_see_the_code_does_not_pass() -> None:
    pair = Pair().ready()
    pair.does(pair.bob, pair.bob.scan(code_of(pair), NOW))
    pair.change = changed_at(MessageType.START, "secret", to_base64(bytes(16)))
    pair.deliver()
    assert pair.phases == CANCELLED
    assert pair.alice.cancelled is CancelCode.KEY_MISMATCH


@pytest.mark.parametrize("data", [b"", b"MATRIX\x02", b"MATRIX\x02\x00\xff\xff", b"https://example.org"])
def test_other_codes_are_not_of_a_verification(data: bytes) -> None:
    with pytest.raises(BadCodeError):
        QrCode.decode(data)


def test_a_code_has_matrix_form() -> None:
    """The example of the crate matrix-sdk-qrcode."""
    data = b"MATRIX\x02\x02\x00\x07FLOW_ID" + b"A" * 32 + b"B" * 32 + b"SHARED_SECRET"
    code = QrCode.decode(data)
    assert code == QrCode(QrMode.OWN_DEVICE_IS_NEW, b"A" * 32, b"B" * 32, "FLOW_ID", b"SHARED_SECRET")
    assert code.encode() == data
    for wrong in (data[:6] + b"\x01" + data[7:], data[:7] + b"\x03" + data[8:], data[:-6], data + bytes(60)):
        with pytest.raises(BadCodeError):
            QrCode.decode(wrong)


def test_there_are_64_different_symbols_and_a_sentence_for_each_end() -> None:
    assert len(set(EMOJI)) == 64
    assert all(code.sentence for code in CancelCode)
