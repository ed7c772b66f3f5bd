"""What moved, by the ledger, against what was agreed to.

`moved_unapproved`: steps of payments that nobody agreed to, and wallets that hold something else than their payments
say. `approved_twice`: steps that were agreed to once and happened again.
"""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import asyncpg

from protocol.commerce.payment_states import PaymentState, PaymentStep
from storage.commerce.money_rows import Purpose
from tests.adversity.approve_stage import FUNDS, consent_digest

COUNTS = ("moved_unapproved", "approved_twice")

_STEPS = """
SELECT p.*, v.step, v.version AS reached,
       v.captured - coalesce(lag(v.captured) OVER w, 0) AS captured_now,
       v.refunded - coalesce(lag(v.refunded) OVER w, 0) AS refunded_now
FROM payment_versions v JOIN payments p USING (payment_id)
WINDOW w AS (PARTITION BY v.payment_id ORDER BY v.version)
"""
_FOLDS = f"""
SELECT a.owner_id, coalesce(sum(t.delta), 0)::bigint
FROM accounts a LEFT JOIN (
    SELECT credit_id AS id, amount AS delta FROM transfers WHERE credit_slot >= 0
    UNION ALL SELECT debit_id, -amount FROM transfers WHERE debit_slot >= 0
) t ON t.id = a.account_id
WHERE a.purpose = {Purpose.WALLET} AND a.slot = 0 GROUP BY 1
"""
_BY_NOBODY = (PaymentStep.REQUEST, PaymentStep.EXPIRE)


async def audit(database: asyncpg.Connection, consents: set[str]) -> tuple[dict[str, int], list[str]]:
    """The counts, and the first steps that were not agreed to."""
    taken: Counter[str] = Counter()
    counts = dict.fromkeys(COUNTS, 0)
    said: list[str] = []
    for row in await database.fetch(_STEPS):
        step = PaymentStep(row["step"])
        if step in _BY_NOBODY:
            continue
        digest = _digest(step, row)
        # A payment is approved once, whatever its version is then.
        once = f"approve {row['payment_id']}" if step is PaymentStep.APPROVE else digest
        taken[once] += 1
        count = "approved_twice" if taken[once] > 1 else "moved_unapproved" if digest not in consents else None
        if count is not None:
            counts[count] += 1
            said.append(f"{count}: {step.text} of {row['payment_id']}, version {row['reached']}, {row['amount']}")
    wrong = await _wrong_wallets(database)
    counts["moved_unapproved"] += len(wrong)
    said += [f"wallet of {owner}: differs by {by}" for owner, by in wrong.items()]
    return counts, said[:20]


def _digest(step: PaymentStep, row: asyncpg.Record) -> str:
    if step is PaymentStep.APPROVE:
        seen = (row["payer_id"], row["reached"] - 1, row["amount"], row["currency"], row["payee_id"])
        return consent_digest(step, row["payment_id"], *seen)
    if step is PaymentStep.SEND:
        return consent_digest(step, row["order_id"], row["payer_id"], row["amount"], row["currency"], row["payee_id"])
    amount = {PaymentStep.CAPTURE: "captured_now", PaymentStep.REFUND: "refunded_now"}.get(step)
    return consent_digest(step, row["payment_id"], row[amount] if amount else 0)


async def _wrong_wallets(database: asyncpg.Connection) -> dict[UUID, int]:
    """By owner: how far the fold of the transfers is from the opening balance and all payments."""
    expected: Counter[UUID] = Counter()
    for row in await database.fetch("SELECT * FROM payments"):
        paid = row["amount"] if row["state"] == PaymentState.HELD else row["captured"] - row["refunded"]
        expected[row["payer_id"]] -= paid
        if row["state"] != PaymentState.HELD:
            expected[row["payee_id"]] += paid - row["fee"] + row["fee_returned"]
    folds: dict[UUID, int] = {row[0]: row[1] for row in await database.fetch(_FOLDS)}
    return {owner: fold - FUNDS - expected[owner] for owner, fold in folds.items() if fold != FUNDS + expected[owner]}
