"""For how long the law wants identity, tax data and copies of orders kept, by country: one table.

Years are those of the longest rule that we know of for books of account and tax; where a country is not named, the
longest of all. A platform's lawyers decide: this is the place to change.
"""

from __future__ import annotations

_DAY_US = 86_400_000_000
_YEAR_DAYS = 366
_YEARS_OTHERWISE = 10
YEARS_BY_COUNTRY = {"TH": 7, "MY": 7, "SG": 7, "ID": 10, "PH": 10, "VN": 10}


def keep_us(country: str) -> int:
    """For how long, in microseconds: whole years, never less."""
    return YEARS_BY_COUNTRY.get(country, _YEARS_OTHERWISE) * _YEAR_DAYS * _DAY_US
