"""The ledger: each business step is one call of one function in autocommit, and its answer is kept under its key.

Invariants (`migrations/0001_ledger.sql` has those of the tables):

* A call whose fate is unknown is repeated with the same key: it is answered, or done once.
* Refusals are answers, kept like the others. What is not final is an exception: StorageUnavailableError and its kind.
* Who reads a payment that is due writes `expired` first, so nothing that was told is undone by a clock that steps back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import asyncpg

from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.ids import NIL
from storage.commerce.crowds import gather_reads
from storage.commerce.money_rows import (
    AccountStatus,
    Answer,
    CaptureStep,
    DueRow,
    HoldStep,
    LedgerAccount,
    Leg,
    NewPaymentRow,
    OpeningBalance,
    PaymentRow,
    Purpose,
    StepKey,
    StepOutcome,
    TransferReason,
    TransferRow,
    VersionRow,
)
from storage.commerce.schema import MONEY_SETTINGS
from storage.postgres.pool import Pool, open_pool, translate_errors
from storage.postgres.write_connections import WriteConnections
from storage.unavailable import BooksReadOnlyError

_BEGIN = f"SELECT * FROM begin_payment({', '.join(f'${place}' for place in range(1, 21))})"
_APPROVE = "SELECT * FROM approve_payment($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_STEP = "SELECT * FROM step_payment($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_REFUND = "SELECT * FROM refund_payment($1, $2, $3, $4, $5, $6, $7, $8)"
_CHAIN = "SELECT * FROM post_chain($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
_HOLDS = "SELECT hold_payments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_CAPTURES = "SELECT capture_payments($1, $2, $3, $4, $5, $6)"
_DISPUTE = "SELECT * FROM dispute_payment($1, $2, $3, $4, $5, $6, $7, $8)"
_TAKE = "SELECT * FROM take_anyway($1, $2, $3, $4, $5, $6, $7, $8, $9)"

_PAYMENT_COLUMNS = """p.payment_id, p.tenant_id, p.dialog_id, p.order_id, p.payer_id, p.payee_id, p.from_id, p.to_id,
p.currency, p.amount, p.capture_later, p.expires_us, p.state, p.version, p.captured, p.fee, p.refunded,
p.fee_returned, p.disputed, p.moved_us"""
_PAYMENT = f"""
SELECT {_PAYMENT_COLUMNS}, p.state IN ({PaymentState.REQUESTED}, {PaymentState.HELD}) AND clock_us() >= p.expires_us
FROM payments p WHERE p.payment_id = ANY ($1) ORDER BY p.payment_id DESC
"""
_PAYMENTS = """
SELECT payment_id FROM (
    (SELECT p.payment_id FROM payments p WHERE p.payer_id = $2 AND p.tenant_id = $1 AND p.payment_id < $3
     ORDER BY p.payment_id DESC LIMIT $4)
    UNION ALL
    (SELECT p.payment_id FROM payments p WHERE p.payee_id = $2 AND p.tenant_id = $1 AND p.payment_id < $3
     ORDER BY p.payment_id DESC LIMIT $4)) both_sides
ORDER BY payment_id DESC LIMIT $4
"""
_VERSIONS = """
SELECT version, at_us, step, state, actor_id, captured, fee, refunded FROM payment_versions
WHERE payment_id = $1 ORDER BY version LIMIT 1000
"""
# The condition on the state is that of the index.
_DUE = f"""
SELECT expires_us, payment_id FROM payments
WHERE state IN ({PaymentState.REQUESTED}, {PaymentState.HELD}) AND (expires_us, payment_id) > ($1, $2)
  AND expires_us <= (SELECT clock_us())
ORDER BY expires_us, payment_id LIMIT $3
"""
OLDEST_DUE_S = f"""
SELECT greatest(0, (clock_us() - min(p.expires_us)) / 1000000.0)::float8 FROM (
    SELECT expires_us FROM payments WHERE state IN ({PaymentState.REQUESTED}, {PaymentState.HELD})
    ORDER BY expires_us LIMIT 1) p
"""
"""For how many seconds the oldest payment that is due waits to be expired; null without a pending payment."""
_ACCOUNTS = f"""
SELECT a.account_id, a.tenant_id, a.owner_id, a.currency, a.purpose, a.status, a.slots,
       (SELECT sum(s.balance)::bigint FROM accounts s WHERE s.account_id = a.account_id),
       (SELECT coalesce(sum(h.balance), 0)::bigint FROM holds h WHERE h.account_id = a.account_id AND h.balance > 0),
       (SELECT coalesce(-sum(r.balance), 0)::bigint FROM accounts r
        WHERE a.purpose = {Purpose.WALLET}
          AND r.account_id = account_of(a.tenant_id, a.owner_id, a.currency, {Purpose.RECEIVABLE}::smallint))
FROM accounts a
WHERE a.owner_id = $1 AND a.slot = 0 AND a.tenant_id = $2 AND a.purpose <> {Purpose.RECEIVABLE}
ORDER BY a.purpose, a.currency LIMIT 1000
"""
# The condition that slots are not negative is that of the indexes.
_SIDE = """
SELECT t.transfer_no, t.at_us, {sign}t.amount, t.{side}_slot, t.{side}_after, t.{other}_id,
       t.reason, t.subject_id, t.reverses
FROM generate_series(0, (SELECT slots - 1 FROM accounts WHERE account_id = $1 AND slot = 0)) s
CROSS JOIN LATERAL (
    SELECT * FROM transfers x
    WHERE x.{side}_id = $1 AND x.{side}_slot = s AND x.{side}_slot >= 0 AND x.transfer_no < $2
    ORDER BY x.transfer_no DESC LIMIT $3) t
"""
_STATEMENT = f"""
({_SIDE.format(side="debit", other="credit", sign="-")}) UNION ALL
({_SIDE.format(side="credit", other="debit", sign="")}) ORDER BY 1 DESC LIMIT $3
"""


class Ledger:
    """Steps over `writes`, reads over `reads`."""

    def __init__(self, writes: WriteConnections, reads: Pool) -> None:
        self._writes = writes
        self._reads = reads
        self._payments = gather_reads(self._find_all)

    @classmethod
    async def open(cls, url: str, *, writes: int, reads: int, statement_timeout_s: float) -> Self:
        """The ledger in the migrated database at `url`, with so many connections for steps and for reads."""
        connections = WriteConnections(
            url, size=writes, statement_timeout_s=statement_timeout_s, settings=MONEY_SETTINGS
        )
        pool = await open_pool(url, size=reads, statement_timeout_s=statement_timeout_s, settings=MONEY_SETTINGS)
        return cls(connections, pool)

    async def aclose(self) -> None:
        """End the connections at once; a step whose answer is awaited has an unknown fate."""
        self._writes.terminate()
        await self._reads.close()

    async def open_wallet(
        self,
        tenant: int,
        owner: bytes,
        currency: str,
        *,
        timezone: str | None = None,
        day_max: int | None = None,
        month_max: int | None = None,
        slots: int = 1,
        actor: bytes = NIL,
    ) -> bytes:
        """The wallet of an owner in a currency, as it was opened first; opened if there is none.

        `actor` is who asked, for the audit, here and elsewhere; the nil id: the platform itself.
        With a `timezone` the owner is a person, whose spending counts against the limits of the reference currency.
        """
        return await self._open(
            actor, tenant, owner, currency, Purpose.WALLET, slots, True, timezone, day_max, month_max
        )

    async def open_own(
        self, tenant: int, currency: str, purpose: Purpose, *, owner: bytes, slots: int, actor: bytes = NIL
    ) -> bytes:
        """An account of the platform or of a gateway: fees, clearing, suspense. It may fall below zero."""
        return await self._open(actor, tenant, owner, currency, purpose, slots, False, None, None, None)

    async def begin(self, key: StepKey, actor: bytes, step: PaymentStep, new: NewPaymentRow) -> Answer:
        """Begin a payment: REQUEST moves nothing, SEND holds or pays."""
        return await self._step(
            _BEGIN,
            key,
            actor,
            int(step),
            new.tenant,
            new.payment,
            new.dialog,
            new.order,
            new.payer,
            new.payee,
            new.from_account,
            new.to_account,
            new.currency,
            new.amount,
            new.later,
            new.request_us,
            new.hold_us,
            [share.account for share in new.shares],
            [share.weight for share in new.shares],
        )

    async def hold_many(self, steps: Sequence[HoldStep]) -> list[Answer | None]:
        """Begin payments that are held, at most BATCH_MAX at once; None for each that must go alone (`begin`)."""
        new = [step.new for step in steps]
        done = await self._writes.fetch(
            _HOLDS,
            [step.key.key_id for step in steps],
            [step.key.body for step in steps],
            [step.actor for step in steps],
            [each.tenant for each in new],
            [each.payment for each in new],
            [each.dialog for each in new],
            [each.order for each in new],
            [each.payer for each in new],
            [each.payee for each in new],
            [each.from_account for each in new],
            [each.to_account for each in new],
            [each.currency for each in new],
            [each.amount for each in new],
            [each.hold_us for each in new],
        )
        return [
            Answer(StepOutcome.DONE, each.payment, 1) if fine else None
            for each, fine in zip(new, done[0][0], strict=True)
        ]

    async def capture_many(self, steps: Sequence[CaptureStep]) -> list[Answer | None]:
        """Capture holds in full, at most BATCH_MAX at once; None for each that must go alone (`take_step`)."""
        done = await self._writes.fetch(
            _CAPTURES,
            [step.key.key_id for step in steps],
            [step.key.body for step in steps],
            [step.actor for step in steps],
            [step.tenant for step in steps],
            [step.payment for step in steps],
            [step.party for step in steps],
        )
        return [
            Answer(StepOutcome.DONE, step.payment, version) if version else None
            for step, version in zip(steps, done[0][0], strict=True)
        ]

    async def approve(
        self,
        key: StepKey,
        payer: bytes,
        tenant: int,
        payment: bytes,
        *,
        version: int,
        amount: int,
        currency: str,
        payee: bytes,
    ) -> Answer:
        """The payer approves a request as they saw it; it is then held or paid."""
        return await self._step(_APPROVE, key, payer, tenant, payment, version, amount, currency, payee)

    async def take_step(
        self,
        key: StepKey,
        actor: bytes,
        tenant: int,
        payment: bytes,
        step: PaymentStep,
        *,
        party: bytes | None = None,
        amount: int | None = None,
    ) -> Answer:
        """DECLINE, CANCEL, VOID, or CAPTURE `amount` (None: all). NOT_FOUND unless `party`, if given, is a party."""
        return await self._step(_STEP, key, actor, tenant, payment, party, int(step), amount)

    async def refund(
        self,
        key: StepKey,
        actor: bytes,
        tenant: int,
        payment: bytes,
        *,
        party: bytes | None = None,
        amount: int | None = None,
    ) -> Answer:
        """Give back `amount` of what was captured (None: all that is left), and the fee in proportion."""
        return await self._step(_REFUND, key, actor, tenant, payment, party, amount)

    async def post_chain(
        self,
        key: StepKey,
        tenant: int,
        subject: bytes,
        reason: TransferReason,
        legs: Sequence[Leg],
        *,
        quote: bytes | None = None,
        actor: bytes = NIL,
    ) -> Answer:
        """Transfer all legs or none; `quote` is used by them, an exchange."""
        return await self._step(
            _CHAIN,
            key,
            actor,
            tenant,
            subject,
            int(reason),
            [leg.from_account for leg in legs],
            [leg.to_account for leg in legs],
            [leg.amount for leg in legs],
            [leg.reverses for leg in legs],
            quote,
        )

    async def take_anyway(
        self, key: StepKey, tenant: int, subject: bytes, reason: TransferReason, leg: Leg, *, actor: bytes = NIL
    ) -> Answer:
        """Take from a wallet what cannot be refused; what is not there becomes a debt (`detail`)."""
        (row,) = await self._writes.fetch(
            _TAKE,
            key.key_id,
            key.body,
            actor,
            tenant,
            subject,
            int(reason),
            leg.from_account,
            leg.to_account,
            leg.amount,
        )
        return read_answer(row)

    async def import_balances(
        self, tenant: int, balances: Sequence[OpeningBalance], *, actor: bytes = NIL
    ) -> list[tuple[StepOutcome, bool]]:
        """Post opening balances, at most CHAIN_LEGS_MAX: of each the outcome, and whether this call posted it."""
        (row,) = await self._writes.fetch(
            "SELECT * FROM import_balances($1, $2, $3, $4, $5, $6, $7)",
            actor,
            tenant,
            [each.key.key_id for each in balances],
            [each.key.body for each in balances],
            [each.from_account for each in balances],
            [each.to_account for each in balances],
            [each.amount for each in balances],
        )
        return [(StepOutcome(outcome), posted) for outcome, posted in zip(row[0], row[1], strict=True)]

    async def answer(self, key: StepKey, outcome: StepOutcome, subject: bytes | None = None) -> Answer:
        """Keep an answer that the service decides, such as a refusal; the one of before, if the key has one."""
        query = "SELECT * FROM answer_step($1, $2, $3, $4)"
        (row,) = await self._writes.fetch(query, key.key_id, key.body, int(outcome), subject)
        return read_answer(row)

    async def dispute(
        self,
        key: StepKey,
        actor: bytes,
        tenant: int,
        payment: bytes,
        step: PaymentStep,
        *,
        clearing: bytes,
        amount: int = 0,
    ) -> Answer:
        """DISPUTE: `amount` leaves the payee, into the account of the gateway (`detail`: what is owed).

        DISPUTE_WON: it returns. DISPUTE_LOST: it does not, and the payment is refunded.
        """
        (row,) = await self._writes.fetch(
            _DISPUTE, key.key_id, key.body, actor, tenant, payment, int(step), clearing, amount
        )
        return read_answer(row)

    async def forget_answers(self, age_us: int, limit: int) -> int:
        """Forget the ids in answers that are older; how many. The keys stay, so a late copy does nothing."""
        (row,) = await self._writes.fetch("SELECT forget_answers($1, $2)", age_us, limit)
        return int(row[0])

    async def expire(self, payment: bytes) -> bool:
        """Expire a payment if it is due; whether this call did."""
        (row,) = await self._writes.fetch("SELECT expire_payment($1)", payment)
        return bool(row[0])

    async def list_due(self, after: DueRow, limit: int) -> list[DueRow]:
        """A page of payments that are due and have not ended, in their order, behind `after`."""
        async with translate_errors():
            rows = await self._reads.fetch(_DUE, after.expires_us, after.payment, limit)
        return [DueRow(*row) for row in rows]

    async def read_oldest_due_s(self) -> float:
        """For how long the oldest payment that is due waits to be expired."""
        async with translate_errors():
            return await self._reads.fetchval(OLDEST_DUE_S) or 0.0

    async def close_period(self, period: int, ends_us: int, *, actor: bytes = NIL) -> bool:
        """Close a month (year * 100 + month): what follows is dated behind its end. False if it is not over."""
        (row,) = await self._writes.fetch("SELECT close_period($1, $2, $3)", actor, period, ends_us)
        return bool(row[0])

    async def read_payment(self, payment: bytes) -> PaymentRow | None:
        """A payment as it is now; one that is due is expired first."""
        return await self._payments.read(payment)

    async def read_payments(self, tenant: int, party: bytes, before: bytes, limit: int) -> list[PaymentRow]:
        """Payments of a party, newest first, with ids below `before`; those that are due are expired first."""
        async with translate_errors():
            rows = await self._reads.fetch(_PAYMENTS, tenant, party, before, limit)
        return await self._read_expired([row[0] for row in rows])

    async def _find_all(self, payments: Sequence[bytes]) -> list[PaymentRow | None]:
        found = {row.payment: row for row in await self._read_expired(payments)}
        return [found.get(payment) for payment in payments]

    async def _read_expired(self, payments: Sequence[bytes]) -> list[PaymentRow]:
        async with translate_errors():
            rows = await self._reads.fetch(_PAYMENT, payments)
            due = [row[0] for row in rows if row[-1]]
            for payment in due:
                await self.expire(payment)
            if due:
                rows = await self._reads.fetch(_PAYMENT, payments)
        return [_payment(row) for row in rows]

    async def read_versions(self, payment: bytes) -> list[VersionRow]:
        """What happened to a payment, first to last."""
        async with translate_errors():
            rows = await self._reads.fetch(_VERSIONS, payment)
        return [VersionRow(row[0], row[1], PaymentStep(row[2]), PaymentState(row[3]), *row[4:]) for row in rows]

    async def read_accounts(self, tenant: int, owner: bytes) -> list[LedgerAccount]:
        """The accounts of an owner, wallets first; what they owe is the `debt` of the wallet."""
        async with translate_errors():
            rows = await self._reads.fetch(_ACCOUNTS, owner, tenant)
        return [
            LedgerAccount(
                account=row[0],
                tenant=row[1],
                owner=row[2],
                currency=row[3],
                purpose=Purpose(row[4]),
                status=AccountStatus(row[5]),
                slots=row[6],
                balance=row[7],
                held=row[8],
                debt=row[9],
            )
            for row in rows
        ]

    async def read_statement(self, account: bytes, before: int, limit: int) -> list[TransferRow]:
        """The transfers of an account with numbers below `before`, newest first."""
        async with translate_errors():
            rows = await self._reads.fetch(_STATEMENT, account, before, limit)
        return [
            TransferRow(row[0], row[1], row[2], row[3], row[4], row[5], TransferReason(row[6]), row[7], row[8])
            for row in rows
        ]

    async def _open(self, *values: Any) -> bytes:
        (row,) = await self._writes.fetch("SELECT open_account($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", *values)
        account: bytes = row[0]
        return account

    async def _step(self, query: str, key: StepKey, *values: object) -> Answer:
        """Call a step; once more with all locks when it finds that it needs more than usual."""
        (row,) = await self._writes.fetch(query, key.key_id, key.body, False, *values)
        if row["outcome"] == StepOutcome.AGAIN:
            (row,) = await self._writes.fetch(query, key.key_id, key.body, True, *values)
        return read_answer(row)


def read_answer(row: asyncpg.Record) -> Answer:
    """The answer of a function that returns `answer`; raises BooksReadOnlyError."""
    if row["outcome"] == StepOutcome.READ_ONLY:
        raise BooksReadOnlyError
    return Answer(StepOutcome(row["outcome"]), row["subject"], row["version"], row["detail"])


def _payment(row: asyncpg.Record) -> PaymentRow:
    return PaymentRow(
        payment=row[0],
        tenant=row[1],
        dialog=row[2],
        order=row[3],
        payer=row[4],
        payee=row[5],
        from_account=row[6],
        to_account=row[7],
        currency=row[8],
        amount=row[9],
        later=row[10],
        expires_us=row[11],
        state=PaymentState(row[12]),
        version=row[13],
        captured=row[14],
        fee=row[15],
        refunded=row[16],
        fee_returned=row[17],
        disputed=row[18],
        moved_us=row[19],
    )
