"""What the chat is to be told of payments: versions, spread over the places where they are announced.

`migrations/0003_relay.sql` has the invariants. Each call is one function in autocommit, and may be repeated: what was
leased in a call whose answer was lost is due again when the lease ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from protocol.commerce.payment_states import PaymentState
from storage.commerce.announcement_rows import AnnouncementBacklog, Fate, LeasedPlace, Numbered, PaymentVersion
from storage.commerce.schema import MONEY_SETTINGS
from storage.postgres.pool import Pool, open_pool, translate_errors
from storage.postgres.write_connections import WriteConnections

_LEASE = "SELECT * FROM lease_places($1, $2, $3, $4)"
_SETTLE = "SELECT settle_place($1, $2, $3, $4, $5, $6, $7)"
_REPEAT = "SELECT repeat_announcements($1, $2, clock_us() - $3, $4)"
_BACKLOG = """
SELECT greatest(clock_us() - least(
           (SELECT min(v.at_us) FROM (SELECT * FROM outbox ORDER BY outbox_no LIMIT 1) o
            JOIN payment_versions v ON v.payment_id = o.payment_id AND v.version = o.version),
           (SELECT min(a.since_us) FROM places p CROSS JOIN LATERAL (
                SELECT b.since_us FROM announcements b
                WHERE b.place_no = p.place_no AND b.version > b.done AND b.refused IS NULL
                ORDER BY b.since_us LIMIT 1) a
            WHERE p.due_us IS NOT NULL AND p.tenant_id = $1)), 0),
       (SELECT count(*) FROM (SELECT 1 FROM announcements WHERE refused IS NOT NULL LIMIT 100000) r)
"""


class Announcements:
    """Steps over `writes`, reads over `reads`, for the places of one tenant."""

    def __init__(self, writes: WriteConnections, reads: Pool, tenant: int) -> None:
        self._writes = writes
        self._reads = reads
        self._tenant = tenant

    @classmethod
    async def open(cls, url: str, tenant: int, *, writes: int, statement_timeout_s: float) -> Self:
        """Over the migrated database at `url`, with so many connections for steps, and one for reads."""
        connections = WriteConnections(
            url, size=writes, statement_timeout_s=statement_timeout_s, settings=MONEY_SETTINGS
        )
        reads = await open_pool(url, size=1, statement_timeout_s=statement_timeout_s, settings=MONEY_SETTINGS)
        return cls(connections, reads, tenant)

    async def aclose(self) -> None:
        """End all connections."""
        self._writes.terminate()
        await self._reads.close()

    async def spread(self, limit: int) -> int:
        """Take at most so many versions from the outbox to their places, of all tenants; how many there were."""
        (row,) = await self._writes.fetch("SELECT spread_versions($1)", limit)
        return int(row[0])

    async def lease(self, places: int, *, rows: int, lease_us: int) -> list[LeasedPlace]:
        """Places that are due, at most so many, each with at most so many rows that have committed numbers."""
        leased: dict[int, LeasedPlace] = {}
        for row in await self._writes.fetch(_LEASE, self._tenant, places, rows, lease_us):
            place = leased.get(row["place_no"])
            if place is None:
                place = LeasedPlace(
                    place=row["place_no"],
                    lease=row["lease"],
                    is_self=row["is_self"],
                    subject=row["subject_id"],
                    sealed=row["sealed"],
                    failures=row["failures"],
                    rows=[],
                )
                leased[place.place] = place
            version = PaymentVersion(
                payment=row["payment_id"],
                version=row["version"],
                dialog=row["dialog_id"],
                order=row["order_id"],
                payer=row["payer_id"],
                payee=row["payee_id"],
                currency=row["currency"],
                amount=row["amount"],
                state=PaymentState(row["state"]),
                expires_us=row["expires_us"],
                captured=row["captured"],
                fee=row["fee"],
                refunded=row["refunded"],
                asked=row["asked"],
                restored=row["restored"],
            )
            place.rows.append(Numbered(row["n"], row["admitted"], version))
        return list(leased.values())

    async def settle(self, place: LeasedPlace, fates: Sequence[Fate], *, sealed: bool | None, pause_us: int) -> bool:
        """Note what the chat said and end the lease; the place is due again after the pause, if anything waits.

        False if the lease was lost: nothing is noted, and who has it now repeats what was numbered.
        """
        (row,) = await self._writes.fetch(
            _SETTLE,
            place.place,
            place.lease,
            sealed,
            [fate.n for fate in fates],
            [int(fate.outcome) for fate in fates],
            [fate.code for fate in fates],
            pause_us,
        )
        return bool(row[0])

    async def repeat(self, epoch: int, *, within_us: int, limit: int) -> bool:
        """A step of what a new epoch of the chat asks for: announce newest versions anew; whether there is more.

        Of payments that are at rest only those that moved `within_us`. Nothing happens in the epoch that is known.
        """
        (row,) = await self._writes.fetch(_REPEAT, self._tenant, epoch, within_us, limit)
        return bool(row[0])

    async def read_backlog(self) -> AnnouncementBacklog:
        """What waits, and what is refused."""
        async with translate_errors():
            row = await self._reads.fetchrow(_BACKLOG, self._tenant)
        assert row is not None, "it has no FROM"
        return AnnouncementBacklog(row[0] or 0, row[1])
