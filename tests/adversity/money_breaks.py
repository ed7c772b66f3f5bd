"""Faults of the ledger's functions, each with the count that notices it: what a run finds with them must not be 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.commerce.schema import MONEY
from storage.commerce.service_access import GRANTS


@dataclass(frozen=True)
class Break:
    """Texts of functions that are replaced: by function, the old and the new one, as they stand in the templates.

    `before` is done first: what else stands in the way of the fault. `plays` are those that meet it; none: all. So many
    `months` end and `kills` happen meanwhile, and so many `operations` are enough.
    """

    count: str
    edits: Mapping[str, tuple[str, str]]
    before: str = ""
    plays: Mapping[str, float] = field(default_factory=dict)
    months: int = 3
    operations: int = 1_500
    kills: int = 0

    def statements(self) -> list[str]:
        """What makes a database wrong."""
        return [self.before] * bool(self.before) + [edit_function(name, *edit) for name, edit in self.edits.items()]


def edit_function(name: str, old: str, new: str) -> str:
    """The statement that makes a function wrong. An assertion fails when a text has moved."""
    template = MONEY.read(name)
    assert template.count(old) == 1, f"{name}.sql has {template.count(old)} times: {old}"
    assert template.count("CREATE FUNCTION") == 1, name
    return MONEY.render(template.replace(old, new).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")) + GRANTS


_PAY: Mapping[str, float] = {"send": 5, "top_up": 1}

BREAKS: dict[str, Break] = {
    "credit_is_not_written": Break(
        "unbalanced",
        {"post": ("balance = balance + p_amount, moved_us", "balance = balance, moved_us")},
        plays=_PAY,
    ),
    "clock_falls_within_an_account": Break(
        "fold_differs", {"lock_slots": ("greatest(max(x.moved_us), ", "greatest(")}, plays=_PAY
    ),
    "units_that_are_left_over_are_given_to_nobody": Break(
        "fold_differs",
        {"pay_shares": ("CASE WHEN r.rank <= r.left_over THEN 1 ELSE 0 END", "0")},
        plays={"request": 3, "answer_request": 4, "end_hold": 3, "top_up": 2},
        operations=5_000,
    ),
    "floor_is_judged_with_one_slot_locked": Break(
        "negative",
        {
            "lock_accounts": (
                "unnest(p_ids, p_whole) WITH",
                "unnest(p_ids, array_fill(false, ARRAY[cardinality(p_ids)])) WITH",
            )
        },
        plays={"spend_shared": 3, "top_up": 1},
    ),
    "refusals_are_not_kept": Break(
        "doubled",
        {
            "close_step": (
                "    INSERT INTO keys",
                """    IF p_outcome <> ${StepOutcome.DONE} THEN
        RETURN (p_outcome, p_subject, p_version, p_detail)::answer;
    END IF;
    INSERT INTO keys""",
            )
        },
        plays={"spend_limit": 5, "top_up": 1, "repeat": 10},
    ),
    "bodies_are_not_compared": Break(
        "doubled", {"open_step": ("v_found.body <> p_body", "false")}, plays={"send": 5, "repeat": 10}
    ),
    "hold_ends_in_any_state": Break(
        "resolved_twice",
        {
            "step_payment": (
                "v.state = ${PaymentState.HELD} AND p_step IN",
                "v.state IN (${PaymentState.HELD}, ${PaymentState.PAID}, ${PaymentState.CANCELLED}) AND p_step IN",
            )
        },
        before="ALTER TABLE holds DROP CONSTRAINT holds_balance_check",
        plays={"send": 3, "end_hold": 5, "top_up": 1},
    ),
    "batch_captures_in_any_state": Break(
        "resolved_twice",
        {"capture_payments": ("WHERE p.state = ${PaymentState.HELD} AND p.tenant_id", "WHERE p.tenant_id")},
        plays={"send": 3, "end_hold": 5, "top_up": 1},
    ),
    "hold_that_is_due_is_captured": Break(
        "resolved_twice",
        {
            "end_hold": (
                "IF v_locked.now_us >= p.expires_us AND p_step <>",
                "IF p_step <> ${PaymentStep.CAPTURE} AND p_step <>",
            )
        },
        plays={"send": 3, "end_hold": 5, "top_up": 1},
    ),
    "hold_is_due_by_its_date": Break(
        "resolved_twice",
        {"end_hold": ("IF v_locked.now_us >= p.expires_us AND p_step <>", "IF at_us >= p.expires_us AND p_step <>")},
        plays={"send": 3, "end_hold": 5, "top_up": 1},
        operations=6_000,  # with more steps of the clock
    ),
    "request_that_is_due_is_approved": Break(
        "resolved_twice",
        {
            "take_payment": ("WHEN now_us >= p_until_us THEN", "WHEN false THEN"),
            "approve_payment": ("v_now_us >= v.expires_us", "false"),
        },
        plays={"request": 3, "answer_request": 5, "top_up": 1},
    ),
    "payment_is_not_locked": Break(
        "resolved_twice",
        {
            "step_payment": (
                "(p_party IS NULL OR p_party IN (p.payer_id, p.payee_id)) FOR NO KEY UPDATE;",
                "(p_party IS NULL OR p_party IN (p.payer_id, p.payee_id));",
            )
        },
        before="ALTER TABLE payment_versions DROP CONSTRAINT payment_versions_pkey",
        plays={"request": 3, "answer_request": 5, "top_up": 1},
    ),
    "person_is_not_locked": Break(
        "over_limit",
        {"take_payment": ("WHERE w.person_id = p.payer_id FOR NO KEY UPDATE OF w;", "WHERE w.person_id = p.payer_id;")},
        plays={"spend_limit": 2, "top_up": 1},
        operations=3_000,
    ),
    "batch_counts_each_hold_alone": Break(
        "over_limit",
        {"hold_payments": ("d.used + r.counted_by_all <=", "d.used + r.counted <=")},
        plays={"spend_limit": 2, "top_up": 1},
    ),
    "voids_give_nothing_back": Break(
        "over_limit",
        {"end_hold": ("IF p_captured < p.amount AND v_hold.person_id IS NOT NULL THEN", "IF false THEN")},
        plays={"send": 3, "end_hold": 5, "top_up": 1},
    ),
    "day_is_as_short_as_zones_make_it": Break(
        "over_limit",
        {"begin_bucket": ("interval '${DAY_HOURS_MIN} hours'", "interval '0 hours'")},
        plays={"send": 5, "top_up": 3, "move": 1},
    ),
    "month_closes_while_steps_are_under_way": Break(
        "closed_changed",
        {"close_period": ("PERFORM pg_advisory_xact_lock(${PERIOD_LOCKS}, 0);", "NULL;")},
        plays=_PAY,
        months=20,
    ),
    "answer_comes_before_it_is_durable": Break(
        "lost",
        {
            "close_step": (
                "    INSERT INTO keys",
                "    PERFORM set_config('synchronous_commit', 'off', true);\n    INSERT INTO keys",
            )
        },
        plays={"top_up": 1},
        kills=1,
    ),
    "locks_are_not_sorted": Break(
        "deadlocks",
        {
            "lock_slots": (
                "ORDER BY w.account_id)",
                "ORDER BY CASE pg_backend_pid() % 4 WHEN 0 THEN random() END, w.account_id)",
            )
        },
        plays={"oppose": 1},
        operations=100,
    ),
}
"""By name; the count of each is the one that must notice it."""
