"""Writes of a turn of the loop: together, but not so many that all else waits for them."""

from __future__ import annotations

from collections.abc import Callable

from server.delivery.flush_turn import AT_ONCE, FlushTurn


class Loop:
    """A loop whose turns a test runs; what was flushed, in order."""

    def __init__(self) -> None:
        self.called: list[Callable[[], None]] = []
        self.flushed: list[str] = []
        self.turn = FlushTurn(self.called.append)

    def add(self, *names: str) -> None:
        """These have something to write."""
        for name in names:
            self.turn.add(Box(self, name))

    def run(self) -> list[str]:
        """One turn; what it has flushed."""
        called, flushed = list(self.called), len(self.flushed)
        self.called.clear()
        for each in called:
            each()
        return self.flushed[flushed:]


class Box:
    """An outbox with something to write."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop, self._name = loop, name

    def flush(self) -> None:
        self._loop.flushed.append(self._name)


def test_what_a_turn_adds_is_flushed_together() -> None:
    loop = Loop()
    loop.add("a", "b")
    assert (len(loop.called), loop.run(), loop.run()) == (1, ["a", "b"], [])


def test_many_are_flushed_in_parts_and_in_order() -> None:
    loop, room = Loop(), [str(number) for number in range(3 * AT_ONCE + 1)]
    loop.add(*room)
    parts = [loop.run() for _ in range(5)]
    assert [len(part) for part in parts] == [AT_ONCE, AT_ONCE, AT_ONCE, 1, 0]
    assert loop.flushed == room


def test_few_do_not_wait_for_many_that_came_before() -> None:
    loop = Loop()
    loop.add(*["room"] * 3 * AT_ONCE)
    loop.run()
    loop.add("stranger")
    assert loop.run() == ["stranger"] + ["room"] * AT_ONCE
    assert loop.run() == ["room"] * AT_ONCE


def test_many_do_not_wait_for_ever_while_others_are_added() -> None:
    loop = Loop()
    loop.add(*["first"] * 2 * AT_ONCE)
    loop.run()
    loop.add(*["second"] * 2 * AT_ONCE)
    assert loop.run() == ["second"] * AT_ONCE + ["first"] * AT_ONCE


def test_what_a_flush_adds_is_flushed_in_the_next_turn() -> None:
    loop = Loop()

    class Adding(Box):
        def flush(self) -> None:
            super().flush()
            loop.add("more")

    loop.turn.add(Adding(loop, "first"))
    assert (loop.run(), loop.run(), loop.run()) == (["first"], ["more"], [])
