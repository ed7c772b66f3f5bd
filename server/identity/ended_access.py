"""Whose access was ended by any node: each node that shares a database closes the sessions that it has of them.

The rows are read each second, with the horizon of their snapshot, so that what commits late is not skipped. A crash of
PostgreSQL gives ids of unfinished transactions out again, so each reading begins some readings back; what was seen then
is not closed again. A session that begins later is judged by its snapshot.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from protocol.close_codes import CloseCode
from server.clock import Sleep
from server.identity.ports import SessionsControl
from storage.identity_rows import EndedAccessRow, EndReason
from storage.postgres.sign_ins import SignInStore
from storage.rows import PrincipalStatus
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

INTERVAL_S = 1.0
_READINGS_BACK = 10

_CLOSE_OF_SIGN_IN = {
    EndReason.SIGNED_OUT: CloseCode.SIGNED_OUT,
    EndReason.CROWDED_OUT: CloseCode.TOO_MANY_SIGN_INS,
    EndReason.TOKEN_REUSED: CloseCode.SIGNED_OUT,
    EndReason.REPLACED: CloseCode.REPLACED,
    EndReason.DELETED: CloseCode.DELETED,
}
_CLOSE_OF_PRINCIPAL = {
    PrincipalStatus.SUSPENDED: CloseCode.SUSPENDED,
    PrincipalStatus.DELETED: CloseCode.DELETED,
}


class EndedAccess:
    """Follows what ends on any node; `follow` must have begun before the first session."""

    def __init__(self, sign_ins: SignInStore, sessions: SessionsControl, *, sleep: Sleep = asyncio.sleep) -> None:
        self._sign_ins = sign_ins
        self._sessions = sessions
        self._sleep = sleep
        self._horizons: deque[int] = deque(maxlen=_READINGS_BACK)
        self._seen: set[EndedAccessRow] = set()

    async def begin(self) -> None:
        """Read where to begin."""
        self._horizons.append((await self._sign_ins.read_ended(None)).horizon)

    async def run(self) -> None:
        """Follow until cancelled, after `begin`."""
        while True:
            try:
                await self.follow()
            except StorageUnavailableError as error:
                _log.warning("whose access has ended cannot be read, trying again: %s", error)
            await self._sleep(INTERVAL_S)

    async def follow(self) -> None:
        """Close the sessions of those whose access has ended since the last reading."""
        reading = await self._sign_ins.read_ended(self._horizons[0])
        for row in reading.rows:
            if row not in self._seen:
                self._close(row)
        self._seen = set(reading.rows)
        self._horizons.append(reading.horizon)

    def _close(self, row: EndedAccessRow) -> None:
        if row.sign_in is not None:
            code = _CLOSE_OF_SIGN_IN[EndReason(row.why)]
            self._sessions.end_sign_in(row.principal, row.sign_in, code, "its sign-in was ended")
        else:
            code = _CLOSE_OF_PRINCIPAL[PrincipalStatus(row.why)]
            self._sessions.end_principal(row.principal, code, "their access was ended")
