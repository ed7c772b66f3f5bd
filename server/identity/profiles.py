"""What people say of themselves, what others see of it, and how they leave."""

from __future__ import annotations

import unicodedata
import zoneinfo
from collections.abc import Collection
from functools import cache
from urllib.parse import urlsplit

import msgspec

from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode
from protocol.limits import NAME_CHARS_MAX, URL_CHARS_MAX
from server.clock import Clock
from server.config.settings import IdentitySettings, LimitSettings
from server.identity.limits import Limits, Rate, take_or_refuse
from server.identity.phone_numbers import read_phone_number
from server.identity.ports import SessionsControl
from server.identity.refusal import IdentityError
from server.identity.self_dialogs import SelfDialogs
from server.identity.vault import Vault
from storage.identity import IdentityStore, PersonRow, ProfileChange, ProfileRow
from storage.rows import PrincipalStatus

DEFAULT_TIMEZONE = "UTC"
_CONTROL = {"Cc", "Zl", "Zp"}


class Profile(msgspec.Struct, frozen=True):
    """A person's own row, and the phone number in clear; "" when another issuer vouches for them."""

    row: ProfileRow
    phone_number: str


class Profiles:
    """One's own profile, other people, and what an admin may do to them."""

    def __init__(
        self,
        store: IdentityStore,
        clock: Clock,
        *,
        settings: IdentitySettings,
        rates: LimitSettings,
        limits: Limits,
        vault: Vault,
        sessions: SessionsControl,
        self_dialogs: SelfDialogs,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._limits = limits
        self._vault = vault
        self._sessions = sessions
        self._self_dialogs = self_dialogs
        self._lookups = Rate.per_hour("lookups of person", rates.lookups_per_person_per_h)

    async def own(self, principal: bytes) -> Profile:
        """One's own profile; raises IdentityError."""
        row = await self._store.profile(principal)
        if row is None:
            raise IdentityError(ErrorCode.PRINCIPAL_NOT_FOUND)
        if row.phone_key is None or row.phone_box is None:
            return Profile(row, "")
        return Profile(row, self._vault.open(row.phone_key, row.phone_box))

    async def change(self, principal: bytes, device: bytes, change: ProfileChange) -> Profile:
        """Change one's profile, and tell one's other devices; raises IdentityError."""
        change = self.checked(change)
        if change != ProfileChange():
            if not await self._store.change_profile(self._clock.wall_ms(), principal, change):
                raise IdentityError(ErrorCode.PRINCIPAL_NOT_FOUND)
            await self._self_dialogs.note_profile(principal, device)
        return await self.own(principal)

    def checked(self, change: ProfileChange) -> ProfileChange:
        """The change with its texts as they are kept; raises IdentityError that names the wrong field."""
        return ProfileChange(
            display_name=None if change.display_name is None else _display_name(change.display_name),
            avatar_url=None if change.avatar_url is None else _avatar_url(change.avatar_url),
            locale=_one_of("locale", change.locale, self._settings.locales),
            timezone=_one_of("timezone", change.timezone, _timezones()),
            findable=change.findable,
        )

    async def delete(self, principal: bytes) -> None:
        """Delete oneself: signed out at once everywhere, erased after the grace; raises IdentityError."""
        if not await self._store.delete_person(self._clock.wall_ms(), principal):
            raise IdentityError(ErrorCode.SUSPENDED)
        self._sessions.end_principal(principal, CloseCode.DELETED, "deleted by the person")

    async def person(self, asker: bytes, principal: bytes) -> PersonRow:
        """Somebody one shares a dialog with, or oneself; raises IdentityError."""
        return _found(await self._store.person(asker, principal))

    async def find(self, tenant: int, asker: bytes, phone_number: str) -> PersonRow:
        """The person of exactly that number; one refusal for all who are not there or not to be found."""
        await take_or_refuse(self._limits, [(self._lookups, asker)])
        number = read_phone_number(phone_number, self._settings.countries)
        phone_hash = self._vault.phone_hash(tenant, number.e164)
        return _found(await self._store.find_by_phone(tenant, asker, phone_hash))

    async def suspend(self, tenant: int, admin: bytes, principal: bytes) -> None:
        """Keep somebody out, and close their sockets; raises IdentityError."""
        if principal == admin:
            raise IdentityError(ErrorCode.INVALID_ARGUMENT, "nobody suspends themself")
        await self._set_status(tenant, admin, principal, PrincipalStatus.SUSPENDED)
        self._sessions.end_principal(principal, CloseCode.SUSPENDED, "suspended")

    async def reinstate(self, tenant: int, admin: bytes, principal: bytes) -> None:
        """Let somebody in again; raises IdentityError."""
        await self._set_status(tenant, admin, principal, PrincipalStatus.ACTIVE)

    async def grant_admin(self, tenant: int, phone_number: str) -> bytes:
        """Make the active person of that number an admin: for operators only. Raises IdentityError."""
        number = read_phone_number(phone_number, self._settings.countries)
        phone_hash = self._vault.phone_hash(tenant, number.e164)
        principal = await self._store.grant_admin(self._clock.wall_ms(), tenant, phone_hash)
        if principal is None:
            raise IdentityError(ErrorCode.PRINCIPAL_NOT_FOUND)
        return principal

    async def _set_status(self, tenant: int, admin: bytes, principal: bytes, status: PrincipalStatus) -> None:
        if not await self._store.set_status(self._clock.wall_ms(), tenant, admin, principal, status):
            raise IdentityError(ErrorCode.PRINCIPAL_NOT_FOUND)


def _found(row: PersonRow | None) -> PersonRow:
    if row is None:
        raise IdentityError(ErrorCode.PRINCIPAL_NOT_FOUND)
    return row


def _display_name(text: str) -> str:
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= NAME_CHARS_MAX:
        raise IdentityError(ErrorCode.INVALID_ARGUMENT, f"display_name: 1 to {NAME_CHARS_MAX} characters")
    if any(unicodedata.category(char) in _CONTROL for char in name):
        raise IdentityError(ErrorCode.INVALID_ARGUMENT, "display_name: one line, without control characters")
    return name


def _avatar_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = not text or (parts.scheme == "https" and bool(parts.hostname) and text.isprintable())
    except ValueError:
        good = False
    if not good or len(text) > URL_CHARS_MAX:
        raise IdentityError(ErrorCode.INVALID_ARGUMENT, f"avatar_url: an https address of {URL_CHARS_MAX} characters")
    return text


def _one_of(field: str, value: str | None, allowed: Collection[str]) -> str | None:
    if value is not None and value not in allowed:
        some = ", ".join(sorted(allowed)[:6])
        raise IdentityError(ErrorCode.INVALID_ARGUMENT, f"{field}: not one of those served here ({some}, ...)")
    return value


@cache
def _timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
