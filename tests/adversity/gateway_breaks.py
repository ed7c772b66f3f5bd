"""Faults of the functions for gateways, each with the count of the audit that notices it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storage.commerce.schema import MONEY
from storage.commerce.service_access import GRANTS


@dataclass(frozen=True)
class GatewayBreak:
    """In `function` the text `old` is replaced with `new`. The gateway has these `faults`, which meet it."""

    count: str
    function: str
    old: str
    new: str
    faults: Mapping[str, float]

    def statement(self) -> str:
        """What makes a database wrong. An assertion fails when the text has moved."""
        template = MONEY.read(self.function)
        assert template.count(self.old) == 1, f"{self.function}.sql has {template.count(self.old)} times: {self.old}"
        changed = template.replace(self.old, self.new)
        made = MONEY.render(changed.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
        return f"{made};\n{GRANTS}"


_FEES = "account_of(v.tenant_id, '${NIL}', v.currency, ${Purpose.FEES}::smallint)"

BREAKS: dict[str, GatewayBreak] = {
    "money_that_fits_nothing_is_booked_in_part": GatewayBreak(
        "diff_minor", "suspend_money", "abs(p_change));", "1);", {"qr_paid_in_part": 1.0}
    ),
    "payouts_are_booked_in_part": GatewayBreak(
        "diff_minor", "pay_from_hold", "v_locked.slot[1], v.amount);", "v_locked.slot[1], 1);", {}
    ),
    "a_second_payment_of_a_code_is_credited_too": GatewayBreak(
        "credited_twice",
        "next_intent_state",
        "p_step ${intent_table.next}",
        "p_step ${intent_table.next} WHEN ${IntentState.PAID} * 100 + ${IntentStep.PAY} THEN ${IntentState.PAID}",
        {"qr_paid_twice": 1.0},
    ),
    "amounts_are_not_compared": GatewayBreak(
        "fulfilled_unpaid", "apply_effect", "AND abs(p_change) IN (v.amount, 0)", "", {"qr_paid_in_part": 1.0}
    ),
    "changes_are_not_read": GatewayBreak(
        "unexplained", "claim_cursor", "p_since_ms, 0) ON CONFLICT", "p_since_ms * 2, 0) ON CONFLICT", {}
    ),
    "what_was_asked_for_is_in_suspense": GatewayBreak(
        "unexplained", "apply_effect", "v_fits := v.kind = v_kind", "v_fits := v.kind = v_kind AND v_kind <> 1", {}
    ),
    "what_fails_does_not_end": GatewayBreak(
        "unexplained",
        "apply_effect",
        "IF v_step = ${IntentStep.FAIL} AND v_fits THEN",
        "IF false THEN",
        {"payout_fails": 1.0},
    ),
    "what_was_held_becomes_a_fee": GatewayBreak(
        "unexplained",
        "fail_intent",
        "v.intent_id, ${HOLD_SLOT}::smallint, v.wallet_id, v_locked.slot[1], v.amount - v.fee);",
        f"v.intent_id, ${{HOLD_SLOT}}::smallint, {_FEES}, 0::smallint, v.amount - v.fee);",
        {"payout_fails": 1.0},
    ),
    "what_is_not_paid_out_becomes_a_fee": GatewayBreak(
        "unexplained",
        "pay_otherwise",
        "v.intent_id, ${HOLD_SLOT}::smallint, v.wallet_id, v_locked.slot[2], v_rest);",
        f"v.intent_id, ${{HOLD_SLOT}}::smallint, {_FEES}, 0::smallint, v_rest);",
        {"payout_in_part": 1.0},
    ),
    "top_ups_become_a_fee": GatewayBreak(
        "unexplained",
        "credit_top_up",
        "p_clearing, v_locked.slot[1], v.wallet_id, v_locked.slot[2], v.amount);",
        "p_clearing, v_locked.slot[1], CASE WHEN v.payment_id IS NULL THEN "
        f"{_FEES} ELSE v.wallet_id END, v_locked.slot[2], v.amount);",
        {},
    ),
    "what_is_due_is_not_claimed": GatewayBreak(
        "unexplained", "claim_intents", "d.due_us <= v_now_us", "d.due_us < 0", {}
    ),
}
"""By name. The runs that meet them are in `test_gateway.py`."""
