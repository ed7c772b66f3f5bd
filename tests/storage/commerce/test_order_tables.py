"""The tables of orders are the same in Python and in the database, and agree with each other."""

from __future__ import annotations

import itertools

import pytest

from protocol.commerce.order_states import NEXT_OF_ORDER, STEPS_OF, OrderEvent, OrderParty, OrderState, as_sql
from tests.support.money_world import MoneyWorld

pytestmark = pytest.mark.anyio


async def test_the_database_follows_the_tables_of_orders(money: MoneyWorld) -> None:
    for state, event in itertools.product(OrderState, OrderEvent):
        after = await money.database.fetchval("SELECT next_order_state($1, $2)", int(state), int(event))
        assert after == NEXT_OF_ORDER[state].get(event)
        for party in OrderParty:
            allowed = await money.database.fetchval(
                "SELECT is_order_step_of($1, $2, $3)", int(party), int(state), int(event)
            )
            assert allowed == (event in STEPS_OF[party].get(state, ()))


def test_nobody_may_ask_for_a_step_that_leads_nowhere_nor_for_being_paid() -> None:
    for steps in STEPS_OF.values():
        for state, events in steps.items():
            assert events <= NEXT_OF_ORDER[state].keys() - {OrderEvent.PAY, OrderEvent.PLACE}


def test_every_state_but_the_first_is_reached_and_the_last_ones_stay() -> None:
    assert {after for events in NEXT_OF_ORDER.values() for after in events.values()} == set(OrderState) - {
        OrderState.PENDING
    }
    assert [state for state, events in NEXT_OF_ORDER.items() if not events] == [
        OrderState.CANCELLED,
        OrderState.REFUNDED,
    ]


def test_there_are_two_tables_for_sql() -> None:
    with pytest.raises(KeyError):
        as_sql("prices")
