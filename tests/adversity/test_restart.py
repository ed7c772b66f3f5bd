"""Three short rounds of the conversation that is cut, killed and started again."""

import pytest

from tests.adversity.restart import PROMISES, converse

pytestmark = pytest.mark.anyio


async def test_what_was_promised_outlives_cuts_and_kills() -> None:
    summary, violations = await converse(rounds=3, seed=20, messages_per_round=150)
    assert violations.said == []
    assert {promise: summary[promise] for promise in PROMISES} == dict.fromkeys(PROMISES, 0)
    assert summary["messages"] >= 3 * 150
    assert summary["kills"] == summary["sign_ins_ended"] == 3
    assert min(summary[blow] for blow in ("cuts", "crashes", "acked_again", "late_commits", "replies_lost")) > 0
