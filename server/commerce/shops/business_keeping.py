"""Businesses, their staff and how they ship. Who a business is, a platform's admin says; the rest its staff."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from protocol.commerce.currencies import AMOUNT_MINOR_MAX, Currency, is_known
from protocol.commerce.shop_terms import ROLE_BY_TEXT, STATUS_BY_TEXT, ShopStatus, StaffRight
from protocol.errors import ErrorCode
from protocol.ids import new_id
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.shops.shop_access import JudgedSteps, judge_staff
from server.commerce.step_keys import StepKeys, name_operation
from server.refusals import RequestRefusedError
from server.texts import ONE_LINE, check_paragraphs
from storage.commerce.api_key_store import Right
from storage.commerce.shops.businesses import Businesses
from storage.commerce.shops.shop_rows import BusinessRow, ShippingRow

Status = Literal["draft", "active", "closed"]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=ONE_LINE)]
BasisPoints = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
Version = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class BusinessEdit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a business says of itself. `version` is the one that you read: another one is `changed`."""

    version: Version
    name: Name
    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    currencies: Annotated[list[Currency], msgspec.Meta(min_length=1, max_length=16)]
    status: Status


class NewBusiness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A business, which is a principal of the chat, and the person who owns it."""

    id: UUID
    owner: UUID
    name: Name
    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    currencies: Annotated[list[Currency], msgspec.Meta(min_length=1, max_length=16)]
    status: Status = "active"


class BusinessReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A business; `role` is yours."""

    id: UUID
    version: int
    name: str
    description: str
    currencies: list[str]
    status: str
    role: str | None = None


class StaffRoleChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The role that a person has from now on; null: none."""

    person: UUID
    role: Literal["owner", "manager", "seller", "packer"] | None


class StaffReply(msgspec.Struct, frozen=True, kw_only=True):
    """A person of the staff."""

    person: UUID
    role: str
    since_ms: int


class ShippingOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way of shipping: its tax is added to the price. With `id` and `version` it takes the place of that one."""

    id: UUID | None = None
    version: Version | None = None
    name: Name
    currency: Currency
    price_minor: Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MINOR_MAX)]
    tax_basis_points: BasisPoints = 0
    status: Status = "active"


class OwnRole(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody is in a business."""

    business: UUID
    role: str


class BusinessKeeping:
    """Steps and reads of businesses."""

    def __init__(self, businesses: Businesses, steps: JudgedSteps, keys: StepKeys) -> None:
        self._businesses = businesses
        self._steps = steps
        self._keys = keys

    async def create(self, request: KeyedRequest, new: NewBusiness) -> BusinessReply:
        """Make a business, as an admin of the platform; raises RequestRefusedError."""
        asker = request.asker
        asker.check_right(Right.ADMIN)
        _check(new)
        key = self._keys.make(request, "create business", new)
        row = _row(asker.tenant, new.id.bytes, new)
        done = await self._steps.take(
            key,
            None,
            lambda: self._businesses.set_business(key, asker.principal, row, version=None, owner=new.owner.bytes),
        )
        return await self._reply(asker, done)

    async def change(self, request: KeyedRequest, business: UUID, edit: BusinessEdit) -> BusinessReply:
        """Change what a business says of itself; raises RequestRefusedError."""
        asker = request.asker
        _check(edit)
        key = self._keys.make(request, name_operation("change business", business), edit)
        row = _row(asker.tenant, business.bytes, edit)
        done = await self._steps.take(
            key,
            judge_staff(asker, business.bytes, StaffRight.BUSINESS),
            lambda: self._businesses.set_business(key, asker.principal, row, version=edit.version),
        )
        return await self._reply(asker, done)

    async def place_staff(self, request: KeyedRequest, business: UUID, change: StaffRoleChange) -> None:
        """Give a person a role, or take it; raises RequestRefusedError."""
        asker = request.asker
        key = self._keys.make(request, name_operation("place staff", business), change)
        role = None if change.role is None else ROLE_BY_TEXT[change.role]
        await self._steps.take(
            key,
            judge_staff(asker, business.bytes, StaffRight.STAFF),
            lambda: self._businesses.set_staff(
                key, asker.principal, asker.tenant, business=business.bytes, person=change.person.bytes, role=role
            ),
        )

    async def offer_shipping(self, request: KeyedRequest, business: UUID, option: ShippingOption) -> ShippingOption:
        """Offer a way of shipping, or change it; raises RequestRefusedError."""
        asker = request.asker
        if (option.id is None) != (option.version is None):
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "id and version: both or none")
        if not is_known(option.currency):
            raise RequestRefusedError(ErrorCode.CURRENCY_REFUSED)
        key = self._keys.make(request, name_operation("offer shipping", business), option)
        row = ShippingRow(
            option=new_id() if option.id is None else option.id.bytes,
            business=business.bytes,
            name=option.name,
            currency=option.currency,
            price=option.price_minor,
            tax_basis_points=option.tax_basis_points,
            status=STATUS_BY_TEXT[option.status],
        )
        done = await self._steps.take(
            key,
            judge_staff(asker, business.bytes, StaffRight.BUSINESS),
            lambda: self._businesses.set_shipping(key, asker.principal, asker.tenant, row, version=option.version),
        )
        return next(each for each in await self.read_shipping(asker, business) if each.id == UUID(bytes=done))

    async def read(self, asker: Asker, business: UUID) -> BusinessReply:
        """A business that is active, or one's own; raises RequestRefusedError."""
        return await self._reply(asker, business.bytes)

    async def list_own(self, asker: Asker) -> list[BusinessReply]:
        """The businesses for which they act."""
        own = sorted({*asker.businesses, *asker.roles, asker.principal})
        return [_render(asker, row) for row in await self._businesses.read_businesses(asker.tenant, own)]

    async def list_roles(self, asker: Asker) -> list[OwnRole]:
        """The roles that they have now, also when their token is older."""
        roles = await self._businesses.read_roles(asker.tenant, asker.principal)
        return [OwnRole(business=UUID(bytes=each), role=role.text) for each, role in sorted(roles.items())]

    async def list_staff(self, asker: Asker, business: UUID, after: bytes, limit: int) -> list[StaffReply]:
        """The staff of one's own business; raises RequestRefusedError."""
        row = await self._businesses.read_business(asker.tenant, business.bytes)
        if row is None or not asker.is_of(business.bytes):
            raise RequestRefusedError(ErrorCode.BUSINESS_NOT_FOUND)
        rows = await self._businesses.read_staff(business.bytes, after, limit)
        return [
            StaffReply(person=UUID(bytes=row.person), role=row.role.text, since_ms=row.since_us // 1000) for row in rows
        ]

    async def read_shipping(self, asker: Asker, business: UUID) -> list[ShippingOption]:
        """How a business ships: what is offered now, for its staff all; raises RequestRefusedError."""
        await self._reply(asker, business.bytes)
        return [
            ShippingOption(
                id=UUID(bytes=row.option),
                version=row.version,
                name=row.name,
                currency=row.currency,
                price_minor=row.price,
                tax_basis_points=row.tax_basis_points,
                status=row.status.text,  # type: ignore[arg-type]  # one of its names
            )
            for row in await self._businesses.read_shipping(business.bytes)
            if row.status is ShopStatus.ACTIVE or asker.is_of(business.bytes)
        ]

    async def _reply(self, asker: Asker, business: bytes) -> BusinessReply:
        row = await self._businesses.read_business(asker.tenant, business)
        if row is None or not (row.status is ShopStatus.ACTIVE or asker.is_of(business)):
            raise RequestRefusedError(ErrorCode.BUSINESS_NOT_FOUND)
        return _render(asker, row)


def _check(new: NewBusiness | BusinessEdit) -> None:
    check_paragraphs("description", new.description)
    if not all(map(is_known, new.currencies)):
        raise RequestRefusedError(ErrorCode.CURRENCY_REFUSED)


def _row(tenant: int, business: bytes, new: NewBusiness | BusinessEdit) -> BusinessRow:
    return BusinessRow(
        business=business,
        tenant=tenant,
        name=new.name,
        description=new.description,
        currencies=sorted(set(new.currencies)),
        status=STATUS_BY_TEXT[new.status],
    )


def _render(asker: Asker, row: BusinessRow) -> BusinessReply:
    role = asker.roles.get(row.business)
    return BusinessReply(
        id=UUID(bytes=row.business),
        version=row.version,
        name=row.name,
        description=row.description,
        currencies=row.currencies,
        status=row.status.text,
        role=None if role is None else role.text,
    )
