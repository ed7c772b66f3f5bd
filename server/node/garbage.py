"""The search for cyclic garbage: in small parts that hold up nobody, and rarely of everything.

Nearly all that a node leaves behind has no cycles, and is gone without a search. CPython would look at the objects of
all sessions again while more of them come: 0.18 s at 16,000 sessions, in which nobody is served. Invariants, with the
generations of CPython 3.11 to 3.13:

* A look takes at most twice `new_objects` objects: some milliseconds.
* What has outlived two looks is frozen: later looks leave it out. Everything is looked at again, which holds up
  everybody for a moment, when there is four times as much as after the last time. So garbage that had lived for long is
  found in the end, and is never more than some four times what lived at that time.
"""

from __future__ import annotations

import asyncio
import gc

_NEW_OBJECTS = 10_000
_GROWTH = 4
_COUNT_PART = 16


class GarbageSearch:
    """Searches from `begin` to `end`, for the whole process. `new_objects`: after so many more there is a look."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, new_objects: int = _NEW_OBJECTS) -> None:
        self._loop = loop
        self._new_objects = new_objects
        self._threshold = gc.get_threshold()
        self._searching = False
        self._frozen_max = 0
        self._looks_left = 0
        """Looks before the next count of what is frozen: that takes long, too."""

    def begin(self) -> None:
        """Look at everything, and from now on only at what is new."""
        self._searching = True
        gc.callbacks.append(self._looked)
        gc.set_threshold(self._new_objects, 0)  # each second look takes what the one before has left
        self._look_at_all()

    def end(self) -> None:
        """Leave the search to CPython again; nothing happens if it has not begun."""
        if self._searching:
            self._searching = False
            gc.callbacks.remove(self._looked)
            gc.set_threshold(*self._threshold)
            gc.unfreeze()

    def _look_at_all(self) -> None:
        if self._searching:
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
        self._expect(frozen)
        if frozen > self._frozen_max:
            self._loop.call_soon_threadsafe(self._look_at_all)  # no search begins within another

    def _expect(self, frozen: int) -> None:
        """Count again when there may be too much; near that, when a part of what is frozen may have come."""
        room = max(self._frozen_max - frozen, frozen // _COUNT_PART)
        self._looks_left = 1 + room // (2 * self._new_objects)
