"""Compares the books of commerce with the book of a gateway: tables and objects alone, nothing that commerce computes.

`diff_minor`: by how much what the gateway owes differs. `credited_twice`: intents whose money moved more than once.
`fulfilled_unpaid`: top-ups and payments that count as paid, for which the gateway has not exactly that money.
`unexplained`: objects whose movements the books lack or have otherwise, suspense for which the gateway's book has no
reason, intents without an end, and those that ended and kept a person's money.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import asyncpg

from protocol.commerce.intent_states import EffectKind, EffectUse, IntentKind, IntentState
from protocol.commerce.payment_states import PaymentStep
from storage.commerce.money_rows import HOLD_SLOT, Purpose, TransferReason, account_id, gateway_owner

COUNTS = ("diff_minor", "credited_twice", "fulfilled_unpaid", "unexplained")
SAID_MAX = 20

_E = EffectKind
_MOVED: dict[tuple[str, str], list[tuple[EffectKind, int]]] = {
    ("charge", "succeeded"): [(_E.CHARGE_PAID, 1)],
    ("payment", "succeeded"): [(_E.PAYMENT_RECEIVED, 1)],
    ("refund", "succeeded"): [(_E.REFUND_PAID, -1)],
    ("refund", "returned"): [(_E.REFUND_PAID, -1), (_E.REFUND_RETURNED, 1)],
    ("payout", "succeeded"): [(_E.PAYOUT_PAID, -1)],
    ("payout", "returned"): [(_E.PAYOUT_PAID, -1), (_E.PAYOUT_RETURNED, 1)],
    ("chargeback", "open"): [(_E.CHARGEBACK_OPENED, -1)],
    ("chargeback", "lost"): [(_E.CHARGEBACK_OPENED, -1)],
    ("chargeback", "won"): [(_E.CHARGEBACK_OPENED, -1), (_E.CHARGEBACK_WON, 1)],
}
"""What money an object moved, by its kind and status."""

_TWICE = f"""
SELECT count(*) FROM (
    SELECT subject_id FROM transfers
    WHERE reason IN ({TransferReason.TOP_UP}, {TransferReason.WITHDRAWAL}, {TransferReason.PAYOUT_FAILED})
       OR reason = {TransferReason.REFUND} AND debit_slot = {HOLD_SLOT}
    GROUP BY subject_id, reason HAVING count(*) > 1) t
"""
_PAID = f"""
SELECT i.intent_id, i.money_id, i.amount, i.currency, i.payment_id, i.fulfils FROM intents i
WHERE i.kind = {IntentKind.TOP_UP} AND i.state = {IntentState.PAID}
"""
_APPROVED = f"SELECT payment_id FROM payment_versions WHERE step = {PaymentStep.APPROVE}"
_ENDLESS = f"""
SELECT i.intent_id, i.state FROM intents i LEFT JOIN holds h ON h.hold_id = i.intent_id
WHERE i.state IN ({IntentState.WRITTEN}, {IntentState.UNKNOWN}, {IntentState.PENDING}) OR h.balance > 0
"""
_KEPT = f"""
SELECT i.intent_id, i.state FROM intents i
WHERE (i.kind, i.state) IN (({IntentKind.TOP_UP}, {IntentState.PAID}), ({IntentKind.WITHDRAWAL}, {IntentState.FAILED}))
  AND NOT EXISTS (SELECT FROM transfers t WHERE t.subject_id = i.intent_id AND t.credit_id = i.wallet_id
                  AND t.amount = i.amount AND t.reason IN ({TransferReason.TOP_UP}, {TransferReason.RETURN}))
"""
_KEPT_REST = f"""
SELECT i.intent_id, i.state FROM intents i JOIN holds h ON h.hold_id = i.intent_id
WHERE i.kind = {IntentKind.WITHDRAWAL} AND i.state IN ({IntentState.PAID}, {IntentState.RETURNED})
  AND h.amount - i.amount <> (
    SELECT coalesce(sum(t.amount), 0) FROM transfers t
    WHERE t.subject_id = i.intent_id AND t.credit_id = i.wallet_id AND t.reason = {TransferReason.RETURN})
"""
_EFFECTS = "SELECT object_id, effect, change, currency, used FROM gateway_effects WHERE gateway = $1 AND change <> 0"
_SUSPENSE = "SELECT object_id, effect, amount, currency FROM suspense WHERE gateway = $1"
_BALANCE = "SELECT coalesce(sum(balance), 0)::bigint FROM accounts WHERE account_id = $1"
_ALL = """
SELECT sum(x.balance)::bigint FROM (
    SELECT currency, balance FROM accounts UNION ALL SELECT currency, balance FROM holds) x GROUP BY x.currency
"""


class GatewayAudit:
    """An audit at one moment. `said` has the first of what is wrong."""

    def __init__(self, database: asyncpg.Connection[Any], book: dict[str, Any], gateway: str, tenant: int) -> None:
        self._database = database
        self._sums: dict[str, int] = book["sums"]
        self._objects: dict[str, dict[str, Any]] = {each["id"]: each for each in book["objects"]}
        self._gateway = gateway
        self._tenant = tenant
        self._used: dict[tuple[str, int], int] = {}
        self.said: list[str] = []

    async def count(self) -> dict[str, int]:
        """All counts."""
        unexplained = await self._count_effects()
        return {
            "diff_minor": await self._count_diff(),
            "credited_twice": int(await self._database.fetchval(_TWICE)),
            "fulfilled_unpaid": await self._count_unpaid(),
            "unexplained": unexplained + await self._count_suspense() + await self._count_intents(),
        }

    async def _count_diff(self) -> int:
        diff = 0
        for currency in {"THB", *self._sums}:
            owed = -await self._balance(currency, Purpose.CLEARING)
            if owed != (booked := self._sums.get(currency, 0)):
                self._say(f"{currency}: the gateway owes {booked} by its book, {owed} by ours")
                diff += abs(owed - booked)
        for row in await self._database.fetch(_ALL):
            diff += abs(row[0])
        return diff

    async def _count_unpaid(self) -> int:
        fulfilled = set()
        wrong = 0
        taken: dict[str, bytes] = {}
        for intent, money_id, amount, currency, payment, fulfils in await self._database.fetch(_PAID):
            if not self._is_paid(intent, money_id, amount, currency) or taken.setdefault(money_id, intent) != intent:
                self._say(f"{intent.hex()} is paid by {money_id}, which is not its money")
                wrong += 1
            elif fulfils:
                fulfilled.add(payment)
        approved = {row[0] for row in await self._database.fetch(_APPROVED)}
        for payment in approved - fulfilled:
            self._say(f"payment {payment.hex()} is approved without money")
        return wrong + len(approved - fulfilled)

    def _is_paid(self, intent: bytes, money_id: str, amount: int, currency: str) -> bool:
        money = self._objects.get(money_id)
        if money is None or (money["paid_minor"], money["currency"]) != (amount, currency):
            return False
        charge = money if money["kind"] == "charge" else self._objects.get(money.get("parent", ""))
        return charge is not None and charge.get("reference") == intent.hex()

    async def _count_effects(self) -> int:
        """Movements that only one of the two books has."""
        expected = {}
        for found in self._objects.values():
            amount = found["paid_minor"] if found["kind"] == "charge" else found["amount_minor"]
            for effect, sign in _MOVED.get((found["kind"], found["status"]), []):
                if amount:
                    expected[found["id"], int(effect)] = (sign * amount, found["currency"])
        applied = {}
        for object_id, kind, change, currency, used in await self._database.fetch(_EFFECTS, self._gateway):
            applied[object_id, kind] = (change, currency)
            self._used[object_id, kind] = used
        wrong = [key for key in expected.keys() | applied.keys() if expected.get(key) != applied.get(key)]
        for key in wrong:
            self._say(f"{key[0]} {_E(key[1]).name}: {expected.get(key)} by its book, {applied.get(key)} by ours")
        return len(wrong)

    async def _count_suspense(self) -> int:
        """Items without a reason, and the account that is not their sum."""
        wrong = 0
        sums: dict[str, int] = defaultdict(int)
        for object_id, effect, amount, currency in await self._database.fetch(_SUSPENSE, self._gateway):
            sums[currency] += amount
            if not self._has_reason(object_id, EffectKind(effect)):
                self._say(f"{object_id} {_E(effect).name} is in suspense without a reason")
                wrong += 1
        for currency, total in sums.items():
            wrong += await self._balance(currency, Purpose.SUSPENSE) != total
        return wrong

    def _has_reason(self, object_id: str, effect: EffectKind) -> bool:
        found = self._objects.get(object_id)
        if found is None:
            return False
        parent = self._objects.get(found.get("parent", ""))
        if effect is EffectKind.REFUND_RETURNED:
            return True
        if effect is EffectKind.PAYMENT_RECEIVED:
            if parent is None or found["amount_minor"] != parent["amount_minor"]:
                return True
            others = [each["id"] for each in self._objects.values() if each.get("parent") == parent["id"]]
            return any(self._used.get((each, EffectKind.PAYMENT_RECEIVED)) == EffectUse.INTENT for each in others)
        if effect in (EffectKind.CHARGEBACK_OPENED, EffectKind.CHARGEBACK_WON) and parent is not None:
            paid = EffectKind.CHARGE_PAID if parent["kind"] == "charge" else EffectKind.PAYMENT_RECEIVED
            return self._used.get((parent["id"], paid)) == EffectUse.SUSPENSE
        return False

    async def _count_intents(self) -> int:
        """Intents without an end, and those that ended and kept money."""
        pending = {each.get("reference") for each in self._objects.values() if each["status"] == "pending"}
        endless = await self._database.fetch(_ENDLESS)
        wrong = [("has no end", row) for row in endless if row[1] != IntentState.PENDING or row[0].hex() not in pending]
        wrong += [("kept the money of its wallet", row) for row in await self._database.fetch(_KEPT)]
        wrong += [("kept what was not paid out", row) for row in await self._database.fetch(_KEPT_REST)]
        for what, (intent, state) in wrong:
            self._say(f"{intent.hex()} {IntentState(state).name} {what}")
        return len(wrong)

    async def _balance(self, currency: str, purpose: Purpose) -> int:
        account = account_id(self._tenant, gateway_owner(self._gateway), currency, purpose)
        return int(await self._database.fetchval(_BALANCE, account))

    def _say(self, text: str) -> None:
        if len(self.said) < SAID_MAX:
            self.said.append(text)
