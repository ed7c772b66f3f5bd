"""Webhooks: a genuine one is kept, sealed, for seven days, and its object is fetched in the background.

It is answered when both are committed. What it says of amounts and states is never used.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Mapping

from protocol.errors import ErrorCode
from server.clock import Clock, Sleep
from server.commerce.gateways.configured_gateways import ConfiguredGateways
from server.commerce.gateways.gateway_contract import Gateway, GatewayUnavailableError
from server.commerce.gateways.gateway_objects import ObjectKind
from server.commerce.gateways.object_application import ObjectApplication
from server.commerce.gateways.sealed_webhooks import seal_body
from server.commerce.gateways.webhook_reading import WebhookRefusedError
from server.refusals import RETRY_AFTER_S, RequestRefusedError
from server.steps import PURGE_INTERVAL_S, step_by_step
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.intent_rows import HintRow

_log = logging.getLogger(__name__)

HINTS_MAX = 10_000
KEPT_US = 7 * 86_400_000_000
LEASE_US = 15_000_000
HINTS_PER_STEP = 16
FORGET_PER_STEP = 500
INTERVAL_S = 0.5
_DIGEST_BYTES = 16


class WebhookKeeping:
    """Takes webhooks of all gateways, and forgets their bodies."""

    def __init__(
        self,
        gateways: ConfiguredGateways,
        intents: GatewayIntents,
        clock: Clock,
        *,
        sealing_key: bytes,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._gateways = gateways
        self._intents = intents
        self._clock = clock
        self._sealing_key = sealing_key
        self._digest_key = hmac.digest(sealing_key, b"copies of webhooks", hashlib.sha256)
        self._sleep = sleep

    async def take(self, name: str, headers: Mapping[str, str], body: bytes) -> None:
        """Keep a webhook; raises RequestRefusedError for one that is not genuine or has no room."""
        gateway = self._gateways.find(name)
        if gateway is None:
            raise RequestRefusedError(ErrorCode.GATEWAY_REFUSED, "there is no gateway of this name")
        try:
            hint = gateway.engine.read_webhook(headers, body)
        except WebhookRefusedError as error:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, f"the webhook is refused: {error}") from None
        sealed = seal_body(self._sealing_key, name, body)
        digest = hmac.digest(self._digest_key, name.encode() + b"/" + body, hashlib.sha256)[:_DIGEST_BYTES]
        named = None if hint is None else (hint.kind.value, hint.id)
        if not await self._intents.note_webhook(name, named, digest, sealed, hints_max=HINTS_MAX):
            raise RequestRefusedError(ErrorCode.UNAVAILABLE, "too many webhooks wait", retry_after_s=RETRY_AFTER_S)

    async def run(self) -> None:
        """Forget bodies that are too old, until cancelled."""
        could_not = "could not forget old webhooks"
        await step_by_step(self.forget, _log, could_not, interval_s=PURGE_INTERVAL_S, sleep=self._sleep)

    async def forget(self) -> bool:
        """Forget some bodies that are too old; whether there may be more."""
        before_us = self._clock.wall_ms() * 1000 - KEPT_US
        return await self._intents.forget_webhooks(before_us, FORGET_PER_STEP) == FORGET_PER_STEP


class HintFetcher:
    """Fetches the objects that webhooks of one gateway named, until it is cancelled."""

    def __init__(
        self,
        gateway: Gateway,
        intents: GatewayIntents,
        application: ObjectApplication,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._gateway = gateway
        self._intents = intents
        self._application = application
        self._sleep = sleep

    async def run(self) -> None:
        """Fetch what was named, then pause, until cancelled."""
        could_not = f"could not fetch what the gateway {self._gateway.name} named"
        await step_by_step(self.step, _log, could_not, interval_s=INTERVAL_S, sleep=self._sleep, rest_s=0.0)

    async def step(self) -> bool:
        """Fetch some objects; whether there may be more. What fails is fetched again when its lease ends."""
        hints = await self._intents.claim_hints(self._gateway.name, HINTS_PER_STEP, lease_us=LEASE_US)
        await asyncio.gather(*map(self._fetch, hints))
        return len(hints) == HINTS_PER_STEP

    async def _fetch(self, hint: HintRow) -> None:
        try:
            found = await self._gateway.fetch(ObjectKind(hint.kind), hint.object_id)
            if found is not None:
                await self._application.apply([found])
        except GatewayUnavailableError:
            return
        await self._intents.finish_hint(self._gateway.name, hint)
