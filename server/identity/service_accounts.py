"""Services of the platform: principals with an API key, which append typed events to dialogs of their tenant."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from protocol import ids
from protocol.bodies import Posted, tag_of
from protocol.errors import ErrorCode
from protocol.kinds import KINDS, Kind
from server.clock import Clock
from server.config.settings import LimitSettings
from server.identity.limits import Limits, Rate, take_or_refuse
from server.identity.ports import Appender
from server.identity.refusal import IdentityError, check_durable
from server.identity.vault import new_api_key, token_hash
from storage.identity import IdentityStore, ServiceKeyRow
from storage.rows import Entry, PrincipalStatus

_TAG_POSTED = tag_of(Posted)


class NewService(msgspec.Struct, frozen=True):
    """A service and its key, which is shown this once."""

    service: bytes
    key: str


class Appended(msgspec.Struct, frozen=True):
    """Where an event stands; the same for every repetition of it."""

    seq: int
    at_ms: int


class ServiceAccounts:
    """Creates services, knows them by their keys, and appends their events."""

    def __init__(
        self, store: IdentityStore, clock: Clock, *, rates: LimitSettings, limits: Limits, appender: Appender
    ) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._appender = appender
        self._events = Rate.per_second("events of service", rates.events_per_service_per_s)

    async def create(self, tenant: int, admin: bytes, name: str, kinds: Sequence[Kind]) -> NewService:
        """Create a service that may post these kinds; raises IdentityError."""
        of_members = sorted(kind.name.lower() for kind in kinds if KINDS[kind].by_members)
        if of_members or not kinds:
            wrong = f"{', '.join(of_members)}: only members post that" if of_members else "at least one"
            raise IdentityError(ErrorCode.INVALID_ARGUMENT, f"kinds: {wrong}")
        service, device, key = ids.new_id(), ids.new_id(), new_api_key()
        await self._store.create_service(
            self._clock.wall_ms(),
            tenant,
            admin,
            service=service,
            name=name,
            device=device,
            key_hash=token_hash(key),
            kinds=sorted(set(kinds)),
        )
        return NewService(service, key)

    async def of_key(self, key: str) -> ServiceKeyRow:
        """The service that comes with this key; raises IdentityError."""
        row = await self._store.service_of_key(token_hash(key))
        if row is None:
            raise IdentityError(ErrorCode.TOKEN_INVALID, "there is no such API key")
        if row.status is not PrincipalStatus.ACTIVE:
            raise IdentityError(ErrorCode.SUSPENDED)
        return row

    async def append(self, service: ServiceKeyRow, dialog: bytes, n: int, body: Posted) -> Appended:
        """Append an event under the key's number `n`; raises IdentityError, unless it is durable."""
        await take_or_refuse(self._limits, [(self._events, service.service)])
        if body.kind not in service.kinds:
            raise IdentityError(ErrorCode.NOT_ALLOWED, f"kind: this key may not post {body.kind.name.lower()}")
        if body.acting_for is not None and not await self._store.is_business(service.tenant, body.acting_for):
            raise IdentityError(ErrorCode.PRINCIPAL_NOT_FOUND, "acting_for: there is no such business")
        verdict = await self._appender.append(
            Entry(
                dialog=dialog,
                author=service.service,
                device=service.device,
                n=n,
                tag=_TAG_POSTED,
                body=msgspec.msgpack.encode(body),
                counts=KINDS[body.kind].counts_unread,
                expires_at_ms=body.header.expires_at_ms,
            )
        )
        check_durable(verdict)
        return Appended(verdict.seq, verdict.at_ms)
