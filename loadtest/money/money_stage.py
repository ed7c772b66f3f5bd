"""Wallets to pay from and to, and the two ways of paying: step by step, or in batches."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Self

import asyncpg
import msgspec
import psutil

from protocol.commerce.payment_states import PaymentStep
from protocol.ids import NIL, new_id
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import (
    BATCH_MAX,
    SLOTS_SHARED,
    CaptureStep,
    HoldStep,
    Leg,
    NewPaymentRow,
    Purpose,
    StepKey,
    StepOutcome,
    TransferReason,
    account_id,
    key_id_of,
)
from storage.commerce.schema import MONEY_SCHEMA
from storage.postgres.migrate import migrate

TENANT = 1
CURRENCY = "THB"
AMOUNT = 1_000
FEE_BASIS_POINTS = 250
_MUCH = 10**12
_OPENED_TOGETHER = 50
_LIMITS: dict[str, Any] = {"timezone": "Asia/Bangkok", "day_max": _MUCH, "month_max": _MUCH}


class PairResult(msgspec.Struct, frozen=True):
    """How many pairs were done a second, and for each CPU-second of PostgreSQL."""

    pairs_per_s: float
    pairs_per_cpu_s: float


class MoneyStage:
    """Payers with limits, and shops, in a database of their own."""

    def __init__(self, ledger: Ledger, postgres_pid: int) -> None:
        self.ledger = ledger
        self.payers: list[bytes] = []
        self.shops: list[bytes] = []
        self._postgres = psutil.Process(postgres_pid)
        self._numbers = itertools.count(1)

    @classmethod
    async def open(cls, url: str, postgres_pid: int, *, lanes: int, people: int, shops: int, shop_slots: int) -> Self:
        """Migrate the empty database at `url` and fill it."""
        await migrate(url, schema=MONEY_SCHEMA)
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("INSERT INTO reference_rates VALUES ($1, $2, 1)", TENANT, CURRENCY)
            await connection.execute(
                "INSERT INTO fee_rules (tenant_id, owner_id, currency, basis_points, fixed, at_us) "
                "VALUES ($1, '00000000-0000-0000-0000-000000000000', $2, $3, 0, 0)",
                TENANT,
                CURRENCY,
                FEE_BASIS_POINTS,
            )
        finally:
            await connection.close()
        ledger = await Ledger.open(url, writes=lanes, reads=1, statement_timeout_s=30)
        stage = cls(ledger, postgres_pid)
        await stage._fill(people, shops, shop_slots)
        return stage

    async def close(self) -> None:
        """End the connections."""
        await self.ledger.aclose()

    def key(self) -> StepKey:
        """A key that nothing has used."""
        return StepKey(key_id_of(TENANT, NIL, str(next(self._numbers))), b"the body of a load test")

    def payment(self) -> NewPaymentRow:
        """A hold of some payer for some shop."""
        payer, payee = random.choice(self.payers), random.choice(self.shops)  # noqa: S311 - no secret
        return NewPaymentRow(
            payment=new_id(),
            tenant=TENANT,
            payer=payer,
            payee=payee,
            from_account=account_id(TENANT, payer, CURRENCY, Purpose.WALLET),
            to_account=account_id(TENANT, payee, CURRENCY, Purpose.WALLET),
            currency=CURRENCY,
            amount=AMOUNT,
            later=True,
            dialog=payee,
        )

    def cpu_s(self) -> float:
        """The CPU time that PostgreSQL has used in its processes that live."""
        processes = [self._postgres, *self._postgres.children()]
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    async def _fill(self, people: int, shops: int, shop_slots: int) -> None:
        for purpose in (Purpose.FEES, Purpose.OPENING):
            await self.ledger.open_own(TENANT, CURRENCY, purpose, owner=NIL, slots=SLOTS_SHARED)
        self.payers = [new_id() for _ in range(people)]
        self.shops = [new_id() for _ in range(shops)]
        for shop in self.shops:
            await self.ledger.open_wallet(TENANT, shop, CURRENCY, slots=shop_slots)
        opening = account_id(TENANT, NIL, CURRENCY, Purpose.OPENING)
        for first in range(0, people, _OPENED_TOGETHER):
            payers = self.payers[first : first + _OPENED_TOGETHER]
            wallets = [await self.ledger.open_wallet(TENANT, payer, CURRENCY, **_LIMITS) for payer in payers]
            legs = [Leg(opening, wallet, _MUCH) for wallet in wallets]
            await self.ledger.post_chain(self.key(), TENANT, new_id(), TransferReason.OPENING_BALANCE, legs)
        for payer in self.payers:  # which begins the buckets of their limits
            wallet = account_id(TENANT, payer, CURRENCY, Purpose.WALLET)
            begun = msgspec.structs.replace(self.payment(), payer=payer, from_account=wallet)
            await self.ledger.begin(self.key(), payer, PaymentStep.SEND, begun)


async def run_singles(stage: MoneyStage, lanes: int, seconds: float) -> PairResult:
    """Each lane holds, then captures, one call for each."""

    async def lane(ends: float) -> int:
        pairs = 0
        while time.perf_counter() < ends:
            new = stage.payment()
            held = await stage.ledger.begin(stage.key(), new.payer, PaymentStep.SEND, new)
            captured = await stage.ledger.take_step(stage.key(), NIL, TENANT, new.payment, PaymentStep.CAPTURE)
            assert held.outcome is captured.outcome is StepOutcome.DONE, (held, captured)
            pairs += 1
        return pairs

    return await _run(stage, lane, lanes, seconds)


async def run_batches(stage: MoneyStage, lanes: int, seconds: float) -> PairResult:
    """Each lane holds a batch, then captures it, one call for each."""

    async def lane(ends: float) -> int:
        pairs = 0
        while time.perf_counter() < ends:
            new = [stage.payment() for _ in range(BATCH_MAX)]
            held = await stage.ledger.hold_many([HoldStep(stage.key(), each.payer, each) for each in new])
            captures = [CaptureStep(stage.key(), NIL, TENANT, each.payment) for each in new]
            captured = await stage.ledger.capture_many(captures)
            assert all(held), "a hold of the load test is plainly fine"
            assert all(captured), "and so is its capture"
            pairs += BATCH_MAX
        return pairs

    return await _run(stage, lane, lanes, seconds)


async def _run(
    stage: MoneyStage, lane: Callable[[float], Coroutine[None, None, int]], lanes: int, seconds: float
) -> PairResult:
    await asyncio.gather(*(lane(time.perf_counter() + seconds / 5) for _ in range(lanes)))  # plans, caches
    before, began = stage.cpu_s(), time.perf_counter()
    pairs = sum(await asyncio.gather(*(lane(began + seconds) for _ in range(lanes))))
    took, cpu_s = time.perf_counter() - began, stage.cpu_s() - before
    return PairResult(pairs / took, pairs / max(cpu_s, 0.01))
