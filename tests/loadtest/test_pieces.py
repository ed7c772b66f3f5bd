"""What a piece of a stream says, against what was put into it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.pieces import Frame, Payload, PieceReader, Streak
from protocol.bodies import Deleted, Header, Posted
from protocol.events import HeartbeatReply
from protocol.kinds import Kind
from protocol.limits import N_MAX
from tests.loadtest.streams import AUTHOR, DIALOG, PAYLOAD, event, frame, message

OTHER = b"O" * 16


def reader(*, shared: bool = True) -> PieceReader:
    return PieceReader(PAYLOAD, shared=shared)


def test_numbers_that_follow_on_each_other_are_one_streak() -> None:
    stream = b"".join(message(seq, 100 + seq) for seq in (4, 5, 6))
    piece = reader().read(stream)
    assert piece.items == [Streak(DIALOG, 4, 6)]
    assert (piece.events, piece.size) == (3, len(stream))
    assert piece.stamps == [(104, AUTHOR), (105, AUTHOR), (106, AUTHOR)]


@pytest.mark.parametrize("numbers", [(4, 6), (4, 4), (5, 4)])
def test_a_number_that_does_not_follow_begins_another_streak(numbers: tuple[int, int]) -> None:
    first, second = numbers
    piece = reader().read(message(first) + message(second))
    assert piece.items == [Streak(DIALOG, first, first), Streak(DIALOG, second, second)]


def test_another_dialog_begins_another_streak() -> None:
    piece = reader().read(message(4) + message(5, dialog=OTHER))
    assert piece.items == [Streak(DIALOG, 4, 4), Streak(OTHER, 5, 5)]


def test_what_is_no_event_keeps_its_place() -> None:
    beat = frame(HeartbeatReply("x"))
    piece = reader().read(message(4) + beat + message(5))
    assert piece.items == [Streak(DIALOG, 4, 4), Frame(beat[0], beat[2:]), Streak(DIALOG, 5, 5)]


@given(numbers=st.lists(st.integers(1, N_MAX), min_size=1, max_size=5), data=st.data())
def test_every_number_is_read_wherever_the_stream_is_cut(numbers: list[int], data: st.DataObject) -> None:
    whole = [message(seq) for seq in numbers]
    stream = b"".join(whole)
    cut = data.draw(st.integers(0, len(stream)))
    piece = reader().read(stream[:cut])
    rest = reader().read(stream[piece.size :])
    streaks = [item for item in (*piece.items, *rest.items) if isinstance(item, Streak)]
    found = [seq for streak in streaks for seq in range(streak.first, streak.last + 1)]
    assert found == numbers
    assert piece.size + rest.size == len(stream)


@pytest.mark.parametrize("size", [24, 255, 256, 60_000])
def test_payloads_of_every_size_carry_their_stamp(size: int) -> None:
    payload = Payload(size)
    assert len(payload.make(9)) == size
    stream = event(1, Posted(Kind.MESSAGE, Header(), payload.make(9)))
    assert PieceReader(payload, shared=False).read(stream).stamps == [(9, AUTHOR)]


def test_events_that_are_no_messages_of_the_load_have_no_stamp() -> None:
    stream = event(1, Posted(Kind.MESSAGE, Header(), b"of somebody else")) + event(2, Deleted(1))
    piece = reader().read(stream)
    assert (piece.items, piece.stamps) == ([Streak(DIALOG, 1, 2)], [])


def test_the_same_bytes_are_parsed_once_if_they_are_shared() -> None:
    stream = b"".join(message(seq) for seq in range(1, 5))
    for shared, times in ((True, 1), (False, 3)):
        pieces = reader(shared=shared)
        for _ in range(3):
            pieces.read(bytes(bytearray(stream)))
        assert pieces.parsed == times


def test_what_is_kept_is_bounded() -> None:
    pieces = reader()
    for seq in range(1, 2_000):
        pieces.read(message(seq) * 2)
    assert len(pieces._kept) <= 512
