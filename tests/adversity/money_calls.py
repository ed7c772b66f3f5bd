"""Calls of racers, which insist on an answer; the owners, payments and amounts that they draw."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import asyncpg

from protocol.commerce.payment_states import PaymentStep
from protocol.ids import NIL
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import (
    Answer,
    CaptureStep,
    HoldStep,
    Leg,
    NewPaymentRow,
    Purpose,
    StepKey,
    StepOutcome,
    TransferReason,
    account_id,
)
from storage.unavailable import StorageUnavailableError, WriteRefusedError
from tests.adversity.money_stage import REPEAT_S, MoneyStage
from tests.adversity.money_told import Call, Told

TENANT = 1
CURRENCIES = ("THB", "IDR")
SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
OTHER_BODY = 0.05
GATHERED = 0.5
_RACED = 0.15
_NO_ANSWER = Answer(StepOutcome.AGAIN)  # which the ledger itself never gives
_POOL_MAX = 30


@dataclass
class Crowd:
    """Owners of wallets, and the payments that are open or paid: the same for all racers."""

    people: list[bytes]
    shops: list[bytes]
    shared: list[bytes]
    held: deque[NewPaymentRow] = field(default_factory=lambda: deque(maxlen=_POOL_MAX))
    asked: deque[NewPaymentRow] = field(default_factory=lambda: deque(maxlen=_POOL_MAX))
    paid: deque[NewPaymentRow] = field(default_factory=lambda: deque(maxlen=_POOL_MAX))

    @classmethod
    def gather(cls, rng: random.Random) -> Crowd:
        """People with limits, shops with wallets of one slot, shops whose wallets are shared."""
        people, shops, shared = ([rng.randbytes(16) for _ in range(count)] for count in (6, 4, 2))
        return cls(people, shops, shared)

    @property
    def owners(self) -> list[bytes]:
        return [*self.people, *self.shops, *self.shared]


class Caller:
    """Calls over one ledger, each until there is an answer, which `told` gets."""

    def __init__(self, stage: MoneyStage, told: Told, crowd: Crowd, rng: random.Random) -> None:
        self.rng = rng
        self.ledger: Ledger = stage.ledger
        self._gathered = stage.gathered
        self._stage = stage
        self._told = told
        self._crowd = crowd

    async def race(self, *calls: Call, copies: int = 0) -> Call | None:
        """Ask for these, which have one key, some of them several times at once: the call that was answered."""
        copies = copies or (self.rng.randint(2, 4) if self.rng.random() < _RACED else 1)
        asked = [call for call in calls for _ in range(copies)]
        if len(asked) == 1:
            answers = [await self._answer(asked[0])]
        else:
            self.rng.shuffle(asked)
            answers = await asyncio.gather(*(self._answer(call) for call in asked))
        answered = [pair for pair in zip(asked, answers, strict=True) if pair[1] is not _NO_ANSWER]
        return self._told.note(answered) if answered else None

    async def race_all(self, calls: Iterable[Call]) -> None:
        """Ask for all at once, each with a key of its own."""
        await asyncio.gather(*(self.race(call) for call in calls))

    async def _answer(self, call: Call) -> Answer:
        """Ask until there is an answer, as a service does."""
        while True:
            try:
                answer = await call.ask(call.key)
            except StorageUnavailableError as error:
                self._told.counts["deadlocks"] += isinstance(error.__cause__, asyncpg.DeadlockDetectedError)
                await asyncio.sleep(REPEAT_S)
            except WriteRefusedError as error:
                self._told.note_error(error)
                return _NO_ANSWER
            else:
                self._told.operations += 1
                return answer

    def _key(self) -> StepKey:
        return StepKey(self.rng.randbytes(16), self.rng.randbytes(16))

    def _begin(self, new: NewPaymentRow, step: PaymentStep, key: StepKey | None = None) -> Call:
        key = key or self._key()
        if step is PaymentStep.SEND and new.later and self.rng.random() < GATHERED:
            return Call(key, lambda key: self._gathered.hold(HoldStep(key, new.payer, new)), new=new)
        return Call(key, lambda key: self.ledger.begin(key, new.payer, step, new), new=new)

    def _step(self, new: NewPaymentRow, step: PaymentStep, amount: int | None = None) -> Call:
        return Call(
            self._key(), lambda key: self.ledger.take_step(key, NIL, TENANT, new.payment, step, amount=amount), new=new
        )

    def _capture_all(self, new: NewPaymentRow) -> Call:
        return Call(
            self._key(), lambda key: self._gathered.capture(CaptureStep(key, NIL, TENANT, new.payment)), new=new
        )

    def _chain(
        self, legs: Sequence[Leg], reason: TransferReason = TransferReason.TRANSFER, quote: bytes | None = None
    ) -> Call:
        subject = quote or self.rng.randbytes(16)
        return Call(
            self._key(),
            lambda key: self.ledger.post_chain(key, TENANT, subject, reason, legs, quote=quote),
            legs=len(legs),
            total=sum(leg.amount for leg in legs),
        )

    # who, how much

    def _payment(self, payer: bytes, payee: bytes, amount: int, currency: str, *, later: bool) -> NewPaymentRow:
        return NewPaymentRow(
            payment=self.rng.randbytes(16),
            tenant=TENANT,
            payer=payer,
            payee=payee,
            from_account=wallet_of(payer, currency),
            to_account=wallet_of(payee, currency),
            currency=currency,
            amount=amount,
            later=later,
            request_us=self.rng.choice((SECOND_US // 5, HOUR_US, 48 * HOUR_US)),
            hold_us=self.rng.choice((SECOND_US // 5, SECOND_US, HOUR_US, 48 * HOUR_US)),
        )

    def _draw_payment(self) -> NewPaymentRow:
        payer, payee = self.rng.sample(self._crowd.owners, 2)
        return self._payment(payer, payee, self._amount(), self._currency(), later=self.rng.random() < 0.6)

    def _amount(self) -> int:
        return self.rng.choice((self.rng.randint(1, 50), self.rng.randint(50, 3_000), self.rng.randint(3_000, 40_000)))

    def _currency(self) -> str:
        return self.rng.choice(CURRENCIES)

    def _pick(self, pool: deque[NewPaymentRow]) -> NewPaymentRow | None:
        return self.rng.choice(pool) if pool else None

    def _legs(self, count: int) -> list[Leg]:
        currency = self._currency()
        owners = [self.rng.choice((*self._crowd.people, *self._crowd.shops)) for _ in range(count + 1)]
        return [
            Leg(wallet_of(one, currency), wallet_of(other, currency), self.rng.randint(1, 200))
            for one, other in itertools.pairwise(owners)
            if one != other
        ] or self._legs(count)

    async def _expire(self, payment: bytes) -> None:
        """By reading it. Without an answer it is expired by somebody else."""
        try:
            await self.ledger.read_payment(payment)
        except StorageUnavailableError as error:
            self._told.counts["deadlocks"] += isinstance(error.__cause__, asyncpg.DeadlockDetectedError)
        except WriteRefusedError as error:
            self._told.note_error(error)
        else:
            self._told.operations += 1


def wallet_of(owner: bytes, currency: str) -> bytes:
    """The wallet of an owner."""
    return account_id(TENANT, owner, currency, Purpose.WALLET)


def is_done(call: Call) -> bool:
    """Whether a call was answered, and not refused."""
    return call.answer is not None and call.answer.outcome is StepOutcome.DONE
