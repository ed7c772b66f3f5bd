"""Few connections get past their first head in one turn of the event loop, and no address holds up another."""

import asyncio
from collections.abc import Callable

import pytest

from server.gateway.admission import Admission
from tests.support.public_port import public_port
from tests.support.turns import until

_PER_TURN = 8


class Turns:
    """The next turn of a loop comes when the test says so."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []
        self.admission = Admission(self._soon.append)
        self.entered: list[str] = []

    def arrive(self, address: str, count: int) -> None:
        for _ in range(count):
            if self.admission.try_enter(address, lambda: self.entered.append(address)):
                self.entered.append(address)

    def next_turn(self) -> list[str]:
        """Who enters in it."""
        due, self._soon[:] = list(self._soon), []
        self.entered.clear()
        for callback in due:
            callback()
        return self.entered


def test_a_crowd_enters_in_several_turns() -> None:
    turns = Turns()
    turns.arrive("a", 20)
    assert len(turns.entered) == _PER_TURN
    assert [len(turns.next_turn()) for _ in range(4)] == [8, 4, 0, 0]
    turns.arrive("a", 1)
    assert turns.entered == ["a"]


def test_a_crowd_of_one_address_holds_up_itself() -> None:
    turns = Turns()
    turns.arrive("crowd", 100)
    turns.arrive("somebody", 1)
    assert "somebody" in turns.next_turn()


def test_who_arrives_in_a_turn_that_is_full_waits_behind_those_before() -> None:
    turns = Turns()
    turns.arrive("a", 9)
    turns.next_turn()
    turns.arrive("b", 8)
    assert turns.entered == ["a", *"bbbbbbb"]
    assert turns.next_turn() == ["b"]


@pytest.mark.anyio
async def test_a_crowd_of_real_clients_is_served_and_who_leaves_is_not_counted() -> None:
    async with public_port() as port:
        wires = [await port.connect() for _ in range(3 * _PER_TURN)]
        for wire in wires:
            wire.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        wires[-1].writer.transport.abort()
        statuses = await asyncio.gather(*(wire.statuses() for wire in wires[:-1]))
        assert statuses == [[200]] * (3 * _PER_TURN - 1)
        await until(lambda: port.acceptor.limits.count == 0)
