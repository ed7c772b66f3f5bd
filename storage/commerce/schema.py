"""The schema of the books: migrations and functions, in a database that is not the chat's."""

from pathlib import Path

from protocol.commerce import order_states, shop_terms
from protocol.commerce.currencies import AMOUNT_MINOR_MAX
from protocol.commerce.intent_states import (
    EffectKind,
    EffectUse,
    IntentKind,
    IntentState,
    IntentStep,
    render_intent_table,
)
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
from storage.commerce.personal_rows import ItemKind, KeyKind, StillOpen
from storage.commerce.service_access import GRANTED, GRANTS, SERVICE_ROLE
from storage.function_files import FunctionFiles
from storage.postgres.epoch import HISTORY
from storage.postgres.migrate import Schema
from storage.postgres.pool import SESSION_SETTINGS

PERIOD_LOCKS = 0x746D
"""First half of the advisory lock that a step holds shared, and who closes a month exclusively."""
STAFF_LOCKS = 0x7374
"""Seed of the advisory lock under which the businesses of a person are counted."""
NUMBERS_SINGLE = 1_000
NUMBERS_TAKEN = 20
"""From order number NUMBERS_SINGLE on a connection takes so many numbers of a business at once."""
CHAIN_REFUSED = "TC101"
"""The SQLSTATE that takes back the legs of a chain; `post_chain` catches it."""

RECONCILING_SETTING = "tchat.reconciling"
"""The setting of connections that apply the changes of gateways, also while restored books are read-only for others."""

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
        ItemKind,
        KeyKind,
        StillOpen,
        order_states.OrderState,
        order_states.OrderEvent,
        order_states.OrderParty,
        shop_terms.StaffRole,
        shop_terms.ShopStatus,
        shop_terms.StockMove,
        shop_terms.LineKind,
        IntentKind,
        IntentState,
        IntentStep,
        EffectKind,
        EffectUse,
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
        "STEP_UP_KEPT_US": 600_000_000,  # it ends within two minutes
        "HISTORY": HISTORY,
        "RECONCILING_SETTING": RECONCILING_SETTING,
        "GATEWAY_MARGIN_MS": 3_600_000,  # before the newest thing that restored books know
        "GATEWAY_PAUSE_US": 3_600_000_000,  # what is pending is asked for after it; the longest
        "DAY_HOURS_MIN": 22,  # a day of a time zone has 22 to 26
        "MONTH_DAYS_MIN": 27,
        "STAFF_LOCKS": STAFF_LOCKS,
        "STAFF_MAX": shop_terms.STAFF_MAX,
        "BUSINESSES_OF_PERSON_MAX": shop_terms.BUSINESSES_OF_PERSON_MAX,
        "SHIPPING_OPTIONS_MAX": shop_terms.SHIPPING_OPTIONS_MAX,
        "VARIANTS_MAX": shop_terms.VARIANTS_MAX,
        "CART_LINES_MAX": shop_terms.CART_LINES_MAX,
        "STOCK_MAX": shop_terms.STOCK_MAX,
        "ORDER_REQUEST_US_MAX": shop_terms.ORDER_REQUEST_S_MAX * 1_000_000,
        "PENDING_ORDERS_MAX": shop_terms.PENDING_ORDERS_MAX,
        "NUMBERS_SINGLE": NUMBERS_SINGLE,
        "NUMBERS_TAKEN": NUMBERS_TAKEN,
    },
    others={"order_table": order_states.as_sql, "intent_table": render_intent_table},
)
MONEY_SCHEMA = Schema(_HERE / "migrations", MONEY, GRANTS, GRANTED)

MONEY_SETTINGS = {
    **SESSION_SETTINGS,
    "role": SERVICE_ROLE,
    # Plans are made once, while tables are empty, and kept: with the usual costs a batch is joined with a whole index.
    # Here rows cost and pages do not, so a lookup for each row of the batch wins, whatever the tables look like.
    "cpu_tuple_cost": "1",
    "cpu_index_tuple_cost": "1",
    "random_page_cost": "0.01",
    "seq_page_cost": "0.01",
}
"""What every connection to the books starts with."""
RECONCILING_SETTINGS = {**MONEY_SETTINGS, RECONCILING_SETTING: "on"}
"""Of those over which the changes of gateways are applied."""
