"""Erasures: all that is personal of a person goes, but what the law wants kept. Refused while their money is open.

The step in the database is final: profile and exports are deleted, wallets closed, the key is named as erased. Then the
key goes from the key store; what a crash leaves of that, `PersonalUpkeep` or the next start does.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from protocol.errors import ErrorCode
from protocol.ids import NIL, new_id
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import check_done
from server.commerce.personal.held_keys import PersonKeys
from server.commerce.step_keys import StepKeys
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right
from storage.commerce.money_rows import StepOutcome
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.personal_rows import ErasureRow, StillOpen


class NewErasure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to be erased. `person`: another one, for an API key with the right personal."""

    person: UUID | None = None


class ErasureReply(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure: `erasing` until the key is gone from both copies of the key store, then `erased`."""

    id: UUID
    person: UUID
    state: Literal["erasing", "erased"]
    at_ms: int


class Erasures:
    """Erasures over the records and the keys of people."""

    def __init__(self, records: PersonalRecords, person_keys: PersonKeys, keys: StepKeys) -> None:
        self._records = records
        self._person_keys = person_keys
        self._keys = keys

    async def begin(self, request: KeyedRequest, new: NewErasure) -> ErasureReply:
        """Erase a person; raises RequestRefusedError, which names what is open."""
        asker = request.asker
        person = person_of(asker, new.person)
        if person == NIL:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "person: the platform is nobody")
        step = self._keys.make(request, "erase", new)
        answer = await self._records.begin_erasure(step, asker.principal, asker.tenant, person, new_id())
        erasure = check_done(answer, _name(answer.detail) if answer.outcome is StepOutcome.STILL_OPEN else "")
        await self._person_keys.erase_due()
        return await self.read(asker, erasure)

    async def read(self, asker: Asker, erasure: bytes) -> ErasureReply:
        """An erasure, for the person and for an API key with the right personal; raises RequestRefusedError."""
        row = await self._records.read_erasure(asker.tenant, erasure)
        if row is None or (row.person != asker.principal and Right.PERSONAL not in (asker.rights or Right(0))):
            raise RequestRefusedError(ErrorCode.RECORD_NOT_FOUND)
        return _render(row)


def person_of(asker: Asker, named: UUID | None) -> bytes:
    """Whom a request is about: who asks, or for an API key with the right personal who is named."""
    if asker.is_service:
        asker.check_right(Right.PERSONAL)
        if named is None:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "person: whom it is about")
        return named.bytes
    if named is not None and named.bytes != asker.principal:
        raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "an API key with the right personal may do this")
    return asker.principal


def _name(open_money: int | None) -> str:
    return "open: " + ", ".join(str(flag.name).lower() for flag in StillOpen(open_money or 0))


def _render(row: ErasureRow) -> ErasureReply:
    return ErasureReply(
        id=UUID(bytes=row.erasure),
        person=UUID(bytes=row.person),
        state="erased" if row.gone else "erasing",
        at_ms=row.at_us // 1000,
    )
