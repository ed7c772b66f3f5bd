"""`PurgedAuthors` on PostgreSQL: each method is one statement over a pool."""

from __future__ import annotations

from collections.abc import Sequence

from storage.postgres.pool import Pool, translate_errors
from storage.purged_authors import AuthorStep, LeftNumbers, PurgedAuthors

_ERASE = "SELECT rows, author, device, first_n, after_n, after_dialog FROM erase_authored($1, $2)"
_ERASE_LEFT = "SELECT erase_left($1, $2, $3, $4, $5, $6, $7, $8)"


class PostgresPurgedAuthors(PurgedAuthors):
    """Purged people, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def erase_some(self, now_ms: int, *, limit: int) -> AuthorStep:
        async with translate_errors():
            ((rows, author, device, first, after_n, after_dialog),) = await self._pool.fetch(_ERASE, now_ms, limit)
        after = None if after_n is None else (after_n, after_dialog)
        return AuthorStep(rows, author is not None, device and LeftNumbers(author, device, first, after))

    async def erase_left(
        self, left: LeftNumbers, now_ms: int, *, keys: Sequence[tuple[bytes, int]], reached: tuple[int, bytes] | None
    ) -> None:
        async with translate_errors():
            await self._pool.fetch(
                _ERASE_LEFT,
                now_ms,
                left.author,
                left.device,
                left.first,
                *(reached or (None, None)),
                [dialog for dialog, _ in keys],
                [seq for _, seq in keys],
            )
