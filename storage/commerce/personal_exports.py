"""Exports of what a person has here: made part by part in the background, sealed, deleted when they are past."""

from __future__ import annotations

import msgspec

from storage.commerce.ledger import read_answer
from storage.commerce.money_rows import Answer, StepKey
from storage.postgres.pool import Pool, translate_errors
from storage.postgres.write_connections import WriteConnections

_COLUMNS = "export_id, tenant_id, person_id, key_id, at_us, expires_us, parts, reached"
_EXPORT = f"""
SELECT {_COLUMNS} FROM exports
WHERE export_id = $1 AND tenant_id = $2 AND person_id = $3 AND expires_us > (SELECT clock_us())
"""
_TO_MAKE = f"SELECT {_COLUMNS} FROM exports WHERE look_us <= (SELECT clock_us()) ORDER BY look_us LIMIT $1"


class ExportRow(msgspec.Struct, frozen=True):
    """An export; `reached` is where its next part begins, None when it is complete."""

    export: bytes
    tenant: int
    person: bytes
    key_id: bytes
    at_us: int
    expires_us: int
    parts: int
    reached: str | None


class PersonalExports:
    """Steps over `writes`, reads over `reads`."""

    def __init__(self, writes: WriteConnections, reads: Pool) -> None:
        self._writes = writes
        self._reads = reads

    async def begin(self, key: StepKey, new: ExportRow) -> Answer:
        """Begin an export, or find the one that the person has. AGAIN: its key was erased meanwhile."""
        query = "SELECT * FROM begin_export($1, $2, $3, $4, $5, $6, $7, $8)"
        life_us = new.expires_us - new.at_us
        (row,) = await self._writes.fetch(
            query, key.key_id, key.body, new.tenant, new.person, new.export, new.key_id, life_us, new.reached
        )
        return read_answer(row)

    async def add_part(self, export: bytes, part: int, sealed: bytes, reached: str | None) -> bool:
        """Add the part with this number, from 0; False if the export is gone or has it."""
        (row,) = await self._writes.fetch("SELECT add_export_part($1, $2, $3, $4)", export, part, sealed, reached)
        return bool(row[0])

    async def put_off(self, export: bytes, pause_us: int) -> None:
        """Look at an export again after a pause."""
        await self._writes.fetch("SELECT put_off_export($1, $2)", export, pause_us)

    async def end_past(self, limit: int) -> int:
        """Delete parts of exports that are past; how many."""
        (row,) = await self._writes.fetch("SELECT end_exports($1)", limit)
        return int(row[0])

    async def list_to_make(self, limit: int) -> list[ExportRow]:
        """Exports whose next part is to be made."""
        async with translate_errors():
            return [ExportRow(*row) for row in await self._reads.fetch(_TO_MAKE, limit)]

    async def read(self, tenant: int, person: bytes, export: bytes) -> ExportRow | None:
        """An export that is not past."""
        async with translate_errors():
            row = await self._reads.fetchrow(_EXPORT, export, tenant, person)
        return None if row is None else ExportRow(*row)

    async def read_part(self, export: bytes, part: int) -> bytes | None:
        """The sealed part with this number."""
        query = "SELECT sealed FROM export_parts WHERE export_id = $1 AND part = $2"
        async with translate_errors():
            sealed: bytes | None = await self._reads.fetchval(query, export, part)
        return sealed
