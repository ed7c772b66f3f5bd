"""Step-ups that were spent: each is one request's, until it ends."""

from __future__ import annotations

from storage.postgres.write_connections import WriteConnections

_SPEND = "SELECT spend_step_up($1, $2)"


class SpentStepUps:
    """Spends over `writes`."""

    def __init__(self, writes: WriteConnections) -> None:
        self._writes = writes

    async def spend(self, step_up: bytes, key_id: bytes) -> bool:
        """Spend a step-up for the request with this key; False when another request has it."""
        (row,) = await self._writes.fetch(_SPEND, step_up, key_id)
        return bool(row[0])
