"""Codes, sign-in, refresh, and the caller's own sign-ins."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request as HttpRequest
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from server.api import fields as f
from server.api.auth import AsCaller, address_of
from server.api.parts import Parts
from server.http.errors import REFUSALS
from server.identity.profiles import DEFAULT_TIMEZONE
from server.identity.sign_in import Installation, IssuedTokens
from storage.identity_rows import NewProfile, ProfileChange


class CodeRequest(f.Request):
    """Where to send a code. `device_id` is ignored: before the sign-in it proves nothing."""

    phone_number: f.PhoneText
    device_id: Annotated[UUID | None, Meta(description="ignored: before the sign-in it proves nothing")] = None


class CodeSent(msgspec.Struct):
    """A code was sent to this number. Keep `code_id` secret and send it back with the code."""

    expires_in_s: int
    code_id: Annotated[UUID, Meta(description="keep it secret, and send it back with the code")]


class DeviceInfo(f.Request):
    """The installation that signs in. Without `device_id` it gets one, to store and to send from then on."""

    platform: f.Platform
    app_version: f.Version
    device_id: Annotated[UUID | None, Meta(description="of this installation, from its last sign-in")] = None
    name: f.OneLine = ""


class SignInRequest(f.Request):
    """A received code. `display_name`, `locale` and `timezone` are for a sign-up, and ignored later.

    Without `code_id` the code must have been requested from the same network.
    """

    phone_number: f.PhoneText
    code: f.CodeText
    device: DeviceInfo
    code_id: Annotated[UUID | None, Meta(description="without it, the code is valid in its network only")] = None
    display_name: f.DisplayName | None = None
    locale: f.LocaleText | None = None
    timezone: f.TimezoneText | None = None


class RefreshRequest(f.Request):
    """The newest refresh token of the sign-in."""

    refresh_token: f.RefreshText


class TokensReply(msgspec.Struct):
    """Your ids and tokens. Store `device`: it may differ from the `device_id` that you sent."""

    principal: UUID
    device: Annotated[UUID, Meta(description="store it: it may differ from the one that you sent")]
    sign_in: UUID
    access_token: str
    expires_in_s: int
    refresh_token: str


class SignInReply(msgspec.Struct):
    """One of your live sign-ins; `current` marks the one that sent this request."""

    sign_in: UUID
    device: UUID
    platform: str
    app_version: str
    name: str
    address: str
    created_at_ms: int
    last_used_at_ms: int
    current: bool


@post("/sign-in/codes", status_code=202, responses=REFUSALS)
async def send_code(data: JSONBody[CodeRequest], request: HttpRequest[Any, Any, Any], parts: Parts) -> CodeSent:
    """Send a one-time code. The answer is the same for every number."""
    f.named_device(data.device_id)
    code_id = await parts.sign_in_flow.send_code(data.phone_number, address_of(request))
    return CodeSent(parts.settings.code_ttl_s, f.text_id(code_id))


@post("/sign-in", status_code=200, responses=REFUSALS)
async def sign_in(data: JSONBody[SignInRequest], request: HttpRequest[Any, Any, Any], parts: Parts) -> TokensReply:
    """Sign in with a code; an unknown number signs up, with a display name."""
    profile = parts.profiles.check(
        ProfileChange(display_name=data.display_name, locale=data.locale, timezone=data.timezone)
    )
    tokens = await parts.sign_in_flow.sign_in(
        data.phone_number,
        data.code,
        None if data.code_id is None else data.code_id.bytes,
        NewProfile(
            profile.display_name,
            profile.locale or parts.settings.locales[0],
            profile.timezone or DEFAULT_TIMEZONE,
        ),
        Installation(
            f.named_device(data.device.device_id),
            data.device.platform,
            data.device.app_version,
            data.device.name,
            address_of(request),
        ),
    )
    return _reply(tokens)


@post("/tokens/refresh", status_code=200, responses=REFUSALS)
async def refresh(data: JSONBody[RefreshRequest], request: HttpRequest[Any, Any, Any], parts: Parts) -> TokensReply:
    """Get new tokens for a refresh token, which is used up by this.

    If the answer is lost, send the same token again within a minute: the answer is the same successor, unless that was
    used. Later the token counts as stolen, and the sign-in ends. So store the new tokens before you use them.
    """
    return _reply(await parts.sign_in_flow.refresh(data.refresh_token, address_of(request)))


@get("/sign-ins", responses=REFUSALS)
async def list_sign_ins(caller: AsCaller, parts: Parts) -> list[SignInReply]:
    """Your live sign-ins, newest first."""
    return [
        SignInReply(
            f.text_id(row.sign_in),
            f.text_id(row.device),
            row.platform,
            row.app_version,
            row.name,
            row.address,
            row.created_at_ms,
            row.last_used_at_ms,
            row.sign_in == caller.claims.sign_in,
        )
        for row in await parts.sign_in_flow.list_live(caller.claims.principal)
    ]


@delete("/sign-ins/{sign_in_id:uuid}", responses=REFUSALS)
async def end_sign_in(sign_in_id: FromPath[UUID], caller: AsCaller, parts: Parts) -> None:
    """End one of your sign-ins and close its connections. Nothing happens if it is not yours or has ended."""
    await parts.sign_in_flow.end(caller.claims.principal, sign_in_id.bytes)


@delete("/sign-ins", responses=REFUSALS)
async def end_other_sign_ins(caller: AsCaller, parts: Parts) -> None:
    """End all your sign-ins except this one."""
    await parts.sign_in_flow.end_others(caller.claims.principal, caller.claims.sign_in)


def _reply(tokens: IssuedTokens) -> TokensReply:
    return TokensReply(
        f.text_id(tokens.principal),
        f.text_id(tokens.device),
        f.text_id(tokens.sign_in),
        tokens.access_token,
        tokens.expires_in_s,
        tokens.refresh_token,
    )
