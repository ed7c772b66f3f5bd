"""The outbox: order without holes in either mode, and bounded in both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.bodies import TimelineEvent
from protocol.codec import MSGPACK
from protocol.events import HeartbeatReply, ReceiptChanged
from protocol.ids import NIL
from server.delivery.outbox import Outbox
from server.delivery.prepared_message import PreparedMessage
from server.delivery.rows_to_wire import timeline_event
from storage.rows import JournalRow

A, B = b"a" * 16, b"b" * 16
ERASED = b"\x91\x05"


def event(dialog: bytes, seq: int) -> PreparedMessage:
    return PreparedMessage(timeline_event(JournalRow(dialog, seq, NIL, NIL, 1, 0, 0, ERASED)))


class Collected:
    """An outbox and what was taken from it, decoded."""

    def __init__(self, *, bytes_max: int = 1000, held_max: int = 3, missed_max: int = 10) -> None:
        self.dirty = 0
        self.behind = 0
        self.outbox = Outbox(
            text=False,
            bytes_max=bytes_max,
            held_max=held_max,
            missed_max=missed_max,
            on_dirty=self._note_dirty,
            on_behind=self._note_behind,
        )

    def _note_dirty(self) -> None:
        self.dirty += 1

    def _note_behind(self) -> None:
        self.behind += 1

    def tell(self, dialog: bytes, *seqs: int) -> None:
        for seq in seqs:
            self.outbox.content(dialog, seq, event(dialog, seq))

    def taken(self) -> list[tuple[bytes, int]]:
        data, seen = self.outbox.take(), []
        while data:
            length = data[1]
            message = MSGPACK.decode_server(data[2 : 2 + length])
            assert isinstance(message, TimelineEvent)
            seen.append((message.dialog, message.seq))
            data = data[2 + length :]
        return seen


def live(**bounds: int) -> Collected:
    made = Collected(**bounds)
    assert made.outbox.try_live({})
    return made


def test_live_content_is_queued_in_order_and_announced_once() -> None:
    it = live()
    it.tell(A, 1, 2)
    it.tell(B, 1)
    assert it.dirty == 1
    assert it.taken() == [(A, 1), (A, 2), (B, 1)]
    assert (it.outbox.size, bool(it.outbox)) == (0, False)


def test_past_its_bound_it_falls_behind_once_and_holds() -> None:
    it = live(bytes_max=100)
    it.tell(A, *range(1, 5))
    assert (it.behind, it.outbox.live) == (1, False)
    queued = it.taken()
    assert it.outbox.try_live({})
    assert queued + it.taken() == [(A, seq) for seq in range(1, 5)]


def test_too_much_held_is_remembered_by_its_first_number() -> None:
    it = Collected(held_max=2)
    it.tell(A, 5, 6)
    it.tell(B, 9)
    it.tell(A, 7)
    assert not it.outbox.try_live({})
    assert it.outbox.take_missed() == {A: 5, B: 9}


def test_what_the_catch_up_sent_is_not_sent_twice() -> None:
    it = Collected()
    it.tell(A, 5, 6)
    assert it.outbox.try_live({A: 5})
    assert it.taken() == [(A, 6)]


def test_a_dialog_that_was_missed_is_not_held() -> None:
    it = Collected()
    it.outbox.miss(A, 4)
    it.tell(A, 5)
    assert it.outbox.take_missed() == {A: 4}
    assert it.outbox.try_live({})
    assert it.taken() == []


def test_more_dialogs_than_can_be_remembered_overwhelm() -> None:
    it = Collected(missed_max=1)
    overwhelmed = []
    for dialog, seq in ((A, 4), (A, 3), (B, 1)):
        it.outbox.miss(dialog, seq)
        overwhelmed.append(it.outbox.overwhelmed)
    assert overwhelmed == [False, False, True]
    assert it.outbox.take_missed() == {A: 3}


def test_what_is_held_of_a_dialog_is_read_again_with_what_was_missed_after_it() -> None:
    it = Collected(held_max=10)
    it.tell(A, 5, 6)
    it.tell(B, 1)
    it.outbox.miss(A, 9)
    assert it.outbox.take_missed() == {A: 5}
    it.tell(A, 10)
    assert it.outbox.try_live({A: 9})
    assert it.taken() == [(B, 1), (A, 10)]


def test_ephemeral_events_are_dropped_while_behind_or_full() -> None:
    beat = PreparedMessage(HeartbeatReply())
    it = Collected()
    it.outbox.ephemeral(beat)
    assert it.outbox.size == 0
    it = live(bytes_max=10)
    it.tell(A, 1)
    size = it.outbox.size
    it.outbox.ephemeral(beat)
    assert it.outbox.size == size


def test_a_frame_is_encoded_once_for_everybody() -> None:
    prepared = event(A, 1)
    assert prepared.frame(text=False) is prepared.frame(text=False)
    assert prepared.frame(text=True) is prepared.frame(text=True)
    assert prepared.frame(text=True) != prepared.frame(text=False)


@given(
    st.lists(st.sampled_from(["a", "b", "take", "round"]), max_size=80),
    st.integers(0, 4),
    st.integers(50, 400),
)
def test_nothing_is_lost_repeated_or_reordered(steps: list[str], held_max: int, bytes_max: int) -> None:
    """Against a timeline that has everything: the rounds of a catch-up read from it what was missed."""
    it = live(held_max=held_max, bytes_max=bytes_max)
    head = {A: 0, B: 0}
    received: list[tuple[bytes, int]] = []

    def catch_up_round() -> None:
        sent_to: dict[bytes, int] = {}
        received.extend(it.taken())
        while not it.outbox.try_live(sent_to):
            for dialog, first in it.outbox.take_missed().items():
                received.extend((dialog, seq) for seq in range(first, head[dialog] + 1))
                sent_to[dialog] = head[dialog]
        received.extend(it.taken())

    for step in steps:
        if step in ("a", "b"):
            dialog = A if step == "a" else B
            head[dialog] += 1
            it.tell(dialog, head[dialog])
        elif step == "take":
            received.extend(it.taken())
        elif not it.outbox.live:
            catch_up_round()
    catch_up_round()
    for dialog in (A, B):
        assert [seq for d, seq in received if d == dialog] == list(range(1, head[dialog] + 1))


def test_of_each_members_marks_the_newest_outlives_being_behind() -> None:
    it = Collected()
    for read in (1, 2):
        it.outbox.mark((A, B), PreparedMessage(ReceiptChanged(A, B, read, read)))
    it.outbox.mark((B, B), PreparedMessage(ReceiptChanged(B, B, 7, 7)))
    assert not it.outbox
    assert it.outbox.try_live({})
    data, told = it.outbox.take(), []
    while data:
        told.append(MSGPACK.decode_server(data[2 : 2 + data[1]]))
        data = data[2 + data[1] :]
    assert told == [ReceiptChanged(A, B, 2, 2), ReceiptChanged(B, B, 7, 7)]


def test_more_marks_than_can_be_held_need_a_new_sync() -> None:
    it = Collected(missed_max=1)
    overwhelmed = []
    for dialog in (A, A, B):
        it.outbox.mark((dialog, B), PreparedMessage(ReceiptChanged(dialog, B, 1, 1)))
        overwhelmed.append(it.outbox.overwhelmed)
    assert overwhelmed == [False, False, True]


def test_an_outbox_that_was_let_go_tells_nobody_anymore() -> None:
    collected = Collected()
    collected.outbox.let_go()
    collected.outbox.push(b"late")
    collected.outbox.fall_behind()
    assert (collected.dirty, collected.behind) == (0, 0)
