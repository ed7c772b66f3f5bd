"""Who may do what for a business, and how a step that is judged here gets its final answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from protocol.commerce.shop_terms import StaffRight
from server.commerce.asker import Asker
from server.commerce.outcomes import check_done
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import Answer, StepKey, StepOutcome


def judge_staff(asker: Asker, business: bytes, right: StaffRight) -> StepOutcome | None:
    """Why they may not do this for a business, which for a stranger is not there; None if they may."""
    if not asker.is_of(business):
        return StepOutcome.BUSINESS_NOT_FOUND
    return None if asker.may(business, right) else StepOutcome.NOT_ALLOWED


class JudgedSteps:
    """Steps that are refused here or taken; both answers are kept under the key, but that of a missing right."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def take(self, key: StepKey, refused: StepOutcome | None, step: Callable[[], Awaitable[Answer]]) -> bytes:
        """The subject of the step; raises RequestRefusedError."""
        return check_done(await step()) if refused is None else await self.refuse(key, refused)

    async def refuse(self, key: StepKey, refused: StepOutcome) -> bytes:
        """The subject of the step that the key has taken before; raises RequestRefusedError if it has not."""
        return check_done(await self._ledger.answer(key, refused))
