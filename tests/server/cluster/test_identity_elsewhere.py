"""What identity does at one node counts at every node, over HTTP and websockets, whether or not Redis is there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from protocol.close_codes import CloseCode
from server.config.settings import IdentitySettings
from server.identity import ended_access
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.vault import Vault, new_key
from tests.engines.redis_server import RedisServer
from tests.support.api_world import ANN
from tests.support.site import Site, site_on

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["with Redis", "with Redis away"])
async def sites(
    request: pytest.FixtureRequest,
    database_url: str,
    start_redis: Callable[[], RedisServer],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[Site, Site]]:
    """Two nodes of one deployment."""
    monkeypatch.setattr(ended_access, "INTERVAL_S", 0.01)
    server, vault, keys = start_redis(), Vault.from_text(new_key()), SigningKeys.from_pem(new_pem())
    async with contextlib.AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(
                site_on(database_url, IdentitySettings(), vault, keys=keys, redis=server.url)
            )
            for _ in range(2)
        ]
        if request.param == "with Redis away":
            server.kill()
        yield one, two


async def test_a_sign_out_at_one_node_closes_the_session_at_another(sites: tuple[Site, Site]) -> None:
    one, two = sites
    phone, laptop = await one.sign_in(ANN), await one.sign_in(ANN)
    async with two.live(phone) as away, two.live(laptop):
        assert (await one.ask(laptop, "DELETE", f"/v1/sign-ins/{phone['sign_in']}")).status_code == 204
        assert await away.close_code() == CloseCode.SIGNED_OUT
        assert len(two.running.node.registry) == 1


async def test_who_deletes_their_account_is_disconnected_from_every_node(sites: tuple[Site, Site]) -> None:
    one, two = sites
    phone, laptop = await one.sign_in(ANN), await one.sign_in(ANN)
    async with one.live(phone) as here, two.live(laptop) as there:
        assert (await one.ask(phone, "DELETE", "/v1/me")).status_code == 204
        assert await here.close_code() == CloseCode.DELETED
        assert await there.close_code() == CloseCode.DELETED


async def test_codes_that_one_node_sent_count_at_the_other_unless_each_counts_alone(
    request: pytest.FixtureRequest, sites: tuple[Site, Site]
) -> None:
    one, two = sites
    answers = [
        (await site.http.post("/v1/sign-in/codes", json={"phone_number": ANN})).status_code
        for site in (one, one, one, two, two, two)
    ]
    together = request.node.callspec.params["sites"] == "with Redis"
    assert answers == [202] * 5 + [429 if together else 202]
