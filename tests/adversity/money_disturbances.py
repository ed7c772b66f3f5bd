"""What happens while racers race: the server dies, sockets are lost, the clock steps, months end."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from storage.postgres.pool import translate_errors
from storage.unavailable import StorageUnavailableError
from tests.adversity.money_audit import look
from tests.adversity.money_calls import HOUR_US, SECOND_US
from tests.adversity.money_racers import ZONES
from tests.adversity.money_stage import REPEAT_S, MoneyStage
from tests.adversity.money_told import Told

_STEPS_US = (60 * SECOND_US, HOUR_US, 26 * HOUR_US, 50 * HOUR_US)
_AHEAD_US = SECOND_US // 10
_MONTHS_MAX = 24
_PROGRESS_S = 10.0


class Disturbances:
    """All of it, each at a number of operations. `closed_us` are the ends of the months that were closed."""

    def __init__(self, stage: MoneyStage, told: Told, rng: random.Random) -> None:
        self.closed_us: list[int] = []
        self.clock_steps = 0
        self.cuts = 0
        self._stage = stage
        self._told = told
        self._rng = rng
        self._begun_s = self._said_s = time.monotonic()

    async def run(self, operations: int, kills: int, months: int | None = None) -> None:
        """Disturb until so many calls were answered."""
        months = min(_MONTHS_MAX, max(3, operations // 4_000)) if months is None else months
        steps = max(6, operations // 4_000)
        due = [
            (operations * (place + shift) / count, disturb)
            for disturb, count, shift in (
                (self._kill, kills, 0.7),
                (self._cut, 2 * kills, 0.6),
                (self._step_clock, steps, 0.3),
                (self._step_to_midnight, steps, 0.8),
                (self._close_month, months, 0.5),
            )
            for place in range(count)
        ]
        for at, disturb in sorted(due, key=lambda each: each[0]):
            await self._reach(at)
            await disturb()
        await self._reach(operations)
        self._say()

    async def _reach(self, operations: float) -> None:
        while self._told.operations < operations:
            await asyncio.sleep(REPEAT_S)
            if time.monotonic() - self._said_s > _PROGRESS_S:
                self._said_s = time.monotonic()
                self._say()

    def _say(self) -> None:
        outcomes = {outcome.name.lower(): count for outcome, count in self._told.outcomes.most_common()}
        seconds = round(self._said_s - self._begun_s)
        line = {"operations": self._told.operations, "seconds": seconds, "kills": self._stage.kills, **outcomes}
        print(json.dumps(line), file=sys.stderr, flush=True)  # noqa: T201 - progress of a command

    async def _kill(self) -> None:
        await self._stage.kill(self._rng)
        await self._while_available(self._look)

    async def _cut(self) -> None:
        self._stage.writes.cut(self._rng)
        self.cuts += 1

    async def _look(self) -> None:
        async with self._stage.connected() as connection:
            await look(connection, self._told)

    async def _step_clock(self) -> None:
        self.clock_steps += 1
        step_us = self._rng.choice(_STEPS_US)
        await self._stage.step_clock(step_us if self.clock_steps % 4 == 3 else -step_us)

    async def _step_to_midnight(self) -> None:
        """A day ends in a time zone in which people live, a moment from now."""
        self.clock_steps += 1
        now_us = await self._stage.now_us()
        local = datetime.fromtimestamp(now_us / SECOND_US, ZoneInfo(self._rng.choice(ZONES)))
        midnight = datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), local.tzinfo)
        await self._stage.step_clock(_us(midnight) - now_us - _AHEAD_US)

    async def _close_month(self) -> None:
        """The clock steps to the end of a month, which is closed when it is over; its trial balance is taken."""
        now_us = await self._stage.now_us()
        month = datetime.fromtimestamp(max(now_us, *self.closed_us, 0) / SECOND_US, UTC)
        end_us = _us(datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC))
        await self._stage.step_clock(end_us - now_us - _AHEAD_US)
        await self._stage.close_month(month.year * 100 + month.month, end_us)
        self.closed_us.append(end_us)

    async def _while_available(self, action: Callable[[], Awaitable[None]]) -> None:
        """Try until the database answers."""
        while True:
            try:
                async with translate_errors():
                    return await action()
            except StorageUnavailableError:
                await asyncio.sleep(REPEAT_S)


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * SECOND_US)
