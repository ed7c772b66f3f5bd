"""What one person may do in a day: begin direct dialogs, create groups and channels, add and invite people.

The buckets are of the person, and outlive connections. The store is asked even when a bucket is empty: it
knows what is a repetition, which gets its first ack again. Its refusal (`daily_limit`) is definite: a temporary one
would hold back for hours what the person sends later in the same dialog.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from protocol.bodies import Body, DialogCreated, Invited, MembersAdded
from protocol.dialog_types import DialogType
from server.config.settings import RateSettings
from storage.rates import Rate, RateLimiter

Taken = Sequence[tuple[Rate, int]]
"""What a change has cost: tokens of some rates."""


class DailyCaps:
    """Takes what a change costs before it is made, and gives it back if nothing was made."""

    def __init__(self, settings: RateSettings, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._direct_dialogs = Rate.per_day("direct dialogs of person", settings.direct_dialogs_per_person_per_day)
        self._dialogs = Rate.per_day("dialogs of person", settings.dialogs_per_person_per_day)
        self._additions = Rate.per_day("additions of person", settings.additions_per_person_per_day)

    async def take(self, principal: bytes, body: Body) -> tuple[Taken, float]:
        """Take what a change of this person costs: what was taken, and 0; or nothing, and the seconds to wait."""
        taken: list[tuple[Rate, int]] = []
        for rate, cost in self._costs_of(principal, body):
            if wait_s := await self._limiter.take([(rate, principal)], cost=cost):
                await self.give_back(principal, taken)
                return (), wait_s
            taken.append((rate, cost))
        return taken, 0.0

    async def give_back(self, principal: bytes, taken: Taken) -> None:
        """Undo a `take`."""
        for rate, cost in taken:
            await self._limiter.give_back([(rate, principal)], cost=cost)

    def _costs_of(self, principal: bytes, body: Body) -> Iterator[tuple[Rate, int]]:
        others = 0
        match body:
            case DialogCreated(type=DialogType.DIRECT):
                yield self._direct_dialogs, 1
            case DialogCreated(members=members):
                yield self._dialogs, 1
                others = sum(each.principal != principal for each in members)
            case MembersAdded(members=added):
                others = sum(each != principal for each in added)
            case Invited():
                others = 1
        if others:
            yield self._additions, others
