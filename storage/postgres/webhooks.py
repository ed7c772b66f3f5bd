"""Webhooks of bots, and how far each is in the dialogs of its bot.

Each method is one statement. A dialog of which nothing is noted is posted from its first visible event on. Every method
raises `StorageUnavailableError` when it cannot answer now; each write may be repeated.
"""

from __future__ import annotations

import msgspec

from storage.postgres.pool import Pool, translate_errors
from storage.rows import PrincipalStatus

DIALOGS_LOOKED_AT = 1000
"""Of one bot, by one call."""

_ACTIVE = f"""
SELECT w.principal_id, w.url, w.secret_no, w.failures, w.next_at_ms
FROM webhooks w JOIN principals p ON p.principal_id = w.principal_id
WHERE w.paused_at_ms IS NULL AND p.status = {PrincipalStatus.ACTIVE} AND w.principal_id > $1
ORDER BY w.principal_id LIMIT $2
"""
_LOOK = f"""
SELECT x.dialog_id, x.seq, x.head, x.tries, x.due, x.n FROM (
    SELECT m.dialog_id, coalesce(c.seq, 0) AS seq, h.seq AS head, coalesce(c.tries, 0) AS tries,
           h.seq > coalesce(c.seq, 0) AND coalesce(c.next_at_ms, 0) <= $3 AS due,
           row_number() OVER (ORDER BY m.dialog_id) AS n
    FROM members m JOIN heads h ON h.dialog_id = m.dialog_id
    LEFT JOIN webhook_positions c ON c.principal_id = $1 AND c.dialog_id = m.dialog_id
    WHERE m.principal_id = $1 AND m.member AND m.dialog_id > $2
    ORDER BY m.dialog_id LIMIT {DIALOGS_LOOKED_AT}
) x WHERE x.due OR x.n = {DIALOGS_LOOKED_AT}
"""
_READ = """
SELECT url, sent, given_up, failures, failing_since_ms, last_error, paused_at_ms FROM webhooks WHERE principal_id = $1
"""
_RESUME = """
UPDATE webhooks SET paused_at_ms = NULL, failures = 0, failing_since_ms = NULL, next_at_ms = 0
WHERE principal_id = $1 RETURNING 1
"""


class WebhookRow(msgspec.Struct, frozen=True):
    """A webhook that is not paused. `failures` in a row; nothing is attempted before `next_at_ms`."""

    principal: bytes
    url: str
    secret_no: int
    failures: int
    next_at_ms: int


class DueDialog(msgspec.Struct, frozen=True):
    """A dialog with events after `seq`, up to `head`; of the first of them `tries` attempts count."""

    dialog: bytes
    seq: int
    head: int
    tries: int


class WebhookState(msgspec.Struct, frozen=True):
    """What became of the attempts of a webhook. `paused_at_ms` None: it is not paused."""

    url: str
    sent: int
    given_up: int
    failures: int
    failing_since_ms: int | None
    last_error: str
    paused_at_ms: int | None


class WebhookStore:
    """Webhooks, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def set(self, now_ms: int, principal: bytes, url: str) -> int:
        """Post the events of a bot to this address from now on; returns the number of the new secret."""
        async with translate_errors():
            secret_no = await self._pool.fetchval("SELECT set_webhook($1, $2, $3)", now_ms, principal, url)
        assert isinstance(secret_no, int)
        return secret_no

    async def read(self, principal: bytes) -> WebhookState | None:
        """The state of a webhook; None if there is none."""
        async with translate_errors():
            row = await self._pool.fetchrow(_READ, principal)
        return None if row is None else WebhookState(*row)

    async def resume(self, principal: bytes) -> bool:
        """End a pause; False if there is no webhook."""
        async with translate_errors():
            return await self._pool.fetchval(_RESUME, principal) is not None

    async def remove(self, principal: bytes) -> None:
        """Post nothing more."""
        async with translate_errors():
            await self._pool.execute("DELETE FROM webhooks WHERE principal_id = $1", principal)

    async def list_active(self, after: bytes, *, limit: int) -> list[WebhookRow]:
        """Webhooks that are not paused, of bots that are active, by id, from behind `after` on."""
        async with translate_errors():
            rows = await self._pool.fetch(_ACTIVE, after, limit)
        return [WebhookRow(*row) for row in rows]

    async def look(self, now_ms: int, principal: bytes, after: bytes) -> tuple[list[DueDialog], bytes | None]:
        """What is due in some of the dialogs after `after`, by id; and the last of them, if there are more."""
        async with translate_errors():
            rows = await self._pool.fetch(_LOOK, principal, after, now_ms)
        more = rows[-1]["dialog_id"] if rows and rows[-1]["n"] == DIALOGS_LOOKED_AT else None
        return [DueDialog(*row[:4]) for row in rows if row["due"]], more

    async def note_sent(self, principal: bytes, dialog: bytes, seq: int, *, sent: int) -> None:
        """Everything up to `seq` is done, `sent` events of it by the receiver just now."""
        async with translate_errors():
            await self._pool.execute("SELECT webhook_sent($1, $2, $3, $4)", principal, dialog, seq, sent)

    async def note_failed(
        self,
        now_ms: int,
        principal: bytes,
        dialog: bytes,
        seq: int,
        error: str,
        *,
        tries: int,
        next_at_ms: int,
        webhook_next_at_ms: int,
        give_up: bool,
        pause_if_since_ms: int,
    ) -> bool:
        """The attempt of event `seq` failed; returns whether the webhook failed for so long that it is paused now."""
        failed = "SELECT webhook_failed($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        async with translate_errors():
            return bool(
                await self._pool.fetchval(
                    failed,
                    now_ms,
                    principal,
                    dialog,
                    seq,
                    tries,
                    error,
                    next_at_ms,
                    webhook_next_at_ms,
                    give_up,
                    pause_if_since_ms,
                )
            )
