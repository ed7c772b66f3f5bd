"""A verification of own devices goes on over cuts and repeats; the identity goes to the compared device only."""

from __future__ import annotations

import pytest

from protocol.canonical import device_id_of, encode_canonical
from protocol.device_commands import ConfirmToDevice, SendToDevice
from protocol.errors import ErrorCode
from protocol.events import FromDevice
from protocol.ids import direct_dialog_id, new_id, self_dialog_id
from protocol.replies import Failed
from tchat.crypto.people import HANDED
from tchat.crypto.pins import GivenLog
from tchat.crypto.verification import TIMEOUT_MS, Phase
from tchat.encryption.encrypting import Encryption
from tchat.encryption.handing_identity import CLAIMS_MAX
from tchat.encryption.notices import Standing, VerificationStep
from tchat.encryption.verifying import REQUESTS_MAX, RUNNING_MAX
from tchat.memory_store import MemoryStore
from tests.support.scripted import ME
from tests.tchat.crypto.devices import NOW_MS
from tests.tchat.encryption.message_server import MessageServer
from tests.tchat.encryption.people_site import Somebody

PHONE, LAPTOP = bytes([1]) * 16, bytes([2]) * 16


class Device:
    """A device of one person, on a server that answers at once."""

    def __init__(self, server: MessageServer, device: bytes) -> None:
        self.server, self.device = server, device
        self.now_ms = NOW_MS
        self.steps: list[VerificationStep] = []
        self.encryption = Encryption(MemoryStore(), lambda: self.now_ms)
        self.connect()

    def connect(self) -> None:
        """A new connection."""
        self.encryption.disconnected()
        self.encryption.signed_in(ME, self.device, self.server.synced(self.device))
        self.encryption.caught_up()
        self.serve()

    def serve(self, now: float = 0.0) -> None:
        self.server.serve(self.encryption, self.device, now)
        self.steps += (one for one in self.encryption.take_notices() if isinstance(one, VerificationStep))

    def hears(self, *messages: FromDevice) -> None:
        """What waits for it arrives, and is answered."""
        for one in messages or self.server.waiting[self.device]:
            self.encryption.received(one)
        self.serve()

    @property
    def phase(self) -> Phase | None:
        return self.steps[-1].phase if self.steps else None

    @property
    def transaction(self) -> str:
        return self.steps[-1].transaction


class Pair:
    """The phone of a person, which has the identity, and a laptop that is in no log."""

    def __init__(self) -> None:
        self.server = MessageServer(ME)
        self.phone, self.laptop = Device(self.server, PHONE), Device(self.server, LAPTOP)

    def settle(self) -> None:
        """All messages arrive."""
        while any(self.server.waiting[device] for device in (PHONE, LAPTOP)):
            self.phone.hears()
            self.laptop.hears()

    def compare(self) -> None:
        """Both show symbols."""
        transaction = self.laptop.encryption.verifying.ask(ME)
        assert transaction is not None
        self.laptop.serve()
        self.settle()
        self.phone.encryption.verifying.accept(transaction)
        self.phone.serve()
        self.settle()
        self.laptop.encryption.verifying.compare_symbols(transaction)
        self.laptop.serve()
        self.settle()
        assert self.phone.phase is self.laptop.phase is Phase.COMPARING

    def confirm(self) -> None:
        for device in (self.phone, self.laptop):
            device.encryption.verifying.confirm(device.transaction)
            device.serve()
        self.settle()

    @property
    def standing(self) -> Standing:
        return self.laptop.encryption.standing

    def handed(self) -> list[SendToDevice]:
        """What left that is encrypted."""
        return [one for one in self.server.sent if b"m.room.encrypted" in one.messages[0].body]


@pytest.fixture
def pair() -> Pair:
    made = Pair()
    assert (made.phone.encryption.standing, made.standing) == (Standing.LISTED, Standing.UNVERIFIED)
    return made


def test_a_compared_device_gets_the_identity_and_adds_itself(pair: Pair) -> None:
    pair.compare()
    pair.confirm()
    assert (pair.phone.phase, pair.laptop.phase, pair.standing) == (Phase.DONE, Phase.DONE, Standing.LISTED)
    log = pair.server.log
    assert log is not None
    assert set(log.devices) == {PHONE, LAPTOP}
    assert len(pair.handed()) == 1
    assert pair.laptop.encryption.people.recovery_key == pair.phone.encryption.people.recovery_key


def test_nothing_is_handed_before_both_people_have_confirmed(pair: Pair) -> None:
    pair.compare()
    pair.laptop.encryption.verifying.confirm(pair.laptop.transaction)
    pair.laptop.serve()
    pair.settle()
    assert (pair.handed(), pair.server.claimed, pair.standing) == ([], 0, Standing.UNVERIFIED)


def test_nothing_is_handed_to_other_keys_than_were_compared(pair: Pair) -> None:
    """While people compare, the server gives the laptop's name to keys of its own."""
    pair.compare()
    elsewhere = MessageServer(ME, entries=pair.server.entries)
    Device(elsewhere, LAPTOP)
    pair.server.uploads[LAPTOP] = elsewhere.uploads[LAPTOP]
    pair.phone.connect()
    pair.confirm()
    assert (pair.phone.phase, pair.handed(), pair.server.claimed) == (Phase.DONE, [], 0)


def test_symbols_that_differ_end_it_for_both(pair: Pair) -> None:
    pair.compare()
    pair.phone.encryption.verifying.cancel(pair.phone.transaction)
    pair.phone.serve()
    pair.settle()
    assert (pair.phone.phase, pair.laptop.phase, pair.handed()) == (Phase.CANCELLED, Phase.CANCELLED, [])


def test_what_comes_again_after_a_cut_is_taken_once(pair: Pair) -> None:
    """The server has lost no message, but the confirmation of each."""
    pair.compare()
    pair.phone.encryption.verifying.confirm(pair.phone.transaction)
    pair.phone.serve()
    (proof,) = pair.server.waiting[LAPTOP]
    for _ in range(2):
        pair.laptop.hears(proof)
        pair.laptop.connect()
    pair.laptop.encryption.verifying.confirm(pair.laptop.transaction)
    pair.laptop.serve()
    pair.settle()
    assert (pair.phone.phase, pair.standing) == (Phase.DONE, Standing.LISTED)


def test_a_message_leaves_again_after_a_cut_under_the_same_id(pair: Pair) -> None:
    pair.laptop.encryption.verifying.ask(ME)
    (first,) = [one for one in pair.laptop.encryption.due(0.0) if isinstance(one, SendToDevice)]
    pair.laptop.encryption.disconnected()
    pair.laptop.encryption.signed_in(ME, LAPTOP, pair.server.synced(LAPTOP))
    again = [one for one in pair.laptop.encryption.due(0.0) if isinstance(one, SendToDevice)]
    assert again == [first]


def test_a_request_that_the_server_does_not_take_is_cancelled(pair: Pair) -> None:
    pair.laptop.encryption.verifying.ask(ME)
    pair.server.refusals = [Failed(0, ErrorCode.MESSAGES_BOUND, "full")]
    pair.laptop.serve()
    assert pair.laptop.phase is Phase.CANCELLED


def test_the_identity_of_a_device_outside_of_the_log_is_not_taken(pair: Pair) -> None:
    """A sign-in that somebody else got hands on what it made up."""
    pair.compare()
    pair.confirm()
    thief = Device(pair.server, bytes([3]) * 16)
    content: dict[str, object] = {"secret": "AA", "recovery_key": "AA"}
    for kind in (HANDED, "m.room.encrypted"):
        body = encode_canonical({"type": kind, "content": content})
        pair.laptop.hears(FromDevice(99, self_dialog_id(ME), ME, thief.device, body))
    assert pair.laptop.encryption.people.recovery_key == pair.phone.encryption.people.recovery_key
    assert thief.encryption.standing is Standing.UNVERIFIED


def test_a_device_without_keys_to_claim_is_given_up(pair: Pair) -> None:
    pair.compare()
    for upload in pair.server.uploads[LAPTOP]:
        upload.one_time_keys.clear()
    pair.confirm()
    for _ in range(2 * CLAIMS_MAX):
        pair.phone.connect()
    assert (pair.server.claimed, pair.handed(), pair.standing) == (CLAIMS_MAX, [], Standing.UNVERIFIED)


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        encode_canonical({"type": "m.key.verification.request", "content": {}}),
        encode_canonical({"type": "m.room.encrypted", "content": {"ciphertext": "none"}}),
        encode_canonical({"type": "m.key.verification.mac", "content": {"transaction_id": "unknown"}}),
        encode_canonical({"type": "unknown", "content": {}}),
        encode_canonical(["type"]),
    ],
)
def test_what_is_no_message_is_confirmed_and_changes_nothing(pair: Pair, body: bytes) -> None:
    pair.server.waiting[PHONE] = [FromDevice(7, self_dialog_id(ME), ME, LAPTOP, body)]
    pair.phone.hears()
    assert (pair.server.waiting[PHONE], pair.phone.steps) == ([], [])


def test_what_a_device_writes_that_nobody_knows_is_confirmed_after_a_look_at_the_log(pair: Pair) -> None:
    stranger = FromDevice(7, self_dialog_id(ME), ME, new_id(), b"{}")
    pair.phone.encryption.received(stranger)
    asked = pair.server.serve(pair.phone.encryption, PHONE)
    assert [type(one).__name__ for one in asked] == ["ReadDevices", "ConfirmToDevice"]
    assert asked[-1] == ConfirmToDevice(0, 7)


def asks(pair: Pair, who: Somebody) -> str:
    """Somebody whose log the phone knows asks it; the name of the verification."""
    head, people = who.head, pair.phone.encryption.people
    if people.pin_of(who.principal) is None:
        people.take_log(who.principal, GivenLog(head.generation, head.length, head.head, who.entries))
    transaction = new_id().hex()
    content = {
        "transaction_id": transaction,
        "from_device": device_id_of(who.phone.known.device),
        "methods": ["m.sas.v1"],
        "timestamp": NOW_MS,
    }
    body = encode_canonical({"type": "m.key.verification.request", "content": content})
    dialog = direct_dialog_id(ME, who.principal)
    pair.phone.hears(FromDevice(99, dialog, who.principal, who.phone.known.device, body))
    return transaction


def waiting(pair: Pair) -> set[str]:
    """The requests that wait for the person with the phone."""
    last = {step.transaction: step.phase for step in pair.phone.steps}
    return {transaction for transaction, phase in last.items() if phase is Phase.ASKED}


def test_requests_of_strangers_keep_nobody_from_comparing(pair: Pair) -> None:
    for _ in range(RUNNING_MAX):
        asks(pair, Somebody())
    bob = Somebody()
    assert asks(pair, bob) in waiting(pair)
    transaction = pair.laptop.encryption.verifying.ask(ME)
    pair.laptop.serve()
    pair.phone.hears()
    assert transaction in waiting(pair)
    assert pair.phone.encryption.verifying.ask(bob.principal, direct_dialog_id(ME, bob.principal)) is not None


def test_many_requests_of_one_person_wait_as_one(pair: Pair) -> None:
    eve, bob = Somebody(), Somebody()
    of_bob = asks(pair, bob)
    of_eve = [asks(pair, eve) for _ in range(RUNNING_MAX)]
    assert waiting(pair) == {of_bob, of_eve[-1]}


def test_requests_beyond_the_bound_are_passed_over(pair: Pair) -> None:
    taken = {asks(pair, Somebody()) for _ in range(REQUESTS_MAX)}
    asks(pair, Somebody())
    assert waiting(pair) == taken
    transaction = pair.laptop.encryption.verifying.ask(ME)
    pair.laptop.serve()
    pair.phone.hears()
    assert waiting(pair) == {*taken, transaction}


def test_what_runs_is_bounded(pair: Pair) -> None:
    transactions = [pair.laptop.encryption.verifying.ask(ME) for _ in range(RUNNING_MAX + 1)]
    assert None not in transactions[:RUNNING_MAX]
    assert transactions[RUNNING_MAX] is None


@pytest.mark.parametrize("who", ["phone", "laptop"])
def test_a_verification_that_nobody_goes_on_with_ends_by_itself(pair: Pair, who: str) -> None:
    pair.compare()
    device: Device = getattr(pair, who)
    device.now_ms += TIMEOUT_MS
    device.serve()
    assert device.phase is Phase.CANCELLED


def test_a_code_that_is_scanned_brings_the_identity_too(pair: Pair) -> None:
    transaction = pair.laptop.encryption.verifying.ask(ME)
    assert transaction is not None
    pair.laptop.serve()
    pair.settle()
    pair.phone.encryption.verifying.accept(transaction)
    pair.phone.serve()
    pair.settle()
    code = pair.phone.steps[-1].code
    assert code is not None
    pair.laptop.encryption.verifying.scan(transaction, code)
    pair.laptop.serve()
    pair.settle()
    assert pair.phone.phase is Phase.SCANNED
    pair.phone.encryption.verifying.confirm(transaction)
    pair.phone.serve()
    pair.settle()
    assert (pair.phone.phase, pair.laptop.phase, pair.standing) == (Phase.DONE, Phase.DONE, Standing.LISTED)
