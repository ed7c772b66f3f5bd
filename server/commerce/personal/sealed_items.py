"""Items of people: sealed before they are stored, opened after they are read.

The digest of a request with personal content is under the person's own key, so it says nothing after the erasure.
"""

from __future__ import annotations

import logging
from typing import Generic, NamedTuple, TypeVar

import msgspec

from protocol.errors import ErrorCode
from protocol.ids import NIL
from server.commerce.asker import KeyedRequest
from server.commerce.personal.held_keys import PersonKeys
from server.commerce.personal.item_sealing import SealedPlace, SealError, seal, unseal
from server.commerce.step_keys import StepKeys
from server.refusals import RETRY_AFTER_S, RequestRefusedError
from storage.commerce.money_rows import Answer, StepOutcome
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.personal_rows import ItemKind, ItemRow, KeyKind, NewItem

_log = logging.getLogger(__name__)

KEY_OF = {
    ItemKind.ADDRESS: KeyKind.PROFILE,
    ItemKind.IDENTITY: KeyKind.LEGAL,
    ItemKind.LEGAL_COPY: KeyKind.LEGAL,
}
"""Under which of a person's keys an item is."""

_Value = TypeVar("_Value")


class OpenedItem(NamedTuple, Generic[_Value]):
    """An item as it is stored, and what it says."""

    row: ItemRow
    content: _Value


class ItemDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An item in clear: what it says is `content`, the rest as in `NewItem`."""

    person: bytes
    item: bytes
    kind: ItemKind
    content: msgspec.Struct
    most: int
    must_be: bool = False
    subject: bytes | None = None
    keep_us: int | None = None
    keep_begins: bool = False


class SealedItems:
    """Items over the records and the keys of people."""

    def __init__(self, records: PersonalRecords, person_keys: PersonKeys, keys: StepKeys) -> None:
        self._records = records
        self._person_keys = person_keys
        self._keys = keys

    async def put(self, request: KeyedRequest, operation: str, draft: ItemDraft) -> Answer:
        """Store an item; raises RequestRefusedError, of who is erased, and when its key is erased again and again."""
        answer = await self._put_once(request, operation, draft)
        if answer.outcome is StepOutcome.AGAIN:  # its key was erased meanwhile
            answer = await self._put_once(request, operation, draft)
        if answer.outcome is StepOutcome.AGAIN:
            raise RequestRefusedError(ErrorCode.UNAVAILABLE, retry_after_s=RETRY_AFTER_S)
        return answer

    async def drop(self, request: KeyedRequest, operation: str, item: bytes, kind: ItemKind) -> Answer:
        """Delete an item of the caller's profile."""
        asker = request.asker
        step = self._keys.make(request, operation)
        return await self._records.drop_item(step, asker.tenant, asker.principal, item, kind)

    async def read(
        self, tenant: int, person: bytes, item: bytes, kind: ItemKind, form: type[_Value]
    ) -> OpenedItem[_Value]:
        """An item; raises RequestRefusedError when there is none."""
        row = await self._records.read_item(tenant, person, item, kind)
        if row is None:
            raise RequestRefusedError(ErrorCode.RECORD_NOT_FOUND)
        return await self._open(person, row, form)

    async def read_page(
        self, tenant: int, person: bytes, kind: ItemKind, form: type[_Value], *, after: bytes = NIL, limit: int
    ) -> list[OpenedItem[_Value]]:
        """Items with ids above `after`, oldest first."""
        rows = await self._records.read_items(tenant, person, kind, after, limit)
        return [await self._open(person, row, form) for row in rows]

    async def _put_once(self, request: KeyedRequest, operation: str, draft: ItemDraft) -> Answer:
        asker = request.asker
        key = await self._person_keys.ensure(asker.tenant, draft.person, KEY_OF[draft.kind])
        new = NewItem(
            item=draft.item,
            kind=draft.kind,
            key_id=key.id,
            sealed=seal(key, SealedPlace(draft.kind, draft.person, draft.item), draft.content),
            subject=draft.subject,
            keep_us=draft.keep_us,
            keep_begins=draft.keep_begins,
            must_be=draft.must_be,
            most=draft.most,
        )
        step = StepKeys(key.digest_key).make(request, operation, draft.content)
        return await self._records.put_item(step, asker.principal, asker.tenant, draft.person, new)

    async def _open(self, person: bytes, row: ItemRow, form: type[_Value]) -> OpenedItem[_Value]:
        key = await self._person_keys.open(row.key_id)
        try:
            return OpenedItem(row, unseal(key, SealedPlace(row.kind, person, row.item), row.sealed, form))
        except SealError as error:
            _log.error("an item of personal data cannot be opened: %s", error)
            raise RequestRefusedError(ErrorCode.INTERNAL) from error
