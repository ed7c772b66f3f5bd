"""What every bus promises about the messages between nodes."""

from __future__ import annotations

import pytest

from storage.bus import MESSAGE_BYTES_MAX, Bus
from tests.support.receiver import Received

pytestmark = pytest.mark.anyio


async def test_messages_come_whole_and_in_order(bus: Bus) -> None:
    sent = [bytes([number % 256]) * number for number in range(500)]
    async with Received.on(bus, 7) as received:
        assert all(bus.publish(7, message) for message in sent)
        assert await received.until(messages=len(sent)) == sent


async def test_a_message_comes_to_its_target_alone(bus: Bus) -> None:
    async with Received.on(bus, 1) as first, Received.on(bus, 2) as second:
        bus.publish(1, b"to the first")
        bus.publish(2, b"to the second")
        assert await first.until(messages=1) == [b"to the first"]
        assert await second.until(messages=1) == [b"to the second"]


async def test_receiving_begins_with_an_interruption_for_what_was_sent_before_is_lost(bus: Bus) -> None:
    bus.publish(7, b"nobody is there")
    async with Received.on(bus, 7) as received:
        assert received.interruptions == 1
        bus.publish(7, b"somebody is there")
        assert await received.until(messages=1) == [b"somebody is there"]


async def test_what_is_sent_to_an_incarnation_that_has_ended_goes_nowhere(bus: Bus) -> None:
    async with Received.on(bus, 1):
        pass
    bus.publish(1, b"too late")
    async with Received.on(bus, 1) as received:
        bus.publish(1, b"in time")
        assert await received.until(messages=1) == [b"in time"]


async def test_a_message_above_the_bound_is_surely_lost(bus: Bus) -> None:
    async with Received.on(bus, 7) as received:
        assert not bus.publish(7, bytes(MESSAGE_BYTES_MAX + 1))
        assert bus.publish(7, bytes(MESSAGE_BYTES_MAX))
        assert [len(each) for each in await received.until(messages=1)] == [MESSAGE_BYTES_MAX]


async def test_what_waits_to_be_sent_is_bounded(bus: Bus) -> None:
    async with Received.on(bus, 7):
        sent = 0
        while bus.publish(7, bytes(1_000_000)):  # the loop does not turn, so nothing leaves
            sent += 1
            assert sent < 100
