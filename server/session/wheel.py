"""A timing wheel: one timer per object, cheap to schedule, for tens of thousands of objects.

Time comes in with each call; the wheel never reads a clock. Resolution is `tick_s`; an object is due no
earlier than its time and at most one tick later. An object knows its slot, so the wheel keeps one entry for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

Slot = dict[Any, None]
"""The objects of one turn, in the order in which they were scheduled."""


class Timed(Protocol):
    """What can be scheduled. Hashable by identity."""

    slot: Slot | None
    """Where it is in its wheel, None when it is not scheduled; only the wheel changes it."""


T = TypeVar("T", bound=Timed)


class TimingWheel(Generic[T]):
    """Objects scheduled at a time; scheduling again moves them. An object belongs to one wheel."""

    def __init__(self, now: float, *, tick_s: float = 1.0) -> None:
        self._tick_s = tick_s
        self._slots: dict[int, Slot] = {}
        self._turn = int(now / tick_s)

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def __iter__(self) -> Iterator[T]:
        return iter([item for slot in self._slots.values() for item in slot])

    def schedule(self, item: T, at: float) -> None:
        """Make `item` due at `at` (seconds), instead of whatever it was due at before."""
        turn = max(-int(-at // self._tick_s), self._turn + 1)
        slot = self._slots.get(turn)
        if slot is None:
            slot = self._slots[turn] = {}
        if slot is not item.slot:
            self.remove(item)
            slot[item] = None
            item.slot = slot

    def remove(self, item: T) -> None:
        """Forget `item`; nothing happens if it is not scheduled."""
        if item.slot is not None:
            del item.slot[item]
            item.slot = None

    def advance(self, now: float) -> list[T]:
        """Take down and return all that is due at `now`."""
        self._turn = max(self._turn, int(now / self._tick_s))
        due: list[T] = []
        for turn in sorted(turn for turn in self._slots if turn <= self._turn):
            due += self._slots.pop(turn)  # the table goes with it: an emptied one would keep its size
        for item in due:
            item.slot = None
        return due
