"""The keys of people: made when something is stored first, found by the id that the database has, erased with them.

The key store blocks, so it is asked in a thread. Keys are kept in memory, KEYS_HELD of them; whether a key is erased is
read from the database each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence

from protocol.errors import ErrorCode
from protocol.ids import NIL, new_id
from server.commerce.personal.item_sealing import HeldKey
from server.refusals import RETRY_AFTER_S, RequestRefusedError
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.personal_rows import ErasedKey, Forgotten, KeyKind
from storage.person_keys.person_key_store import PersonKeyStore, PersonOfTenant

_log = logging.getLogger(__name__)

KEYS_HELD = 1_024
_PAGE = 500


class PersonKeys:
    """Keys over their store and the records of whose they are."""

    def __init__(self, store: PersonKeyStore, records: PersonalRecords) -> None:
        self._store = store
        self._records = records
        self._held: OrderedDict[bytes, bytes] = OrderedDict()

    async def find(self, tenant: int, person: bytes, kind: KeyKind) -> HeldKey | None:
        """A person's key that is not erased; None if they have none."""
        key_id = await self._records.find_key(tenant, person, kind)
        return None if key_id is None else await self.open(key_id)

    async def ensure(self, tenant: int, person: bytes, kind: KeyKind) -> HeldKey:
        """A person's key, made if they have none; raises RequestRefusedError of who is erased."""
        found = await self.find(tenant, person, kind)
        if found is not None:
            return found
        if await self._records.is_erased(tenant, person):  # before a key is made: keys are never deleted
            raise RequestRefusedError(ErrorCode.PERSON_ERASED)
        fresh = new_id()
        secret = await asyncio.to_thread(self._store.create, fresh)
        key_id = await self._records.name_key(tenant, person, kind, fresh)
        if key_id is None:
            raise RequestRefusedError(ErrorCode.PERSON_ERASED)
        if key_id != fresh:  # another request was first; what this one made seals nothing
            return await self.open(key_id)
        self._hold(key_id, secret)
        return HeldKey(key_id, secret)

    async def open(self, key_id: bytes) -> HeldKey:
        """The key with this id, which the database has as present; raises RequestRefusedError."""
        secret = self._held.get(key_id) or await asyncio.to_thread(self._store.read, key_id)
        if secret is None:
            _log.error("a key of personal data is not in the key store: restore its newest copy")
            raise RequestRefusedError(ErrorCode.UNAVAILABLE, "its key is missing", retry_after_s=RETRY_AFTER_S)
        self._hold(key_id, secret)
        return HeldKey(key_id, secret)

    async def erase_due(self) -> bool:
        """Erase the next keys that the database has erased; whether there may be more."""
        keys = await self._records.list_keys_to_erase(_PAGE)
        if keys:
            await self._erase(keys)
            await self._records.note_keys_gone([key.key_id for key in keys])
        return len(keys) == _PAGE

    async def reconcile(self) -> None:
        """At the start: what either the database or the key store has erased is erased in both.

        One of them may have been restored from a backup that is older than an erasure.
        """
        await self._records.note_store(self._store.store_id)
        erased = await asyncio.to_thread(self._store.list_erased)
        known, after = set(erased), NIL
        while page := await self._records.list_erased_keys(after, _PAGE):
            missing = [key for key in page if key.key_id not in known]
            if missing:
                await self._erase(missing)
                _log.warning("erased %d keys of personal data that the key store did not list as erased", len(missing))
            after = page[-1].key_id
        for at in range(0, len(erased), _PAGE):
            _tell(await self._records.forget_erased_keys(erased[at : at + _PAGE]), "keys")
        people = await asyncio.to_thread(self._store.list_erased_people)
        for at in range(0, len(people), _PAGE):
            tenants, persons = zip(*people[at : at + _PAGE], strict=True)
            _tell(await self._records.forget_erased_people(tenants, persons), "people")

    async def _erase(self, keys: Sequence[ErasedKey]) -> None:
        people = [PersonOfTenant(key.tenant, key.person) for key in keys if key.kind is KeyKind.PROFILE]
        await asyncio.to_thread(self._store.erase, [key.key_id for key in keys], people)
        for key in keys:
            self._held.pop(key.key_id, None)

    def _hold(self, key_id: bytes, secret: bytes) -> None:
        self._held[key_id] = secret
        self._held.move_to_end(key_id)
        while len(self._held) > KEYS_HELD:
            self._held.popitem(last=False)


def _tell(forgotten: Forgotten, what: str) -> None:
    if forgotten.count:
        _log.warning("the database was older than the erasure of %d %s: erased again", forgotten.count, what)
    if forgotten.still_open:
        _log.warning("of %d people money is open again: see 'erase_again' in the audit", forgotten.still_open)
