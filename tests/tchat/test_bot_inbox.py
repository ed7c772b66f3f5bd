"""What of a dialog is still to be handled: in order, each event once, from memory or from the history."""

from __future__ import annotations

from protocol.bodies import Deleted, TimelineEvent
from tchat.bot_inbox import EVENTS_KEPT_MAX, DialogInbox, Unread

DIALOG = bytes(16)


def event(seq: int) -> TimelineEvent:
    return TimelineEvent(DIALOG, seq, bytes(16), bytes(16), seq, 0, 0, Deleted(1))


def handle_all(inbox: DialogInbox) -> list[int]:
    """The numbers that are handled, those of the history included."""
    seqs: list[int] = []
    while (due := inbox.next()) is not None:
        seqs += range(due.first, due.last + 1) if isinstance(due, Unread) else [due.seq]
        inbox.handled = seqs[-1]
    return seqs


def test_events_are_handed_out_in_order_and_once() -> None:
    inbox = DialogInbox(0)
    inbox.begins(1)
    for seq in (1, 2, 2, 1, 3):
        inbox.heard(event(seq))
    assert handle_all(inbox) == [1, 2, 3]
    assert inbox.next() is None


def test_what_an_earlier_life_handled_is_not_handed_out() -> None:
    inbox = DialogInbox(2, read_to=2)
    inbox.begins(1)
    for seq in (1, 2, 3):
        inbox.heard(event(seq))
    assert handle_all(inbox) == [3]


def test_what_was_missed_before_the_window_is_read_from_the_history_first() -> None:
    inbox = DialogInbox(2, read_to=2)
    inbox.begins(10)
    inbox.heard(event(10))
    assert inbox.next() == Unread(3, 9)
    assert handle_all(inbox) == [*range(3, 10), 10]


def test_an_event_without_the_state_of_its_dialog_is_handed_out() -> None:
    inbox = DialogInbox(0, read_to=4)
    inbox.heard(event(5))
    assert handle_all(inbox) == [1, 2, 3, 4, 5]


def test_what_does_not_fit_is_read_from_the_history_later() -> None:
    inbox = DialogInbox(0)
    inbox.begins(1)
    last = 3 * EVENTS_KEPT_MAX
    for seq in range(1, last + 1):
        inbox.heard(event(seq))
    assert len(inbox.kept) == EVENTS_KEPT_MAX
    assert handle_all(inbox) == list(range(1, last + 1))
    inbox.heard(event(last + 1))
    assert handle_all(inbox) == [last + 1]


def test_a_cut_after_events_that_wait_is_read_from_the_history() -> None:
    inbox = DialogInbox(0)
    inbox.begins(1)
    inbox.heard(event(1))
    inbox.begins(8)
    inbox.heard(event(8))
    assert handle_all(inbox) == list(range(1, 9))


def test_what_is_passed_over_is_not_handed_out() -> None:
    inbox = DialogInbox(0)
    inbox.begins(1)
    inbox.heard(event(1))
    inbox.pass_over(0)
    assert inbox.next() is None
    inbox.heard(event(2))
    assert handle_all(inbox) == [2]
