"""Bots and businesses, and the sign-in of their devices by API key."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request as HttpRequest
from litestar import delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta

from protocol import ids
from server.api import fields as f
from server.api.auth import AsAccount, AsCaller, AsOwner, address_of
from server.api.parts import Parts
from server.api.sign_in import DeviceInfo
from server.http.errors import REFUSALS
from server.identity.accounts import AccountOwner, NewAccount
from server.identity.sign_in import Installation
from storage.rows import PrincipalStatus, PrincipalType

_TYPES: dict[PrincipalType, Literal["bot", "business"]] = {PrincipalType.BOT: "bot", PrincipalType.BUSINESS: "business"}


class AccountRequest(f.Request):
    """The name of a new bot or business, as people see it."""

    name: f.ServiceName


class AccountReply(msgspec.Struct):
    """A bot or a business, and its API key, which is never shown again."""

    principal: UUID
    key: str


class AccountLine(msgspec.Struct):
    """One of your bots or businesses."""

    principal: UUID
    type: Literal["bot", "business"]
    name: str
    suspended: bool
    created_at_ms: int


class KeySignInRequest(f.Request):
    """The device that signs in: of a bot, or of an agent of a business."""

    device: DeviceInfo


class KeyTokensReply(msgspec.Struct):
    """Your ids and an access token. Sign in again with the key, as the same device, before it expires."""

    principal: UUID
    device: Annotated[UUID, Meta(description="store it, and send it as `device_id` from then on")]
    sign_in: UUID
    access_token: str
    expires_in_s: int


@post("/admin/businesses", status_code=201, responses=REFUSALS)
async def create_business(data: JSONBody[AccountRequest], admin: AsCaller, parts: Parts) -> AccountReply:
    """Create a business with an API key. With it the business signs its agents' devices in, and makes bots."""
    owner = AccountOwner(admin.claims.tenant, admin.claims.principal, ids.NIL)
    return _reply(await parts.accounts.create(owner, PrincipalType.BUSINESS, data.name))


@post("/bots", status_code=201, responses=REFUSALS)
async def create_bot(data: JSONBody[AccountRequest], owner: AsOwner, parts: Parts) -> AccountReply:
    """Create a bot with an API key: by an admin, or with the API key of the business whose bot it is."""
    return _reply(await parts.accounts.create(owner, PrincipalType.BOT, data.name))


@get("/bots", responses=REFUSALS)
async def list_bots(
    owner: AsOwner,
    parts: Parts,
    after: FromQuery[UUID] = UUID(bytes=ids.NIL),  # noqa: B008 - a constant
) -> list[AccountLine]:
    """Your bots; for an admin the bots and businesses of the platform.

    They come by id, 100 at a time: the next page is that `after` the last of this one.
    """
    return [
        AccountLine(
            f.text_id(row.principal),
            _TYPES[row.type],
            row.name,
            row.status is PrincipalStatus.SUSPENDED,
            row.created_at_ms,
        )
        for row in await parts.accounts.list(owner, after.bytes)
    ]


@post("/bots/{bot:uuid}/key", status_code=200, responses=REFUSALS)
async def renew_key(bot: FromPath[UUID], owner: AsOwner, parts: Parts) -> AccountReply:
    """Replace the API key of one of your bots or businesses; its sign-ins end, and its connections close at once."""
    return _reply(await parts.accounts.renew_key(owner, bot.bytes))


@delete("/bots/{bot:uuid}", responses=REFUSALS)
async def delete_bot(bot: FromPath[UUID], owner: AsOwner, parts: Parts) -> None:
    """Delete one of your bots or businesses: out at once, erased after the grace, as a person is."""
    await parts.accounts.delete(owner, bot.bytes)


@post("/sign-in/key", status_code=200, responses=REFUSALS)
async def sign_in_by_key(
    data: JSONBody[KeySignInRequest], request: HttpRequest[Any, Any, Any], account: AsAccount, parts: Parts
) -> KeyTokensReply:
    """Sign a device of a bot or business in with its API key. If the answer is lost, ask again."""
    device = data.device
    tokens = await parts.accounts.sign_in(
        account.row,
        account.key,
        Installation(
            f.named_device(device.device_id), device.platform, device.app_version, device.name, address_of(request)
        ),
    )
    return KeyTokensReply(
        f.text_id(tokens.principal),
        f.text_id(tokens.device),
        f.text_id(tokens.sign_in),
        tokens.access_token,
        tokens.expires_in_s,
    )


def _reply(created: NewAccount) -> AccountReply:
    return AccountReply(f.text_id(created.principal), created.key)
