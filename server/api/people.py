"""Your profile, and other people."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from server.api import fields as f
from server.api.auth import AsCaller
from server.api.parts import Parts
from server.http.errors import REFUSALS
from server.identity.profiles import Profile
from storage.identity_rows import PersonRow, ProfileChange, WhoMayAdd

WhoMayAddText = Annotated[
    Literal["everybody", "known", "nobody"],
    Meta(description='who may add you to groups and channels; "known": those to whom you have written directly'),
]
_WHO_MAY_ADD: dict[WhoMayAddText, WhoMayAdd] = {
    "everybody": WhoMayAdd.EVERYBODY,
    "known": WhoMayAdd.KNOWN,
    "nobody": WhoMayAdd.NOBODY,
}
_WHO_MAY_ADD_TEXT = {value: text for text, value in _WHO_MAY_ADD.items()}


class ProfileReply(msgspec.Struct):
    """Your profile. `phone_number` is empty if you sign in through another platform."""

    principal: UUID
    phone_number: str
    country: str
    display_name: str
    avatar_url: str
    locale: str
    timezone: str
    findable: bool
    admin: bool
    created_at_ms: int
    updated_at_ms: int
    who_may_add: WhoMayAddText


class ProfileRequest(f.Request):
    """What to change; a missing field stays as it is."""

    display_name: f.DisplayName | None = None
    avatar_url: f.AvatarUrl | None = None
    locale: f.LocaleText | None = None
    timezone: f.TimezoneText | None = None
    findable: bool | None = None
    who_may_add: WhoMayAddText | None = None


class FindRequest(f.Request):
    """The number to look for; it must match exactly."""

    phone_number: f.PhoneText


class PersonReply(msgspec.Struct):
    """Another person."""

    principal: UUID
    display_name: str
    avatar_url: str


@get("/me", responses=REFUSALS)
async def own_profile(caller: AsCaller, parts: Parts) -> ProfileReply:
    """Your own profile."""
    return _profile(await parts.profiles.read_own(caller.claims.principal))


@patch("/me", responses=REFUSALS)
async def change_profile(data: JSONBody[ProfileRequest], caller: AsCaller, parts: Parts) -> ProfileReply:
    """Change your profile; your other devices get an event."""
    change = ProfileChange(
        display_name=data.display_name,
        avatar_url=data.avatar_url,
        locale=data.locale,
        timezone=data.timezone,
        findable=data.findable,
        who_may_add=None if data.who_may_add is None else _WHO_MAY_ADD[data.who_may_add],
    )
    return _profile(await parts.profiles.change(caller.claims.principal, caller.claims.device, change))


@delete("/me", responses=REFUSALS)
async def delete_self(caller: AsCaller, parts: Parts) -> None:
    """Delete yourself: signed out everywhere at once, erased after the grace. A sign-in before then cancels it."""
    await parts.profiles.delete(caller.claims.principal)


@get("/people/{principal:uuid}", responses=REFUSALS)
async def person(principal: FromPath[UUID], caller: AsCaller, parts: Parts) -> PersonReply:
    """A person with whom you share a dialog, or who has invited you into one."""
    return _person(await parts.profiles.read_person(caller.claims.principal, principal.bytes))


@post("/people/find", status_code=200, responses=REFUSALS)
async def find_person(data: JSONBody[FindRequest], caller: AsCaller, parts: Parts) -> PersonReply:
    """The person of exactly this number. An unknown number and a person who is not findable get the same refusal."""
    return _person(await parts.profiles.find(caller.claims.tenant, caller.claims.principal, data.phone_number))


def _profile(profile: Profile) -> ProfileReply:
    row = profile.row
    return ProfileReply(
        f.text_id(row.principal),
        profile.phone_number,
        row.country,
        row.display_name,
        row.avatar_url,
        row.locale,
        row.timezone,
        row.findable,
        row.admin,
        row.created_at_ms,
        row.updated_at_ms,
        _WHO_MAY_ADD_TEXT[row.who_may_add],
    )


def _person(row: PersonRow) -> PersonReply:
    return PersonReply(f.text_id(row.principal), row.display_name, row.avatar_url)
