"""The commerce service with the fake gateway behind it, whose work a test does step by step."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from server.clock import SystemClock
from server.commerce.gateways.change_reader import ChangeReader
from server.commerce.gateways.configured_gateways import ConfiguredGateway, ConfiguredGateways
from server.commerce.gateways.gateway_contract import Gateway, GatewayUnavailableError
from server.commerce.gateways.intent_driver import IntentDriver
from server.commerce.gateways.object_application import ObjectApplication
from server.commerce.gateways.simulated_gateway import GatewayAccess, SimulatedGateway
from server.commerce.gateways.webhook_keeping import HintFetcher
from server.config.settings import Config
from tests.support.commerce_world import TENANT, CommerceWorld, Party, opened_world
from tests.support.fake_gateway.process import API_KEY, WEBHOOK_SECRET, FakeGateway

NAME = "simulated"
SETTLE_S = 1
KEY_WINDOW_S = 3600
_STEPS_MAX = 40


class AheadClock(SystemClock):
    """The machine's clock, ahead by what a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def wall_ms(self) -> int:
        return super().wall_ms() + round(self.ahead_s * 1000)


class GatewayWorld:
    """People, the service, and a gateway. All clocks are put forward together."""

    def __init__(self, world: CommerceWorld, fake: FakeGateway, engine: Gateway, clock: AheadClock) -> None:
        self.world = world
        self.fake = fake
        self.clock = clock
        self.engine = engine
        intents = world.commerce.intents
        application = ObjectApplication(engine, TENANT, intents, clock)
        self._driver = IntentDriver(engine, intents, application, clock)
        self._fetcher = HintFetcher(engine, intents, application)
        self._reader = ChangeReader(engine, intents, application, clock)

    async def advance(self, by_s: float) -> None:
        """Put all clocks forward, and have happen at the gateway what is due then."""
        self.clock.ahead_s += by_s
        self.fake.advance(by_s)
        ahead_us = round(self.clock.ahead_s * 10**6)
        await self.world.database.execute(
            "CREATE OR REPLACE FUNCTION clock_us() RETURNS bigint LANGUAGE sql VOLATILE AS "
            f"$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + {ahead_us} $$"
        )

    async def work(self) -> None:
        """Each part of the work in the background once; what cannot be read now is read another time."""
        await self._driver.step()
        for step in (self._fetcher.step, self._reader.step):
            with contextlib.suppress(GatewayUnavailableError):
                await step()

    async def call(self) -> None:
        """Call the gateway for what is due, and nothing else."""
        await self._driver.step()

    async def work_until(self, done: Callable[[Any], bool], who: Party, path: str) -> Any:
        """What a read says when it is as it should be, after so much work and time as that takes."""
        for _ in range(_STEPS_MAX):
            found = await who.read(path)
            if done(found):
                return found
            await self.work()
            await self.advance(1)
        raise AssertionError(f"it is not done: {found}")

    async def end(self, who: Party, answer: httpx.Response, kind: str = "topups") -> Any:
        """An intent when it has ended."""
        assert answer.status_code == 201, answer.text
        ends = ("paid", "failed", "returned")
        return await self.work_until(lambda found: found["state"] in ends, who, f"{kind}/{answer.json()['id']}")

    async def owed(self) -> int:
        """What the gateway owes by our books."""
        found = await self.world.admin.read("reconciliation")
        return int(found["totals"][0]["owed_minor"])

    def booked(self) -> int:
        """What it owes by its own."""
        return int(self.fake.read_book()["sums"].get("THB", 0))


@contextlib.asynccontextmanager
async def opened_gateway_world(url: str, fake: FakeGateway) -> AsyncIterator[GatewayWorld]:
    """The service on the migrated database at `url`, with this gateway."""
    clock = AheadClock()
    access = GatewayAccess(
        url=fake.url,
        api_key=API_KEY,
        webhook_secret=WEBHOOK_SECRET,
        key_window_s=KEY_WINDOW_S,
        settle_s=SETTLE_S,
        timeout_s=1.0,
    )
    engine = SimulatedGateway(NAME, access, clock)
    gateways = ConfiguredGateways([ConfiguredGateway(engine, TENANT, ["THB"], ["card", "promptpay", "bank"])])
    async with opened_world(url, Config(), clock=clock, gateways=gateways) as world:
        yield GatewayWorld(world, fake, engine, clock)
    await gateways.aclose()
