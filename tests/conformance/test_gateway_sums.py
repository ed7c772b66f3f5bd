"""Whatever becomes of webhooks, the effects of what is read add up to the gateway's own book, for every engine."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from protocol.commerce.intent_states import EffectKind
from server.commerce.gateways.effects import Effect, effects_of
from server.commerce.gateways.gateway_contract import (
    ChargeCall,
    Gateway,
    PayoutCall,
    RefundCall,
    WebhookHint,
)
from server.commerce.gateways.gateway_objects import GatewayObject
from server.commerce.gateways.webhook_reading import WebhookRefusedError
from tests.support.fake_gateway.process import FakeGateway
from tests.support.gateway_stage import ENGINES, Stage, base, now_ms
from tests.support.webhook_receiver import Request, receiving

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("fake_gateway")]


class Ledger:
    """What commerce would have applied: each effect once."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.effects: dict[tuple[str, str, EffectKind], Effect] = {}
        self.repeated = 0
        self._versions: dict[str, int] = {}

    def apply(self, found: GatewayObject) -> None:
        for effect in effects_of(self._gateway.name, found):
            self.repeated += effect.key in self.effects
            assert self.effects.setdefault(effect.key, effect) == effect
        self._versions[found.id] = max(found.version, self._versions.get(found.id, 0))

    def has_read(self, book: dict[str, Any]) -> bool:
        """Whether it has read the last version of every object."""
        return self._versions == {each["id"]: each["version"] for each in book["objects"]}

    def sums(self) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for effect in self.effects.values():
            sums[effect.currency] += effect.change_minor
        return dict(sums)


MONEY_FAULTS = {
    "card_declined": 0.2,
    "card_pending": 0.4,
    "card_fails": 0.5,
    "qr_unpaid": 0.1,
    "qr_paid_late": 0.2,
    "qr_paid_twice": 0.2,
    "qr_paid_in_part": 0.2,
    "qr_paid_too_much": 0.2,
    "payout_in_part": 0.2,
    "qr_stray": 0.2,
    "refund_fails": 0.4,
    "refund_returned": 0.5,
    "payout_fails": 0.3,
    "payout_returned": 0.3,
    "chargeback": 0.3,
    "chargeback_won": 0.5,
}


async def trade(stage: Stage, rounds: int) -> None:
    """Some of everything, until nothing is due any more; the same references, so the same faults, in every run."""
    gateway, numbers = stage.gateway, itertools.count(1)

    def given(amount_minor: int) -> dict[str, Any]:
        return {**base(), "reference": f"trade_{next(numbers)}", "amount_minor": amount_minor}

    for _ in range(rounds):
        await gateway.charge(ChargeCall(**given(1000), method="qris", expires_in_s=600))
        await gateway.payout(PayoutCall(**given(700), destination="acct_1"))
        charge = await gateway.charge(ChargeCall(**given(1000), method="card", source="tok_visa"))
        if isinstance(charge, GatewayObject):
            await gateway.refund(RefundCall(**given(400), parent=charge.id))
    for _ in range(4):
        await asyncio.to_thread(stage.fake.advance, 900)


@pytest.fixture(params=ENGINES)
async def open_market(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Callable[[str], Stage]]:
    """Opens a stage whose customers pay by themselves, with a gateway of its own that posts to an address."""
    stages: list[Stage] = []

    def open_stage(webhook_url: str) -> Stage:
        fake = FakeGateway(
            tmp_path_factory.mktemp("market"), {"settle-s": "60", "webhook-url": webhook_url}, customers=True
        )
        fake.start()
        stages.append(Stage(fake, request.param))
        return stages[-1]

    yield open_stage
    for stage in stages:
        await stage.aclose()
        stage.fake.kill()


async def test_webhooks_that_are_doubled_reordered_and_forged_lead_to_the_gateways_own_sums(
    open_market: Callable[[str], Stage],
) -> None:
    webhook_faults = ("webhook_doubled", "webhook_reordered", "webhook_wrong_signature", "webhook_old_timestamp")
    hints: asyncio.Queue[WebhookHint | None] = asyncio.Queue()
    async with receiving() as receiver:
        stage = open_market(f"http://127.0.0.1:{receiver.port}/events")

        def take(request: Request) -> int:
            try:
                hint = stage.gateway.read_webhook(request.headers, request.body)
            except WebhookRefusedError:
                return 400
            if hint is not None:
                hints.put_nowait(hint)
            return 204

        receiver.answer = take
        stage.fake.have_faults(**MONEY_FAULTS, **dict.fromkeys(webhook_faults, 0.5))
        ledger = Ledger(stage.gateway)
        trading = asyncio.create_task(trade(stage, 25))
        trading.add_done_callback(lambda _: hints.put_nowait(None))
        async with asyncio.timeout(60):
            while not (trading.done() and hints.empty() and ledger.has_read(stage.fake.read_book())):
                if (hint := await hints.get()) is not None:
                    found = await stage.gateway.fetch(hint.kind, hint.id)
                    assert found is not None
                    ledger.apply(found)
        await trading
    book = stage.fake.read_book()
    assert ledger.sums() == book["sums"]
    assert ledger.repeated > 0
    assert book["webhooks"]["forged_taken"] == 0
    assert {name for name, count in book["felt"].items() if count} >= {*MONEY_FAULTS, *webhook_faults}


async def test_when_every_webhook_is_lost_the_lists_lead_to_the_gateways_own_sums(
    open_market: Callable[[str], Stage],
) -> None:
    stage = open_market("http://127.0.0.1:9/nobody")
    stage.fake.have_faults(**MONEY_FAULTS, webhook_lost=1)
    since_ms = now_ms()
    await trade(stage, 15)
    book = stage.fake.read_book()
    ledger = Ledger(stage.gateway)
    listed = await stage.list_all(since_ms, since_ms + 10**9)
    random.Random(7).shuffle(listed)
    for found in listed + listed[:20]:
        ledger.apply(found)
    assert ledger.sums() == book["sums"]
