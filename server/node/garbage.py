"""The search for cyclic garbage, in parts so small that they hold up nobody; each object is looked at once.

Nearly all that a node leaves behind has no cycles, and is gone without a search. CPython would look at the objects of
all sessions again while more of them come: 0.18 s at 16,000 sessions, in which nobody is served.

Invariants:

* A look takes at most twice `new_objects` objects: some milliseconds.
* What has outlived two looks is frozen. Everything is looked at again when there is four times as much as after the
  last time: so what becomes cyclic garbage later never takes more than three times the rest.
"""

from __future__ import annotations

import asyncio
import gc

_NEW_OBJECTS = 10_000
_GROWTH = 4


class GarbageSearch:
    """Searches from `begin` to `end`, for the whole process. `new_objects`: after so many more there is a look."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, new_objects: int = _NEW_OBJECTS) -> None:
        self._loop = loop
        self._new_objects = new_objects
        self._threshold = gc.get_threshold()
        self._frozen_max = 0
        self._looks_left = 0
        """Before so many more looks there cannot be more than `_frozen_max`: counting takes as long as a look."""

    def begin(self) -> None:
        """Look at everything, and from now on only at what is new."""
        gc.callbacks.append(self._looked)
        gc.set_threshold(self._new_objects, 0)  # each second look takes what the one before has left
        self._look_at_all()

    def end(self) -> None:
        """Leave the search to CPython again."""
        gc.callbacks.remove(self._looked)
        gc.set_threshold(*self._threshold)
        gc.unfreeze()

    def _look_at_all(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        frozen = gc.get_freeze_count()
        self._frozen_max = _GROWTH * frozen
        self._expect(frozen)

    def _looked(self, phase: str, info: dict[str, int]) -> None:
        """After each look, in whichever thread it was."""
        if phase == "start" or info["generation"] != 1:
            return
        gc.freeze()
        self._looks_left -= 1
        if self._looks_left > 0:
            return
        frozen = gc.get_freeze_count()
        if frozen <= self._frozen_max:
            self._expect(frozen)
        elif not self._loop.is_closed():  # no search begins within another
            self._looks_left = 1
            self._loop.call_soon_threadsafe(self._look_at_all)

    def _expect(self, frozen: int) -> None:
        self._looks_left = 1 + (self._frozen_max - frozen) // (2 * self._new_objects)
