"""Payments: passed on to commerce, and answered when its answer is here. Meanwhile the session goes on with the next.

A drain waits for what is under way, as for sends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode
from protocol.payment_commands import Pay, ReadPayment
from protocol.replies import PaymentAnswer
from server.identity.claims import log_ids
from server.payments.paying import Paying
from server.refusals import RETRY_AFTER_S, RequestRefusedError
from server.session.session import Session
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class PaymentHandlers:
    """Handlers of the commands about payments; `spawn` runs something to its end beside everything else."""

    def __init__(self, paying: Paying, spawn: Spawn) -> None:
        self._paying = paying
        self._spawn = spawn

    def pay(self, session: Session, command: Pay) -> None:
        """Pass a command about a payment on."""
        self._begin(session, command.id, self._paying.pay(session.claims, command))

    def read_payment(self, session: Session, command: ReadPayment) -> None:
        """Ask for a payment as it is now."""
        self._begin(session, command.id, self._paying.read(session.claims, command))

    def _begin(self, session: Session, request_id: int, work: Awaitable[PaymentAnswer]) -> None:
        session.start_send()
        self._spawn(_answer(session, request_id, work))


async def _answer(session: Session, request_id: int, work: Awaitable[PaymentAnswer]) -> None:
    try:
        answer = await work
        if request_id:
            session.push(answer)
    except RequestRefusedError as refused:
        session.fail(request_id, refused.code, refused.detail, retry_after_s=refused.retry_after_s)
    except StorageUnavailableError:
        session.fail(request_id, ErrorCode.UNAVAILABLE, retry_after_s=RETRY_AFTER_S)
    except Exception:  # noqa: BLE001 - the boundary of what runs beside the session: it ends that session alone
        _log.exception("a session failed", extra=log_ids(session.connection.address, session.held_claims))
        session.close(CloseCode.INTERNAL_ERROR)
    finally:
        session.finish_send()
