"""A short run of racers in a shop; and that it notices each fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from storage.embedded.cluster import EmbeddedPostgres
from tests.adversity.money_stage import SETTINGS
from tests.adversity.shops import BREAKS, COUNTS, race_in_a_shop

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("shop races")]


@pytest.fixture(scope="module")
def dying_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that runs may kill."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("shops"), SETTINGS) as running:
        yield running


async def test_a_shop_holds_whatever_happens(dying_postgres: EmbeddedPostgres) -> None:
    said = await race_in_a_shop(dying_postgres, operations=1_500, kills=1, seed=3)
    assert {name: said[name] for name in COUNTS} == dict.fromkeys(COUNTS, 0)
    assert said["orders"] > 20


@pytest.mark.parametrize("name", BREAKS)
async def test_a_fault_of_a_shop_is_noticed(dying_postgres: EmbeddedPostgres, name: str) -> None:
    said = await race_in_a_shop(dying_postgres, operations=800, kills=0, seed=5, broken=BREAKS[name])
    assert said[BREAKS[name].count] > 0
