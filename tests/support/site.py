"""A node with its real identity, spoken to over HTTP and websockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from protocol.commands import Authenticate, Sync
from protocol.replies import Authenticated
from server.clock import Clock, SystemClock
from server.config.settings import ClusterSettings, Config, IdentitySettings, ServerSettings
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.vault import Vault, new_key
from server.node.identity_parts import IdentitySecrets, NodeIdentity, make_identity
from server.node.running_node import opened
from storage.postgres.pool import Pool
from tests.support.api_world import KeptCodes
from tests.support.harness import Running, Wire
from tests.support.world import World


class Site:
    """A running node, spoken to from outside alone."""

    def __init__(
        self, running: Running, identity: NodeIdentity, vault: Vault, sent: KeptCodes, http: httpx.AsyncClient
    ) -> None:
        self.running = running
        self.identity = identity
        self.vault = vault
        self.sent = sent
        self.http = http

    async def sign_in(self, number: str) -> dict[str, Any]:
        """Sign up or in over HTTP."""
        await self.http.post("/v1/sign-in/codes", json={"phone_number": number})
        device = {"platform": "web", "app_version": "1"}
        body = {"phone_number": number, "code": self.sent.codes[number], "display_name": "Ann", "device": device}
        answer = await self.http.post("/v1/sign-in", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def ask(self, who: dict[str, Any], method: str, path: str, body: Any = None) -> httpx.Response:
        """A request with the access token of a signed-in person."""
        headers = {"Authorization": f"Bearer {who['access_token']}"}
        return await self.http.request(method, path, json=body, headers=headers)

    @contextlib.asynccontextmanager
    async def live(self, who: dict[str, Any]) -> AsyncIterator[Wire]:
        """A websocket of a signed-in person, after its sync."""
        async with self.running.connected() as wire:
            assert isinstance(await wire.ask(Authenticate(1, who["access_token"])), Authenticated)
            await wire.ask(Sync(2))
            yield wire


@contextlib.asynccontextmanager
async def site_on(
    url: str,
    settings: IdentitySettings,
    vault: Vault | None = None,
    *,
    keys: SigningKeys | None = None,
    redis: str = "",
) -> AsyncIterator[Site]:
    """A node on the database at `url`; with `redis` it shares it with other nodes, which have the same keys."""
    config = Config(
        server=ServerSettings(port=0, admin_port=0, drain_timeout_s=2.0),
        identity=settings,
        cluster=ClusterSettings(redis_urls=(redis,) if redis else ()),
    )
    sent, vault = KeptCodes(), vault or Vault.from_text(new_key())
    made: list[NodeIdentity] = []
    secrets = IdentitySecrets(signing_keys=keys or SigningKeys.from_pem(new_pem()), vault=vault, sender=sent)

    async def make(pool: Pool, clock: Clock, **parts: Any) -> NodeIdentity:
        made.append(await make_identity(config, secrets, pool, clock, **parts))
        return made[0]

    world = await World.open(url)
    async with (
        opened(config, url, make, SystemClock()) as (node, work),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.port}") as http,
    ):
        yield Site(Running(node, world, made[0].tokens, work, made[0].paying), made[0], vault, sent, http)
    await world.close()
