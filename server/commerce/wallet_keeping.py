"""Wallets: opened, listed, and what moved in them. A foreign wallet is not found."""

from __future__ import annotations

from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from protocol.commerce.currencies import AmountMinor, Currency, is_known
from protocol.errors import ErrorCode
from protocol.ids import NIL
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import check_done
from server.commerce.step_keys import StepKeys
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import (
    SLOTS_SHARED,
    LedgerAccount,
    Purpose,
    StepOutcome,
    TransferRow,
    account_id,
)
from storage.commerce.terms import Terms

_OF_THE_PLATFORM = (Purpose.FEES, Purpose.CLEARING, Purpose.SUSPENSE, Purpose.EXCHANGE, Purpose.OPENING)


class NewWallet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wallet in a currency. `owner`: of another, for an API key with the right admin.

    A `business` has no limits, and a wallet into which many pay at once.
    """

    currency: Currency
    owner: UUID | None = None
    business: bool = False


class WalletReply(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet: what is in it and free, what is held of it, and what its owner owes.

    Accounts of the platform, whose owner is the nil UUID, have other purposes than `wallet`, and may be below zero.
    """

    id: UUID
    owner: UUID
    currency: str
    purpose: str
    status: str
    balance_minor: int
    held_minor: int
    debt_minor: int


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer: `amount_minor` is negative when it left the wallet. `about` is the payment or chain it belongs to.

    `after_minor` is the balance after it; of an account with several slots, of its slot.
    """

    number: int
    at_ms: int
    amount_minor: int
    after_minor: int
    other: UUID
    reason: str
    about: UUID
    reverses: int | None = None


class WalletTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a person's wallet begins with, and the currency in which limits count."""

    timezone: str
    reference_currency: str
    day_max: AmountMinor
    month_max: AmountMinor


class WalletKeeping:
    """Wallets over the ledger."""

    def __init__(self, ledger: Ledger, terms: Terms, keys: StepKeys, begins_with: WalletTerms) -> None:
        self._ledger = ledger
        self._terms = terms
        self._keys = keys
        self._begins_with = begins_with
        self._prepared: set[tuple[int, str]] = set()

    async def open(self, request: KeyedRequest, new: NewWallet) -> WalletReply:
        """Open a wallet, or find it open; raises RequestRefusedError."""
        owner, tenant = _owner_of(request.asker, new), request.asker.tenant
        if not is_known(new.currency):
            raise RequestRefusedError(ErrorCode.CURRENCY_REFUSED)
        wallet = account_id(tenant, owner, new.currency, Purpose.WALLET)
        key = self._keys.make(request, "open wallet", new)
        check_done(await self._ledger.answer(key, StepOutcome.DONE, wallet))
        await self.open_for(tenant, owner, new.currency, business=new.business, actor=request.asker.principal)
        rows = await self._ledger.read_accounts(tenant, owner)
        return next(_render(row) for row in rows if row.account == wallet)

    async def open_for(self, tenant: int, owner: bytes, currency: str, *, business: bool, actor: bytes) -> None:
        """Open the wallet of an owner, or find it open; nobody is asked whether they may."""
        await self._prepare(tenant, currency)
        if business:
            await self._ledger.open_wallet(tenant, owner, currency, slots=SLOTS_SHARED, actor=actor)
            return
        begins = self._begins_with
        await self._ledger.open_wallet(
            tenant,
            owner,
            currency,
            timezone=begins.timezone,
            day_max=begins.day_max,
            month_max=begins.month_max,
            actor=actor,
        )

    async def list_of(self, asker: Asker, owner: bytes) -> list[WalletReply]:
        """The wallets of an owner; of the nil owner, for an admin, the accounts of the platform."""
        if not _may_read(asker, owner):
            raise RequestRefusedError(ErrorCode.WALLET_NOT_FOUND)
        rows = await self._ledger.read_accounts(asker.tenant, owner)
        return [_render(row) for row in rows if row.purpose is Purpose.WALLET or owner == NIL]

    async def read_statement(self, asker: Asker, wallet: bytes, before: int, limit: int) -> list[StatementLine]:
        """What moved in a wallet, newest first, with numbers below `before`; raises RequestRefusedError."""
        found = (await self._terms.read_owners(asker.tenant, [wallet])).get(wallet)
        if found is None or not _may_read(asker, found.owner):
            raise RequestRefusedError(ErrorCode.WALLET_NOT_FOUND)
        return [_line(row) for row in await self._ledger.read_statement(wallet, before, limit)]

    async def _prepare(self, tenant: int, currency: str) -> None:
        """The accounts of the platform that steps in this currency need."""
        if (tenant, currency) in self._prepared:
            return
        for purpose in _OF_THE_PLATFORM:
            await self._ledger.open_own(tenant, currency, purpose, owner=NIL, slots=SLOTS_SHARED)
        await self._terms.ensure_reference(tenant, self._begins_with.reference_currency)
        self._prepared.add((tenant, currency))


def is_timezone(name: str) -> bool:
    """Whether there is such a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _owner_of(asker: Asker, new: NewWallet) -> bytes:
    """Whose wallet is opened: their own, or anybody's for an admin; raises RequestRefusedError."""
    if asker.is_service or new.business:
        asker.check_right(Right.ADMIN)
        if new.owner is None:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "owner: whose wallet it is")
        return new.owner.bytes
    if new.owner is not None and new.owner.bytes != asker.principal:
        raise RequestRefusedError(ErrorCode.WALLET_NOT_FOUND)
    return asker.principal


def _may_read(asker: Asker, owner: bytes) -> bool:
    return asker.acts_for(owner) or (asker.rights is not None and Right.ADMIN in asker.rights)


def _render(row: LedgerAccount) -> WalletReply:
    return WalletReply(
        id=UUID(bytes=row.account),
        owner=UUID(bytes=row.owner),
        currency=row.currency,
        purpose=row.purpose.name.lower(),
        status=row.status.name.lower(),
        balance_minor=row.balance,
        held_minor=row.held,
        debt_minor=row.debt,
    )


def _line(row: TransferRow) -> StatementLine:
    return StatementLine(
        number=row.transfer_no,
        at_ms=row.at_us // 1000,
        amount_minor=row.amount,
        after_minor=row.after,
        other=UUID(bytes=row.other),
        reason=row.reason.name.lower(),
        about=UUID(bytes=row.subject),
        reverses=row.reverses,
    )
