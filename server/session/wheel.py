"""A timing wheel: one timer per object, cheap to schedule, for tens of thousands of objects.

Time comes in with each call; the wheel never reads a clock. Resolution is `tick_s`; an object is due no
earlier than its time and at most one tick later.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class TimingWheel(Generic[T]):
    """Objects scheduled at a time; scheduling again moves them."""

    def __init__(self, now: float, *, tick_s: float = 1.0, slots: int = 512) -> None:
        self._tick_s = tick_s
        self._slots: list[dict[T, float]] = [{} for _ in range(slots)]
        self._where: dict[T, int] = {}
        self._turn = int(now / tick_s)

    def __len__(self) -> int:
        return len(self._where)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._where))

    def schedule(self, item: T, at: float) -> None:
        """Make `item` due at `at` (seconds), instead of whatever it was due at before."""
        self.remove(item)
        turn = max(-int(-at // self._tick_s), self._turn + 1)
        slot = turn % len(self._slots)
        self._slots[slot][item] = at
        self._where[item] = slot

    def remove(self, item: T) -> None:
        """Forget `item`; nothing happens if it is not scheduled."""
        slot = self._where.pop(item, None)
        if slot is not None:
            del self._slots[slot][item]

    def advance(self, now: float) -> list[T]:
        """Take down and return all that is due at `now`."""
        due: list[T] = []
        target = int(now / self._tick_s)
        for turn in range(self._turn + 1, min(target, self._turn + len(self._slots)) + 1):
            slot = self._slots[turn % len(self._slots)]
            ripe = [item for item, at in slot.items() if at <= now]
            for item in ripe:
                del slot[item]
                del self._where[item]
            due += ripe
        self._turn = max(self._turn, target)
        return due
