"""Sealed events: what was sealed opens, once, where its author wrote it; whatever else the server says is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import vodozemac
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.bodies import Edited, Reacted, Ref, tag_of
from protocol.canonical import CanonicalError, decode_canonical, encode_canonical, room_id_of, to_base64
from protocol.ids import new_id
from protocol.limits import PAYLOAD_BYTES_MAX, REACTION_BYTES_MAX, REF_CHARS_MAX, SEALED_CONTENT_BYTES_MAX
from tchat.crypto import envelope
from tchat.crypto.envelope import Opened, Place, Received
from tchat.crypto.errors import NotSharedError, OpenError, Reason
from tchat.crypto.inbound import INDEX_MAX, read_inbound
from tchat.crypto.megolm import encrypt_to_dialog
from tchat.crypto.olm import decrypt
from tchat.crypto.own_keys import OwnKeys
from tchat.crypto.state import MemoryState, Step, Table
from tests.tchat.crypto.devices import NOW_MS, VIEW, Phone, phone, slices

DIALOG = new_id()
REF = Ref("order", "A-17")


@pytest.fixture
def alice() -> Phone:
    return phone()


@pytest.fixture
def bob(alice: Phone) -> Phone:
    made = phone()
    alice.introduce(DIALOG, made)
    return made


def reason_of(outcome: Opened | OpenError) -> Reason:
    assert isinstance(outcome, OpenError), outcome
    return outcome.reason


def content_of(outcome: Opened | OpenError) -> bytes:
    assert isinstance(outcome, Opened), outcome
    return outcome.content


def full_place(writer: Phone) -> Place:
    """A place of which everything is said that can be."""
    writer.seqs += 1
    place = writer.place(DIALOG, writer.seqs)
    return replace(place, tag=tag_of(Edited), target=5, reply_to=4, expires_at_ms=NOW_MS, ref=REF)


def encrypt(writer: Phone, event: Received, plaintext: bytes) -> Received:
    """The event of a client that breaks the rules: another plaintext in the same session."""
    step = Step(writer.state)
    message = encrypt_to_dialog(step, DIALOG, plaintext, keys_seq=1, view=VIEW, now_ms=NOW_MS)
    step.commit()
    return replace(event, payload=message.payload)


def plaintext_of(reader: Phone, event: Received) -> bytes:
    """What is inside the ciphertext, read without any check."""
    inbound = read_inbound(Step(reader.state), event.session, event.place.device)
    assert inbound is not None
    session = vodozemac.InboundGroupSession.from_pickle(inbound.pickle, reader.state.pickle_key)
    return session.decrypt(vodozemac.MegolmMessage.from_bytes(event.payload)).plaintext


def with_field(name: str, value: object) -> Callable[[bytes], bytes]:
    """A change of one field of a plaintext's content; None takes it away."""

    def change(plaintext: bytes) -> bytes:
        whole = decode_canonical(plaintext)
        content = whole["content"]
        assert isinstance(content, dict)
        content[name] = value
        return encode_canonical(whole)

    return change


@settings(max_examples=25, deadline=None)
@given(
    content=st.binary(max_size=2000),
    n=st.integers(1, 2**53 - 1),
    kind=st.none() | st.integers(0, 99),
    target=st.none() | st.integers(1, 2**53 - 1),
    ref=st.none() | st.builds(Ref, st.text(min_size=1, max_size=128), st.text(min_size=1, max_size=128)),
)
def test_whatever_is_sealed_opens_as_it_was(
    content: bytes, n: int, kind: int | None, target: int | None, ref: Ref | None
) -> None:
    writer, reader = phone(), phone()
    writer.introduce(DIALOG, reader)
    event = writer.write(replace(writer.place(DIALOG, n), kind=kind, target=target, ref=ref), content)
    assert content_of(reader.open(event)) == content


def test_a_log_that_shows_an_opened_message_keeps_its_secrets(alice: Phone, bob: Phone) -> None:
    opened = bob.open(alice.post(DIALOG, b"a secret"))
    assert isinstance(opened, Opened)
    assert "secret" not in repr(opened)
    assert repr(opened.franking_key) not in repr(opened)


def test_the_author_opens_what_it_sealed(alice: Phone, bob: Phone) -> None:
    event = alice.post(DIALOG, b"mine")
    assert content_of(alice.open(event)) == content_of(bob.open(event)) == b"mine"


def test_keys_for_reports_are_kept_of_the_newest_events_of_a_dialog(
    alice: Phone, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envelope, "FRANKED_PER_ROW", 2)
    monkeypatch.setattr(envelope, "FRANKED_ROWS_MAX", 3)
    events = [replace(alice.post(DIALOG, b""), seq=seq) for seq in range(2, 12)]
    keys = {event.seq: opened.franking_key for event in events if isinstance(opened := bob.open(event), Opened)}
    kept = {seq: bob.machine.franking_key(DIALOG, seq) for seq in keys}
    assert kept == {seq: key if seq >= 6 else None for seq, key in keys.items()}
    bob.open(events[0])
    assert bob.machine.franking_key(DIALOG, 2) == keys[2], "what is read again can be reported"


def test_the_same_event_again_gives_the_same_plaintext(alice: Phone, bob: Phone) -> None:
    event = alice.post(DIALOG, b"once")
    assert bob.open(event) == bob.open(event)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n": 77}, Reason.WRONG_N),
        ({"tag": tag_of(Reacted)}, Reason.WRONG_TAG),
        ({"kind": 2}, Reason.WRONG_KIND),
        ({"kind": None}, Reason.WRONG_KIND),
        ({"target": 6}, Reason.WRONG_TARGET),
        ({"target": None}, Reason.WRONG_TARGET),
        ({"reply_to": 5}, Reason.WRONG_REPLY_TO),
        ({"expires_at_ms": None}, Reason.WRONG_EXPIRY),
        ({"ref": Ref("order", "A-18")}, Reason.WRONG_REF),
        ({"ref": None}, Reason.WRONG_REF),
        ({"keys_seq": 2}, Reason.WRONG_KEYS_SEQ),
        ({"dialog": new_id()}, Reason.WRONG_DIALOG),
        ({"author": new_id()}, Reason.WRONG_OWNER),
        ({"device": new_id()}, Reason.WRONG_OWNER),
    ],
)
def test_what_the_server_rewrites_is_refused(alice: Phone, bob: Phone, change: dict[str, Any], reason: Reason) -> None:
    event = alice.write(full_place(alice), b"as I wrote it")
    assert reason_of(bob.open(replace(event, place=replace(event.place, **change)))) == reason
    assert content_of(bob.open(event)) == b"as I wrote it"


def test_a_view_that_differs_from_the_readers_is_refused_and_one_that_the_reader_does_not_know_is_not(
    alice: Phone, bob: Phone
) -> None:
    event = alice.post(DIALOG, b"to those whom I see")
    assert reason_of(bob.open(replace(event, view=bytes(32)))) == Reason.WRONG_VIEW
    opened = bob.open(replace(event, view=None))
    assert isinstance(opened, Opened)
    assert opened.view == VIEW


def test_a_commitment_of_something_else_is_refused(alice: Phone, bob: Phone) -> None:
    event, other = alice.post(DIALOG, b"reportable"), alice.post(DIALOG, b"other")
    for commitment in (other.commitment, bytes(32), b""):
        assert reason_of(bob.open(replace(event, commitment=commitment))) == Reason.BAD_COMMITMENT


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_franking_key_of_another_length_is_refused(alice: Phone, bob: Phone, length: int) -> None:
    event = alice.post(DIALOG, b"")
    forged = encrypt(alice, event, with_field("frank", to_base64(bytes(length)))(plaintext_of(bob, event)))
    assert reason_of(bob.open(forged)) == Reason.BAD_COMMITMENT


def test_an_event_that_is_shown_under_another_number_is_a_replay(alice: Phone, bob: Phone) -> None:
    event = alice.post(DIALOG, b"yes")
    assert content_of(bob.open(event)) == b"yes"
    assert reason_of(bob.open(replace(event, seq=event.seq + 1))) == Reason.REPLAYED
    assert content_of(bob.open(event)) == b"yes"


def test_after_the_server_has_lost_events_they_may_have_other_numbers(alice: Phone, bob: Phone) -> None:
    event = alice.post(DIALOG, b"sent again after a restore")
    assert content_of(bob.open(event)) == content_of(bob.open(replace(event, seq=event.seq - 1, history=1)))
    assert reason_of(bob.open(replace(event, history=1))) == Reason.REPLAYED


def test_one_index_does_not_seal_two_messages(alice: Phone, bob: Phone) -> None:
    """A ratchet that was set back: a copied store, or a client that sends before its commit."""
    copy = dict(alice.state._rows)  # type: ignore[attr-defined]
    first = alice.post(DIALOG, b"first")
    alice.state._rows = copy  # type: ignore[attr-defined]
    second = alice.post(DIALOG, b"second")
    assert content_of(bob.open(first)) == b"first"
    assert reason_of(bob.open(second)) == Reason.REPLAYED


def hand_on(thief: Phone, victim: Phone, owner: Phone, data: bytes) -> None:
    """Give the victim a session of the owner, as the thief got it in a slice, in the thief's own channel."""
    step = Step(thief.state)
    own = OwnKeys.read(step)
    assert own is not None
    room_key = decrypt(step, own, owner.known, data)
    thief.connect(victim)
    victim.take(thief, thief.machine.write_to(victim.known, room_key.type, room_key.content))


def test_the_ratchet_steps_and_the_command_is_kept_at_once_or_not_at_all(alice: Phone, bob: Phone) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryState, "commit", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            alice.post(DIALOG, b"never left")
    assert isinstance(alice.state, MemoryState)
    assert alice.state.outbox == {}
    first, second = alice.post(DIALOG, b"first"), alice.post(DIALOG, b"second")
    assert alice.state.outbox == {event.place.n: event.payload for event in (first, second)}
    indices = [vodozemac.MegolmMessage.from_bytes(event.payload).message_index() for event in (first, second)]
    assert indices == [0, 1]
    assert (content_of(bob.open(first)), content_of(bob.open(second))) == (b"first", b"second")


def test_a_member_who_hands_on_a_session_of_somebody_else_owns_none_of_its_words() -> None:
    bob, mallory, alice = phone(), phone(), phone()
    bob.connect(mallory, alice)
    made = slices(bob, bob.share(DIALOG, mallory, alice))
    event = bob.post(DIALOG, b"Bob's words")
    alice.take(bob, *made[alice.known.device])
    hand_on(mallory, alice, bob, *made[mallory.known.device])
    theirs = replace(event.place, author=mallory.known.principal, device=mallory.known.device)
    assert reason_of(alice.open(replace(event, place=theirs))) == Reason.WRONG_AUTHOR
    assert content_of(alice.open(event)) == b"Bob's words"


def test_a_session_that_a_member_hands_on_first_does_not_keep_the_owners_out() -> None:
    bob, mallory, alice = phone(), phone(), phone()
    bob.connect(mallory, alice)
    made = slices(bob, bob.share(DIALOG, mallory, alice))
    event = bob.post(DIALOG, b"Bob's words")
    hand_on(mallory, alice, bob, *made[mallory.known.device])
    assert reason_of(alice.open(event)) == Reason.WRONG_OWNER
    alice.take(bob, *made[alice.known.device])
    assert content_of(alice.open(event)) == b"Bob's words"


def test_who_was_given_no_keys_reads_nothing_and_learns_why(alice: Phone, bob: Phone) -> None:
    event = alice.post(DIALOG, b"not for Carol")
    carol = phone()
    assert reason_of(carol.open(event)) == Reason.UNKNOWN_SESSION
    alice.introduce(DIALOG, bob, carol)
    assert reason_of(carol.open(event)) == Reason.BEFORE_KEYS
    assert content_of(carol.open(alice.post(DIALOG, b"for Carol"))) == b"for Carol"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_field("author", 7), Reason.WRONG_FIELDS),
        (with_field("n", "7"), Reason.WRONG_FIELDS),
        (with_field("body", "a b"), Reason.WRONG_FIELDS),
        (with_field("view", None), Reason.WRONG_FIELDS),
        (with_field("view", to_base64(bytes(31))), Reason.WRONG_FIELDS),
        (with_field("more", 1), Reason.WRONG_FIELDS),
        (with_field("device", "00"), Reason.WRONG_DEVICE),
        (lambda _: encode_canonical({"type": "tchat.event"}), Reason.WRONG_FIELDS),
        (lambda data: data.replace(b"tchat.event", b"tchat.other"), Reason.WRONG_FIELDS),
        (lambda data: data.replace(room_id_of(DIALOG).encode(), room_id_of(new_id()).encode()), Reason.WRONG_DIALOG),
        (lambda data: data + b" ", Reason.NOT_CANONICAL),
        (lambda data: msgspec.json.encode(dict(reversed(decode_canonical(data).items()))), Reason.NOT_CANONICAL),
        (lambda data: data.replace(b'{"author"', b'{"body":"","author"'), Reason.NOT_CANONICAL),
        (lambda _: b"[]", Reason.WRONG_FIELDS),
        (lambda data: data.replace(b":", b": ", 1), Reason.NOT_CANONICAL),
        (lambda _: b"", Reason.NOT_CANONICAL),
        (lambda _: b'{"a":' * 10_000, Reason.NOT_CANONICAL),
        (lambda _: b"[" * 10_000, Reason.WRONG_FIELDS),
        (lambda _: b"\xff\xfe", Reason.NOT_CANONICAL),
    ],
)
def test_a_plaintext_that_breaks_the_rules_is_refused(
    alice: Phone, bob: Phone, change: Callable[[bytes], bytes], reason: Reason
) -> None:
    event = alice.post(DIALOG, b"")
    assert reason_of(bob.open(encrypt(alice, event, change(plaintext_of(alice, event))))) == reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\x03" + bytes(300), Reason.MALFORMED),
        (bytes(PAYLOAD_BYTES_MAX + 1), Reason.TOO_LARGE),
    ],
)
def test_a_payload_that_is_no_megolm_message_is_refused(
    alice: Phone, bob: Phone, payload: bytes, reason: Reason
) -> None:
    event = alice.post(DIALOG, b"")
    assert reason_of(bob.open(replace(event, payload=payload))) == reason


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["author", "device", "n", "tag", "kind", "target", "reply_to", "expires_at_ms", "ref", "keys_seq", "view"]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*FIELDS, "last_acked_n", "frank", "body", "pad"]), value=ANY_JSON)
def test_whatever_a_client_seals_in_a_field_is_opened_or_refused(
    alice: Phone, bob: Phone, name: str, value: object
) -> None:
    if alice.seqs % 40 == 0:
        alice.machine.forget_dialog(DIALOG)
        alice.introduce(DIALOG, bob)
    event = alice.post(DIALOG, b"")
    try:
        plaintext = with_field(name, value)(plaintext_of(alice, event))
    except CanonicalError:
        return
    assert isinstance(bob.open(encrypt(alice, event, plaintext)), Opened | OpenError)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.binary(max_size=300).map(lambda data: b"\x03" + data), session=st.binary(min_size=32, max_size=32))
def test_whatever_a_server_makes_up_is_refused(alice: Phone, bob: Phone, payload: bytes, session: bytes) -> None:
    place = alice.place(DIALOG, 1)
    known = bob.state.keys(Table.INBOUND, b"")[0][:32]
    for name in (session, known):
        assert isinstance(bob.open(Received(place, 1, payload, name, bytes(32), VIEW)), OpenError)


def test_a_damaged_payload_is_refused(alice: Phone, bob: Phone) -> None:
    event = alice.post(DIALOG, b"whole")
    for position in range(0, len(event.payload), 7):
        damaged = bytearray(event.payload)
        damaged[position] ^= 1 << position % 8
        assert isinstance(bob.open(replace(event, payload=bytes(damaged))), OpenError)
    assert content_of(bob.open(event)) == b"whole"


def test_a_session_that_is_used_without_end_is_refused(alice: Phone, bob: Phone) -> None:
    """Each index is remembered, so their number is bounded."""
    session = vodozemac.GroupSession()
    for _ in range(INDEX_MAX + 1):
        session.encrypt(b"")
    event = alice.post(DIALOG, b"")
    assert reason_of(bob.open(replace(event, payload=session.encrypt(b"").to_bytes()))) == Reason.OVERUSED


@pytest.mark.usefixtures("bob")
def test_messages_of_similar_length_look_alike(alice: Phone) -> None:
    lengths = {len(alice.post(DIALOG, b"x" * length).payload) for length in range(0, 40, 5)}
    assert len(lengths) <= 2


def test_the_longest_content_fits_into_a_payload_and_a_longer_one_is_refused(alice: Phone, bob: Phone) -> None:
    longest = "\x01" * REF_CHARS_MAX  # six bytes each, in JSON
    place = replace(full_place(alice), n=2**53 - 1, ref=Ref(longest, longest))
    event = alice.write(place, bytes(SEALED_CONTENT_BYTES_MAX))
    assert len(event.payload) <= PAYLOAD_BYTES_MAX
    assert content_of(bob.open(event)) == bytes(SEALED_CONTENT_BYTES_MAX)
    with pytest.raises(ValueError, match="at most"):
        alice.write(place, bytes(SEALED_CONTENT_BYTES_MAX + 1))


@pytest.mark.usefixtures("bob")
def test_a_reaction_fits_into_its_payload(alice: Phone) -> None:
    place = replace(alice.place(DIALOG, 2**53 - 1), tag=tag_of(Reacted), kind=None, target=2**53 - 1)
    assert len(alice.write(place, "👩\u200d👩\u200d👧\u200d👦".encode()).payload) <= REACTION_BYTES_MAX


def test_a_message_says_which_number_before_it_was_acked(alice: Phone, bob: Phone) -> None:
    for n, acked in ((901, 0), (902, 901), (903, 901)):
        event = alice.write(alice.place(DIALOG, n), b"")
        opened = bob.open(event)
        assert isinstance(opened, Opened)
        assert opened.last_acked_n == acked
        alice.machine.acked(DIALOG, 901, None)


@pytest.mark.usefixtures("bob")
def test_nothing_is_sealed_at_another_state_of_the_members_than_it_was_shared_at(alice: Phone) -> None:
    with pytest.raises(NotSharedError):
        alice.seal(alice.place(DIALOG, 950, keys_seq=2), b"")
    with pytest.raises(NotSharedError):
        alice.seal(alice.place(new_id(), 951), b"")


def test_every_reason_has_a_sentence_for_a_person() -> None:
    for reason in Reason:
        assert reason.sentence.endswith((".", "?"))
        assert reason.value in str(OpenError(reason))
