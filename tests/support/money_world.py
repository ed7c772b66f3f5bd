"""Wallets in a fresh database of commerce, and steps on them under keys of their own."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any, Self

import asyncpg

from protocol.commerce.payment_states import PaymentStep
from protocol.ids import NIL, new_id
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import (
    SLOTS_SHARED,
    Answer,
    Leg,
    NewPaymentRow,
    Purpose,
    StepKey,
    TransferReason,
    account_id,
    key_id_of,
)

TENANT = 1
HOUR_US = 3_600_000_000


def key_of(text: str, body: str = "") -> StepKey:
    """The key of a caller that is always the same; another `body` is another request."""
    return StepKey(key_id_of(TENANT, NIL, text), hashlib.sha256(body.encode()).digest()[:16])


class MoneyWorld:
    """A ledger, its raw connection, and the accounts of the platform in THB and IDR."""

    def __init__(self, ledger: Ledger, database: asyncpg.Connection, *, first_key: int = 1) -> None:
        self.ledger = ledger
        self.database = database
        self._numbers = itertools.count(first_key)

    @classmethod
    async def open(cls, url: str, *, size: int = 8) -> Self:
        """Over the migrated database at `url`."""
        ledger = await Ledger.open(url, writes=size, reads=min(4, size), statement_timeout_s=30)
        world = cls(ledger, await asyncpg.connect(url))
        await world.database.set_builtin_type_codec("uuid", schema="pg_catalog", codec_name="bytea", format="binary")
        for currency in ("THB", "IDR"):
            for purpose in (Purpose.FEES, Purpose.CLEARING, Purpose.EXCHANGE, Purpose.OPENING):
                await world.ledger.open_own(TENANT, currency, purpose, owner=NIL, slots=SLOTS_SHARED)
        return world

    async def close(self) -> None:
        """End all connections."""
        await self.ledger.aclose()
        await self.database.close()

    def key(self, body: str = "") -> StepKey:
        """A key that nothing has used."""
        return key_of(f"key {next(self._numbers)}", body)

    async def open_person(self, balance: int = 0, *, currency: str = "THB", slots: int = 1, **limits: Any) -> bytes:
        """A new owner with so much in their wallet; `timezone`, `day_max`, `month_max` make a person with limits."""
        owner = new_id()
        await self.open_wallet(owner, balance, currency=currency, slots=slots, **limits)
        return owner

    async def open_wallet(
        self, owner: bytes, balance: int = 0, *, currency: str = "THB", slots: int = 1, **limits: Any
    ) -> bytes:
        """A wallet of an owner with so much in it."""
        wallet = await self.ledger.open_wallet(TENANT, owner, currency, slots=slots, **limits)
        if balance:
            await self.fund(wallet, balance, currency)
        return wallet

    async def fund(self, wallet: bytes, amount: int, currency: str = "THB") -> Answer:
        """Give a wallet an opening balance."""
        opening = account_id(TENANT, NIL, currency, Purpose.OPENING)
        return await self.ledger.post_chain(
            self.key(), TENANT, new_id(), TransferReason.OPENING_BALANCE, [Leg(opening, wallet, amount)]
        )

    def payment(
        self, payer: bytes, payee: bytes, amount: int, *, currency: str = "THB", **more: object
    ) -> NewPaymentRow:
        """A payment between the wallets of two owners."""
        return NewPaymentRow(
            payment=new_id(),
            tenant=TENANT,
            payer=payer,
            payee=payee,
            from_account=account_id(TENANT, payer, currency, Purpose.WALLET),
            to_account=account_id(TENANT, payee, currency, Purpose.WALLET),
            currency=currency,
            amount=amount,
            **more,  # type: ignore[arg-type]
        )

    async def send(self, new: NewPaymentRow, key: StepKey | None = None) -> Answer:
        """The payer sends."""
        return await self.ledger.begin(key or self.key(), new.payer, PaymentStep.SEND, new)

    async def request(self, new: NewPaymentRow, key: StepKey | None = None) -> Answer:
        """The payee requests."""
        return await self.ledger.begin(key or self.key(), new.payee, PaymentStep.REQUEST, new)

    async def capture(self, new: NewPaymentRow, amount: int | None = None, key: StepKey | None = None) -> Answer:
        """The platform captures."""
        return await self.ledger.take_step(
            key or self.key(), NIL, TENANT, new.payment, PaymentStep.CAPTURE, amount=amount
        )

    async def void(self, new: NewPaymentRow, key: StepKey | None = None) -> Answer:
        """The platform voids."""
        return await self.ledger.take_step(key or self.key(), NIL, TENANT, new.payment, PaymentStep.VOID)

    async def balance(self, owner: bytes, currency: str = "THB") -> int:
        """What is in a wallet and not held."""
        return await self.balance_of(account_id(TENANT, owner, currency, Purpose.WALLET))

    async def balance_of(self, account: bytes) -> int:
        """The balance of an account over its slots."""
        return int(await self.database.fetchval("SELECT sum(balance) FROM accounts WHERE account_id = $1", account))

    async def fees(self, currency: str = "THB") -> int:
        """What the platform has earned."""
        return await self.balance_of(account_id(TENANT, NIL, currency, Purpose.FEES))

    async def set_fee(self, basis_points: int, fixed: int = 0, *, owner: bytes = NIL, currency: str = "THB") -> None:
        """A rule for payments that begin from now on."""
        await self.database.execute(
            "INSERT INTO fee_rules (tenant_id, owner_id, currency, basis_points, fixed, at_us) "
            "VALUES ($1, $2, $3, $4, $5, clock_us())",
            TENANT,
            owner,
            currency,
            basis_points,
            fixed,
        )

    async def step_clock(self, by_us: int) -> None:
        """Put the clock of the database forward or back, also for a step that waits, if it was put before."""
        await self.database.execute(
            f"""
            CREATE TABLE IF NOT EXISTS stepped_clock (by_us bigint);
            DELETE FROM stepped_clock;
            INSERT INTO stepped_clock VALUES ({by_us});
            CREATE OR REPLACE FUNCTION clock_us() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
                SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + c.by_us FROM stepped_clock c
            $$
            """
        )
