"""Pages of events that several sessions catch up on at the same moment: read once, and encoded once.

A page is kept for whoever asks next for events that are in it. Who asks must see all of what they ask for, by a state
that they have read: then the page is the same for everybody. What a page has is committed before it is kept, so it does
not change, but for the bodies of erased messages: it is kept for `_KEPT_S` at most, as long as a live frame may wait.

Bounds: `_KEPT_MAX` pages, the oldest leave first; none when nobody catches up. Of a dialog one page is read at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque

from server.clock import Clock
from server.delivery.prepared_message import PreparedEvents
from storage.timelines import Timelines

_KEPT_S = 2.0
_KEPT_MAX = 256
"""Of at most `PAGE_BYTES_MAX` and one body each; their frames take as much again."""


class _Shelf:
    """The pages of one dialog, the oldest first; `turn` to read another one."""

    __slots__ = ("pages", "turn")

    def __init__(self) -> None:
        self.pages: deque[PreparedEvents] = deque()
        self.turn = asyncio.Lock()

    def find(self, first: int, last: int) -> PreparedEvents | None:
        """Events from `first` on, up to `last` at most."""
        for page in reversed(self.pages):
            begins = page.events[0].seq
            if begins <= first <= page.events[-1].seq:
                return page.part(first - begins, last - begins + 1)
        return None


class SharedPages:
    """The pages of one node; `page_events` is the most of one."""

    def __init__(self, timelines: Timelines, clock: Clock, *, page_events: int) -> None:
        self._timelines = timelines
        self._clock = clock
        self._page_events = page_events
        self._shelves: dict[bytes, _Shelf] = {}
        self._kept: deque[tuple[float, bytes, _Shelf]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    async def read(self, principal: bytes, dialog: bytes, first: int, last: int) -> PreparedEvents:
        """The next events of `first..last`, all of which the principal sees; none only if there are none."""
        shelf = self._shelves.get(dialog)
        if shelf is None:
            shelf = self._shelves[dialog] = _Shelf()
        try:
            async with shelf.turn:
                self._drop(before=self._clock.monotonic() - _KEPT_S)
                found = shelf.find(first, last)
                if found is not None:
                    return found
                ranges, limit = [(dialog, first, last)], self._page_events
                page = PreparedEvents(await self._timelines.read_events(principal, ranges, limit=limit))
                if page.events and page.events[-1].seq - first + 1 == len(page.events):  # otherwise some have left
                    self._keep(dialog, shelf, page)
                return page
        finally:
            self._tidy(dialog, shelf)

    def forget(self) -> None:
        """Forget all pages: nobody catches up."""
        self._shelves.clear()
        self._kept.clear()

    def _keep(self, dialog: bytes, shelf: _Shelf, page: PreparedEvents) -> None:
        shelf.pages.append(page)
        self._kept.append((self._clock.monotonic(), dialog, shelf))
        if len(self._kept) > _KEPT_MAX:
            self._drop_oldest()

    def _drop(self, before: float) -> None:
        while self._kept and self._kept[0][0] <= before:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, dialog, shelf = self._kept.popleft()
        shelf.pages.popleft()
        self._tidy(dialog, shelf)

    def _tidy(self, dialog: bytes, shelf: _Shelf) -> None:
        """Remove an empty shelf that nobody uses."""
        if not (shelf.pages or shelf.turn.locked()) and self._shelves.get(dialog) is shelf:
            del self._shelves[dialog]
