"""What goes into and comes out of the stores of identity, in plain structs.

The stores are `SignInStore`, `PeopleStore`, `ServiceAccountStore` and `AccountStore` in `storage/postgres`. All of them
guarantee:

* Each method is one transaction; a change and its line in the audit trail are written together.
* Secrets come in as hashes; phone numbers come in encrypted, with a keyed hash to find them by.
* Nothing of one tenant is found from another.
* Every method raises `StorageUnavailableError` when it cannot answer now; whether a write happened is then unknown.

Ids are 16 bytes, times Unix milliseconds; `now_ms` is the caller's clock.
"""

from __future__ import annotations

import enum

import msgspec

from protocol.bodies import Posted
from protocol.kinds import DAY_MS
from storage.rows import PrincipalStatus, PrincipalType

SIGN_IN_AUDIT_KEPT_MS = 365 * DAY_MS
"""How long the audit trail keeps a line about signing in. No other line ever goes."""


class Outcome(enum.IntEnum):
    """The result of a sign-in or a refresh. Only OK opens or extends a sign-in."""

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
    """Why a sign-in ended, as `sign_ins.revoked_why` stores it."""

    SIGNED_OUT = 1
    CROWDED_OUT = 2
    TOKEN_REUSED = 3
    REPLACED = 4
    DELETED = 5


class EndedAccessRow(msgspec.Struct, frozen=True):
    """Access that a transaction ended: of one sign-in (`why`: an EndReason), or of a principal (its status)."""

    xid: int
    principal: bytes
    sign_in: bytes | None
    why: int


class EndedAccessReading(msgspec.Struct, frozen=True):
    """Whose access has ended, and the horizon of the snapshot; the next reading begins there."""

    horizon: int
    rows: list[EndedAccessRow]


class WhoMayAdd(enum.IntEnum):
    """Who may add a person to dialogs without asking: everybody, those whom the person knows, or nobody.

    A person knows those with whom they began a direct dialog, or to whom they wrote in one.
    """

    EVERYBODY = 1
    KNOWN = 2
    NOBODY = 3


class PhoneRow(msgspec.Struct, frozen=True):
    """A phone number as it is stored: `hash` is keyed, `box` is the ciphertext, `key` the name of its key."""

    hash: bytes
    key: str
    box: bytes
    country: str


class PendingCode(msgspec.Struct, frozen=True):
    """A one-time code that somebody in `network` requested; only they know its `code_id`."""

    code_id: bytes
    network: str
    hash: bytes


class NewProfile(msgspec.Struct, frozen=True):
    """The profile of a person who signs up. `display_name` None: an unknown number does not sign up."""

    display_name: str | None
    locale: str
    timezone: str


class NewDevice(msgspec.Struct, frozen=True):
    """The installation that signs in. It gets the id `spare` if `device` belongs to another principal."""

    device: bytes
    spare: bytes
    platform: str
    app_version: str
    name: str
    address: str


class SignInTerms(msgspec.Struct, frozen=True):
    """The limits that a sign-in is opened under.

    A person who was deleted before `deleted_before_ms` is past the grace: they are erased and sign up again.
    """

    expires_at_ms: int
    sign_ins_max: int
    deleted_before_ms: int


class OpenedSignIn(msgspec.Struct, frozen=True):
    """The result of a sign-in by code; ids are NIL unless `outcome` is OK.

    `crowded_out` and `replaced` are sign-ins that it ended: the caller closes their sessions.
    """

    outcome: Outcome
    principal: bytes
    device: bytes
    crowded_out: tuple[bytes, ...] = ()
    replaced: tuple[bytes, ...] = ()


class ExternalSignIn(msgspec.Struct, frozen=True):
    """The result of a sign-in by an external issuer's token or an API key; `opened` says that the sign-in is new."""

    outcome: Outcome
    principal: bytes
    sign_in: bytes
    opened: bool
    crowded_out: tuple[bytes, ...] = ()


class RefreshedSignIn(msgspec.Struct, frozen=True):
    """The result of a refresh; ids are NIL when the token is unknown."""

    outcome: Outcome
    principal: bytes
    device: bytes
    sign_in: bytes
    tenant: int


class SignInRow(msgspec.Struct, frozen=True):
    """A live sign-in as its owner sees it."""

    sign_in: bytes
    device: bytes
    platform: str
    app_version: str
    name: str
    address: str
    created_at_ms: int
    last_used_at_ms: int


class CallerRow(msgspec.Struct, frozen=True):
    """The principal behind an access token. `live`: the sign-in has neither ended nor expired."""

    status: PrincipalStatus
    admin: bool
    live: bool


class ProfileRow(msgspec.Struct, frozen=True):
    """A person's own profile. The phone number is encrypted; it is None for people of an external issuer."""

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
    who_may_add: WhoMayAdd


class ProfileChange(msgspec.Struct, frozen=True):
    """What to change of a profile; None leaves a field as it is."""

    display_name: str | None = None
    avatar_url: str | None = None
    locale: str | None = None
    timezone: str | None = None
    findable: bool | None = None
    who_may_add: WhoMayAdd | None = None


class PersonRow(msgspec.Struct, frozen=True):
    """A person as others see them."""

    principal: bytes
    display_name: str
    avatar_url: str


class KeyGrants(msgspec.Struct, frozen=True):
    """What an API key may do: post these kinds, act for these businesses, and write in the dialogs of their members.

    `businesses` None: all of the tenant, which only keys of an older version have. `all_dialogs`: it writes in every
    dialog of the tenant.
    """

    kinds: frozenset[int]
    businesses: frozenset[bytes] | None = frozenset()
    all_dialogs: bool = False


class AccountRow(msgspec.Struct, frozen=True):
    """A bot or a business, as its owner sees it."""

    principal: bytes
    type: PrincipalType
    name: str
    status: PrincipalStatus
    created_at_ms: int


class ServiceKeyRow(msgspec.Struct, frozen=True):
    """The service, bot or business of an API key, and what the key may do. `device` is the id of the key.

    Grants are for services: a bot and a business write as members do.
    """

    service: bytes
    device: bytes
    tenant: int
    status: PrincipalStatus
    grants: KeyGrants
    type: PrincipalType = PrincipalType.SERVICE


class PostedDialog(msgspec.Struct, frozen=True):
    """Where a service has posted, and its highest number there. `principal`: it is their `self` dialog."""

    dialog: bytes
    principal: bytes | None
    last_n: int


class PostedDialogs(msgspec.Struct, frozen=True):
    """A page of them; `after` is where the next one begins, None at the end."""

    dialogs: list[PostedDialog]
    after: bytes | None


class PostedRow(msgspec.Struct, frozen=True):
    """What a service has posted under a number; `body` None: it was erased."""

    n: int
    seq: int
    body: Posted | None
