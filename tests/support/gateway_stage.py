"""A fake gateway, the engine that calls it, and calls to make."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal
from uuid import uuid4

from protocol.commerce.intent_states import EffectKind
from server.clock import Clock, SystemClock
from server.commerce.gateways.effects import effects_of
from server.commerce.gateways.gateway_contract import (
    Answer,
    ChargeCall,
    Gateway,
    PayoutCall,
    RefundCall,
)
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectKind
from server.commerce.gateways.simulated_gateway import GatewayAccess, SimulatedGateway
from tests.support.fake_gateway.process import API_KEY, WEBHOOK_SECRET, FakeGateway

Open = Callable[[str, str, float, Clock], Gateway]


def open_simulated(url: str, api_key: str, timeout_s: float, clock: Clock) -> Gateway:
    access = GatewayAccess(
        url=url, api_key=api_key, webhook_secret=WEBHOOK_SECRET, key_window_s=3000, timeout_s=timeout_s
    )
    return SimulatedGateway("simulated", access, clock)


ENGINES: list[Open] = [open_simulated]


class Stage:
    """A gateway, and an engine that calls it."""

    def __init__(self, fake: FakeGateway, open_engine: Open) -> None:
        self.fake = fake
        self._open_engine = open_engine
        self._opened: list[Gateway] = []
        self.gateway = self.engine()

    def engine(self, *, api_key: str = API_KEY, timeout_s: float = 10.0, clock: Clock | None = None) -> Gateway:
        self._opened.append(self._open_engine(self.fake.url, api_key, timeout_s, clock or SystemClock()))
        return self._opened[-1]

    async def aclose(self) -> None:
        for each in self._opened:
            await each.aclose()

    async def paid_card(self, amount_minor: int = 1000) -> GatewayObject:
        return an_object(await self.gateway.charge(card(amount_minor)))

    async def effects(self, kind: ObjectKind, object_id: str) -> list[tuple[EffectKind, int]]:
        found = await self.gateway.fetch(kind, object_id)
        assert found is not None
        return [(each.kind, each.change_minor) for each in effects_of(self.gateway.name, found)]

    async def list_all(self, since_ms: int, until_ms: int) -> list[GatewayObject]:
        """All pages of a window."""
        page = await self.gateway.list_changed(since_ms, until_ms)
        found = list(page.objects)
        while page.next_page is not None:
            page = await self.gateway.list_changed(since_ms, until_ms, page.next_page)
            found += page.objects
        return found

    def booked(self, reference: str) -> list[dict[str, Any]]:
        """What the gateway's own book has under a reference."""
        return [each for each in self.fake.read_book()["objects"] if each.get("reference") == reference]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def base() -> dict[str, Any]:
    return {"reference": uuid4().hex, "written_at_ms": now_ms(), "currency": "THB"}


def card(amount_minor: int = 1000) -> ChargeCall:
    return ChargeCall(**base(), amount_minor=amount_minor, method="card", source="tok_visa")


def code(method: Literal["promptpay", "qris"] = "promptpay", amount_minor: int = 1000) -> ChargeCall:
    return ChargeCall(**base(), amount_minor=amount_minor, method=method, expires_in_s=600)


def refund(parent: GatewayObject, amount_minor: int) -> RefundCall:
    return RefundCall(**base(), amount_minor=amount_minor, parent=parent.id)


def payout(amount_minor: int = 700) -> PayoutCall:
    return PayoutCall(**base(), amount_minor=amount_minor, destination="acct_1")


def an_object(answer: Answer) -> GatewayObject:
    assert isinstance(answer, GatewayObject), answer
    return answer
