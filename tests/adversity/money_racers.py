"""Racers of `money`: what each of them does to a few wallets, requests and holds that all of them share."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from protocol.commerce.payment_states import PaymentStep
from protocol.ids import NIL
from storage.commerce.money_rows import (
    CHAIN_LEGS_MAX,
    FIRST_DUE,
    SLOTS_SHARED,
    Leg,
    NewPaymentRow,
    Purpose,
    ShareRow,
    StepKey,
    TransferReason,
    account_id,
)
from storage.unavailable import StorageUnavailableError
from tests.adversity.money_calls import (
    CURRENCIES,
    GATHERED,
    HOUR_US,
    OTHER_BODY,
    SECOND_US,
    TENANT,
    Caller,
    Crowd,
    is_done,
    wallet_of,
)
from tests.adversity.money_stage import MoneyStage
from tests.adversity.money_told import Call, Told

ZONES = ("Asia/Bangkok", "Pacific/Kiritimati", "America/Los_Angeles", "Europe/Berlin", "Asia/Kathmandu")
RATES_PERCENT = {"THB": 100, "IDR": 37}
"""What a minor unit of a currency counts against limits."""
DAY_MAX = 60_000
MONTH_MAX = 900_000
_NEVER_LEFT = 10**14
_ADD_RATE = "INSERT INTO reference_rates VALUES ($1, $2, $3::int / 100.0) ON CONFLICT DO NOTHING"
_ADD_FEE = """
INSERT INTO fee_rules (tenant_id, owner_id, currency, basis_points, fixed, at_us) VALUES ($1, $2, $3, $4, $5, 0)
"""
_ADD_QUOTE = """
INSERT INTO quotes VALUES ($1, $2, $3, $4, $5, $6, $7, clock_us() + $8, NULL) ON CONFLICT DO NOTHING
"""
_MOVE = "UPDATE persons SET timezone = $2 WHERE person_id = $1"


class Racer(Caller):
    """One of many; `run` goes from play to play. `plays` are names of PLAYS with weights."""

    def __init__(
        self, stage: MoneyStage, told: Told, crowd: Crowd, rng: random.Random, plays: Mapping[str, float]
    ) -> None:
        super().__init__(stage, told, crowd, rng)
        self._plays = [PLAYS[name] for name in plays]
        self._weights = list(plays.values())

    async def run(self, operations: int) -> None:
        """Race until so many calls were answered in all."""
        while self._told.operations < operations:
            (play,) = self.rng.choices(self._plays, self._weights)
            await play(self)

    async def prepare(self) -> None:
        """Open all accounts, and put something in the wallets."""
        for currency in CURRENCIES:
            for purpose in (Purpose.FEES, Purpose.CLEARING, Purpose.EXCHANGE, Purpose.OPENING):
                await self.ledger.open_own(TENANT, currency, purpose, owner=NIL, slots=SLOTS_SHARED)
            await self._stage.insist(_ADD_RATE, TENANT, currency, RATES_PERCENT[currency])
            await self._stage.insist(_ADD_FEE, TENANT, NIL, currency, 250, 3)
            await self._stage.insist(_ADD_FEE, TENANT, self._crowd.shops[0], currency, 0, 0)
            for number, owner in enumerate(self._crowd.owners):
                zone = ZONES[number % len(ZONES)] if owner in self._crowd.people else None
                await self.ledger.open_wallet(
                    TENANT,
                    owner,
                    currency,
                    timezone=zone,
                    day_max=DAY_MAX if zone else None,
                    month_max=MONTH_MAX if zone else None,
                    slots=SLOTS_SHARED if owner in self._crowd.shared else 1,
                )
                await self.top_up(owner, currency)

    async def top_up(self, owner: bytes | None = None, currency: str = "") -> None:
        """Money comes in."""
        owner, currency = owner or self.rng.choice(self._crowd.owners), currency or self._currency()
        leg = Leg(account_id(TENANT, NIL, currency, Purpose.CLEARING), wallet_of(owner, currency), 100_000)
        await self.race(self._chain([leg], TransferReason.TOP_UP))

    async def send(self) -> None:
        """A payment or a hold; now and then another one under the same key."""
        new = self._draw_payment()
        calls = [self._begin(new, PaymentStep.SEND)]
        if self.rng.random() < OTHER_BODY:
            other = msgspec.structs.replace(new, payment=self.rng.randbytes(16), amount=new.amount + 1)
            key = StepKey(calls[0].key.key_id, self.rng.randbytes(16))
            calls.append(self._begin(other, PaymentStep.SEND, key))
        winner = await self.race(*calls)
        if winner is not None and winner.new is not None and is_done(winner):
            (self._crowd.held if new.later else self._crowd.paid).append(winner.new)

    async def spend_shared(self) -> None:
        """A shared account pays several times at once, more in the sum than it has."""
        owner, currency = self.rng.choice(self._crowd.shared), self._currency()
        try:
            rows = await self.ledger.read_accounts(TENANT, owner)
        except StorageUnavailableError:
            return
        has = next(row.balance for row in rows if row.purpose is Purpose.WALLET and row.currency == currency)
        payees = self.rng.sample(self._crowd.people, 3)
        payments = [
            self._payment(owner, payee, max(1, has * 6 // 10), currency, later=self.rng.random() < 0.3)
            for payee in payees
        ]
        await self.race_all(self._begin(new, PaymentStep.SEND) for new in payments)
        payee = self.rng.choice(payees)
        back = self._payment(payee, owner, self.rng.randint(1, 5_000), currency, later=False)
        await self.race(self._begin(back, PaymentStep.SEND))

    async def spend_limit(self) -> None:
        """A person pays from two wallets at once, more in the sum than their limit of a day; then not after all."""
        person, shop = self.rng.choice(self._crowd.people), self.rng.choice(self._crowd.shops)
        payments = [
            self._payment(
                person, shop, DAY_MAX * self.rng.randint(10, 60) // RATES_PERCENT[currency], currency, later=True
            )
            for currency in CURRENCIES * 2
        ]
        await self.race_all(self._begin(new, PaymentStep.SEND) for new in payments)
        await self.race_all(self._step(new, PaymentStep.VOID) for new in payments)

    async def end_hold(self) -> None:
        """Capture, void and expire one hold at once; not always one that is open."""
        new = self._pick(self._crowd.held)
        if new is None:
            return await self.send()
        ends = [
            self._capture_all(new) if self.rng.random() < GATHERED else self._step(new, PaymentStep.CAPTURE),
            self._step(new, PaymentStep.CAPTURE, self.rng.randint(0, new.amount + 1)),
            self._step(new, PaymentStep.VOID),
        ]
        await asyncio.gather(self.race_all(self.rng.sample(ends, self.rng.randint(1, 3))), self._expire(new.payment))
        if self.rng.random() < 0.7:
            self._move(new, self._crowd.held, self._crowd.paid)
        return None

    async def request(self) -> None:
        """Somebody asks for money, now and then for several."""
        new = self._draw_payment()
        if self.rng.random() < 0.5:
            others = [owner for owner in self._crowd.owners if owner != new.payer]
            shares = tuple(
                ShareRow(wallet_of(owner, new.currency), self.rng.randint(1, 9))
                for owner in self.rng.sample(others, self.rng.randint(1, 4))
            )
            new = msgspec.structs.replace(new, shares=shares)
        winner = await self.race(self._begin(new, PaymentStep.REQUEST))
        if winner is not None and is_done(winner):
            self._crowd.asked.append(new)

    async def answer_request(self) -> None:
        """Approve, as it was seen or not, decline, cancel: at once."""
        new = self._pick(self._crowd.asked)
        if new is None:
            return await self.request()

        def approve(amount: int) -> Call:
            return Call(
                self._key(),
                lambda key: self.ledger.approve(
                    key,
                    new.payer,
                    TENANT,
                    new.payment,
                    version=1,
                    amount=amount,
                    currency=new.currency,
                    payee=new.payee,
                ),
                new=new,
            )

        ends = [
            approve(new.amount),
            approve(new.amount),
            approve(new.amount + 1),
            self._step(new, PaymentStep.DECLINE),
            self._step(new, PaymentStep.CANCEL),
        ]
        await self.race_all(self.rng.sample(ends, self.rng.randint(1, 4)))
        if self.rng.random() < 0.7:
            self._move(new, self._crowd.asked, self._crowd.held if new.later else self._crowd.paid)
        return None

    async def refund(self) -> None:
        """Give back in parts, several at once."""
        new = self._pick(self._crowd.paid)
        if new is None:
            return await self.send()

        def part(amount: int | None) -> Call:
            return Call(
                self._key(),
                lambda key: self.ledger.refund(key, NIL, TENANT, new.payment, party=new.payee, amount=amount),
                new=new,
            )

        amounts = (None, new.amount // 2 + 1, new.amount // 3, 1)
        await self.race_all(part(amount) for amount in self.rng.sample(amounts, self.rng.randint(1, 3)))
        return None

    async def dispute(self) -> None:
        """A payment is disputed, in full or part, and the dispute is perhaps won, or lost: at once with a refund."""
        new = self._pick(self._crowd.paid)
        if new is None:
            return await self.send()
        clearing = account_id(TENANT, NIL, new.currency, Purpose.CLEARING)

        def step(step: PaymentStep, amount: int = 0) -> Call:
            return Call(
                self._key(),
                lambda key: self.ledger.dispute(key, NIL, TENANT, new.payment, step, clearing=clearing, amount=amount),
                new=new,
            )

        await self.race_all([step(PaymentStep.DISPUTE, new.amount), step(PaymentStep.DISPUTE, new.amount // 2)])
        ends = [step(PaymentStep.DISPUTE_WON), step(PaymentStep.DISPUTE_LOST)]
        await asyncio.gather(self.race_all(self.rng.sample(ends, 2)), self.refund())
        return None

    async def chain(self) -> None:
        """Some transfers, now and then as many as a chain may have, or one that cannot be among them."""
        legs = self._legs(CHAIN_LEGS_MAX if self.rng.random() < 0.03 else self.rng.randint(1, 8))
        if self.rng.random() < 0.3:
            place = self.rng.randrange(len(legs))
            legs[place] = msgspec.structs.replace(legs[place], amount=_NEVER_LEFT)
        await self.race(self._chain(legs))

    async def oppose(self) -> None:
        """Two chains over the same accounts, in opposite order."""
        legs = self._legs(self.rng.randint(2, 6))
        back = [Leg(leg.to_account, leg.from_account, leg.amount) for leg in reversed(legs)]
        await self.race_all(self._chain(each) for each in (legs, back, legs, back))

    async def reverse(self) -> None:
        """Take one transfer back by several reversals at once, which are more than it was."""
        wallet = wallet_of(self.rng.choice((*self._crowd.people, *self._crowd.shops)), self._currency())
        try:
            lines = await self.ledger.read_statement(wallet, 2**62, 20)
        except StorageUnavailableError:
            return
        lines = [line for line in lines if line.amount > 0 and line.reason is TransferReason.TRANSFER]
        if lines:
            line = self.rng.choice(lines)
            leg = Leg(wallet, line.other, line.amount * 6 // 10 + 1, line.transfer_no)
            await self.race_all(self._chain([leg], TransferReason.REVERSAL) for _ in range(self.rng.randint(1, 3)))
        else:
            await self.chain()

    async def exchange(self) -> None:
        """Several exchanges at once under one quote."""
        owner, quote = self.rng.choice(self._crowd.people), self.rng.randbytes(16)
        sell, buy = self.rng.sample(CURRENCIES, 2)
        sold, bought = self.rng.randint(1, 2_000), self.rng.randint(1, 2_000)
        lasts_us = self.rng.choice((SECOND_US // 100, HOUR_US))
        await self._stage.insist(_ADD_QUOTE, quote, TENANT, owner, sell, sold, buy, bought, lasts_us)
        legs = [
            Leg(wallet_of(owner, sell), account_id(TENANT, NIL, sell, Purpose.EXCHANGE), sold),
            Leg(account_id(TENANT, NIL, buy, Purpose.EXCHANGE), wallet_of(owner, buy), bought),
        ]
        await self.race_all(self._chain(legs, TransferReason.EXCHANGE, quote) for _ in range(self.rng.randint(1, 3)))

    async def charge_back(self) -> None:
        """Take what cannot be refused, from who has it or not."""
        owner, currency, amount = self.rng.choice(self._crowd.owners), self._currency(), self._amount()
        leg = Leg(wallet_of(owner, currency), account_id(TENANT, NIL, currency, Purpose.CLEARING), amount)
        subject = self.rng.randbytes(16)
        await self.race(
            Call(
                self._key(),
                lambda key: self.ledger.take_anyway(key, TENANT, subject, TransferReason.CHARGEBACK, leg),
                total=amount,
            )
        )

    async def repeat(self) -> None:
        """A late copy of an old call, as it was or under another body: the world has changed meanwhile."""
        if not self._told.recent:
            return await self.send()
        call = self.rng.choice(self._told.recent)
        if self.rng.random() < OTHER_BODY:
            other = Call(StepKey(call.key.key_id, self.rng.randbytes(16)), call.ask)
            await self.race(call, other, copies=1)
        else:
            await self.race(call)
        return None

    async def move(self) -> None:
        """A person changes their time zone; a shop has another fee from now on."""
        await self._stage.insist(_ADD_FEE, TENANT, self._crowd.shops[0], self._currency(), self.rng.choice((0, 90)), 0)
        await self._stage.insist(_MOVE, self.rng.choice(self._crowd.people), self.rng.choice(ZONES))

    async def sweep(self) -> None:
        """Expire what is due, as a service does that looks for it."""
        try:
            due = [each.payment for each in await self.ledger.list_due(FIRST_DUE, 10)]
        except StorageUnavailableError:
            return
        await asyncio.gather(*(self._expire(payment) for payment in due * 2))

    def _move(self, new: NewPaymentRow, source: deque[NewPaymentRow], target: deque[NewPaymentRow]) -> None:
        if new in source:
            source.remove(new)
            target.append(new)


PLAYS: dict[str, Callable[[Racer], Awaitable[None]]] = {
    play.__name__: play
    for play in (
        Racer.top_up,
        Racer.send,
        Racer.spend_shared,
        Racer.spend_limit,
        Racer.end_hold,
        Racer.request,
        Racer.answer_request,
        Racer.refund,
        Racer.dispute,
        Racer.chain,
        Racer.oppose,
        Racer.reverse,
        Racer.exchange,
        Racer.charge_back,
        Racer.repeat,
        Racer.move,
        Racer.sweep,
    )
}
WEIGHTS = {
    "top_up": 10,
    "send": 25,
    "spend_shared": 5,
    "spend_limit": 2,
    "end_hold": 15,
    "request": 6,
    "answer_request": 6,
    "refund": 8,
    "dispute": 1,
    "chain": 6,
    "oppose": 3,
    "reverse": 4,
    "exchange": 4,
    "charge_back": 2,
    "repeat": 15,
    "move": 1,
    "sweep": 1,
}
"""How often each play is chosen when all are played."""
