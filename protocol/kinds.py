"""The catalogue of content kinds: who may post one, whether it counts as unread, how long it must and may be kept."""

from __future__ import annotations

import enum
from dataclasses import dataclass

DAY_MS = 86_400_000


class Kind(enum.IntEnum):
    """What a posted envelope is. Members post the first two; services the others."""

    MESSAGE = 1
    SIGNAL = 2
    PAYMENT = 10
    ORDER = 11
    BOOKING = 12
    CAMPAIGN = 13
    SYSTEM = 14


@dataclass(frozen=True, slots=True)
class KindRule:
    """One row of the catalogue.

    For `kept_days_min` days it stays while its dialog does: no member deletes it, and neither `message_retention_days`
    nor `expires_at_ms` ends it. With the dialog it goes: what must be kept of money is in the ledger, not in timelines.
    After `kept_days_max` days the server erases it; None: it may stay as long as the dialog.
    """

    counts_unread: bool
    by_members: bool
    meaning: str
    kept_days_min: int = 0
    kept_days_max: int | None = None


KINDS: dict[Kind, KindRule] = {
    Kind.MESSAGE: KindRule(True, True, "A message of a person, bot or business."),
    Kind.SIGNAL: KindRule(False, True, "Machine to machine: call set-up, key announcements."),
    Kind.PAYMENT: KindRule(True, False, "A state of a payment.", kept_days_min=7 * 365),
    Kind.ORDER: KindRule(True, False, "A state of an order.", kept_days_min=7 * 365),
    Kind.BOOKING: KindRule(True, False, "A state of a booking.", kept_days_min=7 * 365),
    Kind.CAMPAIGN: KindRule(True, False, "A message of a campaign."),
    Kind.SYSTEM: KindRule(False, False, "A notice of the platform.", kept_days_max=90),
}
