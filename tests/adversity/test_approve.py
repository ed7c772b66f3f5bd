"""A short run of attacks on approvals; and that it notices each protection that is missing."""

from __future__ import annotations

import pytest

from tests.adversity.approve import attack_approvals
from tests.adversity.approve_attacks import ATTACKS
from tests.adversity.approve_audit import COUNTS
from tests.adversity.approve_breaks import BREAKS

pytestmark = pytest.mark.anyio


async def test_nothing_moves_that_nobody_approved_and_nothing_moves_twice(money_url: str) -> None:
    summary, said = await attack_approvals(money_url, 400, seed=3)
    assert said == []
    assert {name: summary[name] for name in COUNTS} == dict.fromkeys(COUNTS, 0)
    assert summary["attempts"] >= 400
    assert summary["honest_done"] > 100
    assert "500" not in summary["statuses"]


@pytest.mark.parametrize("name", BREAKS)
async def test_a_missing_protection_of_approvals_is_noticed(money_url: str, name: str) -> None:
    broken = BREAKS[name]
    summary, _ = await attack_approvals(money_url, 30, seed=3, broken=broken)
    assert summary[broken.count] > 0


def test_every_count_and_every_attack_has_a_protection_that_it_tries() -> None:
    assert {broken.count for broken in BREAKS.values()} == set(COUNTS)
    assert {attack for broken in BREAKS.values() for attack in broken.attacks} == set(ATTACKS)
