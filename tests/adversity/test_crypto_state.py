"""A few rounds of a device that is killed and put back; and that what the run counts is seen when it is there."""

from __future__ import annotations

from pathlib import Path

import vodozemac

from tests.adversity.crypto_state import count_reused, crypto_state, index_of
from tests.adversity.crypto_state_child import Line


def test_no_index_is_used_twice_and_no_older_copy_is_used(tmp_path: Path) -> None:
    summary = crypto_state(rounds=8, seed=5, folder=tmp_path)
    wrong = ("indices_reused", "unnoticed_rollbacks", "false_alarms")
    assert {name: summary[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert min(summary[name] for name in ("sent", "sent_again", "kills", "copies", "rollbacks", "noticed")) > 0


def test_an_index_under_which_two_things_were_sent_is_counted() -> None:
    session = vodozemac.GroupSession()
    copy = vodozemac.GroupSession.from_pickle(session.pickle(bytes(32)), bytes(32))
    first, again, next_one = (
        session.encrypt(b"a").to_bytes(),
        copy.encrypt(b"b").to_bytes(),
        copy.encrypt(b"c").to_bytes(),
    )
    lines = [Line(1, 1, b"dialog", b"session", payload) for payload in (first, first, again, next_one)]
    assert count_reused(lines) == 1


def test_the_index_of_a_message_is_that_of_its_session() -> None:
    session = vodozemac.GroupSession()
    assert [index_of(session.encrypt(b"").to_bytes()) for _ in range(300)] == list(range(300))
