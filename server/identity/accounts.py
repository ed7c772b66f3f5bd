"""Bots and businesses: principals with an API key, made by an admin, bots also by a business.

With its key an account signs devices in, which are clients like those of people: a bot on a server, an agent of a
business.

Invariants: only who owns an account renews its key or deletes it; when a key is replaced, every sign-in of the account
ends.
"""

from __future__ import annotations

import msgspec

from protocol import ids
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode
from server.identity.context import IdentityContext
from server.identity.profiles import DEFAULT_TIMEZONE
from server.identity.rates import take_or_refuse
from server.identity.sign_in import Installation, IssuedTokens
from server.identity.tokens import Tokens
from server.identity.vault import hash_token, new_api_key
from server.refusals import RequestRefusedError
from storage.identity_rows import AccountRow, NewDevice, Outcome, ServiceKeyRow
from storage.postgres.accounts import AccountStore
from storage.rates import Rate
from storage.rows import PrincipalType

ACCOUNTS_PER_PAGE = 100
_SIGN_INS_PER_H = 10
"""For each sign-in that an account may have."""
_REFUSALS = {
    Outcome.SUSPENDED: (ErrorCode.SUSPENDED, ""),
    Outcome.UNKNOWN: (ErrorCode.TOKEN_INVALID, "there is no such API key"),
    Outcome.DEVICE_TAKEN: (ErrorCode.WRONG_PERSON, "the device belongs to another principal"),
}


class AccountOwner(msgspec.Struct, frozen=True):
    """Who manages accounts: a business, or an admin (`actor`) for the platform, whose `owner` is NIL."""

    tenant: int
    actor: bytes
    owner: bytes


class NewAccount(msgspec.Struct, frozen=True):
    """A new account and its API key. Only a hash of the key is stored, so it cannot be read again."""

    principal: bytes
    key: str


class Accounts:
    """Creates, lists and deletes accounts, renews their keys, and signs their devices in."""

    def __init__(self, store: AccountStore, tokens: Tokens, context: IdentityContext) -> None:
        self._store = store
        self._tokens = tokens
        self._context = context
        sign_ins_per_h = _SIGN_INS_PER_H * context.settings.key_sign_ins_max
        self._sign_ins = Rate.per_hour("sign-ins of account", sign_ins_per_h)

    async def create(self, owner: AccountOwner, kind: PrincipalType, name: str) -> NewAccount:
        """Create a bot or a business; raises RequestRefusedError."""
        principal, key = ids.new_id(), new_api_key()
        settings = self._context.settings
        created = await self._store.create(
            self._context.clock.wall_ms(),
            owner.tenant,
            owner.actor,
            owner.owner,
            kind=kind,
            principal=principal,
            name=name,
            locale=settings.locales[0],
            timezone=DEFAULT_TIMEZONE,
            device=ids.new_id(),
            key_hash=hash_token(key),
            accounts_max=settings.bots_max,
        )
        if not created:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, f"there are {settings.bots_max} already: delete one first")
        return NewAccount(principal, key)

    async def list(self, owner: AccountOwner, after: bytes) -> list[AccountRow]:
        """A page of the owner's accounts, by id, from behind `after` on."""
        return await self._store.list(owner.tenant, owner.owner, after=after, limit=ACCOUNTS_PER_PAGE)

    async def renew_key(self, owner: AccountOwner, principal: bytes) -> NewAccount:
        """Replace the key of an account and close its sessions; raises RequestRefusedError."""
        key = new_api_key()
        now_ms = self._context.clock.wall_ms()
        hashed = hash_token(key)
        if not await self._store.renew_key(
            now_ms, owner.tenant, owner.actor, owner.owner, principal=principal, key_hash=hashed
        ):
            raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND)
        self._context.sessions.end_principal(principal, CloseCode.SIGNED_OUT, "its API key was renewed")
        return NewAccount(principal, key)

    async def delete(self, owner: AccountOwner, principal: bytes) -> None:
        """Delete an account and close its sessions; raises RequestRefusedError."""
        now_ms = self._context.clock.wall_ms()
        if not await self._store.delete(now_ms, owner.tenant, owner.actor, owner.owner, principal):
            raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND)
        self._context.sessions.end_principal(principal, CloseCode.DELETED, "deleted by its owner")

    async def sign_in(self, account: ServiceKeyRow, key: str, client: Installation) -> IssuedTokens:
        """Sign a device of an account in with its key, which replaces the refresh token; raises RequestRefusedError."""
        await take_or_refuse(self._context.limiter, [(self._sign_ins, account.service)])
        now_ms = self._context.clock.wall_ms()
        device = client.device or ids.new_id()
        signed_in = await self._store.sign_in_by_key(
            now_ms,
            hash_token(key),
            account.service,
            sign_in=ids.new_id(),
            device=NewDevice(device, device, client.platform, client.app_version, client.name, client.address),
            terms=msgspec.structs.replace(
                self._context.make_sign_in_terms(now_ms), sign_ins_max=self._context.settings.key_sign_ins_max
            ),
        )
        if signed_in.outcome is not Outcome.OK:
            raise RequestRefusedError(*_REFUSALS[signed_in.outcome])
        self._context.close_crowded_out(account.service, signed_in.crowded_out)
        if signed_in.opened:
            await self._context.self_dialogs.ensure(account.service, device)
        token = self._tokens.issue(
            tenant=account.tenant, principal=account.service, device=device, sign_in=signed_in.sign_in
        )
        return IssuedTokens(account.service, device, signed_in.sign_in, token, self._tokens.ttl_s, "")
