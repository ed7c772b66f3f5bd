"""The schema of the books: migrations and functions, in a database that is not the chat's."""

from pathlib import Path

from protocol.commerce.currencies import AMOUNT_MINOR_MAX
from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.ids import NIL, to_text
from storage.commerce.announcement_rows import NUMBERS_SKIPPED, Announced
from storage.commerce.money_rows import (
    BALANCE_MAX,
    HOLD_SLOT,
    SLOTS_SHARED,
    AccountStatus,
    HoldState,
    LimitSpan,
    Purpose,
    StepOutcome,
    TransferReason,
)
from storage.function_files import FunctionFiles
from storage.postgres.epoch import HISTORY
from storage.postgres.migrate import Schema
from storage.postgres.pool import SESSION_SETTINGS

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
        TransferReason,
        Announced,
    ),
    constants={
        "PERIOD_LOCKS": PERIOD_LOCKS,
        "CHAIN_REFUSED": CHAIN_REFUSED,
        "HOLD_SLOT": HOLD_SLOT,
        "SLOTS_SHARED": SLOTS_SHARED,
        "AMOUNT_MINOR_MAX": AMOUNT_MINOR_MAX,
        "BALANCE_MAX": BALANCE_MAX,
        "NIL": to_text(NIL),
        "NUMBERS_SKIPPED": NUMBERS_SKIPPED,
        "HISTORY": HISTORY,
        "DAY_HOURS_MIN": 22,  # a day of a time zone has 22 to 26
        "MONTH_DAYS_MIN": 27,
    },
)
MONEY_SCHEMA = Schema(_HERE / "migrations", MONEY)

MONEY_SETTINGS = {
    **SESSION_SETTINGS,
    # Plans are made once, while tables are empty, and kept: with the usual costs a batch is joined with a whole index.
    # Here rows cost and pages do not, so a lookup for each row of the batch wins, whatever the tables look like.
    "cpu_tuple_cost": "1",
    "cpu_index_tuple_cost": "1",
    "random_page_cost": "0.01",
    "seq_page_cost": "0.01",
}
"""What every connection to the books starts with."""
