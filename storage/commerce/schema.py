"""The schema of the books: migrations and functions, in a database that is not the chat's."""

from pathlib import Path

from protocol.commerce.currencies import AMOUNT_MINOR_MAX
from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.ids import NIL, to_text
from storage.commerce.money_rows import (
    BALANCE_MAX,
    HOLD_SLOT,
    SLOTS_SHARED,
    AccountStatus,
    HoldState,
    LimitSpan,
    Purpose,
    Reason,
    StepOutcome,
)
from storage.function_files import FunctionFiles
from storage.postgres.migrate import Schema

PERIOD_LOCKS = 0x746D
"""First half of the advisory lock that a step holds shared, and who closes a month exclusively."""
CHAIN_REFUSED = "TC101"
"""The SQLSTATE that takes back the legs of a chain; `post_chain` catches it."""

_HERE = Path(__file__).parent

MONEY = FunctionFiles(
    _HERE / "functions",
    enums=(
        PaymentState,
        PaymentStep,
        StepOutcome,
        Purpose,
        AccountStatus,
        HoldState,
        LimitSpan,
        Reason,
    ),
    constants={
        "PERIOD_LOCKS": PERIOD_LOCKS,
        "CHAIN_REFUSED": CHAIN_REFUSED,
        "HOLD_SLOT": HOLD_SLOT,
        "SLOTS_SHARED": SLOTS_SHARED,
        "AMOUNT_MINOR_MAX": AMOUNT_MINOR_MAX,
        "BALANCE_MAX": BALANCE_MAX,
        "NIL": to_text(NIL),
        "DAY_HOURS_MIN": 20,  # a day of a time zone has 23 to 25
        "MONTH_DAYS_MIN": 27,
    },
)
MONEY_SCHEMA = Schema(_HERE / "migrations", MONEY)
