"""What becomes of a command about a payment: its rate, its form, who may, then the call of commerce, in time.

A command that was passed on once is passed on again when it is repeated, whatever became of the rights of its author:
only commerce knows its answer. How many are under way is bounded, for the node and for each device.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

from protocol.commerce.contract import PaymentReply
from protocol.errors import ErrorCode
from protocol.ids import NIL
from protocol.payment_commands import PEOPLE_ONLY, Pay, PayAction, ReadPayment
from protocol.replies import PaymentAnswer
from server.clock import Clock
from server.config.settings import Config
from server.identity.claims import Claims
from server.identity.rates import take_or_refuse
from server.identity.vault import Vault
from server.payments.commerce_client import CommerceClient
from server.payments.commerce_request import CommerceRequest, make_read, make_request
from server.payments.commerce_tokens import CommerceTokens, not_configured
from server.refusals import ERROR_OF, RETRY_AFTER_S, RequestRefusedError
from storage.postgres.payment_calls import PaymentCall, PaymentCalls
from storage.rates import Rate, RateLimiter
from storage.rows import VerdictCode
from storage.unavailable import StorageUnavailableError


class Paying:
    """Passes commands about payments on; `under_way` counts those without an answer yet, `outcomes` the others."""

    def __init__(
        self,
        config: Config,
        tokens: CommerceTokens,
        vault: Vault,
        calls: PaymentCalls,
        *,
        limiter: RateLimiter,
        clock: Clock,
    ) -> None:
        settings, rates = config.commerce, config.limits
        self.under_way = 0
        self.outcomes = {"answered": 0, "refused": 0, "unavailable": 0}
        self._settings = settings
        self._client = CommerceClient(settings, tokens) if settings.url else None
        self._vault = vault
        self._calls = calls
        self._limiter = limiter
        self._clock = clock
        self._by_device: Counter[bytes] = Counter()
        self._payments = Rate.per_hour("payments of person", rates.payments_per_person_per_h)
        self._reads = Rate.per_hour("payment reads of person", rates.payment_reads_per_person_per_h)

    async def aclose(self) -> None:
        """Close the connections to commerce."""
        if self._client is not None:
            await self._client.aclose()

    async def pay(self, claims: Claims, command: Pay) -> PaymentAnswer:
        """Pass a command on; raises RequestRefusedError, StorageUnavailableError."""
        with self._counted():
            request = make_request(command, claims.principal, claims.device)
            return await self._pass_on(claims, command, request, self._payments)

    async def read(self, claims: Claims, command: ReadPayment) -> PaymentAnswer:
        """A payment as it is now; raises RequestRefusedError, StorageUnavailableError."""
        with self._counted():
            return await self._pass_on(claims, command, make_read(command.payment), self._reads)

    async def _pass_on(
        self, claims: Claims, command: Pay | ReadPayment, request: CommerceRequest, rate: Rate
    ) -> PaymentAnswer:
        if self._client is None:
            raise not_configured()
        deadline = asyncio.get_running_loop().time() + self._settings.timeout_s
        with self._bounded(claims.device):
            try:
                async with asyncio.timeout_at(deadline):
                    await take_or_refuse(self._limiter, [(rate, claims.principal)])
                    device_key = await self._judge(claims, command) if isinstance(command, Pay) else None
            except TimeoutError as error:  # the database, or the limiter
                raise RequestRefusedError(ErrorCode.UNAVAILABLE, retry_after_s=RETRY_AFTER_S) from error
            return _answer(command.id, await self._client.call(claims, request, deadline, device_key))

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count what becomes of a command."""
        try:
            yield
        except RequestRefusedError as refused:
            self.outcomes["unavailable" if refused.code is ErrorCode.UNAVAILABLE else "refused"] += 1
            raise
        except StorageUnavailableError:
            self.outcomes["unavailable"] += 1
            raise
        self.outcomes["answered"] += 1

    @contextlib.contextmanager
    def _bounded(self, device: bytes) -> Iterator[None]:
        if self.under_way >= self._settings.calls_max:
            raise RequestRefusedError(ErrorCode.UNAVAILABLE, retry_after_s=RETRY_AFTER_S)
        if self._by_device[device] >= self._settings.calls_per_device_max:
            raise RequestRefusedError(ErrorCode.RATE_LIMITED, retry_after_s=RETRY_AFTER_S)
        self.under_way += 1
        self._by_device[device] += 1
        try:
            yield
        finally:
            self.under_way -= 1
            self._by_device[device] -= 1
            if not self._by_device[device]:
                del self._by_device[device]

    async def _judge(self, claims: Claims, command: Pay) -> bytes | None:
        """Refuse what may not be passed on. Returns the key of the device if it has signed the command."""
        begins = command.action in (PayAction.REQUEST, PayAction.SEND)
        others = {command.party, command.payee} - {None, claims.principal} if begins else set()
        about = command.payment or command.party or NIL
        what = b"".join((command.action.to_bytes(1, "big"), about, (command.payee or NIL) if begins else NIL))
        call = PaymentCall(
            author=claims.principal,
            device=claims.device,
            dialog=command.dialog,
            n=command.n,
            what=self._vault.hash_payment(claims.device, command.dialog, command.n.to_bytes(8), what),
            people_only=command.action in PEOPLE_ONLY,
            parties=[each for each in others if each is not None],
        )
        code = await self._calls.judge(self._clock.wall_ms(), call)
        if code is not VerdictCode.OK:
            raise RequestRefusedError(ERROR_OF[code])
        return None if command.signature is None else await self._calls.read_device_key(claims.device)


def _answer(request_id: int, reply: PaymentReply) -> PaymentAnswer:
    return PaymentAnswer(
        id=request_id,
        payment=reply.id.bytes,
        version=reply.version,
        state=reply.state,
        payer=reply.payer.bytes,
        payee=reply.payee.bytes,
        amount_minor=reply.amount_minor,
        currency=reply.currency,
        captured_minor=reply.captured_minor,
        refunded_minor=reply.refunded_minor,
        fee_minor=reply.fee_minor,
        dialog=None if reply.dialog is None else reply.dialog.bytes,
        order=None if reply.order is None else reply.order.bytes,
        expires_at_ms=reply.expires_at_ms,
    )
