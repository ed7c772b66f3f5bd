"""The states of an order: one table of state and event, and who may take which step. SQL is rendered from both.

An order follows its payment: PAY, CANCEL and REFUND happen in the call that moves the money. Customers and staff ask
for steps; a CANCEL or REFUND that they ask for is a step of the payment, which the order follows.
"""

from __future__ import annotations

import enum


class OrderState(enum.IntEnum):
    """Where an order stands. The number is stored; the name goes over HTTP."""

    PENDING = 1
    CONFIRMED = 2
    PROCESSING = 3
    SHIPPED = 4
    DELIVERED = 5
    CANCELLED = 6
    REFUNDED = 7

    @property
    def text(self) -> str:
        """The name over HTTP."""
        return self.name.lower()


class OrderEvent(enum.IntEnum):
    """What happens to an order."""

    PLACE = 1
    PAY = 2
    """The payment is held or paid."""
    PROCESS = 3
    SHIP = 4
    """What was reserved leaves the stock; what is held for it is captured first."""
    DELIVER = 5
    CANCEL = 6
    """The payment ended without money, or all of it went back before the order was shipped: its stock is released."""
    REFUND = 7
    """All of the money went back after the order was shipped."""

    @property
    def text(self) -> str:
        """The name over HTTP and in the history of an order."""
        return self.name.lower()


class OrderParty(enum.IntEnum):
    """On which side of an order somebody stands."""

    CUSTOMER = 1
    STAFF = 2


_S, _E = OrderState, OrderEvent

NEXT_OF_ORDER: dict[OrderState, dict[OrderEvent, OrderState]] = {
    _S.PENDING: {_E.PAY: _S.CONFIRMED, _E.CANCEL: _S.CANCELLED},
    _S.CONFIRMED: {_E.PROCESS: _S.PROCESSING, _E.SHIP: _S.SHIPPED, _E.CANCEL: _S.CANCELLED},
    _S.PROCESSING: {_E.SHIP: _S.SHIPPED, _E.CANCEL: _S.CANCELLED},
    _S.SHIPPED: {_E.DELIVER: _S.DELIVERED, _E.REFUND: _S.REFUNDED},
    _S.DELIVERED: {_E.REFUND: _S.REFUNDED},
    _S.CANCELLED: {},
    _S.REFUNDED: {},
}
"""By state and event: the state to which it leads; where it is missing the step is refused."""

STEPS_OF: dict[OrderParty, dict[OrderState, frozenset[OrderEvent]]] = {
    OrderParty.CUSTOMER: {
        _S.PENDING: frozenset({_E.CANCEL}),
        _S.CONFIRMED: frozenset({_E.CANCEL}),
        _S.SHIPPED: frozenset({_E.DELIVER}),
    },
    OrderParty.STAFF: {
        _S.PENDING: frozenset({_E.CANCEL}),
        _S.CONFIRMED: frozenset({_E.PROCESS, _E.SHIP, _E.CANCEL}),
        _S.PROCESSING: frozenset({_E.SHIP, _E.CANCEL}),
        _S.SHIPPED: frozenset({_E.DELIVER, _E.REFUND}),
        _S.DELIVERED: frozenset({_E.REFUND}),
    },
}
"""Which steps each side may ask for, by state; that an order is paid nobody asks for, it happens."""

ORDER_STATES_BY_TEXT: dict[str, OrderState] = {state.text: state for state in OrderState}
"""The states by their names over HTTP."""


def as_sql(table: str) -> str:
    """The rows of a table for SQL: `states`, (state, event, next state), or `steps`, (party, state, event)."""
    rows: dict[str, list[tuple[int, int, int]]] = {
        "states": [(state, event, after) for state, by in NEXT_OF_ORDER.items() for event, after in by.items()],
        "steps": [
            (party, state, event) for party, by in STEPS_OF.items() for state in by for event in sorted(by[state])
        ],
    }
    return ", ".join(f"({int(one)}, {int(two)}, {int(three)})" for one, two, three in rows[table])
