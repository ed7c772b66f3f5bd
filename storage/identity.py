"""The contract of the store of identity: people, devices, sign-ins, one-time codes, services and their keys.

Guarantees, whoever implements it:

* Each method is one transaction, and what it changes and its line in the audit trail are written together.
* Two sign-ins of one person at once make one person; a one-time code signs in once; a person never has more live
  sign-ins than allowed, however many come at once.
* A device belongs to one principal for ever.
* A refresh token has at most one successor; a token that has been followed by another ends its sign-in when it comes
  again, but for a short grace in which it gets the same successor, as long as that has not been used.
* Secrets come in as hashes; phone numbers encrypted, with a keyed hash to find them by.
* Nothing of one tenant is found from another.
* Every method raises `StorageUnavailableError` when it cannot answer now; a write then has an unknown fate.

Ids are 16 bytes, times Unix milliseconds; `now_ms` is the caller's clock.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec

from storage.rows import PrincipalStatus


class Outcome(enum.IntEnum):
    """How a sign-in or a refresh ended. Only OK opened or prolonged anything."""

    OK = 1
    CODE_USED = 2
    NAME_NEEDED = 3
    SUSPENDED = 4
    ENDED = 5
    DEVICE_TAKEN = 6
    UNKNOWN = 7
    REUSED = 8
    EXPIRED = 9


class EndReason(enum.IntEnum):
    """Why a sign-in ended, as `sign_ins.revoked_why` keeps it."""

    SIGNED_OUT = 1
    CROWDED_OUT = 2
    TOKEN_REUSED = 3
    REPLACED = 4
    DELETED = 5


class PhoneRow(msgspec.Struct, frozen=True):
    """A phone number as it is kept: keyed hash, and ciphertext under the key of that name."""

    hash: bytes
    key: str
    box: bytes
    country: str


class NewProfile(msgspec.Struct, frozen=True):
    """What a person who signs up is called. `display_name` None: sign in only."""

    display_name: str | None
    locale: str
    timezone: str


class NewDevice(msgspec.Struct, frozen=True):
    """The installation that signs in. `spare` is its id if `device` turns out to be another principal's."""

    device: bytes
    spare: bytes
    platform: str
    app_version: str
    name: str
    address: str


class OpenedSignIn(msgspec.Struct, frozen=True):
    """The fate of a sign-in; ids are NIL unless `outcome` is OK. Sockets of the two lists are to be closed."""

    outcome: Outcome
    principal: bytes
    device: bytes
    crowded_out: tuple[bytes, ...] = ()
    replaced: tuple[bytes, ...] = ()


class VouchedSignIn(msgspec.Struct, frozen=True):
    """The fate of a sign-in by another issuer's token; `opened` when it is new."""

    outcome: Outcome
    principal: bytes
    sign_in: bytes
    opened: bool
    crowded_out: tuple[bytes, ...] = ()


class RefreshedSignIn(msgspec.Struct, frozen=True):
    """The fate of a refresh; ids are NIL when the token is unknown."""

    outcome: Outcome
    principal: bytes
    device: bytes
    sign_in: bytes
    tenant: int


class SignInRow(msgspec.Struct, frozen=True):
    """A live sign-in as its person sees it."""

    sign_in: bytes
    device: bytes
    platform: str
    app_version: str
    name: str
    address: str
    created_at_ms: int
    last_used_at_ms: int


class CallerRow(msgspec.Struct, frozen=True):
    """Who makes an HTTP request with an access token. `live`: the sign-in goes on."""

    status: PrincipalStatus
    admin: bool
    live: bool


class SignIns(Protocol):
    """Codes, sign-ins, refresh tokens."""

    async def put_code(
        self, tenant: int, phone_hash: bytes, code_hash: bytes, *, attempts: int, expires_at_ms: int
    ) -> None:
        """Keep a one-time code; it replaces the number's former one."""
        ...

    async def spend_attempt(self, now_ms: int, tenant: int, phone_hash: bytes) -> bytes | None:
        """The hash of the number's code, for one guess; None when there is none that is valid and has guesses left."""
        ...

    async def sign_in_by_code(
        self,
        now_ms: int,
        tenant: int,
        phone: PhoneRow,
        code_hash: bytes,
        profile: NewProfile,
        *,
        device: NewDevice,
        sign_in: bytes,
        refresh_hash: bytes,
        expires_at_ms: int,
        sign_ins_max: int,
        deleted_before_ms: int,
    ) -> OpenedSignIn:
        """Consume the code and open a sign-in, of a new person if the number is unknown.

        CODE_USED: nothing was changed. NAME_NEEDED: the number is unknown and `profile` has no name; the code stays
        valid, and its guess is given back. A person who deleted themself after `deleted_before_ms` is restored; one
        from before is erased, and the number signs up anew.
        """
        ...

    async def sign_in_by_issuer(
        self,
        now_ms: int,
        tenant: int,
        external_id: str,
        issued_at_ms: int,
        profile: NewProfile,
        *,
        sign_in: bytes,
        device: bytes,
        address: str,
        expires_at_ms: int,
        sign_ins_max: int,
        deleted_before_ms: int,
    ) -> VouchedSignIn:
        """The live sign-in of that device, prolonged, or a new one; of a new person if the external id is unknown.

        ENDED: the token was issued before the sign-in was ended or the person deleted; a newer token signs in again.
        DEVICE_TAKEN: the device is another principal's.
        """
        ...

    async def refresh(
        self,
        now_ms: int,
        token_hash: bytes,
        next_hash: bytes,
        *,
        address: str,
        expires_at_ms: int,
        grace_ms: int,
    ) -> RefreshedSignIn:
        """Replace a refresh token by its successor. REUSED: it had one already, and its sign-in has been ended."""
        ...

    async def caller(self, now_ms: int, principal: bytes, sign_in: bytes) -> CallerRow | None:
        """Who comes with that sign-in; None when there is no such principal."""
        ...

    async def list_sign_ins(self, now_ms: int, principal: bytes) -> list[SignInRow]:
        """The principal's live sign-ins, newest first."""
        ...

    async def end_sign_in(self, now_ms: int, principal: bytes, sign_in: bytes) -> bool:
        """End the principal's live sign-in; False when they have no such."""
        ...

    async def end_other_sign_ins(self, now_ms: int, principal: bytes, keep: bytes) -> list[bytes]:
        """End all of the principal's sign-ins but one; returns those that ended."""
        ...


class ProfileRow(msgspec.Struct, frozen=True):
    """A person as they see themself, phone number encrypted (`phone` None: another issuer vouches for them)."""

    principal: bytes
    phone_key: str | None
    phone_box: bytes | None
    country: str
    display_name: str
    avatar_url: str
    locale: str
    timezone: str
    findable: bool
    admin: bool
    created_at_ms: int
    updated_at_ms: int


class ProfileChange(msgspec.Struct, frozen=True):
    """What to change of a profile; None leaves a field as it is."""

    display_name: str | None = None
    avatar_url: str | None = None
    locale: str | None = None
    timezone: str | None = None
    findable: bool | None = None


class PersonRow(msgspec.Struct, frozen=True):
    """A person as others see them."""

    principal: bytes
    display_name: str
    avatar_url: str


class People(Protocol):
    """Profiles, finding people, suspension, deletion."""

    async def profile(self, principal: bytes) -> ProfileRow | None:
        """A person's own profile."""
        ...

    async def change_profile(self, now_ms: int, principal: bytes, change: ProfileChange) -> bool:
        """Change a profile; False when there is none."""
        ...

    async def person(self, asker: bytes, principal: bytes) -> PersonRow | None:
        """Somebody who is not deleted and is in a dialog with the asker, or is the asker."""
        ...

    async def find_by_phone(self, tenant: int, asker: bytes, phone_hash: bytes) -> PersonRow | None:
        """The active person of that number, unless they do not want to be found or have blocked the asker."""
        ...

    async def delete_person(self, now_ms: int, principal: bytes) -> bool:
        """Mark an active person as deleted and end all their sign-ins; False when not active."""
        ...

    async def set_status(
        self, now_ms: int, tenant: int, actor: bytes, principal: bytes, status: PrincipalStatus
    ) -> bool:
        """Suspend or reinstate; False when there is no such principal, or a deleted one."""
        ...

    async def grant_admin(self, now_ms: int, tenant: int, phone_hash: bytes) -> bytes | None:
        """Make the active person of that number an admin; None when there is none."""
        ...

    async def purge(
        self, now_ms: int, *, deleted_before_ms: int, ended_before_ms: int, audit_before_ms: int, limit: int
    ) -> int:
        """Erase people deleted before, and drop expired codes, long ended sign-ins and old lines of the login audit.

        Returns how many people were erased, at most `limit`: as many means call again.
        """
        ...

    async def add_tenants(self, tenants: Sequence[int]) -> None:
        """See to it that these tenants exist."""
        ...


class ServiceKeyRow(msgspec.Struct, frozen=True):
    """Whose API key it is and what it may do. `device` is the id of the key: what its events come from."""

    service: bytes
    device: bytes
    tenant: int
    status: PrincipalStatus
    kinds: frozenset[int]


class ServicePrincipals(Protocol):
    """Services and their API keys."""

    async def create_service(
        self,
        now_ms: int,
        tenant: int,
        actor: bytes,
        *,
        service: bytes,
        name: str,
        device: bytes,
        key_hash: bytes,
        kinds: Sequence[int],
    ) -> None:
        """Create a service principal with one API key."""
        ...

    async def service_of_key(self, key_hash: bytes) -> ServiceKeyRow | None:
        """The service of an API key."""
        ...

    async def is_business(self, tenant: int, principal: bytes) -> bool:
        """Whether that is an active business of the tenant, for which a service may act."""
        ...


class IdentityStore(SignIns, People, ServicePrincipals, Protocol):
    """All three."""
