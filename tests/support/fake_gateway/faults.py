"""What can go wrong at a gateway, each with a probability, drawn from a seed.

A draw depends on the seed, the fault and what it is about (a reference and how often it was sent), never on the order
of requests: the same payments meet the same faults in every run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

NAMES = {
    "call_times_out": "done, and no answer until the client gives up",
    "call_cut": "done, and the connection ends without an answer",
    "call_lost": "not done, and the connection ends without an answer",
    "call_late": "the connection ends without an answer, and it is done seconds later",
    "call_500": "done, and the answer is 500",
    "call_limited": "not done: 429",
    "read_500": "a read is answered with 500",
    "card_declined": "402 at once",
    "card_pending": "a card is charged later",
    "card_fails": "a pending charge of a card fails",
    "qr_unpaid": "nobody pays (this and the next five: customers that pay by themselves)",
    "qr_paid_late": "paid after it has expired",
    "qr_paid_twice": "paid twice",
    "qr_paid_in_part": "half is paid",
    "qr_paid_too_much": "a tenth too much is paid",
    "qr_stray": "somebody pays for nothing that was asked",
    "refund_fails": "a refund fails after it was pending",
    "refund_returned": "a refund comes back after it had succeeded",
    "payout_fails": "a payout fails after it was pending",
    "payout_in_part": "half of a payout is paid, and no more",
    "payout_returned": "a payout comes back after it had succeeded",
    "chargeback": "the bank takes back what was paid",
    "chargeback_won": "it is decided for us (else against us)",
    "webhook_doubled": "sent twice under one id, and once more under another",
    "webhook_reordered": "waits, so that later ones overtake it",
    "webhook_late": "sent seconds later",
    "webhook_lost": "never sent",
    "webhook_wrong_signature": "before the genuine one there is one under another key",
    "webhook_old_timestamp": "before the genuine one there is one that was signed an hour ago",
}


class Faults:
    """Which faults there are now; `felt` counts what struck."""

    def __init__(self, seed: int, chances: Mapping[str, float]) -> None:
        self._seed = seed
        self._chances: dict[str, float] = {}
        self.felt: Counter[str] = Counter()
        self.set(chances)

    def set(self, chances: Mapping[str, float]) -> None:
        """Have these, and no others. Raises ValueError for a name that is none."""
        if unknown := set(chances) - set(NAMES):
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
        self._chances = dict(chances)

    def strike(self, name: str, about: str) -> bool:
        """Whether this fault strikes now."""
        struck = random.Random(f"{self._seed}/{name}/{about}").random() < self._chances.get(name, 0.0)
        self.felt[name] += struck
        return struck
