"""A short run of racers for money; and that it notices each fault that the ledger's functions could have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.ids import new_id
from storage.commerce.money_rows import Answer, StepKey, StepOutcome
from storage.embedded.cluster import EmbeddedPostgres
from tests.adversity.money import race_for_money
from tests.adversity.money_audit import COUNTS
from tests.adversity.money_breaks import BREAKS
from tests.adversity.money_stage import SETTINGS
from tests.adversity.money_told import Call, Told

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("money races")]

DONE, REFUSED, REUSED = (
    Answer(StepOutcome.DONE, new_id(), 1),
    Answer(StepOutcome.INSUFFICIENT),
    Answer(StepOutcome.KEY_REUSED),
)


@pytest.fixture(scope="module")
def dying_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that runs may kill."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("money"), SETTINGS) as running:
        yield running


async def test_the_ledger_holds_whatever_happens(dying_postgres: EmbeddedPostgres) -> None:
    said = await race_for_money(dying_postgres, operations=4_000, kills=2, seed=11)
    assert {name: said[name] for name in COUNTS} == dict.fromkeys(COUNTS, 0)
    assert (said["kills"], said["cuts"], said["months"]) == (2, 4, 3)
    assert said["operations"] >= 4_000


@pytest.mark.parametrize("name", BREAKS)
async def test_a_fault_of_the_ledger_is_noticed(dying_postgres: EmbeddedPostgres, name: str) -> None:
    broken = BREAKS[name]
    said = await race_for_money(dying_postgres, broken.operations, broken.kills, seed=5, broken=broken)
    assert said[broken.count] > 0


def test_every_count_has_a_fault_that_it_notices() -> None:
    assert {broken.count for broken in BREAKS.values()} == set(COUNTS) - {"errors"}


def ask_nobody(_key: StepKey) -> None:
    raise AssertionError


def calls(count: int) -> list[Call]:
    return [Call(StepKey(new_id(), b""), ask_nobody) for _ in range(count)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "doubled"),
    [
        ([(0, DONE), (0, DONE), (1, REUSED)], 0),
        ([(1, REUSED), (0, REFUSED)], 0),
        ([(0, DONE), (0, REFUSED)], 1),
        ([(0, DONE), (1, DONE)], 1),
        ([(0, DONE), (0, REUSED)], 1),
        ([(0, REUSED), (1, REUSED)], 1),
    ],
)
def test_a_key_that_has_two_answers_is_seen(tmp_path: Path, answers: list[tuple[int, Answer]], doubled: int) -> None:
    told, asked = Told(tmp_path / "told.csv"), calls(2)
    told.note([(asked[number], answer) for number, answer in answers])
    told.close()
    assert told.counts["doubled"] == doubled


def test_a_late_copy_with_another_answer_is_seen(tmp_path: Path) -> None:
    told, (call, other) = Told(tmp_path / "told.csv"), calls(2)
    told.note([(call, REFUSED)])
    told.note([(call, REFUSED), (other, REUSED)])
    assert told.counts["doubled"] == 0
    told.note([(call, DONE)])
    told.close()
    assert told.counts["doubled"] == 1
