"""Payments announced while everything fails: `python -m tests.adversity.announce --payments 5000 --kills 20`.

People of a real chat pay each other in open and sealed dialogs, over a real ledger; relays announce it. First nothing
fails, and how long an event takes is measured, from the step's time in the ledger to its arrival at a live client. Then
relays are killed and paused, answers are lost, the chat is killed and away, the relay's key is renewed, members leave
and dialogs are deleted. When all is at rest, everybody reads their timelines.

Prints one JSON line. `missing`: somebody who should see the last version does not. `doubled`: a version twice in a
timeline. `misordered`: a version after a higher one. `leaked`: somebody reads what is not for them, or a payment stands
where who began it was no member. It exits with 1 unless all are 0 and `p99_ms` is at most 150.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

from protocol.bodies import TimelineEvent
from protocol.commerce.payment_states import PaymentStep
from storage.commerce.money_rows import NewPaymentRow, StepOutcome
from tests.adversity.announce_breaks import BREAKS
from tests.adversity.announce_reading import COUNTS, Begun, Reading, read_payment
from tests.adversity.announce_stage import Stage, Talk
from tests.adversity.restart_server import SignIn
from tests.support.harness import live_on
from tests.support.money_world import TENANT

P99_MS_MAX = 150.0
WORKERS = 4
REST_S_MAX = 60.0
_LOOK_S = 0.1
STEPS_PER_S = 10.0
"""Payments begun in a second while nothing fails; most have two steps, and three events each."""
_OTHER_BLOWS = ("pause_a_relay", "lose_answers", "restart_the_chat", "renew_the_key", "have_somebody_leave")
_RARE_BLOWS = ("delete_a_dialog",)
_AHEAD = 20
"""Payments that begin before a blow that is due has been struck."""
_STORIES = (
    "ask",
    "ask approve",
    "ask approve refund",
    "ask decline",
    "ask cancel",
    "send",
    "send refund",
    "hold capture",
    "hold void",
)


class Payments:
    """People pay each other; what was begun is remembered."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.begun: list[Begun] = []
        self._stage = stage
        self._rng = random.Random(f"{seed} payments")

    async def make(self) -> None:
        """One payment, through one of the stories."""
        stage, rng = self._stage, self._rng
        talk = None if rng.random() < 0.1 else rng.choice([each for each in stage.talks if not each.deleted])
        members = stage.people if talk is None else talk.active
        payer, payee = rng.sample(members, 2)
        if talk is not None and rng.random() < 0.1:
            payee = rng.choice([each for each in stage.people if each != payer])
        begin, *steps = rng.choice(_STORIES).split()
        requester = payee if begin == "ask" else payer
        new = stage.money.payment(
            payer.principal,
            payee.principal,
            rng.randint(100, 100_000),
            dialog=None if talk is None else talk.dialog,
            later=begin == "hold",
        )
        begun = Begun(
            UUID(bytes=new.payment),
            talk,
            payer.principal,
            payee.principal,
            requester.principal,
            self._may_begin(talk, requester),
        )
        self.begun.append(begun)
        answer = await (stage.money.request(new) if begin == "ask" else stage.money.send(new))
        assert answer.outcome is StepOutcome.DONE, answer
        for step in steps:
            await asyncio.sleep(rng.choice([0, 0, 0.05, 0.3]))
            await self._take(step, new)

    def judge_again(self) -> list[Begun]:
        """The payments, of which it is now known who left: whether they were members then is open."""
        return [
            each
            if each.may_begin is not True or each.talk is None or each.requester not in each.talk.leaving
            else Begun(each.payment, each.talk, each.payer, each.payee, each.requester, None)
            for each in self.begun
        ]

    @staticmethod
    def _may_begin(talk: Talk | None, requester: SignIn) -> bool | None:
        if talk is None or requester not in talk.members or requester.principal in talk.left:
            return False
        return None if requester.principal in talk.leaving else True

    async def _take(self, step: str, new: NewPaymentRow) -> None:
        money, rng = self._stage.money, self._rng
        if step == "approve":
            answer = await money.ledger.approve(
                money.key(),
                new.payer,
                TENANT,
                new.payment,
                version=1,
                amount=new.amount,
                currency=new.currency,
                payee=new.payee,
            )
        elif step == "refund":
            amount = rng.choice([None, new.amount // 3])
            answer = await money.ledger.refund(money.key(), new.payee, TENANT, new.payment, amount=amount)
        elif step == "capture":
            answer = await money.capture(new, rng.choice([None, new.amount // 2]))
        elif step == "void":
            answer = await money.void(new)
        else:
            answer = await money.ledger.take_step(
                money.key(), new.payee, TENANT, new.payment, PaymentStep[step.upper()]
            )
        assert answer.outcome is StepOutcome.DONE, (step, answer)


class Watch:
    """When events of payments came to people who are connected."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._came_s: dict[tuple[bytes, UUID, int], float] = {}

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Meanwhile everybody is connected."""
        async with contextlib.AsyncExitStack() as stack:
            tasks = []
            for person in self._stage.people:
                wire = await stack.enter_async_context(live_on(self._stage.chat.port, person.token))
                tasks.append(asyncio.ensure_future(self._listen(wire)))
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, wire: Any) -> None:
        while True:
            message = await wire.receive()
            if isinstance(message, TimelineEvent) and (read := read_payment(message)) is not None:
                key = (message.dialog, read.notice.payment, read.notice.version)
                self._came_s.setdefault(key, time.time())

    async def read_ms(self) -> list[float]:
        """How long each event took from its step to its first reader, sorted."""
        rows = await self._stage.money.database.fetch("SELECT payment_id, version, at_us FROM payment_versions")
        at_s = {(UUID(bytes=row[0]), row[1]): row[2] / 1_000_000 for row in rows}
        return sorted((came_s - at_s[key[1:]]) * 1000 for key, came_s in self._came_s.items())


class Storm:
    """Blows, each when so many payments have begun; further payments wait for a blow that is due."""

    def __init__(self, stage: Stage, payments: int, kills: int, seed: int) -> None:
        rng = random.Random(f"{seed} storm")
        others = [*_OTHER_BLOWS] * math.ceil(kills / 5) + [*_RARE_BLOWS] * math.ceil(kills / 10)
        self._blows = ["kill_a_relay"] * kills + others
        rng.shuffle(self._blows)
        self._every = max(1, payments // (len(self._blows) + 1))
        self._stage = stage
        self._struck = 0
        self._begun = 0
        self._changed = asyncio.Condition()

    async def admit(self) -> None:
        """Wait until one more payment may begin."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._struck == len(self._blows) or self._begun < (self._struck + 1) * self._every + _AHEAD
            )
            self._begun += 1
            self._changed.notify_all()

    async def rage(self) -> None:
        """Strike all of them."""
        for number, blow in enumerate(self._blows, 1):
            async with self._changed:
                await self._changed.wait_for(lambda due=number * self._every: self._begun >= due)  # type: ignore[misc]
            await self._stage.strike(blow)
            async with self._changed:
                self._struck += 1
                self._changed.notify_all()


async def announce(
    payments: int, relays: int, kills: int, seed: int, *, broken: str | None = None, folder: Path | None = None
) -> tuple[dict[str, Any], list[str]]:
    """A run; what came of it, and the first of what was wrong."""
    with contextlib.ExitStack() as files:
        folder = folder or Path(files.enter_context(tempfile.TemporaryDirectory(prefix="tchat-announce-")))
        folder.mkdir(exist_ok=True)
        stage = Stage(folder, seed, relays, None if broken is None else BREAKS[broken])
        try:
            await stage.open()
            summary, said = await _run(stage, payments, kills, seed)
            return summary | {"exit_codes": await stage.end_relays()}, said
        finally:
            await stage.abandon()


async def _run(stage: Stage, payments: int, kills: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    made, watch = Payments(stage, seed), Watch(stage)
    calm = max(10, payments // 10)
    async with watch.watching():
        async with asyncio.TaskGroup() as group:
            for _ in range(calm):
                group.create_task(made.make())
                await asyncio.sleep(1 / STEPS_PER_S)
        await _rest(stage)
    took_ms = await watch.read_ms()
    storm = Storm(stage, payments - calm, kills, seed)
    left = iter(range(payments - calm))

    async def work() -> None:
        for _ in left:
            await storm.admit()
            await made.make()

    async with asyncio.TaskGroup() as group:
        group.create_task(storm.rage())
        for _ in range(WORKERS):
            group.create_task(work())
    healed = time.monotonic()
    at_rest = await _rest(stage)
    rest_s = time.monotonic() - healed
    reading = Reading(stage, made.judge_again())
    await reading.check()
    refused = await stage.money.database.fetch(
        "SELECT refused, count(*) FROM announcements WHERE refused IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    summary = {
        "seed": seed,
        "payments": len(made.begun),
        "events_read": reading.events,
        **{count: reading.counts[count] for count in COUNTS},
        "at_rest": at_rest,
        "rest_s": round(rest_s, 1),
        "p50_ms": _quantile(took_ms, 0.5),
        "p99_ms": _quantile(took_ms, 0.99),
        "measured": len(took_ms),
        "refused": {row[0]: row[1] for row in refused},
        **dict(sorted(stage.blows.items())),
    }
    return summary, reading.said


async def _rest(stage: Stage) -> bool:
    """Wait until nothing is left to be announced; whether that came in time."""
    for _ in range(round(REST_S_MAX / _LOOK_S)):
        if await stage.at_rest():
            return True
        await asyncio.sleep(_LOOK_S)
    return False


def _quantile(values: list[float], share: float) -> float:
    return round(values[min(len(values) - 1, int(len(values) * share))], 1) if values else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.announce", description=__doc__)
    parser.add_argument("--payments", type=int, default=5000)
    parser.add_argument("--relays", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20, help="of relays; other faults come with them")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--break", dest="broken", choices=list(BREAKS), help="break a rule: the run must see it")
    parser.add_argument("--folder", type=Path, help="keep the data and the logs here; default: nowhere")
    chosen = parser.parse_args()

    async def until_ended() -> tuple[dict[str, Any], list[str]]:
        work = announce(
            chosen.payments, chosen.relays, chosen.kills, chosen.seed, broken=chosen.broken, folder=chosen.folder
        )
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        summary, said = asyncio.run(until_ended())
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    for line in said:
        print(line, file=sys.stderr)
    print(json.dumps(summary))
    fine = summary["at_rest"] and not any(summary["exit_codes"]) and not any(summary[count] for count in COUNTS)
    return 0 if fine and summary["p99_ms"] <= P99_MS_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
