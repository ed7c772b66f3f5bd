"""The end of a node: the graceful one, and that of a node whose place another one has taken.

No new connections; sessions are drained (sends under way finish, clients are asked to reconnect elsewhere); the
pipeline empties; receipts are stored; then what is still open is aborted. The database is closed after that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from protocol.close_codes import CloseCode
from server.delivery.receipts import Receipts
from server.gateway.acceptor import Acceptor
from server.session.session import Session
from server.writing.pipeline import Pipeline
from storage.unavailable import IncarnationEndedError


async def drain(
    acceptor: Acceptor,
    sessions: Iterable[Session],
    pipeline: Pipeline,
    receipts: Receipts,
    *,
    spread_s: float,
    timeout_s: float,
) -> None:
    """Accept nothing more and finish what was accepted, within `timeout_s`; clients reconnect within `spread_s`."""
    acceptor.stop_accepting()
    for session in sessions:
        session.drain(spread_s)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await pipeline.wait_drained()
            with contextlib.suppress(IncarnationEndedError):  # clients repeat their receipts elsewhere
                await receipts.flush()
            await acceptor.close_http(timeout_s)
            await acceptor.wait_websockets_closed()
    acceptor.abort_all()


async def close_at_once(acceptor: Acceptor, sessions: Iterable[Session], *, timeout_s: float) -> None:
    """Close every connection, so that clients reconnect: nothing that is under way here can be finished any more."""
    acceptor.stop_accepting()
    for session in sessions:
        session.close(CloseCode.UNAVAILABLE)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await acceptor.wait_websockets_closed()
    await acceptor.close_http(timeout_s)
    acceptor.abort_all()
