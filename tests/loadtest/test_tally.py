"""Each count of the tally, by a stream that deserves it; and what is measured."""

import time

import pytest

from loadtest.pieces import Streak
from loadtest.run_result import Checks
from loadtest.tally import Tally

DIALOG, OTHER = b"D" * 16, b"O" * 16


class Listener:
    """A reader without a connection."""

    def __init__(self) -> None:
        self.heads: dict[bytes, int] = {}
        self.caught_up: dict[bytes, int] = {}
        self.catching_up = False

    def hear(self, tally: Tally, *numbers: int) -> None:
        for seq in numbers:
            if self.heads.get(DIALOG, 0) + 1 == seq:
                self.heads[DIALOG] = seq
            else:
                tally.take_leap(self, Streak(DIALOG, seq, seq))


def close(*numbers: int, acked: int = 5) -> Checks:
    """The checks after a member of a dialog, of which `acked` events must come, has heard these."""
    tally, listener = Tally(), Listener()
    tally.sent = 1
    tally.take_ack(DIALOG, acked, 0)
    listener.hear(tally, *numbers)
    tally.close([(listener, DIALOG)])
    return tally.checks()


def test_what_comes_once_and_in_order_is_good() -> None:
    assert close(1, 2, 3, 4, 5) == Checks(expected=5, received=5)


@pytest.mark.parametrize(
    ("numbers", "count", "failed"),
    [
        ((1, 2, 4, 5), "lost", 1),
        ((1, 5), "lost", 3),
        ((1, 2, 3), "lost", 2),
        ((), "lost", 5),
        ((2, 3, 4, 5), "lost", 1),
        ((1, 2, 2, 3, 4, 5), "doubled", 1),
        ((1, 2, 3, 4, 5, 1, 2), "doubled", 2),
        ((1, 3, 2, 4, 5), "misordered", 1),
        ((1, 4, 3, 2, 5), "misordered", 2),
    ],
)
def test_what_does_not_is_counted_as_what_it_is(numbers: tuple[int, ...], count: str, failed: int) -> None:
    checks = close(*numbers)
    assert (getattr(checks, count), checks.failed) == (failed, failed)
    assert checks.first
    assert checks.received == 5 - checks.lost


def test_a_number_that_was_misordered_and_comes_again_is_doubled() -> None:
    checks = close(1, 3, 2, 2, 4, 5)
    assert (checks.misordered, checks.doubled, checks.lost) == (1, 1, 0)


def test_who_catches_up_may_get_again_what_they_have() -> None:
    tally, listener = Tally(), Listener()
    listener.hear(tally, 1, 2, 3)
    listener.catching_up = True
    tally.take_leap(listener, Streak(DIALOG, 2, 5))
    assert (listener.heads[DIALOG], tally.checks().failed) == (5, 0)


def test_what_somebody_had_when_they_had_caught_up_may_come_again_and_nothing_later() -> None:
    tally, listener = Tally(), Listener()
    listener.hear(tally, 1, 2)
    listener.caught_up = dict(listener.heads)
    listener.hear(tally, 2, 3)
    assert tally.doubled == 0
    listener.hear(tally, 3)
    assert tally.doubled == 1


def test_who_catches_up_must_get_what_they_lack() -> None:
    tally, listener = Tally(), Listener()
    listener.hear(tally, 1)
    listener.catching_up = True
    tally.take_leap(listener, Streak(DIALOG, 3, 5))
    tally.close([(listener, DIALOG)])
    assert tally.checks().lost == 1


def test_a_gap_without_end_takes_bounded_memory_and_is_lost_all_the_same() -> None:
    tally, listener = Tally(), Listener()
    tally.take_leap(listener, Streak(DIALOG, 10**6 + 1, 10**6 + 1))
    tally.close([(listener, DIALOG)])
    assert tally.checks().lost == 10**6
    assert sum(map(len, tally._missing.values())) <= 100_000


def test_a_send_without_an_answer_is_unanswered() -> None:
    tally = Tally()
    tally.sent = 3
    tally.take_ack(DIALOG, 1, 0)
    tally.note_refused("no")
    tally.close([])
    assert (tally.checks().unanswered, tally.checks().refused) == (1, 1)


def test_the_first_trouble_is_the_one_that_is_told() -> None:
    tally = Tally()
    tally.note_broken("gone")
    tally.note_odd("Draining")
    assert (tally.checks().broken, tally.checks().odd, tally.checks().first) == (1, 1, "gone")


def test_all_is_settled_when_sends_are_answered_and_members_have_what_was_acked() -> None:
    tally, listener = Tally(), Listener()
    tally.sent = 1
    assert not tally.is_settled([(listener, DIALOG)])
    tally.take_ack(DIALOG, 2, 0)
    assert not tally.is_settled([(listener, DIALOG)])
    listener.hear(tally, 1, 2)
    assert tally.is_settled([(listener, DIALOG)])


def test_latencies_are_of_what_was_due_in_the_measured_part_and_of_others_messages() -> None:
    tally, now = Tally(), time.monotonic_ns()
    tally.measure(now - 100, now - 50)
    tally.take_stamps([(now - 101, b"a"), (now - 100, b"a"), (now - 70, b"me"), (now - 50, b"a")], b"me")
    found = tally.delivery.percentiles()
    assert found is not None
    assert found.count == 1
