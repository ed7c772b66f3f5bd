"""Rates of sessions over several nodes: who goes to another node goes on with the buckets that they left.

Each node judges by its own tables, without asking anybody. Each second, and when a session ends, it tells what was
taken of the buckets that are not nearly full, and of those of the session, and learns what all nodes together have
taken of them. A session that begins learns it first. So a device has little more than its rate, and the devices of a
principal at N nodes have N times theirs for a second at most: what they took too much they wait for afterwards, at
every node, up to a minute. While the store is away each node judges alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from server.clock import Clock
from server.session.rates import SessionRates
from storage.rates import BucketStore
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

INTERVAL_S = 1.0
_AT_ONCE = 500


class SharedRates:
    """Keeps the rates of a node in step with those of the others; `run` until it is cancelled."""

    def __init__(self, store: BucketStore, rates: SessionRates, clock: Clock) -> None:
        self._store = store
        self._rates = {b"s": rates.sends, b"c": rates.commands, b"b": rates.bad_messages}
        self._clock = clock
        self._wake = asyncio.Event()
        self._leaving: set[bytes] = set()

    async def learn(self, device: bytes, principal: bytes) -> None:
        """Learn what was taken of the buckets of a device and its principal; returns soon in any case."""
        asked = [(name, key, 0.0) for name in self._rates for key in (device, principal)]
        with contextlib.suppress(StorageUnavailableError):
            await self._add(asked)

    def leave(self, device: bytes, principal: bytes) -> None:
        """Tell all of theirs at once: a session has ended, and may begin at another node."""
        self._leaving |= {device, principal}
        self._wake.set()

    async def tell(self) -> None:
        """Tell what was taken since the last time; what cannot be told is forgotten."""
        now = self._clock.monotonic()
        leaving, self._leaving = self._leaving, set()
        taken = [(name, *each) for name, rate in self._rates.items() for each in rate.pop_untold(now, leaving)]
        try:
            for first in range(0, len(taken), _AT_ONCE):
                await self._add(taken[first : first + _AT_ONCE])
        except StorageUnavailableError as error:
            _log.debug("rates of sessions are this node's own for now: %s", error)

    async def run(self) -> None:
        """Tell each second, and when a session ends."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._wake.wait()
            self._wake.clear()
            await self.tell()

    async def _add(self, taken: Sequence[tuple[bytes, bytes, float]]) -> None:
        fill_in_s = await self._store.add_taken(
            [(name + key, taken_s, self._rates[name].empty_s_max) for name, key, taken_s in taken]
        )
        now = self._clock.monotonic()
        for (name, key, _), seconds in zip(taken, fill_in_s, strict=True):
            self._rates[name].empty_to(key, seconds, now)
