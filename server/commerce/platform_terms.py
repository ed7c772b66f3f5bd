"""What an admin of the platform sets: fees, rates, limits. Each is a step with a line in the audit."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec

from protocol.commerce.currencies import AMOUNT_MINOR_MAX, Currency, is_known
from protocol.errors import ErrorCode
from protocol.ids import NIL
from server.commerce.asker import KeyedRequest
from server.commerce.outcomes import check_done
from server.commerce.step_keys import StepKeys
from server.commerce.wallet_keeping import is_timezone
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right
from storage.commerce.terms import Terms

_Amount = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MINOR_MAX)]
_RATE_TEXT = r"^[0-9]{1,12}(\.[0-9]{1,12})?$"


class FeeRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fee for payments to a business that begin from now on; without `owner`: to all that have no rule."""

    currency: Currency
    basis_points: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    fixed_minor: _Amount = 0
    owner: UUID | None = None


class ExchangeRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Minor units of `buy_currency` for one of `sell_currency`; without it, of the reference currency of limits."""

    sell_currency: Currency
    rate: Annotated[str, msgspec.Meta(pattern=_RATE_TEXT, description="a decimal number above 0, such as 0.0285")]
    buy_currency: Currency | None = None


class PersonLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person may pay in a day and month, in the reference currency, instead of what was set; null: no limit."""

    person: UUID
    timezone: Annotated[str, msgspec.Meta(max_length=64, examples=["Asia/Bangkok"])]
    day_max_minor: _Amount | None
    month_max_minor: _Amount | None


class PlatformTerms:
    """Settings of a tenant."""

    def __init__(self, terms: Terms, keys: StepKeys, *, reference: str) -> None:
        self._terms = terms
        self._keys = keys
        self._reference = reference

    async def set_fee_rule(self, request: KeyedRequest, rule: FeeRule) -> None:
        """Set a fee; raises RequestRefusedError."""
        asker = request.asker
        asker.check_right(Right.ADMIN)
        _check_currencies(rule.currency)
        key = self._keys.make(request, "set fee rule", rule)
        owner = NIL if rule.owner is None else rule.owner.bytes
        check_done(
            await self._terms.set_fee_rule(
                key,
                asker.principal,
                asker.tenant,
                owner=owner,
                currency=rule.currency,
                basis_points=rule.basis_points,
                fixed=rule.fixed_minor,
            )
        )

    async def set_rate(self, request: KeyedRequest, rate: ExchangeRate) -> None:
        """Set a rate; raises RequestRefusedError."""
        asker = request.asker
        asker.check_right(Right.ADMIN)
        _check_currencies(rate.sell_currency, *([] if rate.buy_currency is None else [rate.buy_currency]))
        number = Decimal(rate.rate)
        if not number:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "rate: above 0")
        if rate.buy_currency is None and rate.sell_currency == self._reference:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "the reference currency counts as itself")
        key = self._keys.make(request, "set rate", rate)
        check_done(
            await self._terms.set_rate(
                key, asker.principal, asker.tenant, sell=rate.sell_currency, buy=rate.buy_currency, rate=number
            )
        )

    async def set_limits(self, request: KeyedRequest, limits: PersonLimits) -> None:
        """Set the limits of a person who has a wallet; raises RequestRefusedError."""
        asker = request.asker
        asker.check_right(Right.ADMIN)
        if not is_timezone(limits.timezone):
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "timezone: there is no such time zone")
        key = self._keys.make(request, "set limits", limits)
        check_done(
            await self._terms.set_limits(
                key,
                asker.principal,
                asker.tenant,
                person=limits.person.bytes,
                timezone=limits.timezone,
                day_max=limits.day_max_minor,
                month_max=limits.month_max_minor,
            )
        )


def _check_currencies(*currencies: str) -> None:
    if not all(map(is_known, currencies)):
        raise RequestRefusedError(ErrorCode.CURRENCY_REFUSED)
