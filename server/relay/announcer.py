"""The relay: leases places, posts what they are to be told, notes what the chat said.

Invariants:

- A number is committed before it is posted, and in a place one number is posted after the other: the next when the
  chat has answered the one before. So the chat never has passed a number that is not answered, whichever relay asks.
- A relay posts for at most half of its lease. What it posts later than that, because it stood still, is a repetition of
  what another relay posts too, under the same number; and it notes nothing, because the lease has another number.
- A place that cannot go on waits, longer and longer, at most PAUSE_MAX_S; others go on. While the chat answers nothing,
  or refuses the key, one place is tried at a time.
- The outbox is looked at every LOOK_EVERY_S. NOTIFY would cost each step of the ledger a lock that all commits share.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter

from server.clock import Clock
from server.config.payment_settings import RelaySettings
from server.relay.chat_api import ChatApi, ModeRefusedError, NoAnswerError
from storage.commerce.announcement_rows import Announced, Fate, LeasedPlace
from storage.commerce.announcements import Announcements
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.02
TROUBLED_LOOK_EVERY_S = 0.25
EPOCH_EVERY_S = 5.0
PAUSE_FIRST_S = 0.25
PAUSE_MAX_S = 10.0
SPREAD_ROWS = 200
PLACE_ROWS = 20
REPEATED_ROWS = 500
REPEATED_DAYS = 30
"""In a new epoch, payments that have been at rest for longer are not announced anew."""
_DAY_US = 86_400_000_000
_DOUBLINGS_MAX = 10


class Announcer:
    """One relay. `fates` counts what the chat said, by name; `lost` leases that ended before they were given back."""

    def __init__(self, announcements: Announcements, chat: ChatApi, clock: Clock, settings: RelaySettings) -> None:
        self.fates: Counter[str] = Counter({each.name.lower(): 0 for each in Announced})
        self.lost = 0
        self.trouble = ""
        """Why nothing can be announced at all now; empty if it can."""
        self._announcements = announcements
        self._chat = chat
        self._clock = clock
        self._settings = settings
        self._stop = asyncio.Event()
        self._freed = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Begin nothing more; `run` returns when what is under way is noted."""
        self._stop.set()
        self._freed.set()

    async def run(self) -> None:
        """Announce until stopped."""
        watching = asyncio.ensure_future(self._watch_epoch())
        try:
            while not self._stop.is_set():
                if not await self._look_safely():
                    await self._rest()
        finally:
            watching.cancel()
            await asyncio.gather(watching, *self._working, return_exceptions=True)

    async def look(self) -> bool:
        """Spread and lease once; whether there may be more to do at once. Raises StorageUnavailableError."""
        self._freed.clear()
        spread = await self._announcements.spread(SPREAD_ROWS)
        free = (1 if self.trouble else self._settings.places_max) - len(self._working)
        if free <= 0:
            return False
        lease_us = round(self._settings.lease_s * 1_000_000)
        leased = await self._announcements.lease(free, rows=PLACE_ROWS, lease_us=lease_us)
        for place in leased:
            task = asyncio.ensure_future(self._announce_safely(place))
            self._working.add(task)
            task.add_done_callback(self._ended)
        return spread == SPREAD_ROWS

    async def finish(self) -> None:
        """Return when what is under way is noted."""
        await asyncio.gather(*self._working)

    async def follow_epoch(self) -> None:
        """Ask for the epoch of the chat; announce anew if it is another one. Raises NoAnswerError."""
        epoch = await self._chat.read_epoch()
        within_us = REPEATED_DAYS * _DAY_US
        while await self._announcements.repeat(epoch, within_us=within_us, limit=REPEATED_ROWS):
            pass

    async def _announce_safely(self, place: LeasedPlace) -> None:
        try:
            await self._announce(place)
        except StorageUnavailableError as error:
            _log.warning("could not note what was announced, it will be repeated: %s", error)

    async def _announce(self, place: LeasedPlace) -> None:
        fates: list[Fate] = []
        pause_s = 0.0
        sealed: bool | None = False if place.is_self else place.sealed
        until = self._clock.monotonic() + self._settings.lease_s / 2
        try:
            if sealed is None:
                sealed = await self._chat.is_sealed(place.subject)
            for row in place.rows:
                if self._stop.is_set() or self._clock.monotonic() >= until:
                    break  # it keeps its number: who has the place next begins with it
                fates.append(await self._chat.post(place, row, sealed=sealed))
            self.trouble = ""
        except ModeRefusedError as refused:
            self.trouble = ""
            fates = [Fate(row.n, Announced.REFUSED, str(refused.code)) for row in place.rows]
        except NoAnswerError as error:
            pause_s = max(error.retry_after_s, PAUSE_FIRST_S * 2 ** min(place.failures, _DOUBLINGS_MAX))
            self._note_trouble(error)
        kept = await self._announcements.settle(
            place, fates, sealed=sealed, pause_us=round(min(pause_s, PAUSE_MAX_S) * 1_000_000)
        )
        self._count(fates, kept)

    def _count(self, fates: list[Fate], kept: bool) -> None:
        if not kept:
            self.lost += 1
            return
        for fate in fates:
            self.fates[fate.outcome.name.lower()] += 1
            if fate.outcome is Announced.PASSED:
                _log.warning("a number had passed (%s): its announcement gets another one", fate.code)

    def _note_trouble(self, error: NoAnswerError) -> None:
        if error.everywhere and self.trouble != str(error):
            _log.warning("nothing can be announced now: %s", error)
            self.trouble = str(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._freed.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("a place could not be announced in", exc_info=task.exception())

    async def _look_safely(self) -> bool:
        try:
            return await self.look()
        except StorageUnavailableError as error:
            _log.warning("the ledger does not answer, will try again: %s", error)
            return False

    async def _rest(self) -> None:
        """Wait for the next look; a place that has ended may make room for another at once."""
        free = len(self._working) < self._settings.places_max
        pause_s = TROUBLED_LOOK_EVERY_S if self.trouble else LOOK_EVERY_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await (self._stop if free else self._freed).wait()

    async def _watch_epoch(self) -> None:
        while True:
            try:
                await self.follow_epoch()
            except (NoAnswerError, StorageUnavailableError):
                pass  # `look` says so
            except Exception:  # noqa: BLE001 - it is followed as long as the relay runs
                _log.exception("the epoch of the chat could not be followed, will try again")
            await asyncio.sleep(EPOCH_EVERY_S)
