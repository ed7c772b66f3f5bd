"""Positions: ours are read, and nothing else is."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import new_id
from protocol.limits import POSITION_CHARS_MAX
from server.writing.position import Position, from_text, to_text

ANN, BO = new_id(), new_id()


def test_a_position_says_its_horizon_to_its_owner_in_its_epoch() -> None:
    text = to_text(Position(7, 12345, ANN))
    assert from_text(text, epoch=7, principal=ANN) == 12345
    assert from_text(text, epoch=8, principal=ANN) is None
    assert from_text(text, epoch=7, principal=BO) is None


def test_the_largest_position_fits_its_field() -> None:
    assert len(to_text(Position(2**62, 2**62, ANN))) <= POSITION_CHARS_MAX


def test_an_impossible_horizon_is_no_position() -> None:
    for horizon in (-1, 2**63):
        assert from_text(to_text(Position(7, horizon, ANN)), epoch=7, principal=ANN) is None


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: to_text(msgspec.convert([1, 2, raw], Position))))
def test_rubbish_is_no_position(text: str) -> None:
    assert from_text(text, epoch=7, principal=ANN) is None
