"""The addresses of a person: sealed under their profile key, read and changed by them alone."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec

from protocol.errors import ErrorCode
from protocol.ids import new_id
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import check_done
from server.commerce.personal.sealed_items import ItemDraft, OpenedItem, SealedItems
from server.commerce.step_keys import name_operation
from server.refusals import RequestRefusedError
from storage.commerce.personal_rows import ItemKind

ADDRESSES_MAX = 50

_Line = Annotated[str, msgspec.Meta(max_length=200)]
Country = Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$", description="ISO 3166-1 alpha-2", examples=["TH"])]


class PostalAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where something is sent to."""

    name: _Line
    line: _Line
    country: Country
    more: _Line = ""
    city: _Line = ""
    region: _Line = ""
    postal_code: Annotated[str, msgspec.Meta(max_length=20)] = ""
    phone: Annotated[str, msgspec.Meta(max_length=32)] = ""
    label: Annotated[str, msgspec.Meta(max_length=60)] = ""


class AddressReply(msgspec.Struct, frozen=True, kw_only=True):
    """An address as it is now. `version` grows with each change."""

    id: UUID
    version: int
    address: PostalAddress


class Addresses:
    """Addresses over sealed items."""

    def __init__(self, items: SealedItems) -> None:
        self._items = items

    async def create(self, request: KeyedRequest, address: PostalAddress) -> AddressReply:
        """Store one more; raises RequestRefusedError."""
        return await self._put(request, "create address", new_id(), address)

    async def replace(self, request: KeyedRequest, item: UUID, address: PostalAddress) -> AddressReply:
        """Store another in its place; raises RequestRefusedError."""
        return await self._put(request, name_operation("replace address", item), item.bytes, address, must_be=True)

    async def delete(self, request: KeyedRequest, item: UUID) -> None:
        """Delete one; raises RequestRefusedError."""
        _check_person(request.asker)
        operation = name_operation("delete address", item)
        check_done(await self._items.drop(request, operation, item.bytes, ItemKind.ADDRESS))

    async def read(self, asker: Asker, item: bytes) -> AddressReply:
        """One; raises RequestRefusedError."""
        return _render(await self._items.read(asker.tenant, asker.principal, item, ItemKind.ADDRESS, PostalAddress))

    async def list_of(self, asker: Asker) -> list[AddressReply]:
        """All, oldest first."""
        found = await self._items.read_page(
            asker.tenant, asker.principal, ItemKind.ADDRESS, PostalAddress, limit=ADDRESSES_MAX
        )
        return [_render(each) for each in found]

    async def _put(
        self, request: KeyedRequest, operation: str, item: bytes, address: PostalAddress, *, must_be: bool = False
    ) -> AddressReply:
        asker = request.asker
        _check_person(asker)
        draft = ItemDraft(
            person=asker.principal,
            item=item,
            kind=ItemKind.ADDRESS,
            content=address,
            must_be=must_be,
            most=ADDRESSES_MAX,
        )
        return await self.read(asker, check_done(await self._items.put(request, operation, draft)))


def _render(found: OpenedItem[PostalAddress]) -> AddressReply:
    return AddressReply(id=UUID(bytes=found.row.item), version=found.row.version, address=found.content)


def _check_person(asker: Asker) -> None:
    if asker.is_service:
        raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "addresses are of people")
