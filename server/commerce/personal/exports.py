"""Exports: all that a person can read here themselves, page by page, put together in the background.

Each step makes one part of at most PART_ROWS rows, so an export of any size never holds anything up. Parts are sealed
under the profile key: an erasure takes them with it.
"""

from __future__ import annotations

import logging
from typing import Any, Literal
from uuid import UUID

import msgspec

from protocol.errors import ErrorCode
from protocol.ids import NIL, new_id
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import check_done
from server.commerce.payment_steps import PaymentSteps
from server.commerce.personal.addresses import Addresses
from server.commerce.personal.held_keys import PersonKeys
from server.commerce.personal.item_sealing import SealedPlace, SealError, seal, unseal
from server.commerce.personal.legal_records import LegalRecords
from server.commerce.step_keys import StepKeys
from server.commerce.wallet_keeping import WalletKeeping
from server.refusals import RequestRefusedError
from storage.commerce.money_rows import StepOutcome
from storage.commerce.personal_exports import ExportRow, PersonalExports
from storage.commerce.personal_rows import ItemKind, KeyKind
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

PART_ROWS = 100
EXPORT_LIFE_US = 7 * 86_400_000_000
PAUSE_US = 60_000_000
"""After a part that could not be made."""
_EXPORTS_AT_ONCE = 10
_NUMBER_MAX = 2**53
_LAST = b"\xff" * 16


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

    source: Literal["wallets", "statements", "payments", "addresses", "identity", "legal_copies"]
    wallet: int = 0
    number: int = _NUMBER_MAX
    row: bytes | None = None


class Exports:
    """Exports over what a person can read."""

    def __init__(
        self, exports: PersonalExports, person_keys: PersonKeys, keys: StepKeys, readable: ExportSources
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
        part, after = await self._readable.read(asker, msgspec.json.decode(row.reached, type=ExportCursor))
        sealed = seal(await self._person_keys.open(row.key_id), _place(row, row.parts), part)
        reached = None if after is None else msgspec.json.encode(after).decode()
        await self._exports.add_part(row.export, row.parts, sealed, reached)

    async def _find(self, asker: Asker, export: bytes) -> ExportRow:
        row = await self._exports.read(asker.tenant, asker.principal, export)
        if row is None:
            raise RequestRefusedError(ErrorCode.RECORD_NOT_FOUND)
        return row


class ExportSources:
    """What a person can read: each call is a page of one source, and where the next begins."""

    def __init__(
        self, wallets: WalletKeeping, payments: PaymentSteps, addresses: Addresses, legal: LegalRecords
    ) -> None:
        self._wallets = wallets
        self._payments = payments
        self._addresses = addresses
        self._legal = legal

    async def read(self, asker: Asker, at: ExportCursor) -> tuple[ExportPart, ExportCursor | None]:
        """The page at a cursor; the cursor after it is None at the end."""
        match at.source:
            case "wallets":
                found = await self._wallets.list_of(asker, asker.principal)
                return _part(at, found), ExportCursor(source="statements")
            case "statements":
                return await self._read_statement(asker, at)
            case "payments":
                page = await self._payments.read_page(asker, asker.principal, at.row or _LAST, PART_ROWS)
                full = len(page) == PART_ROWS
                after = ExportCursor(source="payments", row=page[-1].id.bytes) if full else None
                return _part(at, page), after or ExportCursor(source="addresses")
            case "addresses":
                return _part(at, await self._addresses.list_of(asker)), ExportCursor(source="identity")
            case "identity":
                known = await self._legal.find_identity(asker.tenant, asker.principal)
                return _part(at, [known] if known else []), ExportCursor(source="legal_copies")
            case "legal_copies":
                copies = await self._legal.read_copies(asker, at.row or NIL, PART_ROWS)
                full = len(copies) == PART_ROWS
                after = ExportCursor(source="legal_copies", row=copies[-1][0]) if full else None
                return _part(at, [copy for _, copy in copies]), after

    async def _read_statement(self, asker: Asker, at: ExportCursor) -> tuple[ExportPart, ExportCursor]:
        wallets = await self._wallets.list_of(asker, asker.principal)
        if at.wallet >= len(wallets):
            return _part(at, []), ExportCursor(source="payments")
        wallet = wallets[at.wallet].id
        lines = await self._wallets.read_statement(asker, wallet.bytes, at.number, PART_ROWS)
        after = ExportCursor(source="statements", wallet=at.wallet + 1)
        if len(lines) == PART_ROWS:
            after = ExportCursor(source="statements", wallet=at.wallet, number=lines[-1].number)
        return msgspec.structs.replace(_part(at, lines), wallet=wallet), after


def _part(at: ExportCursor, rows: Any) -> ExportPart:
    return ExportPart(source=at.source, rows=msgspec.to_builtins(rows))


def _place(row: ExportRow, part: int) -> SealedPlace:
    return SealedPlace(ItemKind.EXPORT_PART, row.person, row.export + part.to_bytes(4, "big"))
