"""Reads that are asked for at the same moment are one read: while one is under way, the next ones gather.

Nobody waits when nothing is under way, and no timer runs. Invariants:

* A read begins after all whose answer it is have asked: it sees what was committed before each of them asked.
* One read answers at most `size_max`, in the order in which they asked; at most two are under way. The second begins
  when `crowd` have gathered, so that a slow one does not hold up many others.
* When a read of several fails, each is read alone: what is wrong with one harms no other.
* Who is cancelled while it waits is not read for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")

_AT_ONCE = 2
_ANSWERS_PER_TURN = 8
"""What follows an answer takes 0.1 ms or more: all of them in one turn of the loop would hold up everybody else."""


class GatheredReads(Generic[A, R]):
    """Reads by `read_all`, which returns one answer for each that it is asked, in order."""

    def __init__(
        self,
        read_all: Callable[[Sequence[A]], Awaitable[Sequence[R]]],
        *,
        size_max: int,
        crowd: int,
        per_turn: int = _ANSWERS_PER_TURN,
    ) -> None:
        """`per_turn`: so many go on in one turn of the loop, and their next reads and writes gather."""
        self._read_all = read_all
        self._per_turn = per_turn
        self._size_max = size_max
        self._crowd = crowd
        self._waiting: deque[tuple[A, asyncio.Future[R]]] = deque()
        self._reading = 0
        self._readers: set[asyncio.Task[None]] = set()  # the loop itself keeps no task

    async def read(self, asked: A) -> R:
        """The answer to this; raises what `read_all` raises for it alone."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if not self._reading or (self._reading < _AT_ONCE and len(self._waiting) >= self._crowd):
            self._reading += 1
            reader = asyncio.ensure_future(self._read())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        return await answer

    async def _read(self) -> None:
        """Read until nobody waits."""
        try:
            while batch := self._take():
                await self._answer(batch)
        finally:
            self._reading -= 1  # at once: who asks after this begins a read

    def _take(self) -> list[tuple[A, asyncio.Future[R]]]:
        batch: list[tuple[A, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < self._size_max:
            each = self._waiting.popleft()
            if not each[1].done():
                batch.append(each)
        return batch

    async def _answer(self, batch: Sequence[tuple[A, asyncio.Future[R]]]) -> None:
        try:
            found = await self._read_all([asked for asked, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever has asked gets it
            if len(batch) > 1:
                await asyncio.gather(*(self._answer([each]) for each in batch))
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for number, ((_, answer), one) in enumerate(zip(batch, found, strict=True), 1):
            if not answer.done():
                answer.set_result(one)
            if number % self._per_turn == 0:
                await asyncio.sleep(0)
