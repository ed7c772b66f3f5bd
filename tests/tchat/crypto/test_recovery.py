"""What is sealed under the recovery key comes back to who has the key, and to nobody else; nothing is slipped in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import vodozemac
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import from_base64
from protocol.limits import BACKUP_VALUE_BYTES_MAX
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.recovery import (
    RECOVERY_KEY_BYTES,
    BackedUpSession,
    RecoveryError,
    RecoveryReason,
    new_recovery_key,
    open_identity,
    open_session,
    open_trust,
    read_recovery_key,
    seal_identity,
    seal_session,
    seal_trust,
    session_place,
    write_recovery_key,
)
from tchat.crypto.trust import Trust

KEY, OTHER_KEY = bytes([7]) * RECOVERY_KEY_BYTES, bytes([8]) * RECOVERY_KEY_BYTES
BOB, ALICE, DIALOG, PHONE = (bytes([number]) * 16 for number in (0xB0, 0xA1, 0xD0, 1))
IDENTITY = OwnIdentity(BOB, 2)
WRITTEN = "EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4d"
"""A key as Matrix' libraries write it: the private key of Alice in RFC 7748, section 6.1."""
WRITTEN_KEY = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")


def session() -> BackedUpSession:
    outbound = vodozemac.GroupSession()
    exported = vodozemac.InboundGroupSession(outbound.session_key).export_at(0)
    assert exported is not None
    return BackedUpSession(from_base64(outbound.session_id), DIALOG, ALICE, PHONE, exported.to_base64())


SESSION = session()
SEALED_IDENTITY, SEALED_SESSION = seal_identity(KEY, IDENTITY), seal_session(KEY, IDENTITY, SESSION)


def test_a_recovery_key_is_written_as_matrix_writes_it() -> None:
    assert write_recovery_key(WRITTEN_KEY) == WRITTEN
    assert read_recovery_key(WRITTEN) == WRITTEN_KEY


@given(st.binary(min_size=RECOVERY_KEY_BYTES, max_size=RECOVERY_KEY_BYTES))
def test_a_recovery_key_is_read_as_it_was_written(key: bytes) -> None:
    text = write_recovery_key(key)
    assert read_recovery_key(text) == key
    assert read_recovery_key(f"  {text.replace(' ', '')}\n") == key


def test_a_mistyped_recovery_key_is_refused() -> None:
    """One of 256 mistakes keeps the check byte, and fails when something is opened; these do not."""
    refused = 0
    for place, character in enumerate(WRITTEN):
        if character != " ":
            wrong = WRITTEN[:place] + ("2" if character != "2" else "3") + WRITTEN[place + 1 :]
            with pytest.raises(RecoveryError):
                read_recovery_key(wrong)
            refused += 1
    assert refused == 48


BAD_KEYS = {
    "": RecoveryReason.WRONG_LENGTH,
    WRITTEN[:-1]: RecoveryReason.WRONG_LENGTH,
    WRITTEN + " 2": RecoveryReason.WRONG_LENGTH,
    "z" * 100_000: RecoveryReason.WRONG_LENGTH,
    WRITTEN.replace("E", "0"): RecoveryReason.WRONG_CHARACTER,
    WRITTEN.replace("E", "É"): RecoveryReason.WRONG_CHARACTER,
    WRITTEN.replace("4d", "d4"): RecoveryReason.MISTYPED,
}


@pytest.mark.parametrize("text", BAD_KEYS, ids=lambda text: text[:12])
def test_what_is_no_recovery_key_is_refused(text: str) -> None:
    with pytest.raises(RecoveryError) as refused:
        read_recovery_key(text)
    assert refused.value.reason is BAD_KEYS[text]


def test_an_identity_comes_back() -> None:
    assert open_identity(KEY, BOB, 2, SEALED_IDENTITY).public == IDENTITY.public


def test_a_session_comes_back() -> None:
    assert open_session(KEY, IDENTITY, session_place(SESSION.session, SESSION.device), SEALED_SESSION) == SESSION


def test_sealed_values_fit_and_show_nothing() -> None:
    assert len(SEALED_IDENTITY) <= BACKUP_VALUE_BYTES_MAX
    assert len(SEALED_SESSION) <= BACKUP_VALUE_BYTES_MAX
    assert IDENTITY.secret[:32] not in SEALED_IDENTITY
    assert seal_identity(KEY, IDENTITY) != SEALED_IDENTITY
    assert SESSION.exported not in repr(SESSION)


def test_a_word_about_somebody_comes_back_and_its_place_names_nobody_without_the_key() -> None:
    word = Trust(5, 3, bytes(32), verified=True)
    place, sealed = seal_trust(KEY, IDENTITY, ALICE, word)
    assert open_trust(KEY, IDENTITY, place, sealed) == (ALICE, word)
    assert place != seal_trust(OTHER_KEY, IDENTITY, ALICE, word)[0]
    about_bob, _ = seal_trust(KEY, IDENTITY, BOB, word)
    for identity, at in ((IDENTITY, about_bob), (OwnIdentity(BOB, 1), place)):
        with pytest.raises(RecoveryError) as refused:
            open_trust(KEY, identity, at, sealed)
        assert refused.value.reason is RecoveryReason.NOT_OURS


OTHER = session()
INJECTED = seal_session(OTHER_KEY, IDENTITY, OTHER)
NOT_RECOVERED: dict[str, tuple[RecoveryReason, Callable[[], object]]] = {
    "an identity under another key": (
        RecoveryReason.NOT_OURS,
        lambda: open_identity(OTHER_KEY, BOB, 2, SEALED_IDENTITY),
    ),
    "an identity of another person": (RecoveryReason.NOT_OURS, lambda: open_identity(KEY, ALICE, 2, SEALED_IDENTITY)),
    "an identity of before": (RecoveryReason.NOT_OURS, lambda: open_identity(KEY, BOB, 1, SEALED_IDENTITY)),
    "an identity cut short": (RecoveryReason.NOT_OURS, lambda: open_identity(KEY, BOB, 2, SEALED_IDENTITY[:-1])),
    "nothing": (RecoveryReason.NOT_OURS, lambda: open_identity(KEY, BOB, 2, b"")),
    "too much": (RecoveryReason.NOT_OURS, lambda: open_identity(KEY, BOB, 2, bytes(BACKUP_VALUE_BYTES_MAX + 1))),
    "a session as an identity": (RecoveryReason.NOT_OURS, lambda: open_identity(KEY, BOB, 2, SEALED_SESSION)),
    "an injected session": (
        RecoveryReason.NOT_OURS,
        lambda: open_session(KEY, IDENTITY, session_place(OTHER.session, OTHER.device), INJECTED),
    ),
    "a session under another's name": (
        RecoveryReason.NOT_OURS,
        lambda: open_session(KEY, IDENTITY, session_place(OTHER.session, OTHER.device), SEALED_SESSION),
    ),
    "a session of an identity of before": (
        RecoveryReason.NOT_OURS,
        lambda: open_session(KEY, OwnIdentity(BOB, 1), session_place(SESSION.session, SESSION.device), SEALED_SESSION),
    ),
    "keys that are none": (
        RecoveryReason.NOT_OURS,
        lambda: reopened(BackedUpSession(SESSION.session, DIALOG, ALICE, PHONE, "x")),
    ),
    "the keys of another session": (
        RecoveryReason.WRONG_SESSION,
        lambda: reopened(BackedUpSession(SESSION.session, DIALOG, ALICE, PHONE, OTHER.exported)),
    ),
}


def reopened(session: BackedUpSession) -> BackedUpSession:
    return open_session(
        KEY, IDENTITY, session_place(session.session, session.device), seal_session(KEY, IDENTITY, session)
    )


@pytest.mark.parametrize("what", NOT_RECOVERED)
def test_nothing_else_is_recovered(what: str) -> None:
    reason, recover = NOT_RECOVERED[what]
    with pytest.raises(RecoveryError) as refused:
        recover()
    assert refused.value.reason is reason


@pytest.mark.parametrize("place", range(0, len(SEALED_SESSION), 29))
def test_a_changed_backup_is_refused(place: int) -> None:
    changed = SEALED_SESSION[:place] + bytes([SEALED_SESSION[place] ^ 1]) + SEALED_SESSION[place + 1 :]
    with pytest.raises(RecoveryError):
        open_session(KEY, IDENTITY, session_place(SESSION.session, SESSION.device), changed)


def test_recovery_keys_are_random() -> None:
    assert len({new_recovery_key() for _ in range(10)}) == 10


def test_every_reason_has_a_sentence_and_a_test() -> None:
    tested = {reason for reason, _ in NOT_RECOVERED.values()} | set(BAD_KEYS.values())
    assert tested == set(RecoveryReason)
    assert all(reason.sentence for reason in RecoveryReason)
