"""A short run over a gateway while all fails, with real processes; and that its audit notices faults of the books."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.embedded.cluster import EmbeddedPostgres
from tests.adversity.gateway import run_gateway
from tests.adversity.gateway_audit import COUNTS, GatewayAudit
from tests.adversity.gateway_breaks import BREAKS, GatewayBreak
from tests.support.commerce_world import TENANT, approval_of
from tests.support.fake_gateway.faults import NAMES
from tests.support.fake_gateway.process import FakeGateway
from tests.support.gateway_world import NAME, GatewayWorld, opened_gateway_world

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("gateway races")]

CODE = {"currency": "THB", "method": "promptpay"}


@pytest.fixture
def books(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of the run's own."""
    with EmbeddedPostgres(tmp_path / "books") as running:
        yield running


async def test_both_books_agree_whatever_fails(tmp_path: Path, books: EmbeddedPostgres) -> None:
    summary, said = await run_gateway(
        60, 2, 4, faults=list(NAMES), folder=tmp_path, postgres_url=books.url, processes=1
    )
    assert said == []
    assert {count: summary[count] for count in COUNTS} == dict.fromkeys(COUNTS, 0)
    assert (summary["forged_taken"], summary["kills"]) == (0, 2)
    assert summary["objects"] > 30
    assert summary["faults_felt"] > 5


async def play(gateway: GatewayWorld) -> None:
    """A top-up, a paid request and a withdrawal, until all has happened and is read."""
    world = gateway.world
    ann, shop = await world.person(1_000), await world.person()
    asked = (await shop.post("payments", shop.request(ann, 400))).json()
    fields = {"payment": asked["id"], "approval": approval_of(asked), **CODE}
    for body in ({"amount_minor": 400, **fields}, {"amount_minor": 300, **CODE}):
        assert (await ann.post("topups", body)).status_code == 201
    payout = {"amount_minor": 200, "currency": "THB", "destination": "acct_1"}
    assert (await ann.post("withdrawals", payout)).status_code == 201
    for _ in range(4):
        await gateway.work()
        await gateway.advance(2)


async def counts_of(gateway: GatewayWorld) -> dict[str, int]:
    database = gateway.world.database
    await database.set_builtin_type_codec("uuid", schema="pg_catalog", codec_name="bytea", format="binary")
    return await GatewayAudit(database, gateway.fake.read_book(), NAME, TENANT).count()


async def run_in_one_process(money_url: str, folder: Path, broken: GatewayBreak | None) -> dict[str, int]:
    """What the audit counts after a play, with a customer who pays codes."""
    with FakeGateway(folder / "gateway", {"settle-s": "0.5"}, customers=True) as fake:
        fake.have_faults(**({} if broken is None else broken.faults))
        async with opened_gateway_world(money_url, fake) as gateway:
            if broken is not None:
                await gateway.world.database.execute(broken.statement())
            await play(gateway)
            return await counts_of(gateway)


async def test_nothing_is_wrong_when_nothing_fails(money_url: str, tmp_path: Path) -> None:
    assert await run_in_one_process(money_url, tmp_path, None) == dict.fromkeys(COUNTS, 0)


@pytest.mark.parametrize("name", BREAKS)
async def test_a_fault_of_the_books_is_noticed(money_url: str, tmp_path: Path, name: str) -> None:
    counts = await run_in_one_process(money_url, tmp_path, BREAKS[name])
    assert counts[BREAKS[name].count] > 0


def test_every_count_has_a_fault_that_it_notices() -> None:
    assert {broken.count for broken in BREAKS.values()} == set(COUNTS)
