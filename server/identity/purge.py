"""The periodic purge: erases people whose grace is over, and drops what has expired."""

from __future__ import annotations

import asyncio
import logging

from protocol.kinds import DAY_MS
from server.clock import Clock, Sleep
from server.config.settings import IdentitySettings
from storage.identity_rows import SIGN_IN_AUDIT_KEPT_MS
from storage.postgres.people import PeopleStore
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

INTERVAL_S = 600.0
SIGN_INS_KEPT_DAYS = 30
_ROWS_PER_CALL = 100


class Purge:
    """Erases data at the end of its retention. Run twice at once it does no harm: each erasure happens once."""

    def __init__(
        self,
        people: PeopleStore,
        clock: Clock,
        settings: IdentitySettings,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._people = people
        self._clock = clock
        self._grace_ms = settings.deletion_grace_days * DAY_MS
        # Remember an ended sign-in as long as a token that was issued before its end may be used.
        self._ended_ms = max(SIGN_INS_KEPT_DAYS * DAY_MS, settings.refresh_token_ttl_s * 1000)
        self._sleep = sleep

    async def run(self) -> None:
        """Purge every INTERVAL_S, until cancelled."""
        while True:
            try:
                if purged := await self.purge_due():
                    _log.info("erased %d people whose deletion was due", purged)
            except Exception as error:  # noqa: BLE001 - whatever it is, the node goes on
                expected = isinstance(error, StorageUnavailableError)
                _log.warning("could not purge, will try again: %s", error, exc_info=not expected)
            await self._sleep(INTERVAL_S)

    async def purge_due(self) -> int:
        """Purge everything that is due; returns how many people were erased."""
        now_ms = self._clock.wall_ms()
        total = 0
        while True:
            purged, more = await self._people.purge(
                now_ms,
                deleted_before_ms=now_ms - self._grace_ms,
                ended_before_ms=now_ms - self._ended_ms,
                audit_before_ms=now_ms - SIGN_IN_AUDIT_KEPT_MS,
                limit=_ROWS_PER_CALL,
            )
            total += purged
            if not more:
                return total
