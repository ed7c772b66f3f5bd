"""What payment gateways are asked for, and what their objects change in the books.

`migrations/0005_gateways.sql` has the invariants. Each step is one call of one function in autocommit. What is claimed
is the claimer's until its lease ends; then it is due again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import asyncpg

from protocol.commerce.intent_states import EffectKind, IntentKind, IntentState, IntentStep
from protocol.ids import NIL
from storage.commerce.intent_rows import (
    EffectRow,
    GatewayAges,
    GatewayBacklog,
    GatewayTotals,
    HintRow,
    IntentRow,
    NewTopUpRow,
    SuspenseRow,
)
from storage.commerce.ledger import read_answer
from storage.commerce.money_rows import SLOTS_SHARED, Answer, Purpose, StepKey, account_id, gateway_owner, key_id_of
from storage.postgres.pool import Pool, translate_errors
from storage.postgres.write_connections import WriteConnections

BACKLOG_MAX = 10_000
_COLUMNS = """intent_id, kind, tenant_id, owner_id, gateway, wallet_id, payment_id, amount, currency, method, token,
life_s, state, written_us, settled_us, due_us, lease, failures, object_id, fulfils, qr, expires_us, reason"""
_TOP_UP = "SELECT * FROM begin_top_up($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_WITHDRAWAL = "SELECT * FROM begin_withdrawal($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_REFUND = "SELECT * FROM begin_gateway_refund($1, $2, $3, $4, $5, $6, $7, $8)"
_APPLY = "SELECT * FROM apply_effect($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_SETTLE = "SELECT settle_intent($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_RELEASE = "SELECT * FROM release_suspense($1, $2, $3, $4, $5, $6)"
_READ = f"SELECT {_COLUMNS} FROM intents WHERE intent_id = $1"
_PAGE = f"""
SELECT {_COLUMNS} FROM intents WHERE owner_id = $1 AND kind = $2 AND tenant_id = $3 AND intent_id < $4
ORDER BY intent_id DESC LIMIT $5
"""
_APPLIED = """
SELECT e.object_id, e.effect FROM unnest($2::text[]) o(id)
CROSS JOIN LATERAL (SELECT * FROM gateway_effects x WHERE x.gateway = $1 AND x.object_id = o.id) e
"""
_SUSPENSE = """
SELECT suspense_id, gateway, object_id, effect, intent_id, currency, amount, at_us FROM suspense
WHERE tenant_id = $1 AND released_us IS NULL AND suspense_id > $2 ORDER BY suspense_id LIMIT $3
"""
_HINT_DONE = "SELECT finish_hint($1, $2, $3, $4)"
_TOTAL = "SELECT coalesce(sum(balance), 0)::bigint FROM accounts WHERE account_id = $1"
_BACKLOG = f"""
SELECT (SELECT read_ms FROM gateway_cursors WHERE gateway = $1),
       (SELECT count(*) FROM (SELECT FROM intents WHERE gateway = $1 AND state IN (1, 2, 3) LIMIT {BACKLOG_MAX}) o),
       (SELECT min(written_us) FROM intents WHERE gateway = $1 AND state IN (1, 2, 3)),
       (SELECT count(*) FROM (SELECT FROM intents WHERE gateway = $1 AND state IN (1, 2, 3)
                              AND state = {IntentState.UNKNOWN} LIMIT {BACKLOG_MAX}) u),
       (SELECT count(*) FROM (SELECT FROM gateway_hints WHERE gateway = $1 LIMIT {BACKLOG_MAX}) h)
"""
_AGES_S = """
SELECT (SELECT (clock_us() - min(o.written_us)) / 1000000.0 FROM unnest($1::text[]) g(name) CROSS JOIN LATERAL (
            SELECT i.written_us FROM intents i WHERE i.gateway = g.name AND i.state IN (1, 2, 3)
            ORDER BY i.written_us LIMIT 1) o)::float8,
       (SELECT (clock_us() - min(o.at_us)) / 1000000.0 FROM unnest($2::smallint[]) t(id) CROSS JOIN LATERAL (
            SELECT s.at_us FROM suspense s WHERE s.tenant_id = t.id AND s.released_us IS NULL
            ORDER BY s.suspense_id LIMIT 1) o)::float8,
       (SELECT clock_us() / 1000000.0 - min(c.read_ms) / 1000.0
        FROM gateway_cursors c WHERE c.gateway = ANY ($1))::float8
"""


class GatewayIntents:
    """Steps over `writes`, reads over `reads`."""

    def __init__(self, writes: WriteConnections, reads: Pool) -> None:
        self._writes = writes
        self._reads = reads

    async def open_accounts(self, tenant: int, gateway: str, currency: str) -> None:
        """The accounts of a gateway in a currency: what it owes us, and what of it fits nothing."""
        for purpose in (Purpose.CLEARING, Purpose.SUSPENSE):
            await self._writes.fetch(
                "SELECT open_account($1, $2, $3, $4, $5, $6, false, NULL, NULL, NULL)",
                NIL,
                tenant,
                gateway_owner(gateway),
                currency,
                purpose,
                SLOTS_SHARED,
            )

    async def begin_top_up(self, key: StepKey, new: NewTopUpRow) -> Answer:
        """Write down that an owner is to be charged; nothing moves."""
        return await self._step(
            _TOP_UP,
            key,
            new.tenant,
            new.intent,
            new.owner,
            new.gateway,
            new.amount,
            new.currency,
            new.method,
            new.token,
            new.life_s,
            new.payment,
            new.version,
            new.payee,
        )

    async def begin_withdrawal(
        self,
        key: StepKey,
        actor: bytes,
        tenant: int,
        intent: bytes,
        *,
        owner: bytes,
        gateway: str,
        amount: int,
        currency: str,
        to: str,
    ) -> Answer:
        """Hold what is to be paid out to the account with the token `to`."""
        return await self._step(_WITHDRAWAL, key, actor, tenant, intent, owner, gateway, amount, currency, to)

    async def begin_refund(
        self,
        key: StepKey,
        actor: bytes,
        tenant: int,
        intent: bytes,
        *,
        payment: bytes,
        payee: bytes,
        amount: int | None,
    ) -> Answer:
        """Hold what the payee gives back to the card or account that paid; `subject` is the payment."""
        return await self._step(_REFUND, key, actor, tenant, payment, payee, amount, intent)

    async def claim(self, gateway: str, limit: int, *, lease_us: int) -> list[IntentRow]:
        """Intents that are due, at most so many, for so long."""
        query = f"SELECT {_COLUMNS} FROM claim_intents($1, $2, $3)"
        return [_intent(row) for row in await self._writes.fetch(query, gateway, limit, lease_us)]

    async def settle(
        self,
        row: IntentRow,
        step: IntentStep | None,
        *,
        object_id: str | None = None,
        qr: str | None = None,
        expires_us: int | None = None,
        reason: str | None = None,
        pause_us: int | None = None,
    ) -> bool:
        """Note how a call ended; it is due again after a pause, if one is given. False if the lease was lost."""
        (done,) = await self._writes.fetch(
            _SETTLE,
            row.tenant,
            row.gateway,
            row.intent,
            row.lease,
            step,
            object_id,
            qr,
            expires_us,
            reason,
            pause_us,
        )
        return bool(done[0])

    async def apply(self, tenant: int, gateway: str, effect: EffectRow) -> Answer:
        """Apply an effect, once; KEY_REUSED if it was another before. `detail` is the EffectUse."""
        name = f"effect {gateway} {effect.object_id} {int(effect.kind)}"
        body = hashlib.sha256(f"{effect.change} {effect.currency}".encode()).digest()[:16]
        return await self._step(
            _APPLY,
            StepKey(key_id_of(tenant, NIL, name), body),
            tenant,
            gateway,
            effect.object_id,
            int(effect.kind),
            effect.change,
            effect.currency,
            effect.intent,
            effect.parent,
        )

    async def read_applied(self, gateway: str, objects: Sequence[str]) -> set[tuple[str, EffectKind]]:
        """Which effects of these objects are applied."""
        async with translate_errors():
            rows = await self._reads.fetch(_APPLIED, gateway, list(objects))
        return {(row[0], EffectKind(row[1])) for row in rows}

    async def note_webhook(
        self, gateway: str, hint: tuple[str, str] | None, digest: bytes, sealed: bytes, *, hints_max: int
    ) -> bool:
        """Keep a webhook, once by its digest, and the object (kind, id) to fetch; False if too many wait."""
        kind, object_id = hint or (None, None)
        query = "SELECT note_webhook($1, $2, $3, $4, $5, $6)"
        (row,) = await self._writes.fetch(query, gateway, kind, object_id, digest, sealed, hints_max)
        return bool(row[0])

    async def read_webhooks(self, gateway: str, limit: int) -> list[tuple[int, bytes]]:
        """The newest webhooks that are kept, oldest first: when each came (microseconds), and its sealed body."""
        query = "SELECT at_us, sealed FROM webhook_bodies WHERE gateway = $1 ORDER BY body_id DESC LIMIT $2"
        async with translate_errors():
            rows = await self._reads.fetch(query, gateway, limit)
        return [(row[0], row[1]) for row in reversed(rows)]

    async def claim_hints(self, gateway: str, limit: int, *, lease_us: int) -> list[HintRow]:
        """Objects to fetch, at most so many, for so long."""
        query = "SELECT kind, object_id, noted, failures FROM claim_hints($1, $2, $3)"
        return [HintRow(*row) for row in await self._writes.fetch(query, gateway, limit, lease_us)]

    async def finish_hint(self, gateway: str, hint: HintRow) -> None:
        """The object is fetched; it stays if it was noted again meanwhile."""
        await self._writes.fetch(_HINT_DONE, gateway, hint.kind, hint.object_id, hint.noted)

    async def forget_webhooks(self, before_us: int, limit: int) -> int:
        """Delete bodies from before a time, at most so many; how many there were."""
        (row,) = await self._writes.fetch("SELECT forget_webhooks($1, $2)", before_us, limit)
        return int(row[0])

    async def claim_cursor(self, gateway: str, since_ms: int, *, lease_us: int) -> tuple[int, int] | None:
        """The lease, and up to where changes were read; None if it is not due, or another's."""
        query = "SELECT lease, read_ms FROM claim_cursor($1, $2, $3)"
        (row,) = await self._writes.fetch(query, gateway, since_ms, lease_us)
        return None if row[0] is None else (row[0], row[1])

    async def move_cursor(self, gateway: str, lease: int, read_ms: int, *, pause_us: int) -> bool:
        """All changes before `read_ms` are applied; False if the lease was lost."""
        (row,) = await self._writes.fetch("SELECT move_cursor($1, $2, $3, $4)", gateway, lease, read_ms, pause_us)
        return bool(row[0])

    async def release(self, key: StepKey, actor: bytes, tenant: int, item: int, wallet: bytes) -> Answer:
        """Give an item of suspense to a wallet, or take it from there."""
        return await self._step(_RELEASE, key, actor, tenant, item, wallet)

    async def read(self, intent: bytes) -> IntentRow | None:
        """An intent as it is now."""
        async with translate_errors():
            row = await self._reads.fetchrow(_READ, intent)
        return None if row is None else _intent(row)

    async def read_page(
        self, tenant: int, owner: bytes, kind: IntentKind, before: bytes, limit: int
    ) -> list[IntentRow]:
        """Intents of an owner, newest first, with ids below `before`."""
        async with translate_errors():
            rows = await self._reads.fetch(_PAGE, owner, int(kind), tenant, before, limit)
        return [_intent(row) for row in rows]

    async def read_suspense(self, tenant: int, after: int, limit: int) -> list[SuspenseRow]:
        """What is in suspense, oldest first."""
        async with translate_errors():
            rows = await self._reads.fetch(_SUSPENSE, tenant, after, limit)
        return [
            SuspenseRow(
                item=row[0],
                gateway=row[1],
                object_id=row[2],
                effect=EffectKind(row[3]),
                intent=row[4],
                currency=row[5],
                amount=row[6],
                at_us=row[7],
            )
            for row in rows
        ]

    async def read_totals(self, tenant: int, gateway: str, currency: str) -> GatewayTotals:
        """What a gateway owes us in a currency, by our books."""
        owner = gateway_owner(gateway)
        async with translate_errors():
            clearing = await self._reads.fetchval(_TOTAL, account_id(tenant, owner, currency, Purpose.CLEARING))
            suspense = await self._reads.fetchval(_TOTAL, account_id(tenant, owner, currency, Purpose.SUSPENSE))
        return GatewayTotals(gateway=gateway, currency=currency, owed=-clearing, suspense=suspense)

    async def read_ages(self, gateways: Sequence[str], tenants: Sequence[int]) -> GatewayAges:
        """How old the oldest is of what is open at these gateways, and of what is in suspense in these tenants."""
        async with translate_errors():
            row = await self._reads.fetchrow(_AGES_S, gateways, tenants)
        assert row is not None, "it has no FROM"
        return GatewayAges(row[0] or 0.0, row[1] or 0.0, row[2] or 0.0)

    async def read_backlog(self, gateway: str) -> GatewayBacklog:
        """What is under way at a gateway."""
        async with translate_errors():
            row = await self._reads.fetchrow(_BACKLOG, gateway)
        assert row is not None, "it has no FROM"
        return GatewayBacklog(
            gateway=gateway,
            read_ms=row[0],
            open_intents=row[1],
            oldest_open_us=row[2],
            unknown_intents=row[3],
            hints=row[4],
        )

    async def _step(self, query: str, key: StepKey, *values: object) -> Answer:
        (row,) = await self._writes.fetch(query, key.key_id, key.body, *values)
        return read_answer(row)


def _intent(row: asyncpg.Record) -> IntentRow:
    return IntentRow(
        intent=row[0],
        kind=IntentKind(row[1]),
        tenant=row[2],
        owner=row[3],
        gateway=row[4],
        wallet=row[5],
        payment=row[6],
        amount=row[7],
        currency=row[8],
        method=row[9],
        token=row[10],
        life_s=row[11],
        state=IntentState(row[12]),
        written_us=row[13],
        settled_us=row[14],
        due_us=row[15],
        lease=row[16],
        failures=row[17],
        object_id=row[18],
        fulfils=row[19],
        qr=row[20],
        expires_us=row[21],
        reason=row[22],
    )
