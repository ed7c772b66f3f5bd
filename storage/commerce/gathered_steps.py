"""Steps that wait gather: while a batch is under way the next one fills, so nobody waits when there is no crowd.

Holds and full captures gather, each on their own; what the batch does not take goes alone. A batch whose fate is
unknown fails for all of its steps, and each is repeated by its caller under its own key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from protocol.commerce.payment_states import PaymentStep
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import BATCH_MAX, Answer, CaptureStep, HoldStep
from storage.unavailable import NothingWrittenError, WriteRefusedError

_Step = TypeVar("_Step")


class GatheredSteps:
    """Holds and captures over a ledger, on `lanes` batches at once for each."""

    def __init__(self, ledger: Ledger, *, lanes: int) -> None:
        self._ledger = ledger
        self._holds = _Gatherer(ledger.hold_many, self._hold_alone, lanes)
        self._captures = _Gatherer(ledger.capture_many, self._capture_alone, lanes)

    async def hold(self, step: HoldStep) -> Answer:
        """Send a payment that is held."""
        return await self._holds.take(step)

    async def capture(self, step: CaptureStep) -> Answer:
        """Capture a hold in full."""
        return await self._captures.take(step)

    async def _hold_alone(self, step: HoldStep) -> Answer:
        return await self._ledger.begin(step.key, step.actor, PaymentStep.SEND, step.new)

    async def _capture_alone(self, step: CaptureStep) -> Answer:
        return await self._ledger.take_step(
            step.key, step.actor, step.tenant, step.payment, PaymentStep.CAPTURE, party=step.party
        )


class _Gatherer(Generic[_Step]):
    """One kind of step: `together` takes what waits, `alone` what is one, or what `together` left."""

    def __init__(
        self,
        together: Callable[[Sequence[_Step]], Awaitable[list[Answer | None]]],
        alone: Callable[[_Step], Awaitable[Answer]],
        lanes: int,
    ) -> None:
        self._together = together
        self._alone = alone
        self._free = lanes
        self._waiting: list[tuple[_Step, asyncio.Future[Answer | None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, step: _Step) -> Answer:
        taken: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((step, taken))
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await taken or await self._alone(step)

    async def _run(self) -> None:
        await asyncio.sleep(0)  # what else comes in this turn of the loop goes with it
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                await self._take_batch(batch)
        finally:
            self._free += 1

    async def _take_batch(self, batch: Sequence[tuple[_Step, asyncio.Future[Answer | None]]]) -> None:
        answers: list[Answer | None] = [None] * len(batch)
        error: Exception | None = None
        if len(batch) > 1:
            try:
                answers = await self._together([step for step, _ in batch])
            except (NothingWrittenError, WriteRefusedError):
                pass  # one of them may be the reason: each goes alone
            except Exception as caught:  # noqa: BLE001 - each of the waiting is told
                error = caught
        for (_, taken), answer in zip(batch, answers, strict=True):
            if taken.done():
                continue  # who waited has gone
            if error is None:
                taken.set_result(answer)
            else:
                taken.set_exception(error)
