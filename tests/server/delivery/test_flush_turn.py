"""Writes of a turn of the loop: together, not so many that all else waits, and fewer while the process is busy."""

from __future__ import annotations

from collections.abc import Callable

from server.busyness import Busyness
from server.delivery.flush_turn import AT_ONCE, GATHER_S, FlushTurn
from tests.support.clock import ManualClock


class Loop:
    """A loop whose turns and time a test runs; what was flushed, in order."""

    def __init__(self) -> None:
        self.called: list[Callable[[], object]] = []
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.flushed: list[str] = []
        self.aborted: list[str] = []
        self.clock = ManualClock()
        self.turn = FlushTurn(self, Busyness(self.clock))

    def call_soon(self, callback: Callable[[], object], /) -> None:
        self.called.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object], /) -> None:
        self.timers.append((self.clock.monotonic() + delay, callback))

    def add(self, *names: str) -> None:
        """These have something of a large room to write."""
        for name in names:
            self.turn.add(Box(self, name))

    def add_now(self, *names: str) -> None:
        """These have something to write that does not wait."""
        for name in names:
            self.turn.add_now(Box(self, name))

    def run(self) -> list[str]:
        """One turn; what it has flushed."""
        called, flushed = list(self.called), len(self.flushed)
        self.called.clear()
        for each in called:
            each()
        return self.flushed[flushed:]

    def work(self, seconds: float, *, share: float) -> None:
        """Time passes, in which the thread uses so much of a core; what is due is called."""
        self.clock.work(seconds, share=share)
        now = self.clock.monotonic()
        due = [callback for at, callback in self.timers if at <= now]
        self.timers = [each for each in self.timers if each[0] > now]
        for callback in due:
            callback()


class Box:
    """An outbox with something to write."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop, self._name = loop, name

    def flush(self) -> None:
        self._loop.flushed.append(self._name)

    def abort(self) -> None:
        self._loop.aborted.append(self._name)


def test_what_a_turn_adds_is_flushed_together() -> None:
    loop = Loop()
    loop.add("a", "b")
    loop.add_now("c")
    assert (len(loop.called), loop.run(), loop.run()) == (1, ["c", "a", "b"], [])


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
    loop.add_now("stranger")
    assert loop.run() == ["stranger"] + ["room"] * AT_ONCE
    assert loop.run() == ["room"] * AT_ONCE


def test_many_replies_are_flushed_in_parts_and_keep_nobody_waiting() -> None:
    loop = Loop()
    loop.add_now(*["reply"] * (AT_ONCE + 1))
    loop.add("room")
    assert loop.run() == ["reply"] * AT_ONCE + ["room"]
    assert (loop.run(), loop.run()) == (["reply"], [])


def test_what_a_flush_adds_is_flushed_in_the_next_turn() -> None:
    loop = Loop()

    class Adding(Box):
        def flush(self) -> None:
            super().flush()
            loop.add_now("more")

    loop.turn.add_now(Adding(loop, "first"))
    assert (loop.run(), loop.run(), loop.run()) == (["first"], ["more"], [])


def test_who_cannot_be_written_ends_and_all_others_are_written() -> None:
    loop = Loop()

    class Broken(Box):
        def flush(self) -> None:
            raise RuntimeError

    loop.add_now("first")
    loop.turn.add_now(Broken(loop, "broken"))
    loop.add_now("second")
    loop.add("room")
    assert (loop.run(), loop.aborted) == (["first", "second", "room"], ["broken"])


def test_a_busy_process_lets_large_rooms_gather_and_nothing_else() -> None:
    loop = Loop()
    loop.work(1.0, share=0.9)
    loop.add("room")
    assert loop.run() == []
    loop.add_now("reply")
    assert loop.run() == ["reply"]
    loop.add("another")
    loop.work(GATHER_S, share=0.9)
    assert loop.run() == ["room", "another"]


def test_the_busier_the_longer_it_gathers() -> None:
    waits = []
    for share in (0.3, 0.5, 0.7, 1.0):
        loop = Loop()
        loop.work(1.0, share=share)
        loop.add("room")
        waits.append(loop.timers[0][0] - loop.clock.monotonic() if loop.timers else 0.0)
    assert waits[0] == 0.0 < waits[1] < waits[2] < waits[3]
    assert waits[3] <= GATHER_S * 1.001


def test_a_process_that_rests_again_lets_nothing_gather() -> None:
    loop = Loop()
    loop.work(1.0, share=0.9)
    loop.add("room")
    loop.work(GATHER_S, share=0.9)
    assert loop.run() == ["room"]
    loop.work(1.0, share=0.1)
    loop.add("room")
    assert loop.run() == ["room"]
