"""`DeviceMessageStore` on PostgreSQL: each method is one statement over a pool."""

from __future__ import annotations

from storage.device_messages import DeviceMessageRow, DeviceMessageStore, NewMessages, SendOutcome, SentMessages
from storage.postgres.pool import Pool, translate_errors

_SEND = "SELECT send_to_devices($1, $2, $3, $4, $5, $6, $7)"
_READ = """
SELECT number, dialog_id, author_id, device_id, body FROM device_messages
WHERE to_device = $1 ORDER BY number LIMIT $2
"""
_CONFIRM = "DELETE FROM device_messages WHERE to_device = $1 AND number <= $2"

_NEW_MAX = 5_000
_NEW = f"""
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon, n.*
FROM (SELECT) s LEFT JOIN LATERAL (
    SELECT xid::text::bigint AS xid, to_device FROM device_messages
    WHERE xid >= $1::bigint::text::xid8 ORDER BY xid LIMIT {_NEW_MAX}) n ON true
"""


class PostgresDeviceMessages(DeviceMessageStore):
    """Messages to devices, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def send(self, sent: SentMessages, now_ms: int) -> SendOutcome:
        async with translate_errors():
            outcome = await self._pool.fetchval(
                _SEND,
                now_ms,
                sent.principal,
                sent.device,
                sent.message,
                sent.dialog,
                [device for device, _ in sent.messages],
                [body for _, body in sent.messages],
            )
        return SendOutcome(outcome)

    async def read(self, device: bytes, *, limit: int) -> list[DeviceMessageRow]:
        async with translate_errors():
            rows = await self._pool.fetch(_READ, device, limit)
        return [DeviceMessageRow(*row) for row in rows]

    async def confirm(self, device: bytes, number: int) -> None:
        async with translate_errors():
            await self._pool.execute(_CONFIRM, device, number)

    async def read_new(self, since: int | None) -> NewMessages:
        async with translate_errors():
            rows = await self._pool.fetch(_NEW, since)
        devices = [device for _, xid, device in rows if xid is not None]
        # With more than one reading holds, the next one begins with the transaction of the last row.
        return NewMessages(rows[-1]["xid"] if len(rows) >= _NEW_MAX else rows[0]["horizon"], devices)
