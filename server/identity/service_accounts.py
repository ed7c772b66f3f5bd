"""Service accounts: principals with an API key, which append typed events to dialogs.

Bots and businesses have keys, too (`accounts.py`): with theirs they post messages as the members that they are.

A key is granted kinds of events, and businesses that it may act for. It writes in the dialogs in which the business
that it acts for (or any of its businesses) is a member, or in all dialogs of its tenant if that was granted. This is
checked before the event is submitted: an event that races with the removal of the business may still be appended.

A key that is renewed stays the same device, so its numbers go on: what the service sends again under the new key is a
repetition.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from protocol import ids
from protocol.bodies import Posted, Ref
from protocol.commerce.payment_notice import CONTENT_TYPE, decode_notice
from protocol.dialog_types import Mode
from protocol.errors import ErrorCode
from protocol.ids import self_dialog_id
from protocol.kinds import DAY_MS, KINDS, Kind
from server.clock import Clock
from server.config.settings import RateSettings
from server.entries import make_entry
from server.identity.ports import Appender
from server.identity.rates import take_or_refuse
from server.identity.vault import hash_token, new_api_key
from server.refusals import RequestRefusedError, check_durable
from storage.identity_rows import KeyGrants, PostedDialogs, PostedRow, ServiceKeyRow
from storage.postgres.service_accounts import ServiceAccountStore
from storage.rates import Rate, RateLimiter
from storage.rows import PrincipalStatus, PrincipalType, Verdict

_DIALOGS_PER_PAGE = 2_000
"""Dialogs that are looked at for a page; 2,000 cost some milliseconds."""
_EVENTS_PER_PAGE = 100


class NewService(msgspec.Struct, frozen=True):
    """A new service and its API key. Only a hash of the key is stored, so it cannot be read again."""

    service: bytes
    key: str


class ServiceAccounts:
    """Creates service accounts, authenticates them by their API keys, and appends their events."""

    def __init__(
        self, store: ServiceAccountStore, clock: Clock, *, rates: RateSettings, limiter: RateLimiter, appender: Appender
    ) -> None:
        self._store = store
        self._clock = clock
        self._limiter = limiter
        self._appender = appender
        self._events = Rate.per_second("events of service", rates.events_per_service_per_s)

    async def create(
        self,
        tenant: int,
        admin: bytes,
        name: str,
        *,
        kinds: Collection[Kind],
        businesses: Collection[bytes] = (),
        all_dialogs: bool = False,
    ) -> NewService:
        """Create a service whose key is granted this; raises RequestRefusedError."""
        of_members = sorted(kind.name.lower() for kind in kinds if KINDS[kind].by_members)
        if of_members or not kinds:
            wrong = f"{', '.join(of_members)}: only members post that" if of_members else "at least one"
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"kinds: {wrong}")
        if not businesses and not all_dialogs:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "businesses: at least one, or set all_dialogs")
        grants = KeyGrants(frozenset(kinds), frozenset(businesses), all_dialogs)
        if not await self._store.are_businesses(tenant, frozenset(businesses)):
            raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND, "businesses: one of them is no business here")
        service, device, key = ids.new_id(), ids.new_id(), new_api_key()
        await self._store.create(
            self._clock.wall_ms(),
            tenant,
            admin,
            service=service,
            name=name,
            device=device,
            key_hash=hash_token(key),
            grants=grants,
        )
        return NewService(service, key)

    async def renew_key(self, tenant: int, admin: bytes, service: bytes) -> NewService:
        """Replace the key of a service: the one before ends. Raises RequestRefusedError."""
        key = new_api_key()
        now_ms = self._clock.wall_ms()
        if not await self._store.renew_key(now_ms, tenant, admin, service=service, key_hash=hash_token(key)):
            raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND)
        return NewService(service, key)

    async def authenticate(self, key: str) -> ServiceKeyRow:
        """The active service of this API key; raises RequestRefusedError."""
        row = await self._store.find_by_key(hash_token(key))
        if row is None:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "there is no such API key")
        if row.status is not PrincipalStatus.ACTIVE:
            raise RequestRefusedError(ErrorCode.SUSPENDED)
        return row

    async def append(self, service: ServiceKeyRow, dialog: bytes, n: int, body: Posted) -> Verdict:
        """Append an event under the key's number `n`; raises RequestRefusedError unless the event is durable."""
        await take_or_refuse(self._limiter, [(self._events, service.service)])
        _check_notice(service.grants, body)
        await self._check_grants(service, dialog, n, body)
        entry = make_entry(dialog, service.service, service.device, n, msgspec.structs.replace(body, requester=None))
        entry = msgspec.structs.replace(entry, requester=body.requester)  # judged by; what is kept does not name them
        kept_days_max = KINDS[body.kind].kept_days_max
        if kept_days_max is not None:
            ends_ms = self._clock.wall_ms() + kept_days_max * DAY_MS
            entry = msgspec.structs.replace(entry, expires_at_ms=min(entry.expires_at_ms or ends_ms, ends_ms))
        verdict = await self._appender.append(entry)
        check_durable(verdict)
        return verdict

    async def append_to_self(self, service: ServiceKeyRow, principal: bytes, n: int, body: Posted) -> Verdict:
        """Append a state of a payment to the `self` dialog of one of its parties; as `append`.

        Who has never signed in has no such dialog.
        """
        if body.kind is not Kind.PAYMENT or not service.grants.all_dialogs:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "states of payments, with a key for all dialogs")
        try:
            return await self.append(service, self_dialog_id(principal), n, body)
        except RequestRefusedError as refused:
            if refused.code is ErrorCode.DIALOG_NOT_FOUND:
                raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND) from refused
            raise

    async def read_mode(self, service: ServiceKeyRow, dialog: bytes) -> Mode:
        """The mode of a dialog of the platform; raises RequestRefusedError."""
        if not service.grants.all_dialogs:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "with a key for all dialogs")
        mode = await self._store.read_mode(service.tenant, dialog)
        if mode is None:
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
        return mode

    async def read_epoch(self) -> int:
        """The epoch of the deployment."""
        return await self._store.read_epoch()

    async def list_posted_dialogs(self, service: ServiceKeyRow, after: bytes) -> PostedDialogs:
        """A page of the dialogs in which this service has posted; raises RequestRefusedError."""
        if not service.grants.all_dialogs:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "with a key for all dialogs")
        return await self._store.list_posted_dialogs(service.tenant, service.device, after, _DIALOGS_PER_PAGE)

    async def list_posted(self, service: ServiceKeyRow, dialog: bytes, before_n: int) -> list[PostedRow]:
        """What this service has posted in a dialog under numbers below `before_n`: a page, newest first."""
        return await self._store.list_posted(dialog, service.device, before_n, _EVENTS_PER_PAGE)

    async def _check_grants(self, service: ServiceKeyRow, dialog: bytes, n: int, body: Posted) -> None:
        grants, business = service.grants, body.acting_for
        if service.type is not PrincipalType.SERVICE:
            if body.kind is not Kind.MESSAGE or (business, body.requester) != (None, None):
                raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "a bot or business posts messages, as itself")
            return  # whether it is a member is judged by the flush, as for any member
        if KINDS[body.kind].by_members:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "kind: only members post that")
        if body.requester is not None and body.kind is not Kind.PAYMENT:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "requester: only payments have one")
        if body.kind not in grants.kinds:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, f"kind: this key may not post {body.kind.name.lower()}")
        if business is not None and grants.businesses is not None and business not in grants.businesses:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "acting_for: this key may not act for that business")
        if business is not None and not await self._store.are_businesses(service.tenant, [business]):
            raise RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND, "acting_for: there is no such business")
        if grants.all_dialogs:
            return
        businesses = (grants.businesses or ()) if business is None else (business,)
        if not await self._store.may_write(dialog, businesses, service.device, n):
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)


def _check_notice(grants: KeyGrants, body: Posted) -> None:
    """A state of a payment is what a relay says, whose key is for all dialogs: readers believe the highest version."""
    if body.kind is not Kind.PAYMENT or body.header.content_type != CONTENT_TYPE:
        return
    if not grants.all_dialogs:
        raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "states of payments, with a key for all dialogs")
    ref = body.header.ref or Ref("", "")
    try:
        decode_notice(body.payload, (ref.type, ref.id))
    except msgspec.MsgspecError as error:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"payload: {error}") from None
