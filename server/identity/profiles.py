"""Profiles: what people say about themselves, what others see of it; suspension and deletion."""

from __future__ import annotations

import unicodedata
import zoneinfo
from collections.abc import Collection
from functools import cache

import msgspec

from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode
from protocol.limits import NAME_CHARS_MAX, URL_CHARS_MAX
from server.identity.context import IdentityContext
from server.identity.phone_numbers import read_phone_number
from server.identity.rates import take_or_refuse
from server.refusals import RequestRefusedError
from server.texts import check_https, check_line
from storage.identity_rows import PersonRow, ProfileChange, ProfileRow
from storage.postgres.people import PeopleStore
from storage.rates import Rate
from storage.rows import PrincipalStatus

DEFAULT_TIMEZONE = "UTC"


class Profile(msgspec.Struct, frozen=True):
    """A person's own row and their decrypted phone number, "" for people of an external issuer."""

    row: ProfileRow
    phone_number: str


class Profiles:
    """A person's own profile, other people, and what an admin may do to a principal."""

    def __init__(self, people: PeopleStore, context: IdentityContext) -> None:
        self._people = people
        self._context = context
        self._lookups = Rate.per_hour("lookups of person", context.rates.lookups_per_person_per_h)

    async def read_own(self, principal: bytes) -> Profile:
        """A person's own profile; raises RequestRefusedError."""
        row = await self._people.read_profile(principal)
        if row is None:
            raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND)
        if row.phone_key is None or row.phone_box is None:
            return Profile(row, "")
        return Profile(row, self._context.vault.open(row.phone_key, row.phone_box))

    async def change(self, principal: bytes, device: bytes, change: ProfileChange) -> Profile:
        """Change a person's own profile and notify their other devices; raises RequestRefusedError."""
        change = self.check(change)
        if change != ProfileChange():
            if not await self._people.change_profile(self._context.clock.wall_ms(), principal, change):
                raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND)
            await self._context.self_dialogs.append_profile_changed(principal, device)
        return await self.read_own(principal)

    def check(self, change: ProfileChange) -> ProfileChange:
        """The change with its texts normalized; raises RequestRefusedError that names the wrong field."""
        return ProfileChange(
            display_name=None if change.display_name is None else _display_name(change.display_name),
            avatar_url=None if change.avatar_url is None else _avatar_url(change.avatar_url),
            locale=_one_of("locale", change.locale, self._context.settings.locales),
            timezone=_one_of("timezone", change.timezone, _timezones()),
            findable=change.findable,
            who_may_add=change.who_may_add,
        )

    async def delete(self, principal: bytes) -> None:
        """Mark a person as deleted and close their sessions; the purge erases them after the grace.

        Raises RequestRefusedError.
        """
        if not await self._people.delete(self._context.clock.wall_ms(), principal):
            raise RequestRefusedError(ErrorCode.SUSPENDED)
        self._context.sessions.end_principal(principal, CloseCode.DELETED, "deleted by the person")

    async def read_person(self, asker: bytes, principal: bytes) -> PersonRow:
        """A person who shares a dialog with the asker, or is the asker; raises RequestRefusedError."""
        return _found(await self._people.read_person(asker, principal))

    async def find(self, tenant: int, asker: bytes, phone_number: str) -> PersonRow:
        """The person of exactly this number.

        Raises RequestRefusedError, the same for an unknown number and for a person who is not findable.
        """
        await take_or_refuse(self._context.limiter, [(self._lookups, asker)])
        number = read_phone_number(phone_number, self._context.settings.countries)
        phone_hash = self._context.vault.hash_phone(tenant, number.e164)
        return _found(await self._people.find_by_phone(tenant, asker, phone_hash))

    async def suspend(self, tenant: int, admin: bytes, principal: bytes) -> None:
        """Suspend a principal and close their sessions; raises RequestRefusedError."""
        if principal == admin:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "you cannot suspend yourself")
        await self._set_status(tenant, admin, principal, PrincipalStatus.SUSPENDED)
        self._context.sessions.end_principal(principal, CloseCode.SUSPENDED, "suspended")

    async def reinstate(self, tenant: int, admin: bytes, principal: bytes) -> None:
        """End a suspension; raises RequestRefusedError."""
        await self._set_status(tenant, admin, principal, PrincipalStatus.ACTIVE)

    async def _set_status(self, tenant: int, admin: bytes, principal: bytes, status: PrincipalStatus) -> None:
        if not await self._people.set_status(self._context.clock.wall_ms(), tenant, admin, principal, status):
            raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND)


def _found(row: PersonRow | None) -> PersonRow:
    if row is None:
        raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND)
    return row


def _display_name(text: str) -> str:
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= NAME_CHARS_MAX:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"display_name: 1 to {NAME_CHARS_MAX} characters")
    check_line("display_name", name)
    return name


def _avatar_url(text: str) -> str:
    check_https("avatar_url", text)
    if len(text) > URL_CHARS_MAX:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"avatar_url: up to {URL_CHARS_MAX} characters")
    return text


def _one_of(field: str, value: str | None, allowed: Collection[str]) -> str | None:
    if value is not None and value not in allowed:
        some = ", ".join(sorted(allowed)[:6])
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"{field}: not one of those available here ({some}, ...)")
    return value


@cache
def _timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
