"""Channels between two devices: what one wrote the other opens, and nothing that is said about it wrongly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.canonical import decode_canonical, encode_canonical, to_base64
from protocol.cross_signing import KeysReason, KeysRefusedError
from protocol.limits import SHARES_IN_FLIGHT_MAX
from protocol.public_keys import DevicePublic
from tchat.crypto.errors import NoChannelError, OpenError, Reason
from tchat.crypto.olm import (
    DUMMY,
    REPLACED_MS_MIN,
    SESSIONS_MAX,
    TO_DEVICE_BYTES_MAX,
    KnownDevice,
    ToDevice,
    encrypt,
)
from tchat.crypto.own_keys import FALLBACK_MS_MAX, ONE_TIME_KEYS, OwnKeys
from tchat.crypto.state import Step, Table
from tests.tchat.crypto.devices import NOW_MS, Phone, copy_channel, damaged, phone


@pytest.fixture
def alice() -> Phone:
    return phone()


@pytest.fixture
def bob() -> Phone:
    return phone()


def write(sender: Phone, receiver: Phone, text: str) -> bytes:
    return sender.machine.write_to(receiver.known, "test.note", {"text": text})


def text_of(outcome: object) -> object:
    assert isinstance(outcome, ToDevice), outcome
    return outcome.content["text"]


def reason_of(outcome: object) -> Reason:
    assert isinstance(outcome, OpenError), outcome
    return outcome.reason


def say(sender: Phone, receiver: Phone, text: str) -> None:
    """Write and receive."""
    (outcome,) = receiver.take(sender, write(sender, receiver, text))
    assert text_of(outcome) == text


def test_without_a_channel_nothing_is_written(alice: Phone, bob: Phone) -> None:
    assert alice.machine.to_claim([bob.known, alice.known], NOW_MS) == [bob.known]
    with pytest.raises(NoChannelError):
        write(alice, bob, "hello")


def test_a_conversation(alice: Phone, bob: Phone) -> None:
    alice.connect(bob)
    assert alice.machine.to_claim([bob.known], NOW_MS) == []
    for turn in range(3):
        say(alice, bob, f"{turn} to Bob")
        say(alice, bob, f"{turn} and more")
        say(bob, alice, f"{turn} to Alice")


def test_devices_that_open_channels_to_each_other_at_once_understand_each_other(alice: Phone, bob: Phone) -> None:
    alice.connect(bob)
    bob.connect(alice)
    to_bob, to_alice = write(alice, bob, "from Alice"), write(bob, alice, "from Bob")
    assert [text_of(one) for one in bob.take(alice, to_bob)] == ["from Alice"]
    assert [text_of(one) for one in alice.take(bob, to_alice)] == ["from Bob"]
    for turn in range(3):
        say(alice, bob, f"{turn}")
        say(bob, alice, f"{turn}")


def test_messages_that_arrive_late_are_opened(alice: Phone, bob: Phone) -> None:
    alice.connect(bob)
    say(alice, bob, "first")
    data = [write(alice, bob, str(number)) for number in range(20)]
    assert [text_of(one) for one in bob.take(alice, *reversed(data))] == [str(n) for n in reversed(range(20))]


def test_a_session_keeps_the_keys_of_more_messages_than_there_are_shares_in_flight(alice: Phone, bob: Phone) -> None:
    """Slices of several shares may arrive in any order: the bound of shares fits what the library keeps."""
    alice.connect(bob)
    say(alice, bob, "first")
    data = [write(alice, bob, str(number)) for number in range(2 * SHARES_IN_FLIGHT_MAX)]
    assert [text_of(one) for one in bob.take(alice, data[-1], *data[:-1])][1:] == [str(n) for n in range(len(data) - 1)]


def test_messages_that_are_never_delivered_do_not_break_a_channel(alice: Phone, bob: Phone) -> None:
    alice.connect(bob)
    for _ in range(200):
        write(alice, bob, "refused, and never live")
    say(alice, bob, "delivered")
    say(bob, alice, "understood")


def test_a_message_that_comes_again_changes_nothing(alice: Phone, bob: Phone) -> None:
    alice.connect(bob)
    data = write(alice, bob, "once")
    first, again = bob.take(alice, data, data)
    assert (text_of(first), reason_of(again)) == ("once", Reason.REPEATED)
    assert reason_of(bob.take(alice, data)[0]) == Reason.REPEATED
    assert bob.machine.to_claim([alice.known], NOW_MS) == []


def test_a_message_by_a_fallback_key_that_comes_again_in_other_bytes_changes_nothing(alice: Phone, bob: Phone) -> None:
    later_ms = NOW_MS + FALLBACK_MS_MAX
    (fallback,) = bob.machine.prepare_upload(ONE_TIME_KEYS, later_ms, fallback_used=True).fallback_keys.values()
    alice.machine.open_channels([(bob.known, fallback)], NOW_MS)
    first = write(alice, bob, "once")
    (outcome,) = bob.take(alice, first)
    assert text_of(outcome) == "once"
    spaced = first.replace(b"{", b"{ ", 1)
    assert [reason_of(one) for one in bob.take(alice, spaced)] == [Reason.UNDECRYPTABLE]
    say(alice, bob, "twice")


@pytest.mark.parametrize("value", [1.5, 2**53])
def test_a_message_that_has_no_canonical_form_is_refused(
    alice: Phone, bob: Phone, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.connect(bob)
    monkeypatch.setattr("tchat.crypto.olm.encode_canonical", msgspec.json.encode)
    data = alice.machine.write_to(bob.known, "test.note", {"value": value})
    monkeypatch.undo()
    assert reason_of(bob.take(alice, data)[0]) is Reason.WRONG_FIELDS


def test_a_one_time_key_opens_one_channel(alice: Phone, bob: Phone) -> None:
    carol, key = phone(), bob.keys.pop()
    for sender in (alice, carol):
        sender.machine.open_channels([(bob.known, key)], NOW_MS)
    assert text_of(bob.take(alice, write(alice, bob, "mine"))[0]) == "mine"
    assert reason_of(bob.take(carol, write(carol, bob, "mine"))[0]) == Reason.UNDECRYPTABLE


def test_the_fallback_key_before_the_last_still_opens_channels(alice: Phone, bob: Phone) -> None:
    week = 7 * 86_400_000
    fallbacks: list[bytes] = []
    for number in (1, 2):
        upload = bob.machine.prepare_upload(50, NOW_MS + number * week, fallback_used=False)
        bob.machine.uploaded(upload)
        fallbacks += upload.fallback_keys.values()
    for sender, key in zip((alice, phone()), fallbacks, strict=True):
        sender.machine.open_channels([(bob.known, key)], NOW_MS)
        assert text_of(bob.take(sender, write(sender, bob, "hello"))[0]) == "hello"


def test_who_calls_the_key_of_another_her_own_breaks_no_channel_of_theirs(alice: Phone, bob: Phone) -> None:
    mallory = phone()
    alice.connect(bob)
    public = DevicePublic(mallory.known.public.ed25519, bob.known.public.curve25519)
    alice.machine.open_channels([(replace(mallory.known, public=public), mallory.keys.pop())], NOW_MS)
    say(alice, bob, "still ours")


def test_a_key_that_its_device_has_not_signed_opens_no_channel(alice: Phone, bob: Phone) -> None:
    mallory = phone()
    (outcome,) = alice.machine.open_channels([(bob.known, mallory.keys.pop())], NOW_MS)
    assert isinstance(outcome, KeysRefusedError)
    assert outcome.reason == KeysReason.WRONG_SIGNATURE
    assert alice.machine.to_claim([bob.known], NOW_MS) == [bob.known]


def test_one_key_that_is_refused_does_not_keep_the_others_out(alice: Phone, bob: Phone) -> None:
    carol = phone()
    claimed = [(bob.known, b"{}"), (carol.known, carol.keys.pop())]
    refused, opened = alice.machine.open_channels(claimed, NOW_MS)
    assert isinstance(refused, KeysRefusedError)
    assert opened is None
    say(alice, carol, "hello")


def test_a_broken_channel_is_replaced_and_not_more_than_once_in_a_while(alice: Phone, bob: Phone) -> None:
    alice.connect(bob)
    say(alice, bob, "before")
    assert reason_of(bob.take(alice, damaged(bob, write(alice, bob, "")))[0]) == Reason.UNDECRYPTABLE
    (dummy,) = bob.connect(alice)
    assert isinstance(dummy, bytes)
    (outcome,) = alice.take(bob, dummy)
    assert isinstance(outcome, ToDevice)
    assert (outcome.type, outcome.opened) == (DUMMY, True)
    say(alice, bob, "after")
    assert reason_of(bob.take(alice, damaged(bob, write(alice, bob, "")))[0]) == Reason.UNDECRYPTABLE
    assert bob.machine.to_claim([alice.known], NOW_MS + REPLACED_MS_MIN - 1) == []
    assert bob.machine.to_claim([alice.known], NOW_MS + REPLACED_MS_MIN) == [alice.known]
    assert bob.machine.to_claim([alice.known], NOW_MS - 1) == [alice.known], "the clock was ahead"


def test_a_message_that_failed_keeps_nothing_of_those_beside_it(alice: Phone, bob: Phone) -> None:
    alice.connect(bob)
    first, broken, last = write(alice, bob, "first"), damaged(bob, write(alice, bob, "")), write(alice, bob, "last")
    outcomes = bob.take(alice, first, broken, last)
    assert [text_of(outcomes[0]), reason_of(outcomes[1]), text_of(outcomes[2])] == [
        "first",
        Reason.UNDECRYPTABLE,
        "last",
    ]


def lie(sender: Phone, receiver: KnownDevice, **claims: Any) -> bytes:
    """A message of a client that says of itself what is not so."""
    step = Step(sender.state)
    own = OwnKeys.read(step)
    assert own is not None
    for name, value in claims.items():
        setattr(own, name, value)
    return encrypt(step, own, receiver, "test.note", {})


def test_a_message_is_believed_only_from_the_device_that_wrote_it(alice: Phone, bob: Phone) -> None:
    mallory = phone()
    alice.connect(bob)
    mallory.connect(bob)
    assert reason_of(bob.take(mallory, write(alice, bob, ""))[0]) == Reason.WRONG_SENDER
    others_keys = DevicePublic(alice.known.public.ed25519, mallory.known.public.curve25519)
    for claims in (
        {"principal": alice.known.principal},
        {"device_keys": alice.machine.device_keys},
        {"public": others_keys},
    ):
        assert reason_of(bob.take(mallory, lie(mallory, bob.known, **claims))[0]) == Reason.WRONG_SENDER


def test_a_message_for_somebody_else_is_refused(alice: Phone, bob: Phone) -> None:
    """Carol calls Bob's key her own: what is written to her is not taken for a message to him."""
    carol = phone()
    alice.connect(bob)
    assert reason_of(carol.take(alice, write(alice, bob, ""))[0]) == Reason.WRONG_RECIPIENT
    for known in (
        replace(bob.known, principal=carol.known.principal),
        replace(bob.known, public=DevicePublic(carol.known.public.ed25519, bob.known.public.curve25519)),
    ):
        copy_channel(alice, bob, known)
        assert reason_of(bob.take(alice, lie(alice, known))[0]) == Reason.WRONG_RECIPIENT


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"algorithm": "none"}, Reason.MALFORMED),
        ({"sender_key": None}, Reason.MALFORMED),
        ({"sender_key": ""}, Reason.WRONG_SENDER),
        ({"ciphertext": {}}, Reason.WRONG_RECIPIENT),
        ({"ciphertext": []}, Reason.MALFORMED),
    ],
)
def test_what_is_no_message_to_a_device_is_refused(
    alice: Phone, bob: Phone, change: dict[str, object], reason: Reason
) -> None:
    alice.connect(bob)
    value = decode_canonical(write(alice, bob, ""))
    assert reason_of(bob.take(alice, encode_canonical({**value, **change}))[0]) == reason


@pytest.mark.parametrize("body", [{}, {"type": 2, "body": ""}, {"type": 0, "body": ""}, {"type": 1, "body": "a b"}])
def test_a_ciphertext_that_is_none_is_refused(alice: Phone, bob: Phone, body: dict[str, object]) -> None:
    alice.connect(bob)
    value = decode_canonical(write(alice, bob, ""))
    changed = {**value, "ciphertext": {to_base64(bob.known.public.curve25519): body}}
    assert reason_of(bob.take(alice, encode_canonical(changed))[0]) == Reason.MALFORMED


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * TO_DEVICE_BYTES_MAX])
def test_bytes_that_are_no_message_are_refused(alice: Phone, bob: Phone, data: bytes) -> None:
    assert reason_of(bob.take(alice, data)[0]) == Reason.MALFORMED
    assert reason_of(bob.take(alice, data.ljust(TO_DEVICE_BYTES_MAX + 1))[0]) == Reason.TOO_LARGE


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.integers(-1, 2), body=st.binary(max_size=300), prefix=st.sampled_from([b"", b"\x03", b"\x03\x0a\x20"]))
def test_whatever_a_server_makes_up_is_refused(alice: Phone, bob: Phone, kind: int, body: bytes, prefix: bytes) -> None:
    value = {
        "algorithm": "m.olm.v1.curve25519-aes-sha2",
        "sender_key": to_base64(alice.known.public.curve25519),
        "ciphertext": {to_base64(bob.known.public.curve25519): {"type": kind, "body": to_base64(prefix + body)}},
    }
    assert isinstance(bob.take(alice, encode_canonical(value))[0], OpenError)


def test_a_device_is_known_by_few_sessions(alice: Phone, bob: Phone) -> None:
    """Whoever opens a new channel with each message does not fill the store."""
    for number in range(SESSIONS_MAX + 2):
        alice.machine.open_channels([(bob.known, bob.keys.pop())], NOW_MS)
        say(alice, bob, str(number))
    row = bob.state.read(Table.CHANNELS, alice.known.row)
    assert row is not None
    assert len(row) < 2000 * SESSIONS_MAX
