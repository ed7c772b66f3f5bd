"""The audit of a ledger: each count is of rows that cannot be, from the tables alone or from what racers were told.

The queries use nothing of the ledger's functions: what they compute is computed anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg

from protocol.commerce.payment_states import FIRST, NEXT, PaymentState, PaymentStep
from storage.commerce.money_rows import HOLD_SLOT, HoldState, LimitSpan, StepOutcome, TransferReason
from tests.adversity.money_told import Told

COUNTS = (
    "unbalanced",
    "fold_differs",
    "negative",
    "doubled",
    "resolved_twice",
    "over_limit",
    "closed_changed",
    "lost",
    "deadlocks",
    "errors",
)
"""What must be 0. `errors`: calls that the ledger answered with an error that a repetition does not cure."""

# The two sides of each transfer; the places where money is.
_PREPARE = f"""
SET work_mem = '128MB';
CREATE TEMP TABLE places AS
    SELECT account_id AS id, slot, currency, balance, floored FROM accounts
    UNION ALL SELECT hold_id, {HOLD_SLOT}, currency, balance, true FROM holds;
CREATE TEMP TABLE sides AS
    SELECT transfer_no, at_us, debit_id AS id, debit_slot AS slot, -amount AS delta, debit_after AS after, currency
    FROM transfers
    UNION ALL SELECT transfer_no, at_us, credit_id, credit_slot, amount, credit_after, currency FROM transfers;
CREATE TEMP TABLE told (
    key_id uuid, outcome smallint, subject uuid, version int, detail bigint, legs int, total bigint
);
CREATE TEMP TABLE ways (before smallint, step smallint, after smallint);
ANALYZE places, sides;
"""
_SUMS = """
SELECT count(*) FROM (
    SELECT FROM (SELECT currency, balance FROM accounts UNION ALL SELECT currency, balance FROM holds) p
    GROUP BY p.currency HAVING sum(p.balance) <> 0) unbalanced
"""
_BELOW_ZERO = """
SELECT count(*) FROM (SELECT FROM accounts WHERE floored GROUP BY account_id HAVING sum(balance) < 0) below
"""
_ON_THE_WAY = {"unbalanced": _SUMS, "negative": _BELOW_ZERO}
_PAYMENT_DONE = f"SELECT * FROM told WHERE outcome = {StepOutcome.DONE} AND total = 0"
_CHAIN_DONE = f"SELECT * FROM told WHERE outcome = {StepOutcome.DONE} AND total > 0"
_CHAINED = f"""
SELECT t.subject_id, count(*) AS legs, sum(t.amount) AS total FROM transfers t
WHERE t.reason <> {TransferReason.DEBT_SETTLED}
    AND NOT EXISTS (SELECT FROM payments p WHERE p.payment_id = t.subject_id)
GROUP BY t.subject_id
"""
_MOVED = f"""
SELECT t.subject_id AS payment_id,
    sum(t.amount) FILTER (WHERE t.reason IN (
        {TransferReason.PAYMENT}, {TransferReason.CAPTURE}, {TransferReason.FEE})) AS captured,
    sum(t.amount) FILTER (WHERE t.reason = {TransferReason.FEE}) AS fee,
    sum(t.amount) FILTER (WHERE t.reason IN ({TransferReason.REFUND}, {TransferReason.FEE_RETURNED})) AS refunded,
    sum(t.amount) FILTER (WHERE t.reason = {TransferReason.FEE_RETURNED}) AS fee_returned,
    sum(CASE t.reason WHEN {TransferReason.CHARGEBACK} THEN t.amount
                      WHEN {TransferReason.CHARGEBACK_RETURNED} THEN -t.amount END) AS disputed,
    sum(t.amount) FILTER (WHERE t.reason = {TransferReason.SHARE}) AS shared,
    sum(t.amount) FILTER (WHERE t.reason = {TransferReason.SHARE_RETURNED}) AS share_returned,
    sum(t.amount) FILTER (WHERE t.reason = {TransferReason.HOLD}) AS held,
    sum(t.amount) FILTER (WHERE t.reason = {TransferReason.RETURN}) AS returned
FROM transfers t GROUP BY t.subject_id
"""
_COUNTED = f"""
SELECT h.person_id, h.day_us, h.month_us,
       h.counted - CASE WHEN h.state = {HoldState.OPEN} THEN 0
                        ELSE div(h.counted::numeric * (h.amount - p.captured), h.amount) END AS counted
FROM holds h JOIN payments p ON p.payment_id = h.hold_id WHERE h.person_id IS NOT NULL
UNION ALL
SELECT p.payer_id, NULL, NULL, ceil(p.amount * r.rate)
FROM payments p JOIN reference_rates r ON r.tenant_id = p.tenant_id AND r.currency = p.currency
JOIN accounts a ON a.account_id = p.from_id AND a.slot = 0 AND a.limited
WHERE NOT p.capture_later AND p.captured > 0
"""
_QUERIES: tuple[tuple[str, str], ...] = (
    ("unbalanced", _SUMS),
    (
        "unbalanced",
        """
        SELECT count(*) FROM sides s LEFT JOIN places p ON p.id = s.id AND p.slot = s.slot
        WHERE p.currency IS DISTINCT FROM s.currency
        """,
    ),
    (
        "fold_differs",
        """
        SELECT count(*) FROM (
            SELECT after <> sum(delta) OVER w OR at_us < lag(at_us, 1, at_us) OVER w AS differs FROM sides
            WINDOW w AS (PARTITION BY id, slot ORDER BY transfer_no)) s
        WHERE s.differs
        """,
    ),
    (
        "fold_differs",
        """
        SELECT count(*) FROM places p LEFT JOIN (SELECT id, slot, sum(delta) AS fold FROM sides GROUP BY id, slot) s
        USING (id, slot) WHERE p.balance <> coalesce(s.fold, 0)
        """,
    ),
    (
        "negative",
        """
        SELECT count(*) FROM (
            SELECT sum(s.delta) OVER (PARTITION BY s.id ORDER BY s.transfer_no) AS fold FROM sides s
            WHERE s.slot < 0 OR s.id IN (SELECT id FROM places WHERE floored)) f
        WHERE f.fold < 0
        """,
    ),
    ("negative", _BELOW_ZERO),
    (
        "fold_differs",
        """
        SELECT count(*) FROM (
            SELECT s.payment_id, sum(s.paid) AS paid, sum(w.whole) AS whole,
                   bool_or(s.paid NOT IN (w.whole, w.whole + 1)
                           OR s.returned <> CASE WHEN s.account_id = p.to_id OR s.paid = 0 THEN 0 ELSE
                               div(s.paid::numeric * (p.refunded - p.fee_returned), p.captured - p.fee) END) AS wrong,
                   p.captured - p.fee AS net,
                   sum(s.paid) FILTER (WHERE s.account_id <> p.to_id) AS given, sum(s.returned) AS returned
            FROM payment_shares s JOIN payments p USING (payment_id)
            CROSS JOIN LATERAL (SELECT div((p.captured - p.fee)::numeric * s.weight, sum(x.weight)) AS whole
                                FROM payment_shares x WHERE x.payment_id = s.payment_id) w
            GROUP BY s.payment_id, p.payment_id) s
        LEFT JOIN moved m USING (payment_id)
        WHERE s.wrong OR s.paid <> s.net
           OR (coalesce(m.shared, 0), coalesce(m.share_returned, 0)) IS DISTINCT FROM (coalesce(s.given, 0), s.returned)
        """,
    ),
    (
        "doubled",
        """
        SELECT count(*) FROM told t JOIN keys k USING (key_id)
        WHERE (t.outcome, t.subject, t.version, t.detail) IS DISTINCT FROM (k.outcome, k.subject, k.version, k.detail)
        """,
    ),
    ("doubled", "SELECT count(*) FROM keys k WHERE NOT EXISTS (SELECT FROM told t WHERE t.key_id = k.key_id)"),
    (
        "doubled",
        f"""
        SELECT count(*) FROM payment_versions v
        WHERE v.step <> {PaymentStep.EXPIRE} AND 1 <> (
            SELECT count(*) FROM done_payments t WHERE t.subject = v.payment_id AND t.version = v.version)
        """,
    ),
    (
        "doubled",
        """
        SELECT count(*) FROM chained c LEFT JOIN done_chains t ON t.subject = c.subject_id
        WHERE c.total IS DISTINCT FROM t.total OR (t.legs > 0 AND c.legs <> t.legs)
        """,
    ),
    ("doubled", "SELECT count(*) FROM (SELECT FROM done_chains GROUP BY subject HAVING count(*) > 1) t"),
    (
        "doubled",
        """
        SELECT count(*) FROM payment_versions v
        WHERE 1 <> (SELECT count(*) FROM outbox o WHERE o.payment_id = v.payment_id AND o.version = v.version)
        """,
    ),
    (
        "doubled",
        """
        SELECT count(*) FROM (SELECT reverses, sum(amount) AS amount FROM transfers GROUP BY reverses) t
        JOIN transfers o ON o.transfer_no = t.reverses LEFT JOIN reversals r ON r.transfer_no = t.reverses
        WHERE t.amount > o.amount OR t.amount IS DISTINCT FROM r.reversed
        """,
    ),
    (
        "resolved_twice",
        """
        SELECT count(*) FROM (
            SELECT v.version <> row_number() OVER w OR v.at_us < lag(v.at_us, 1, v.at_us) OVER w
                OR NOT EXISTS (SELECT FROM ways x WHERE x.before = v.before AND x.step = v.step AND x.after = v.state)
                AS wrong
            FROM (SELECT *, coalesce(lag(state) OVER (PARTITION BY payment_id ORDER BY version), 0) AS before
                  FROM payment_versions) v
            WINDOW w AS (PARTITION BY v.payment_id ORDER BY v.version)) s
        WHERE s.wrong
        """,
    ),
    (
        "resolved_twice",
        """
        SELECT count(*) FROM payments p
        LEFT JOIN payment_versions v ON v.payment_id = p.payment_id AND v.version = p.version
        WHERE (v.state, v.captured, v.fee, v.refunded) IS DISTINCT FROM (p.state, p.captured, p.fee, p.refunded)
           OR EXISTS (SELECT FROM payment_versions x WHERE x.payment_id = p.payment_id AND x.version > p.version)
        """,
    ),
    (
        "resolved_twice",
        f"""
        SELECT count(*) FROM (
            SELECT FROM payment_versions
            WHERE step IN ({PaymentStep.DECLINE}, {PaymentStep.CANCEL}, {PaymentStep.CAPTURE}, {PaymentStep.VOID},
                           {PaymentStep.EXPIRE})
            GROUP BY payment_id HAVING count(*) > 1) v
        """,
    ),
    (
        "resolved_twice",
        f"""
        SELECT count(*) FROM payments p LEFT JOIN holds h ON h.hold_id = p.payment_id
        LEFT JOIN moved m ON m.payment_id = p.payment_id
        WHERE (p.captured, p.fee, p.refunded, p.fee_returned, p.disputed) IS DISTINCT FROM (
                coalesce(m.captured, 0), coalesce(m.fee, 0), coalesce(m.refunded, 0), coalesce(m.fee_returned, 0),
                coalesce(m.disputed, 0))
           OR (h.hold_id IS NULL AND coalesce(m.held, m.returned) IS NOT NULL)
           OR (h.hold_id IS NULL AND p.state = {PaymentState.HELD})
           OR (h.hold_id IS NOT NULL AND (
                m.held IS DISTINCT FROM p.amount
                OR (h.state = {HoldState.OPEN}) <> (p.state = {PaymentState.HELD})
                OR h.balance <> CASE h.state WHEN {HoldState.OPEN} THEN p.amount ELSE 0 END
                OR coalesce(m.returned, 0) <> CASE h.state WHEN {HoldState.OPEN} THEN 0 ELSE p.amount - p.captured END))
        """,
    ),
    (
        "resolved_twice",
        f"""
        SELECT count(*) FROM payment_versions v JOIN payments p USING (payment_id)
        WHERE v.step = {PaymentStep.EXPIRE} AND v.at_us < p.expires_us
        """,
    ),
    ("resolved_twice", "SELECT count(*) FROM mistimed_ends"),
    ("over_limit", "SELECT count(*) FROM passed_limits"),
    (
        "over_limit",
        f"""
        SELECT count(*) FROM (
            SELECT span, starts_us, lag(starts_us) OVER w AS before_us, lag(ends_us) OVER w AS ended_us FROM limit_use
            WINDOW w AS (PARTITION BY person_id, span ORDER BY starts_us)) u
        WHERE u.starts_us < u.ended_us
           OR u.starts_us - u.before_us < CASE u.span WHEN {LimitSpan.DAY} THEN 20 ELSE 27 * 24 END * 3600000000
        """,
    ),
    (
        "over_limit",
        """
        SELECT count(*) FROM (SELECT person_id, span, sum(used) AS used FROM limit_use GROUP BY person_id, span) u
        LEFT JOIN (SELECT person_id, sum(counted) AS counted FROM counted GROUP BY person_id) c USING (person_id)
        WHERE u.used IS DISTINCT FROM c.counted
        """,
    ),
    (
        "over_limit",
        f"""
        SELECT count(*) FROM limit_use u
        WHERE u.used < (
            SELECT sum(c.counted) FROM counted c WHERE c.person_id = u.person_id
            AND u.starts_us = CASE u.span WHEN {LimitSpan.DAY} THEN c.day_us ELSE c.month_us END)
        """,
    ),
    ("lost", "SELECT count(*) FROM told t WHERE NOT EXISTS (SELECT FROM keys k WHERE k.key_id = t.key_id)"),
    (
        "closed_changed",
        """
        SELECT count(*) FROM periods p CROSS JOIN LATERAL (
            (SELECT account, currency, total, lines FROM trials WHERE ends_us = p.ends_us
             EXCEPT SELECT * FROM trial_balance(p.ends_us))
            UNION ALL
            (SELECT * FROM trial_balance(p.ends_us)
             EXCEPT SELECT account, currency, total, lines FROM trials WHERE ends_us = p.ends_us)) d
        """,
    ),
    (
        "lost",
        """
        SELECT count(*) FROM done_payments t WHERE NOT EXISTS (
            SELECT FROM payment_versions v WHERE v.payment_id = t.subject AND v.version = t.version)
        """,
    ),
    (
        "lost",
        """
        SELECT count(*) FROM done_chains t
        WHERE NOT EXISTS (SELECT FROM chained c WHERE c.subject_id = t.subject)
        """,
    ),
)
_INDEXED = f"""
CREATE INDEX ON told (key_id);
CREATE TEMP TABLE done_payments AS {_PAYMENT_DONE};
CREATE INDEX ON done_payments (subject, version);
CREATE TEMP TABLE done_chains AS {_CHAIN_DONE};
CREATE INDEX ON done_chains (subject);
CREATE TEMP TABLE chained AS {_CHAINED};
CREATE INDEX ON chained (subject_id);
CREATE TEMP TABLE moved AS {_MOVED};
CREATE TEMP TABLE counted AS {_COUNTED};
CREATE INDEX ON counted (person_id, day_us);
CREATE INDEX ON outbox (payment_id, version);
ANALYZE told, done_payments, done_chains, chained, moved, counted, outbox;
"""


async def look(connection: asyncpg.Connection[Any], told: Told) -> None:
    """What can be counted while steps are under way."""
    for name, query in _ON_THE_WAY.items():
        told.counts[name] += await connection.fetchval(query)


async def audit(connection: asyncpg.Connection[Any], told_path: Path) -> dict[str, int]:
    """Count what cannot be; nothing is under way any more."""
    counts = dict.fromkeys(COUNTS, 0)
    await connection.execute(_PREPARE)
    await connection.copy_to_table("told", source=told_path, format="csv", null="")
    await connection.copy_records_to_table("ways", records=_list_ways())
    await connection.execute(_INDEXED)
    for name, query in _QUERIES:
        counts[name] += await connection.fetchval(query)
    return counts


def _list_ways() -> list[tuple[int, int, int]]:
    """State before (0: none), step, state after: all that a payment may do."""
    first = [(0, int(step), int(after)) for step, states in FIRST.items() for after in states]
    return first + [
        (int(before), int(step), int(after))
        for before, steps in NEXT.items()
        for step, states in steps.items()
        for after in states
    ]
