"""What the law wants kept of people: their identity with tax data, and a copy of both for each order.

They are sealed under the legal key, which outlives the erasure of the person: until the years of `retention` are over.
A copy never changes: an order keeps the address and the identity of when it was made.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from protocol.errors import ErrorCode
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import check_done
from server.commerce.personal.addresses import Country, PostalAddress
from server.commerce.personal.erasures import person_of
from server.commerce.personal.retention import keep_us
from server.commerce.personal.sealed_items import ItemDraft, OpenedItem, SealedItems
from server.commerce.step_keys import name_operation
from server.refusals import RequestRefusedError
from storage.commerce.personal_rows import ItemKind

COPIES_MAX = 10_000
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Number = Annotated[str, msgspec.Meta(max_length=60)]


class LegalIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who somebody is before the law, and their tax data; of a business, its own."""

    kind: Literal["person", "business"]
    name: _Name
    country: Country
    registration_number: _Number = ""
    tax_number: _Number = ""
    address: Annotated[str, msgspec.Meta(max_length=400)] = ""
    born_on: Annotated[str, msgspec.Meta(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = ""


class NewIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An identity in place of the one that is there. `person`: of another, for an API key with the right personal."""

    identity: LegalIdentity
    person: UUID | None = None


class IdentityReply(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of a person as it is now; after the erasure it is kept until `keep_until_ms`."""

    person: UUID
    version: int
    identity: LegalIdentity
    keep_until_ms: int | None = None


class NewLegalCopy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order, and the address that it is for. `person` as in `NewIdentity`."""

    order: UUID
    address: UUID
    person: UUID | None = None


class LegalText(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy says."""

    address: PostalAddress
    identity: LegalIdentity | None = None


class LegalCopyReply(msgspec.Struct, frozen=True, kw_only=True):
    """Address and identity as they were when the order was made."""

    order: UUID
    at_ms: int
    keep_until_ms: int
    address: PostalAddress
    identity: LegalIdentity | None = None


class LegalRecords:
    """Identities and copies over sealed items."""

    def __init__(self, items: SealedItems) -> None:
        self._items = items

    async def set_identity(self, request: KeyedRequest, new: NewIdentity) -> IdentityReply:
        """Store who somebody is; raises RequestRefusedError."""
        person = person_of(request.asker, new.person)
        draft = ItemDraft(
            person=person,
            item=_identity_id(request.asker.tenant, person),
            kind=ItemKind.IDENTITY,
            content=new.identity,
            most=1,
            keep_us=keep_us(new.identity.country),
        )
        check_done(await self._items.put(request, name_operation("set identity", UUID(bytes=person)), draft))
        return await self.read_identity(request.asker, new.person)

    async def read_identity(self, asker: Asker, person: UUID | None) -> IdentityReply:
        """Who somebody is; raises RequestRefusedError."""
        found = await self.find_identity(asker.tenant, person_of(asker, person))
        if found is None:
            raise RequestRefusedError(ErrorCode.RECORD_NOT_FOUND)
        return found

    async def find_identity(self, tenant: int, person: bytes) -> IdentityReply | None:
        """Who a person is, if they have said so."""
        page = await self._items.read_page(tenant, person, ItemKind.IDENTITY, LegalIdentity, limit=1)
        if not page:
            return None
        ((row, identity),) = page
        return IdentityReply(
            person=UUID(bytes=person),
            version=row.version,
            identity=identity,
            keep_until_ms=None if row.keep_until_us is None else row.keep_until_us // 1000,
        )

    async def keep_copy(self, request: KeyedRequest, new: NewLegalCopy) -> LegalCopyReply:
        """Keep the address and the identity of an order; the first copy stays. Raises RequestRefusedError."""
        asker = request.asker
        person = person_of(asker, new.person)
        address = await self._items.read(asker.tenant, person, new.address.bytes, ItemKind.ADDRESS, PostalAddress)
        known = await self.find_identity(asker.tenant, person)
        identity = known.identity if known else None
        draft = ItemDraft(
            person=person,
            item=_copy_id(asker.tenant, person, new.order.bytes),
            kind=ItemKind.LEGAL_COPY,
            content=LegalText(address=address.content, identity=identity),
            most=COPIES_MAX,
            subject=new.order.bytes,
            keep_us=keep_us(identity.country if identity else address.content.country),
            keep_begins=True,
        )
        check_done(await self._items.put(request, name_operation("keep copy", new.order), draft))
        return await self.read_copy(asker, new.order, new.person)

    async def read_copy(self, asker: Asker, order: UUID, person: UUID | None) -> LegalCopyReply:
        """The copy for an order; raises RequestRefusedError."""
        return await self.find_copy(asker.tenant, person_of(asker, person), order)

    async def find_copy(self, tenant: int, person: bytes, order: UUID) -> LegalCopyReply:
        """The copy for an order of a person; raises RequestRefusedError."""
        copy = _copy_id(tenant, person, order.bytes)
        return _render(await self._items.read(tenant, person, copy, ItemKind.LEGAL_COPY, LegalText))

    async def read_copies(self, asker: Asker, after: bytes, limit: int) -> list[tuple[bytes, LegalCopyReply]]:
        """One's own copies with ids above `after`, each with its id."""
        found = await self._items.read_page(
            asker.tenant, asker.principal, ItemKind.LEGAL_COPY, LegalText, after=after, limit=limit
        )
        return [(each.row.item, _render(each)) for each in found]


def _identity_id(tenant: int, person: bytes) -> bytes:
    return hashlib.blake2b(tenant.to_bytes(2, "big") + person, digest_size=16, person=b"legal identity").digest()


def _copy_id(tenant: int, person: bytes, order: bytes) -> bytes:
    return hashlib.blake2b(tenant.to_bytes(2, "big") + person + order, digest_size=16, person=b"legal copy").digest()


def _render(found: OpenedItem[LegalText]) -> LegalCopyReply:
    row = found.row
    assert row.subject is not None, "a copy is about an order"
    assert row.keep_until_us is not None, "its years begin with it"
    return LegalCopyReply(
        order=UUID(bytes=row.subject),
        at_ms=row.at_us // 1000,
        keep_until_ms=row.keep_until_us // 1000,
        address=found.content.address,
        identity=found.content.identity,
    )
