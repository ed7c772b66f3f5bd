"""The work in the background for the gateways of a process: intents, webhooks, changes."""

from __future__ import annotations

import asyncio

from server.clock import Clock
from server.commerce.gateways.change_reader import ChangeReader
from server.commerce.gateways.configured_gateways import ConfiguredGateways
from server.commerce.gateways.intent_driver import IntentDriver
from server.commerce.gateways.object_application import ObjectApplication
from server.commerce.gateways.webhook_keeping import HintFetcher, WebhookKeeping
from storage.commerce.gateway_intents import GatewayIntents


class GatewayWork:
    """Runs until it is cancelled. `changes`: over connections that apply changes also to restored books."""

    def __init__(
        self,
        gateways: ConfiguredGateways,
        intents: GatewayIntents,
        webhooks: WebhookKeeping,
        clock: Clock,
        *,
        changes: GatewayIntents,
    ) -> None:
        self.gateways = gateways
        self._intents = intents
        self._changes = changes
        self._webhooks = webhooks
        self._clock = clock

    async def run(self) -> None:
        """All of it, for each gateway."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._webhooks.run())
            for each in self.gateways.all:
                application = ObjectApplication(each.engine, each.tenant, self._intents, self._clock)
                changing = ObjectApplication(each.engine, each.tenant, self._changes, self._clock)
                for work in (
                    IntentDriver(each.engine, self._intents, application, self._clock),
                    ChangeReader(each.engine, self._changes, changing, self._clock),
                    HintFetcher(each.engine, self._intents, application),
                ):
                    group.create_task(work.run())
