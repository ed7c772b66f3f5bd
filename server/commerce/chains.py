"""Transfers of platform services: chains of up to CHAIN_LEGS_MAX legs, all or none; and exchanges under a quote."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec

from protocol.commerce.currencies import AmountMinor, Currency, is_known
from protocol.errors import ErrorCode
from protocol.ids import NIL, new_id
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.outcomes import check_done
from server.commerce.step_keys import StepKeys, name_operation
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import CHAIN_LEGS_MAX, Leg, Purpose, StepOutcome, TransferReason, account_id
from storage.commerce.terms import AccountUse, QuoteRow, Terms

_S_US = 1_000_000


class TransferLeg(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From one wallet to another of its currency. `reverses`: the number of the transfer that it takes back."""

    from_wallet: UUID
    to_wallet: UUID
    amount_minor: AmountMinor
    reverses: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None


class NewChain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Transfers that are made together, or not at all."""

    legs: Annotated[list[TransferLeg], msgspec.Meta(min_length=1, max_length=CHAIN_LEGS_MAX)]


class ChainReply(msgspec.Struct, frozen=True, kw_only=True):
    """A chain that was posted; statements name it."""

    id: UUID


class NewQuote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner sells, and for which currency. `owner`: a business for which an API key acts."""

    sell_currency: Currency
    sell_amount_minor: AmountMinor
    buy_currency: Currency
    owner: UUID | None = None


class QuoteReply(msgspec.Struct, frozen=True, kw_only=True):
    """The offer of an exchange: it may be used once, until `expires_at_ms`."""

    id: UUID
    sell_currency: str
    sell_amount_minor: int
    buy_currency: str
    buy_amount_minor: int
    expires_at_ms: int
    used: bool


class Chains:
    """Chains and exchanges over the ledger."""

    def __init__(self, ledger: Ledger, terms: Terms, keys: StepKeys, *, quote_life_s: int) -> None:
        self._ledger = ledger
        self._terms = terms
        self._keys = keys
        self._quote_life_us = quote_life_s * _S_US

    async def post(self, request: KeyedRequest, chain: NewChain) -> ChainReply:
        """Transfer; raises RequestRefusedError, which names the leg that cannot be."""
        asker = request.asker
        asker.check_right(Right.TRANSFERS)
        key = self._keys.make(request, "transfer", chain)
        accounts = {each.bytes for leg in chain.legs for each in (leg.from_wallet, leg.to_wallet)}
        owners = await self._terms.read_owners(asker.tenant, list(accounts))
        if all(_may_take(asker, owners.get(leg.from_wallet.bytes)) for leg in chain.legs):
            legs = [
                Leg(leg.from_wallet.bytes, leg.to_wallet.bytes, leg.amount_minor, leg.reverses) for leg in chain.legs
            ]
            answer = await self._ledger.post_chain(
                key, asker.tenant, new_id(), _reason(chain, owners), legs, actor=asker.principal
            )
        else:
            answer = await self._ledger.answer(key, StepOutcome.WALLET_NOT_FOUND)
        return ChainReply(id=UUID(bytes=check_done(answer, f"leg {answer.detail}" if answer.detail else "")))

    async def quote(self, request: KeyedRequest, new: NewQuote) -> QuoteReply:
        """Offer an exchange; raises RequestRefusedError."""
        asker = request.asker
        owner = asker.principal if new.owner is None else new.owner.bytes
        key = self._keys.make(request, "quote", new)
        if not asker.acts_for(owner):
            answer = await self._ledger.answer(key, StepOutcome.WALLET_NOT_FOUND)
        elif not is_known(new.sell_currency) or not is_known(new.buy_currency):
            answer = await self._ledger.answer(key, StepOutcome.CURRENCY)
        else:
            answer = await self._terms.make_quote(
                key,
                asker.tenant,
                owner,
                new_id(),
                sell=new.sell_currency,
                amount=new.sell_amount_minor,
                buy=new.buy_currency,
                life_us=self._quote_life_us,
            )
        return _render(await self._find(asker, check_done(answer)))

    async def exchange(self, request: KeyedRequest, quote: UUID) -> QuoteReply:
        """Use a quote; raises RequestRefusedError."""
        asker = request.asker
        row = await self._terms.read_quote(asker.tenant, quote.bytes)
        key = self._keys.make(request, name_operation("exchange", quote))
        if row is None or not asker.acts_for(row.owner):
            answer = await self._ledger.answer(key, StepOutcome.QUOTE)
        else:
            answer = await self._ledger.post_chain(
                key,
                asker.tenant,
                row.quote,
                TransferReason.EXCHANGE,
                _exchange_legs(asker.tenant, row),
                quote=row.quote,
                actor=asker.principal,
            )
        return _render(await self._find(asker, check_done(answer)))

    async def _find(self, asker: Asker, quote: bytes) -> QuoteRow:
        row = await self._terms.read_quote(asker.tenant, quote)
        if row is None:
            raise RequestRefusedError(ErrorCode.QUOTE_REFUSED)
        return row


def _may_take(asker: Asker, found: AccountUse | None) -> bool:
    """Whether a service may take from an account: a wallet of its businesses, or any with the right admin."""
    if found is None:
        return False
    is_admin = asker.rights is not None and Right.ADMIN in asker.rights
    return is_admin or (found.purpose is Purpose.WALLET and asker.acts_for(found.owner))


def _reason(chain: NewChain, owners: dict[bytes, AccountUse]) -> TransferReason:
    if any(leg.reverses is not None for leg in chain.legs):
        return TransferReason.REVERSAL
    opening = all(owners[leg.from_wallet.bytes].purpose is Purpose.OPENING for leg in chain.legs)
    return TransferReason.OPENING_BALANCE if opening else TransferReason.TRANSFER


def _exchange_legs(tenant: int, row: QuoteRow) -> list[Leg]:
    """The owner sells to the platform and buys from it."""
    return [
        Leg(
            account_id(tenant, row.owner, row.sell_currency, Purpose.WALLET),
            account_id(tenant, NIL, row.sell_currency, Purpose.EXCHANGE),
            row.sell_amount,
        ),
        Leg(
            account_id(tenant, NIL, row.buy_currency, Purpose.EXCHANGE),
            account_id(tenant, row.owner, row.buy_currency, Purpose.WALLET),
            row.buy_amount,
        ),
    ]


def _render(row: QuoteRow) -> QuoteReply:
    return QuoteReply(
        id=UUID(bytes=row.quote),
        sell_currency=row.sell_currency,
        sell_amount_minor=row.sell_amount,
        buy_currency=row.buy_currency,
        buy_amount_minor=row.buy_amount,
        expires_at_ms=row.expires_us // 1000,
        used=row.used,
    )
