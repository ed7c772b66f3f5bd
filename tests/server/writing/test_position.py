"""Positions: ours are read by their owner for a while, and nothing else is."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import new_id
from protocol.limits import POSITION_CHARS_MAX
from server.writing.position import Position, Positions
from tests.support.clock import ManualClock

ANN, BO = new_id(), new_id()
KEY = bytes(range(32))


def positions(clock: ManualClock | None = None, key: bytes = KEY) -> Positions:
    return Positions(key, clock or ManualClock(), age_max_s=100.0)


def test_a_position_says_its_epoch_and_horizon_to_its_owner() -> None:
    text = positions().issue(7, 12345, ANN)
    assert positions().read(text, ANN) == Position(7, 12345)
    assert positions().read(text, BO) is None


def test_the_largest_position_fits_its_field() -> None:
    assert len(positions().issue(2**63 - 1, 2**63 - 1, ANN)) <= POSITION_CHARS_MAX


def test_a_position_of_another_deployment_is_none() -> None:
    assert positions().read(positions(key=bytes(32)).issue(7, 1, ANN), ANN) is None


@pytest.mark.parametrize("byte", range(40))
def test_a_position_with_any_byte_changed_is_none(byte: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(positions().issue(7, 12345, ANN)))
    assert len(raw) == 40
    raw[byte] ^= 1
    assert positions().read(base64.urlsafe_b64encode(raw).decode(), ANN) is None


@pytest.mark.parametrize(("seconds", "horizon"), [(0, 12345), (100, 12345), (101, None)])
def test_a_position_ages(seconds: float, horizon: int | None) -> None:
    clock = ManualClock()
    text = positions(clock).issue(7, 12345, ANN)
    clock.advance(seconds)
    assert positions(clock).read(text, ANN) == Position(7, horizon)


@pytest.mark.parametrize(("ahead_s", "horizon"), [(3600, 12345), (3601, None)])
def test_a_position_from_a_clock_far_ahead_is_none(ahead_s: float, horizon: int | None) -> None:
    ahead = ManualClock()
    ahead.advance(ahead_s)
    assert positions().read(positions(ahead).issue(7, 12345, ANN), ANN) == Position(7, horizon)


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_rubbish_is_no_position(text: str) -> None:
    assert positions().read(text, ANN) is None
