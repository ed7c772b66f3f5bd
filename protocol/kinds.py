"""The catalogue of content kinds: who may post one, whether it counts as unread, how long it is kept."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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
    """One row of the catalogue. `retention_days` is a floor; None keeps it as long as the dialog."""

    counts_unread: bool
    by_members: bool
    retention_days: int | None
    meaning: str


KINDS: dict[Kind, KindRule] = {
    Kind.MESSAGE: KindRule(True, True, None, "A message of a person, bot or business."),
    Kind.SIGNAL: KindRule(False, True, None, "Machine to machine: call set-up, key announcements."),
    Kind.PAYMENT: KindRule(True, False, 7 * 365, "A state of a payment."),
    Kind.ORDER: KindRule(True, False, 7 * 365, "A state of an order."),
    Kind.BOOKING: KindRule(True, False, 7 * 365, "A state of a booking."),
    Kind.CAMPAIGN: KindRule(True, False, None, "A message of a campaign."),
    Kind.SYSTEM: KindRule(False, False, 90, "A notice of the platform."),
}
