"""What identity does by the clock: erases people whose grace is over, and drops what time alone has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from server.clock import Clock
from server.config.settings import IdentitySettings
from storage.identity import People
from storage.postgres.pool import StorageUnavailableError

_log = logging.getLogger(__name__)

INTERVAL_S = 600.0
DAY_MS = 86_400_000
SIGN_INS_KEPT_DAYS = 30
LOGIN_AUDIT_KEPT_DAYS = 365
_PEOPLE_PER_CALL = 100


class Purge:
    """Keeps the promises of retention. Several nodes may do it at once; each erasure happens once."""

    def __init__(
        self,
        people: People,
        clock: Clock,
        settings: IdentitySettings,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._people = people
        self._clock = clock
        self._grace_ms = settings.deletion_grace_days * DAY_MS
        # An ended sign-in is remembered at least as long as a token from before its end may come.
        self._ended_ms = max(SIGN_INS_KEPT_DAYS * DAY_MS, settings.refresh_token_ttl_s * 1000)
        self._sleep = sleep

    async def run(self) -> None:
        """Purge now and then, for ever."""
        while True:
            try:
                if purged := await self.once():
                    _log.info("erased %d people whose deletion was due", purged)
            except StorageUnavailableError as error:
                _log.warning("could not purge, will try again: %s", error)
            await self._sleep(INTERVAL_S)

    async def once(self) -> int:
        """Purge all that is due; returns how many people were erased."""
        now_ms = self._clock.wall_ms()
        total = 0
        while True:
            purged = await self._people.purge(
                now_ms,
                deleted_before_ms=now_ms - self._grace_ms,
                ended_before_ms=now_ms - self._ended_ms,
                audit_before_ms=now_ms - LOGIN_AUDIT_KEPT_DAYS * DAY_MS,
                limit=_PEOPLE_PER_CALL,
            )
            total += purged
            if purged < _PEOPLE_PER_CALL:
                return total
