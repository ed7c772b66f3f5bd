"""The contract of commerce holds for ours and for a stand-in, over sockets; and the suite sees what breaks it."""

from __future__ import annotations

import pytest

from server.clock import SystemClock
from server.config.settings import Config
from server.identity.signing_keys import SigningKeys, new_pem
from tests.conformance.commerce import check
from tests.conformance.commerce_stand_in import StandIn
from tests.conformance.contract_caller import Deployment, new_uuid
from tests.conformance.contract_facts import FACTS
from tests.support.commerce_world import CHAT_KEYS, opened_world
from tests.support.http_server import serving

pytestmark = pytest.mark.anyio

FINE = {"checked": len(FACTS), "failed": 0, "server_errors": 0}


async def test_ours_keeps_the_contract(money_url: str) -> None:
    async with opened_world(money_url, Config(), clock=SystemClock()) as world, serving(world.commerce.app) as url:
        payer, payee, poor = await world.person(100_000), await world.person(), await world.person()
        on = Deployment(url=url, keys=CHAT_KEYS, payer=payer.id, payee=payee.id, poor=poor.id)
        assert await check(on) == FINE


async def checked(fault: str) -> dict[str, int]:
    keys, poor = SigningKeys.from_pem(new_pem()), new_uuid()
    async with serving(StandIn(keys, poor=poor, fault=fault)) as url:
        return await check(Deployment(url=url, keys=keys, payer=new_uuid(), payee=new_uuid(), poor=poor))


async def test_a_stand_in_keeps_the_contract() -> None:
    assert await checked("") == FINE


@pytest.mark.parametrize(
    "fault",
    ["any body", "forgets refusals", "any request", "approves anything", "captures twice", "refunds too much"],
)
async def test_the_suite_sees_what_breaks_the_contract(fault: str) -> None:
    assert (await checked(fault))["failed"] > 0
