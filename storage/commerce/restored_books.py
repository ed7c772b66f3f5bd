"""Books that were restored: what the chat was told that they do not know, and how they come to serve again.

`migrations/0009_restored.sql` has the invariants. Each call is one function in autocommit, and may be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Self

import msgspec

from protocol.commerce.payment_states import PaymentState
from storage.commerce.schema import MONEY_SETTINGS
from storage.postgres.pool import Pool, open_pool, translate_errors

_DECLARE = "SELECT declare_failover($1)"
_BEGIN = "SELECT begin_reading($1)"
_NOTE_READING = "SELECT note_reading($1, $2)"
_NOTE_TOLD = "SELECT note_told($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_NUMBERS = "SELECT is_self, subject_id, last_n FROM places WHERE tenant_id = $1 AND subject_id = ANY ($2)"
_READ = """
SELECT h.noticed_us, h.known_us, CASE WHEN h.noticed_us IS NULL THEN '{}' ELSE unread_tenants($1) END,
       CASE WHEN h.noticed_us IS NULL THEN '{}' ELSE gateways_behind() END
FROM book_history h
"""
_DIFFERENCES = """
SELECT x.payment_id, l.newest, f.state, p.version, p.state,
       coalesce(p.currency, f.currency), coalesce(p.amount, f.amount)
FROM (SELECT DISTINCT t.payment_id FROM told_versions t WHERE t.open AND t.payment_id > $1 ORDER BY 1 LIMIT $2) x
CROSS JOIN LATERAL (SELECT max(t.version) AS newest FROM told_versions t WHERE t.payment_id = x.payment_id) l
LEFT JOIN LATERAL (
    SELECT t.state, t.currency, t.amount FROM told_versions t
    WHERE t.payment_id = x.payment_id AND t.payer_id IS NOT NULL ORDER BY t.version DESC LIMIT 1) f ON true
LEFT JOIN payments p ON p.payment_id = x.payment_id
ORDER BY x.payment_id
"""
_ACCEPT = "SELECT accept_books($1, $2, $3, $4)"
_PAGE = 1_000
_RECONCILED_ROWS = 200


class ToldVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What a notice in a timeline said, under which number. `state` None: nothing but id and version."""

    payment: bytes
    version: int
    n: int
    state: PaymentState | None = None
    payer: bytes | None = None
    payee: bytes | None = None
    currency: str | None = None
    amount: int | None = None
    dialog: bytes | None = None
    order: bytes | None = None


class BooksState(msgspec.Struct, frozen=True):
    """Since when the books are read-only (None: they serve), and what they knew last.

    `unread`: tenants whose timelines are not read back; `behind`: gateways whose changes since then are not read.
    """

    noticed_us: int | None
    known_us: int | None
    unread: list[int]
    behind: list[str]


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """What must be read before the books serve, besides what they know of; and without what they serve all the same."""

    tenants: Sequence[int] = (1,)
    without_tenants: Sequence[int] = ()
    without_gateways: Sequence[str] = ()


ALL_READ = Acceptance()


class ToldPayment(msgspec.Struct, frozen=True):
    """A payment of which something was told after the backup; `version` None: the books do not know it."""

    payment: bytes
    told_version: int
    told_state: PaymentState | None
    version: int | None
    state: PaymentState | None
    currency: str | None
    amount: int | None


class RestoredBooks:
    """All of it, over one pool: nothing here is frequent."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str, *, statement_timeout_s: float) -> Self:
        """Over the migrated database at `url`."""
        pool = await open_pool(url, size=2, statement_timeout_s=statement_timeout_s, settings=MONEY_SETTINGS)
        return cls(pool)

    async def aclose(self) -> None:
        """End the connections."""
        await self._pool.close()

    async def settle(self, *, synchronous: bool) -> BooksState:
        """Compare the history with that of the books, and note another one.

        `synchronous`: another timeline of the same cluster is a standby that lacks nothing.
        """
        async with translate_errors():
            await self._pool.execute(_DECLARE, synchronous)
            await self._pool.fetchval("SELECT books_serve()")
        return await self.read()

    async def read(self, tenants: Sequence[int] = ()) -> BooksState:
        """How they stand, as far as it was noticed; `tenants` must be read even if the books know nothing of them."""
        async with translate_errors():
            row = await self._pool.fetchrow(_READ, tenants)
        assert row is not None, "it has its row from the migration on"
        return BooksState(row[0], row[1], row[2], row[3])

    async def begin_reading(self, tenant: int) -> bytes | None:
        """Behind which dialog the reading of what was told goes on; None: nothing is to be read."""
        async with translate_errors():
            after: bytes | None = await self._pool.fetchval(_BEGIN, tenant)
        return after

    async def note_reading(self, tenant: int, after: bytes | None) -> None:
        """It has come behind this dialog; None: to the end."""
        async with translate_errors():
            await self._pool.execute(_NOTE_READING, tenant, after)

    async def read_numbers(self, tenant: int, subjects: Sequence[bytes]) -> Mapping[tuple[bool, bytes], int]:
        """The last numbers of places, by whether it is a `self` dialog, and by dialog or person."""
        async with translate_errors():
            rows = await self._pool.fetch(_NUMBERS, tenant, subjects)
        return {(row[0], row[1]): row[2] for row in rows}

    async def note_told(
        self, tenant: int, *, is_self: bool, subject: bytes, told: Sequence[ToldVersion], last_n: int
    ) -> None:
        """Note a page of what was told in a place; `last_n`, with the last page: its numbers go on above it, else 0."""
        async with translate_errors():
            await self._pool.fetchval(
                _NOTE_TOLD,
                tenant,
                is_self,
                subject,
                last_n,
                [each.payment for each in told],
                [each.version for each in told],
                [each.n for each in told],
                [each.state for each in told],
                [each.payer for each in told],
                [each.payee for each in told],
                [each.currency for each in told],
                [each.amount for each in told],
                [each.dialog for each in told],
                [each.order for each in told],
            )

    async def list_open(self) -> AsyncIterator[ToldPayment]:
        """The payments with which the books are not reconciled yet, page by page."""
        after = bytes(16)
        while True:
            async with translate_errors():
                rows = await self._pool.fetch(_DIFFERENCES, after, _PAGE)
            for row in rows:
                told, now = [None if each is None else PaymentState(each) for each in (row[2], row[4])]
                yield ToldPayment(row[0], row[1], told, row[3], now, row[5], row[6])
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    async def accept(self, who: str, what: Acceptance = ALL_READ) -> bool:
        """Reconcile payments with what was told, have gateways read, then serve again.

        False while something is missing (`read` says what): nothing is changed while timelines are unread. It may be
        interrupted: the next call goes on.
        """
        if not set((await self.read(what.tenants)).unread) <= set(what.without_tenants):
            return False
        async with translate_errors():
            while await self._pool.fetchval("SELECT reconcile_payments($1)", _RECONCILED_ROWS):
                pass
            return bool(
                await self._pool.fetchval(_ACCEPT, who, what.tenants, what.without_tenants, what.without_gateways)
            )
