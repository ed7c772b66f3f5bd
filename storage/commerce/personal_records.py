"""Sealed items of people, whose key is whose, and erasures.

Each step is one call under a key with a line in the audit that names ids only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage.commerce.ledger import read_answer
from storage.commerce.money_rows import Answer, StepKey
from storage.commerce.personal_rows import (
    ErasedKey,
    ErasureRow,
    Forgotten,
    GivenUp,
    ItemKind,
    ItemRow,
    KeyKind,
    NewItem,
)
from storage.postgres.pool import Pool, translate_errors
from storage.postgres.write_connections import WriteConnections

_STORE = "SELECT store_id FROM personal_store WHERE EXISTS (SELECT FROM personal_keys)"
_SEALED = """
SELECT (SELECT count(*) FROM personal_keys WHERE erased_us IS NULL), count(*), count(keep_us) FROM personal_items
"""
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND usesysid IS NOT NULL AND pid <> pg_backend_pid()
"""
_PUT = "SELECT * FROM put_personal_item($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_COLUMNS = "i.item_id, i.kind, i.key_id, i.subject_id, i.version, i.at_us, i.keep_until, i.sealed"
# In the result, not in the condition: else the planner may read the whole index of keys that are not erased.
_PRESENT = "SELECT k.erased_us IS NULL FROM personal_keys k WHERE k.key_id = i.key_id"
_ITEM = f"""
SELECT {_COLUMNS} FROM personal_items i
WHERE i.item_id = $1 AND i.tenant_id = $2 AND i.person_id = $3 AND i.kind = $4 AND ({_PRESENT})
"""
_ITEMS = f"""
SELECT {_COLUMNS} FROM personal_items i
WHERE i.person_id = $2 AND i.tenant_id = $1 AND i.kind = $3 AND i.item_id > $4 AND ({_PRESENT})
ORDER BY i.item_id LIMIT $5
"""
_KEY = """
SELECT key_id FROM personal_keys WHERE person_id = $2 AND tenant_id = $1 AND key_kind = $3 AND erased_us IS NULL
"""
_KEY_COLUMNS = "key_id, tenant_id, person_id, key_kind"
_ERASED = f"""
SELECT {_KEY_COLUMNS} FROM personal_keys WHERE erased_us IS NOT NULL AND key_id > $1 ORDER BY key_id LIMIT $2
"""
_TO_ERASE = f"""
SELECT {_KEY_COLUMNS} FROM personal_keys WHERE erased_us IS NOT NULL AND NOT gone ORDER BY erased_us LIMIT $1
"""
_ERASURE = f"""
SELECT e.erasure_id, e.person_id, e.at_us, NOT EXISTS (
    SELECT FROM personal_keys k
    WHERE k.erased_us IS NOT NULL AND NOT k.gone AND k.tenant_id = e.tenant_id
      AND k.person_id = e.person_id AND k.key_kind = {KeyKind.PROFILE})
FROM personal_erasures e WHERE e.tenant_id = $1 AND e.erasure_id = $2
"""
_IS_ERASED = "SELECT EXISTS (SELECT FROM personal_erasures WHERE tenant_id = $1 AND person_id = $2)"


class PersonalRecords:
    """Steps over `writes`, reads over `reads`."""

    def __init__(self, writes: WriteConnections, reads: Pool) -> None:
        self._writes = writes
        self._reads = reads

    # -- keys

    async def find_key(self, tenant: int, person: bytes, kind: KeyKind) -> bytes | None:
        """The id of a person's key that is not erased."""
        async with translate_errors():
            found: bytes | None = await self._reads.fetchval(_KEY, tenant, person, int(kind))
        return found

    async def name_key(self, tenant: int, person: bytes, kind: KeyKind, new: bytes) -> bytes | None:
        """The key of a person: `new`, which is durable in the key store, if they have none. None: they are erased."""
        query = "SELECT name_personal_key($1, $2, $3, $4)"
        (row,) = await self._writes.fetch(query, tenant, person, int(kind), new)
        key_id: bytes | None = row[0]
        return key_id

    async def list_erased_keys(self, after: bytes, limit: int) -> list[ErasedKey]:
        """Erased keys with ids above `after`, in their order."""
        async with translate_errors():
            return [_erased_key(row) for row in await self._reads.fetch(_ERASED, after, limit)]

    async def list_keys_to_erase(self, limit: int) -> list[ErasedKey]:
        """Keys that are erased here, and perhaps not yet in the key store."""
        async with translate_errors():
            return [_erased_key(row) for row in await self._reads.fetch(_TO_ERASE, limit)]

    async def note_keys_gone(self, keys: Sequence[bytes]) -> None:
        """These are gone from the key store."""
        await self._writes.fetch("SELECT note_keys_gone($1)", keys)

    async def forget_erased_keys(self, keys: Sequence[bytes]) -> Forgotten:
        """Erase again what this database, restored from a backup, still has under keys that are gone."""
        (row,) = await self._writes.fetch("SELECT * FROM forget_erased_keys($1)", keys)
        return Forgotten(*row)

    async def forget_erased_people(self, tenants: Sequence[int], people: Sequence[bytes]) -> Forgotten:
        """Erase these people again, each in their tenant, if this database, restored from a backup, still has them."""
        query = "SELECT * FROM forget_erased_people($1, $2)"
        (row,) = await self._writes.fetch(query, tenants, people)
        return Forgotten(*row)

    async def read_store(self) -> bytes | None:
        """The key store that this database was written with; None before the first key of a person."""
        async with translate_errors():
            found: bytes | None = await self._reads.fetchval(_STORE)
        return found

    async def note_store(self, store: bytes) -> None:
        """This is the key store."""
        await self._writes.fetch("SELECT note_key_store($1)", store)

    async def count_sealed(self) -> GivenUp:
        """All keys of people, and all that is sealed under them but exports. Reads all of them: for an operator."""
        async with translate_errors():
            (row,) = await self._reads.fetch(_SEALED)
        return GivenUp(*row)

    async def count_others(self) -> int:
        """Connections of others to this database."""
        async with translate_errors():
            return int(await self._reads.fetchval(_OTHERS))

    async def give_up_keys(self, limit: int) -> GivenUp:
        """Delete so many keys, which are lost, with what is sealed under them; none: no key is left, nor a store."""
        (row,) = await self._writes.fetch("SELECT * FROM give_up_keys($1)", limit)
        return GivenUp(*row)

    async def is_erased(self, tenant: int, person: bytes) -> bool:
        """Whether a person is erased in this tenant."""
        async with translate_errors():
            return bool(await self._reads.fetchval(_IS_ERASED, tenant, person))

    # -- items

    async def put_item(self, key: StepKey, actor: bytes, tenant: int, person: bytes, new: NewItem) -> Answer:
        """Store an item or replace it. AGAIN: its key was erased meanwhile."""
        (row,) = await self._writes.fetch(
            _PUT,
            key.key_id,
            key.body,
            actor,
            tenant,
            person,
            new.item,
            int(new.kind),
            new.key_id,
            new.subject,
            new.keep_us,
            new.keep_begins,
            new.sealed,
            new.must_be,
            new.most,
        )
        return read_answer(row)

    async def drop_item(self, key: StepKey, tenant: int, person: bytes, item: bytes, kind: ItemKind) -> Answer:
        """A person deletes an item of their profile."""
        query = "SELECT * FROM drop_personal_item($1, $2, $3, $4, $5, $6)"
        (row,) = await self._writes.fetch(query, key.key_id, key.body, tenant, person, item, int(kind))
        return read_answer(row)

    async def read_item(self, tenant: int, person: bytes, item: bytes, kind: ItemKind) -> ItemRow | None:
        """An item whose key is not erased."""
        async with translate_errors():
            row = await self._reads.fetchrow(_ITEM, item, tenant, person, int(kind))
        return None if row is None else _item(row)

    async def read_items(self, tenant: int, person: bytes, kind: ItemKind, after: bytes, limit: int) -> list[ItemRow]:
        """Items of a person with ids above `after`, oldest first."""
        async with translate_errors():
            rows = await self._reads.fetch(_ITEMS, tenant, person, int(kind), after, limit)
        return [_item(row) for row in rows]

    async def end_kept_items(self, limit: int) -> int:
        """Delete what the law wants kept no longer, and erase legal keys that seal nothing more; how many items."""
        (row,) = await self._writes.fetch("SELECT end_kept_items($1)", limit)
        return int(row[0])

    # -- erasures

    async def begin_erasure(self, key: StepKey, actor: bytes, tenant: int, person: bytes, erasure: bytes) -> Answer:
        """Erase a person here; STILL_OPEN with a sum of `StillOpen` as its `detail` if they cannot be."""
        query = "SELECT * FROM begin_erasure($1, $2, $3, $4, $5, $6)"
        (row,) = await self._writes.fetch(query, key.key_id, key.body, actor, tenant, person, erasure)
        return read_answer(row)

    async def read_erasure(self, tenant: int, erasure: bytes) -> ErasureRow | None:
        """An erasure."""
        async with translate_errors():
            row = await self._reads.fetchrow(_ERASURE, tenant, erasure)
        return None if row is None else ErasureRow(*row)


def _erased_key(row: Sequence[Any]) -> ErasedKey:
    return ErasedKey(row[0], row[1], row[2], KeyKind(row[3]))


def _item(row: Sequence[Any]) -> ItemRow:
    return ItemRow(row[0], ItemKind(row[1]), *row[2:])
