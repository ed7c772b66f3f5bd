"""The outbox: order without holes in either mode, and bounded in both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bodies import TimelineEvent, TimelineEventRaw
from protocol.codec import MSGPACK, ServerMessage
from protocol.events import HeartbeatReply, ReceiptChanged
from protocol.ids import NIL
from server.busyness import Busyness
from server.config.settings import SessionSettings
from server.delivery.flush_turn import FlushTurn
from server.delivery.outbox import Outbox
from server.delivery.prepared_message import PreparedEvents, PreparedMessage
from tests.support.clock import ManualClock

A, B = b"a" * 16, b"b" * 16
ERASED = b"\x91\x05"


def events(dialog: bytes, *seqs: int) -> PreparedEvents:
    return PreparedEvents([TimelineEventRaw(dialog, seq, NIL, NIL, 1, 0, 0, msgspec.Raw(ERASED)) for seq in seqs])


class Collected:
    """An outbox that is flushed when the test says so, and what it wrote, decoded."""

    def __init__(self, *, bytes_max: int = 1000, held_max: int = 3, missed_max: int = 10) -> None:
        self.turns = 0
        self.behind = 0
        self.drains = 0
        self.owed = 0
        self.paused = False
        self.clock = ManualClock()
        self.written = b""
        settings = SessionSettings(outbox_bytes_max=bytes_max, held_frames_max=held_max, missed_dialogs_max=missed_max)
        self.outbox = Outbox(self, self, FlushTurn(self, Busyness(self.clock)), settings, self.clock, text=False)

    def call_soon(self, _flush: Callable[[], object], /) -> None:
        self.turns += 1

    def call_later(self, _delay: float, _callback: Callable[[], object], /) -> None:
        raise AssertionError("nothing gathers while the process rests")

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        raise AssertionError("every connection here can be written")

    def fell_behind(self) -> None:
        self.behind += 1

    def drained(self) -> None:
        self.drains += 1

    def owe_position(self) -> None:
        self.owed += 1

    def deliver(self, dialog: bytes, *seqs: int) -> None:
        for seq in seqs:
            self.outbox.push_events(events(dialog, seq))

    def messages(self) -> list[ServerMessage | None]:
        self.outbox.flush()
        data, self.written = self.written, b""
        messages = []
        while data:
            end = 2 + data[1]
            messages.append(MSGPACK.decode_server(data[2:end]))
            data = data[end:]
        return messages

    def taken(self) -> list[tuple[bytes, int]]:
        return [(each.dialog, each.seq) for each in self.messages() if isinstance(each, TimelineEvent)]


def live(**bounds: int) -> Collected:
    made = Collected(**bounds)
    assert made.outbox.try_live({})
    return made


def test_live_content_is_queued_in_order_and_announced_once() -> None:
    it = live()
    it.deliver(A, 1, 2)
    it.deliver(B, 1)
    assert it.turns == 1
    assert it.taken() == [(A, 1), (A, 2), (B, 1)]
    assert (it.outbox.size, bool(it.outbox)) == (0, False)


def test_an_outbox_past_its_bound_falls_behind_once_and_holds_events() -> None:
    it = live(bytes_max=100)
    it.deliver(A, *range(1, 5))
    assert (it.behind, it.outbox.live) == (1, False)
    queued = it.taken()
    assert it.outbox.try_live({})
    assert queued + it.taken() == [(A, seq) for seq in range(1, 5)]


def test_too_much_held_is_remembered_by_its_first_number() -> None:
    it = Collected(held_max=2)
    it.deliver(A, 5, 6)
    it.deliver(B, 9)
    it.deliver(A, 7)
    assert not it.outbox.try_live({})
    assert it.outbox.take_missed(9) == {A: 5, B: 9}


def test_what_the_catch_up_sent_is_not_sent_twice() -> None:
    it = Collected()
    it.deliver(A, 5, 6)
    assert it.outbox.try_live({A: 5})
    assert it.taken() == [(A, 6)]


def test_a_dialog_that_was_missed_is_not_held() -> None:
    it = Collected()
    it.outbox.read_from(A, 4)
    it.deliver(A, 5)
    assert it.outbox.take_missed(9) == {A: 4}
    assert it.outbox.try_live({})
    assert it.taken() == []


def test_more_dialogs_than_can_be_remembered_overwhelm() -> None:
    it = Collected(missed_max=1)
    overwhelmed = []
    for dialog, seq in ((A, 4), (A, 3), (B, 1)):
        it.outbox.read_from(dialog, seq)
        overwhelmed.append(it.outbox.overwhelmed)
    assert overwhelmed == [False, False, True]
    assert it.outbox.take_missed(9) == {A: 3}


def test_what_is_held_of_a_dialog_is_read_again_with_what_was_missed_after_it() -> None:
    it = Collected(held_max=10)
    it.deliver(A, 5, 6)
    it.deliver(B, 1)
    it.outbox.read_from(A, 9)
    assert it.outbox.take_missed(9) == {A: 5}
    it.deliver(A, 10)
    assert it.outbox.try_live({A: 9})
    assert it.taken() == [(B, 1), (A, 10)]


def test_ephemeral_events_are_dropped_while_behind_or_full() -> None:
    heartbeat = PreparedMessage(HeartbeatReply())
    it = Collected()
    it.outbox.push_ephemeral(heartbeat)
    assert it.outbox.size == 0
    it = live(bytes_max=10)
    it.deliver(A, 1)
    size = it.outbox.size
    it.outbox.push_ephemeral(heartbeat)
    assert it.outbox.size == size


def test_only_what_a_large_room_gives_to_all_gathers() -> None:
    class Turn:
        def __init__(self) -> None:
            self.added: list[str] = []
            self.writes = self.frames = 0

        def add(self, _outbox: Outbox) -> None:
            self.added.append("gathers")

        def add_now(self, _outbox: Outbox) -> None:
            self.added.append("now")

    turn: Any = Turn()
    it = Collected(bytes_max=10_000)
    outbox = Outbox(it, it, turn, SessionSettings(), it.clock, text=False)
    assert outbox.try_live({})
    large, small = events(A, 1).events, events(B, 1)
    outbox.push_events(PreparedEvents(large, gathers=True))
    outbox.push_events(PreparedEvents(large, gathers=True))
    assert turn.added == ["gathers"]
    outbox.push_events(small)
    outbox.push(HeartbeatReply())
    assert turn.added == ["gathers", "now"]
    outbox.flush()
    outbox.push(HeartbeatReply())
    assert turn.added == ["gathers", "now", "now"]


def test_frames_are_encoded_and_joined_once_for_everybody() -> None:
    prepared = events(A, 1, 2)
    for text in (False, True):
        assert prepared.get_joined(text) is prepared.get_joined(text)
        assert prepared.get_frames(text) is prepared.get_frames(text)
        assert prepared.get_joined(text) == b"".join(prepared.get_frames(text))
    assert prepared.get_joined(text=True) != prepared.get_joined(text=False)


def test_events_of_one_flush_are_queued_together() -> None:
    it = live()
    it.outbox.push_events(events(A, 1, 2, 3))
    assert it.turns == 1
    assert it.taken() == [(A, 1), (A, 2), (A, 3)]
    assert it.outbox.frames_since_position == 3


def test_events_that_pass_the_bound_together_are_queued_as_far_as_each_would_be() -> None:
    together, apart = live(bytes_max=150), live(bytes_max=150)
    together.outbox.push_events(events(A, 1, 2, 3, 4))
    apart.deliver(A, 1, 2, 3, 4)
    assert together.behind == apart.behind == 1
    assert together.outbox.size == apart.outbox.size > 0
    assert together.taken() == apart.taken()


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
            for dialog, first in it.outbox.take_missed(9).items():
                received.extend((dialog, seq) for seq in range(first, head[dialog] + 1))
                sent_to[dialog] = head[dialog]
        received.extend(it.taken())

    for step in steps:
        if step in ("a", "b"):
            dialog = A if step == "a" else B
            head[dialog] += 1
            it.deliver(dialog, head[dialog])
        elif step == "take":
            received.extend(it.taken())
        elif not it.outbox.live:
            catch_up_round()
    catch_up_round()
    for dialog in (A, B):
        assert [seq for d, seq in received if d == dialog] == list(range(1, head[dialog] + 1))


def test_the_newest_receipt_of_each_member_is_held_while_behind() -> None:
    it = Collected()
    for read in (1, 2):
        it.outbox.push_state((A, B), PreparedMessage(ReceiptChanged(A, B, read, read)))
    it.outbox.push_state((B, B), PreparedMessage(ReceiptChanged(B, B, 7, 7)))
    assert not it.outbox
    assert it.outbox.try_live({})
    assert it.messages() == [ReceiptChanged(A, B, 2, 2), ReceiptChanged(B, B, 7, 7)]


def test_more_receipts_than_can_be_held_need_a_new_sync() -> None:
    it = Collected(missed_max=1)
    overwhelmed = []
    for dialog in (A, A, B):
        it.outbox.push_state((dialog, B), PreparedMessage(ReceiptChanged(dialog, B, 1, 1)))
        overwhelmed.append(it.outbox.overwhelmed)
    assert overwhelmed == [False, False, True]


def test_a_released_outbox_reports_to_nobody_anymore() -> None:
    it = live()
    it.outbox.release()
    it.outbox.push(HeartbeatReply())
    it.outbox.read_from(A, 1)
    it.outbox.flush()
    assert (it.turns, it.behind, it.drains) == (0, 0, 0)


def test_a_full_socket_is_not_written_to_and_the_time_is_noted() -> None:
    it = live()
    it.paused = it.outbox.awaited = True
    it.deliver(A, 1)
    assert it.taken() == []
    assert (it.outbox.stuck_since, it.drains) == (1000.0, 0)
    it.clock.advance(5.0)
    it.outbox.flush()
    it.paused = False
    it.outbox.writable()
    assert it.taken() == [(A, 1)]
    it.outbox.flush()
    assert it.drains == 1  # once, because it was awaited


@pytest.mark.anyio
async def test_waiting_ends_when_all_is_written_or_the_connection_is_gone() -> None:
    it = live()
    it.deliver(A, 1)
    written = asyncio.ensure_future(it.outbox.wait_drained())
    await asyncio.sleep(0)
    assert not written.done()
    it.outbox.flush()
    await written
    it.outbox.release()
    it.paused = True
    await it.outbox.wait_drained()


@pytest.mark.anyio
async def test_there_is_room_while_little_waits_and_the_socket_takes_more() -> None:
    it = live()

    async def has_room() -> bool:
        waiting = asyncio.ensure_future(it.outbox.wait_room())
        await asyncio.sleep(0)
        had = waiting.done()
        it.paused = False
        it.outbox.writable()
        await waiting
        return had

    it.outbox.push_all([HeartbeatReply("one"), HeartbeatReply("two")])
    assert await has_room()
    it.outbox.push(HeartbeatReply("x" * 5000))
    assert not await has_room()
    it.paused = True
    assert not await has_room()


def test_messages_that_are_queued_together_leave_in_order() -> None:
    it = live()
    it.outbox.push_all([HeartbeatReply(position) for position in "abc"])
    assert it.turns == 1
    assert it.messages() == [HeartbeatReply(position) for position in "abc"]
    assert it.outbox.frames_since_position == 3
