"""Exports: all that a person can read here themselves, page by page, put together in the background.

Each step makes one part of bounded size (`export_sources.py`), so an export of any size never holds anything up. Parts
are sealed under the profile key: an erasure takes them with it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec

from protocol.errors import ErrorCode
from protocol.ids import new_id
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import check_done
from server.commerce.personal.held_keys import PersonKeys
from server.commerce.personal.item_sealing import SealedPlace, SealError, seal, unseal
from server.commerce.step_keys import StepKeys
from server.refusals import RequestRefusedError
from storage.commerce.money_rows import StepOutcome
from storage.commerce.personal_exports import ExportRow, PersonalExports
from storage.commerce.personal_rows import ItemKind, KeyKind
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

EXPORT_LIFE_US = 7 * 86_400_000_000
PAUSE_US = 60_000_000
"""After a part that could not be made."""
_EXPORTS_AT_ONCE = 10
_NUMBER_MAX = 2**53


ExportSource = Literal[
    "wallets",
    "statements",
    "payments",
    "top_ups",
    "withdrawals",
    "orders",
    "carts",
    "roles",
    "addresses",
    "identity",
    "legal_copies",
]
SOURCES: tuple[ExportSource, ...] = get_args(ExportSource)
"""In the order of the parts."""


class ExportReply(msgspec.Struct, frozen=True, kw_only=True):
    """An export: its parts, from 0, can be read until it expires; `making` until all are there."""

    id: UUID
    state: Literal["making", "complete"]
    parts: int
    expires_at_ms: int


class ExportPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part: rows as the resources answer them; of a statement, of which wallet."""

    source: str
    rows: list[dict[str, Any]]
    wallet: UUID | None = None


class ExportCursor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the next part begins: in which source, at which wallet, before or after what."""

    source: ExportSource
    wallet: int = 0
    number: int = _NUMBER_MAX
    row: bytes | None = None


ReadableParts = Callable[[Asker, ExportCursor], Awaitable[tuple[ExportPart, ExportCursor | None]]]
"""What a person can read: the page at a cursor, and the cursor after it, None at the end."""


class Exports:
    """Exports over what a person can read."""

    def __init__(
        self, exports: PersonalExports, person_keys: PersonKeys, keys: StepKeys, readable: ReadableParts
    ) -> None:
        self._exports = exports
        self._person_keys = person_keys
        self._keys = keys
        self._readable = readable

    async def begin(self, request: KeyedRequest) -> ExportReply:
        """Begin an export, or find the one that the person has; raises RequestRefusedError."""
        asker = request.asker
        if asker.is_service:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "people export what is their own")
        key = await self._person_keys.ensure(asker.tenant, asker.principal, KeyKind.PROFILE)
        first = msgspec.json.encode(ExportCursor(source="wallets")).decode()
        new = ExportRow(new_id(), asker.tenant, asker.principal, key.id, 0, EXPORT_LIFE_US, 0, first)
        answer = await self._exports.begin(self._keys.make(request, "export"), new)
        if answer.outcome is StepOutcome.AGAIN:
            raise RequestRefusedError(ErrorCode.PERSON_ERASED)
        return await self.read(asker, check_done(answer))

    async def read(self, asker: Asker, export: bytes) -> ExportReply:
        """How far an export is; raises RequestRefusedError."""
        row = await self._find(asker, export)
        return ExportReply(
            id=UUID(bytes=row.export),
            state="complete" if row.reached is None else "making",
            parts=row.parts,
            expires_at_ms=row.expires_us // 1000,
        )

    async def read_part(self, asker: Asker, export: bytes, part: int) -> ExportPart:
        """A part of an export; raises RequestRefusedError."""
        row = await self._find(asker, export)
        sealed = await self._exports.read_part(row.export, part)
        if sealed is None:
            raise RequestRefusedError(ErrorCode.RECORD_NOT_FOUND)
        try:
            return unseal(await self._person_keys.open(row.key_id), _place(row, part), sealed, ExportPart)
        except SealError as error:
            _log.error("a part of an export cannot be opened: %s", error)
            raise RequestRefusedError(ErrorCode.INTERNAL) from error

    async def make_next(self) -> bool:
        """Make the next part of some exports; whether there may be more."""
        rows = await self._exports.list_to_make(_EXPORTS_AT_ONCE)
        for row in rows:
            try:
                await self._make_part(row)
            except (RequestRefusedError, StorageUnavailableError) as error:
                _log.warning("a part of an export could not be made, will try again: %s", error)
                await self._exports.put_off(row.export, PAUSE_US)
        return bool(rows)

    async def _make_part(self, row: ExportRow) -> None:
        assert row.reached is not None, "it is to be made"
        asker = Asker(tenant=row.tenant, principal=row.person)
        part, after = await self._readable(asker, msgspec.json.decode(row.reached, type=ExportCursor))
        sealed = seal(await self._person_keys.open(row.key_id), _place(row, row.parts), part)
        reached = None if after is None else msgspec.json.encode(after).decode()
        await self._exports.add_part(row.export, row.parts, sealed, reached)

    async def _find(self, asker: Asker, export: bytes) -> ExportRow:
        row = await self._exports.read(asker.tenant, asker.principal, export)
        if row is None:
            raise RequestRefusedError(ErrorCode.RECORD_NOT_FOUND)
        return row


def _place(row: ExportRow, part: int) -> SealedPlace:
    return SealedPlace(ItemKind.EXPORT_PART, row.person, row.export + part.to_bytes(4, "big"))
