"""`/v1/addresses`."""

from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import FromPath, JSONBody

from server.commerce.personal.addresses import AddressReply, PostalAddress
from server.commerce.resources.asking import AsAsker, AsKeyed, NoFields
from server.commerce.resources.commerce_parts import InCommerce
from server.http.errors import REFUSALS


class AddressList(msgspec.Struct):
    """The addresses of a person, oldest first."""

    addresses: list[AddressReply]


@post("/addresses", status_code=201, responses=REFUSALS)
async def create_address(data: JSONBody[PostalAddress], keyed: AsKeyed, parts: InCommerce) -> AddressReply:
    """Store an address of yours."""
    return await parts.personal.addresses.create(keyed, data)


@post("/addresses/{address:uuid}/replace", status_code=200, responses=REFUSALS)
async def replace_address(
    address: FromPath[UUID], data: JSONBody[PostalAddress], keyed: AsKeyed, parts: InCommerce
) -> AddressReply:
    """Store another address in place of this one."""
    return await parts.personal.addresses.replace(keyed, address, data)


@post("/addresses/{address:uuid}/delete", status_code=204, responses=REFUSALS)
async def delete_address(
    address: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None
) -> None:
    """Delete an address of yours."""
    del data  # it has no fields
    await parts.personal.addresses.delete(keyed, address)


@get("/addresses", responses=REFUSALS)
async def list_addresses(asker: AsAsker, parts: InCommerce) -> AddressList:
    """Your addresses."""
    return AddressList(await parts.personal.addresses.list_of(asker))


@get("/addresses/{address:uuid}", responses=REFUSALS)
async def read_address(address: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> AddressReply:
    """One address of yours."""
    return await parts.personal.addresses.read(asker, address.bytes)
