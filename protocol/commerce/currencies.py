"""Amounts and currencies: integers of minor units, and how many decimals each currency has.

The decimals stand here and never change: a stored amount means what it meant. (ISO 4217, 2024-06. Libraries that format
amounts give what is usual in shops, which for IQD, LAK and MMK is 0 and not the standard's.)
"""

from __future__ import annotations

from typing import Annotated

import msgspec

AMOUNT_MINOR_MAX = 10**15
"""The largest amount, and so the largest sum of a payment: every JSON reader holds it exactly."""

AmountMinor = Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MINOR_MAX)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]

_BY_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF "
        "CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL "
        "HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP "
        "MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD "
        "SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS "
        "VED VES WST XCD YER ZAR ZMW ZWL"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
}
DECIMALS: dict[str, int] = {code: decimals for decimals, codes in _BY_DECIMALS.items() for code in codes.split()}
"""The decimals of every currency that this version knows."""


def is_known(currency: str) -> bool:
    """Whether amounts can be in this currency."""
    return currency in DECIMALS


def as_decimal(amount_minor: int, currency: str) -> str:
    """An amount with its decimals, for people who read logs and terminals: ("150000", "THB") is "1500.00"."""
    decimals = DECIMALS[currency]
    sign, digits = ("-" if amount_minor < 0 else ""), f"{abs(amount_minor):0{decimals + 1}d}"
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else sign + digits
