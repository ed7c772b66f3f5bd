"""A short run of true and false reports; and that the tool sees what it looks for."""

from __future__ import annotations

import pytest

from tests.adversity.reports import FATES, make_reports

pytestmark = pytest.mark.anyio


async def test_no_true_report_is_refused_and_no_false_one_is_kept(database_url: str) -> None:
    said = await make_reports(database_url, rounds=len(FATES), seed=7)
    assert (said["true_refused"], said["false_accepted"]) == (0, 0)
    assert said["kept"] == said["true"] * 2 // 3 > 0
    assert {fate.__name__ for fate in FATES} <= said.keys()
