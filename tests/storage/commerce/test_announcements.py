"""What the chat is to be told: versions reach their places, numbers are given once, a lost lease marks nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.ids import new_id
from storage.commerce.announcement_rows import NUMBERS_SKIPPED, Announced, Fate, LeasedPlace
from storage.commerce.announcements import Announcements
from storage.commerce.money_rows import NewPaymentRow
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

LEASE_US = HOUR_US
DAY_US = 24 * HOUR_US


@pytest.fixture
async def announcements(money_url: str) -> AsyncIterator[Announcements]:
    """The store of one relay."""
    opened = await Announcements.open(money_url, TENANT, writes=4, statement_timeout_s=30)
    yield opened
    await opened.aclose()


async def asked(money: MoneyWorld, **more: Any) -> NewPaymentRow:
    """A payment that somebody with enough was asked for, in a dialog."""
    new = money.payment(await money.open_person(10_000), await money.open_person(), 700, **{"dialog": new_id(), **more})
    await money.request(new)
    return new


async def approve(money: MoneyWorld, new: NewPaymentRow) -> None:
    await money.ledger.approve(
        money.key(),
        new.payer,
        TENANT,
        new.payment,
        version=1,
        amount=new.amount,
        currency=new.currency,
        payee=new.payee,
    )


async def lease(announcements: Announcements, *, rows: int = 20, lease_us: int = LEASE_US) -> list[LeasedPlace]:
    await announcements.spread(100)
    return await announcements.lease(100, rows=rows, lease_us=lease_us)


async def lease_dialog(announcements: Announcements, new: NewPaymentRow, **more: Any) -> LeasedPlace:
    """The lease of the payment's dialog, of all that are due."""
    (found,) = [place for place in await lease(announcements, **more) if place.subject == new.dialog]
    return found


async def settle(announcements: Announcements, place: LeasedPlace, outcome: Announced, code: str | None = None) -> bool:
    fates = [Fate(row.n, outcome, code) for row in place.rows]
    return await announcements.settle(place, fates, sealed=False, pause_us=0)


def shown(place: LeasedPlace) -> list[tuple[int, bytes, int]]:
    return [(row.n, row.version.payment, row.version.version) for row in place.rows]


async def test_a_version_goes_to_its_dialog_and_to_both_parties(
    money: MoneyWorld, announcements: Announcements
) -> None:
    new = await asked(money)
    places = await lease(announcements)
    assert {(place.subject, place.is_self) for place in places} == {
        (new.dialog, False),
        (new.payer, True),
        (new.payee, True),
    }
    assert [shown(place) for place in places] == [[(1, new.payment, 1)]] * 3
    assert [row.admitted for place in places for row in place.rows if not place.is_self] == [False]
    assert await money.database.fetchval("SELECT count(*) FROM outbox") == 0
    assert await announcements.spread(100) == 0


async def test_a_payment_without_a_dialog_is_for_its_parties_alone(
    money: MoneyWorld, announcements: Announcements
) -> None:
    new = await asked(money, dialog=None)
    assert {place.subject for place in await lease(announcements)} == {new.payer, new.payee}


async def test_what_is_leased_is_not_leased_again_before_the_lease_ends(
    money: MoneyWorld, announcements: Announcements
) -> None:
    await asked(money)
    assert len(await lease(announcements)) == 3
    assert await lease(announcements) == []
    await money.step_clock(LEASE_US)
    assert len(await lease(announcements)) == 3


async def test_a_successor_repeats_what_is_numbered_before_it_numbers_more(
    money: MoneyWorld, announcements: Announcements
) -> None:
    new = await asked(money)
    await lease_dialog(announcements, new)
    other = await asked(money, dialog=new.dialog)
    await approve(money, new)
    await money.step_clock(LEASE_US)
    again = await lease_dialog(announcements, new)
    assert shown(again) == [(1, new.payment, 1)]
    assert again.rows[0].version.state is PaymentState.REQUESTED
    assert await settle(announcements, again, Announced.TAKEN)
    then = await lease_dialog(announcements, new)
    assert shown(then) == [(2, new.payment, 2), (3, other.payment, 1)]
    assert [row.admitted for row in then.rows] == [True, False]


async def test_an_older_version_that_waits_is_skipped(money: MoneyWorld, announcements: Announcements) -> None:
    new = await asked(money)
    await approve(money, new)
    place = await lease_dialog(announcements, new)
    assert shown(place) == [(1, new.payment, 2)]
    assert place.rows[0].version.state is PaymentState.PAID
    await settle(announcements, place, Announced.TAKEN)
    await money.database.execute(
        "INSERT INTO outbox (dialog_id, payment_id, version) VALUES ($1, $2, 1)", new.dialog, new.payment
    )
    await announcements.spread(100)
    assert await money.database.fetchval("SELECT min(version) FROM announcements") == 2


async def test_a_lost_lease_notes_nothing(money: MoneyWorld, announcements: Announcements) -> None:
    new = await asked(money)
    first = await lease_dialog(announcements, new)
    await money.step_clock(LEASE_US)
    second = await lease_dialog(announcements, new)
    assert not await settle(announcements, first, Announced.REFUSED, "blocked")
    assert await settle(announcements, second, Announced.TAKEN)
    row = await money.database.fetchrow(
        "SELECT done, refused, n FROM announcements a JOIN places p USING (place_no) WHERE NOT p.is_self"
    )
    assert row is not None
    assert tuple(row) == (1, None, None)


async def test_what_was_refused_at_first_is_never_tried_again_in_that_dialog(
    money: MoneyWorld, announcements: Announcements
) -> None:
    new = await asked(money)
    for place in await lease(announcements):
        await settle(announcements, place, Announced.REFUSED, "blocked")
    await approve(money, new)
    again = await lease(announcements)
    assert {place.subject for place in again} == {new.payer, new.payee}
    assert (await announcements.read_backlog()).refused == 1


async def test_what_is_refused_later_is_tried_again_with_the_next_version(
    money: MoneyWorld, announcements: Announcements
) -> None:
    new = await asked(money)
    await settle(announcements, await lease_dialog(announcements, new), Announced.TAKEN)
    await approve(money, new)
    await settle(announcements, await lease_dialog(announcements, new), Announced.REFUSED, "dialog_not_found")
    assert await lease(announcements) == []
    await money.ledger.refund(money.key(), new.payee, TENANT, new.payment, amount=1)
    assert shown(await lease_dialog(announcements, new)) == [(3, new.payment, 3)]


async def test_a_number_that_had_passed_is_replaced_by_one_far_above(
    money: MoneyWorld, announcements: Announcements
) -> None:
    new = await asked(money)
    await settle(announcements, await lease_dialog(announcements, new), Announced.PASSED, "number_passed")
    again = await lease_dialog(announcements, new)
    assert shown(again) == [(NUMBERS_SKIPPED + 2, new.payment, 1)]


async def test_a_place_with_a_pause_waits_and_the_rest_keeps_its_number(
    money: MoneyWorld, announcements: Announcements
) -> None:
    new = await asked(money)
    place = await lease_dialog(announcements, new)
    assert await announcements.settle(place, [], sealed=True, pause_us=HOUR_US)
    assert await lease(announcements) == []
    await money.step_clock(HOUR_US)
    again = await lease_dialog(announcements, new)
    assert (shown(again), again.sealed, again.failures) == ([(1, new.payment, 1)], True, 1)


async def test_a_version_that_comes_while_its_place_is_leased_is_due_when_it_is_settled(
    money: MoneyWorld, announcements: Announcements
) -> None:
    new = await asked(money)
    place = await lease_dialog(announcements, new)
    await approve(money, new)
    assert await lease(announcements) == []
    await settle(announcements, place, Announced.TAKEN)
    assert shown(await lease_dialog(announcements, new)) == [(2, new.payment, 2)]


async def test_a_place_gives_so_many_rows_at_most_in_the_order_in_which_they_wait(
    money: MoneyWorld, announcements: Announcements
) -> None:
    first = await asked(money)
    await announcements.spread(1)
    others = [await asked(money, dialog=first.dialog) for _ in range(4)]
    found = []
    for _ in range(3):
        place = await lease_dialog(announcements, first, rows=2)
        found += shown(place)
        await settle(announcements, place, Announced.TAKEN)
    assert [n for n, _, _ in found] == [1, 2, 3, 4, 5]
    assert found[0][1] == first.payment
    assert {payment for _, payment, _ in found} == {each.payment for each in (first, *others)}


async def test_a_dispute_is_told_to_the_parties_alone(money: MoneyWorld, announcements: Announcements) -> None:
    new = await asked(money)
    for place in await lease(announcements):
        await settle(announcements, place, Announced.TAKEN)
    for version, state, step in (
        (2, PaymentState.DISPUTED, PaymentStep.DISPUTE),
        (3, PaymentState.PAID, PaymentStep.DISPUTE_WON),
        (4, PaymentState.REFUNDED, PaymentStep.DISPUTE_LOST),
    ):
        await money.database.execute(
            "UPDATE payments SET version = $2, state = $3 WHERE payment_id = $1", new.payment, version, int(state)
        )
        await money.database.execute(
            "SELECT note_version(p, $2, p.payee_id) FROM payments p WHERE payment_id = $1", new.payment, int(step)
        )
        places = await lease(announcements)
        assert {place.subject for place in places} == {new.payer, new.payee}
        for place in places:
            await settle(announcements, place, Announced.TAKEN)


async def test_a_new_epoch_announces_newest_versions_anew_under_new_numbers(
    money: MoneyWorld, announcements: Announcements
) -> None:
    old = await asked(money)
    await approve(money, old)
    for place in await lease(announcements):
        await settle(announcements, place, Announced.TAKEN)
    await money.step_clock(3 * DAY_US)
    new = await asked(money)
    for place in await lease(announcements):
        await settle(announcements, place, Announced.TAKEN)

    async def repeat(epoch: int) -> int:
        calls = 1
        while await announcements.repeat(epoch, within_us=DAY_US, limit=2):
            calls += 1
        return calls

    assert await repeat(5) == 1
    assert await lease(announcements) == []
    assert await repeat(6) == 4
    places = await lease(announcements)
    assert {place.subject for place in places} == {new.dialog, new.payer, new.payee}
    assert [shown(place) for place in places] == [[(2, new.payment, 1)]] * 3
    assert [row.admitted for place in places for row in place.rows] == [True] * 3
    assert await repeat(6) == 1
    assert await repeat(5) == 1


async def test_an_answer_of_the_epoch_before_is_not_noted(money: MoneyWorld, announcements: Announcements) -> None:
    new = await asked(money)
    place = await lease_dialog(announcements, new)
    for epoch in (5, 6):
        await announcements.repeat(epoch, within_us=DAY_US, limit=100)
    assert not await settle(announcements, place, Announced.TAKEN)
    assert shown(await lease_dialog(announcements, new)) == [(1, new.payment, 1)]


async def test_the_backlog_says_for_how_long_the_oldest_waits(money: MoneyWorld, announcements: Announcements) -> None:
    assert (await announcements.read_backlog()).oldest_us == 0
    await asked(money)
    await money.step_clock(HOUR_US)
    assert HOUR_US <= (await announcements.read_backlog()).oldest_us < HOUR_US * 2
    await announcements.spread(100)
    await money.step_clock(2 * HOUR_US)
    assert HOUR_US <= (await announcements.read_backlog()).oldest_us < HOUR_US * 2
    for place in await lease(announcements):
        await settle(announcements, place, Announced.TAKEN)
    assert (await announcements.read_backlog()).oldest_us == 0


async def test_places_of_another_tenant_are_not_leased(
    money: MoneyWorld, announcements: Announcements, money_url: str
) -> None:
    await asked(money)
    others = await Announcements.open(money_url, TENANT + 1, writes=1, statement_timeout_s=30)
    try:
        assert await lease(others) == []
    finally:
        await others.aclose()
    assert len(await lease(announcements)) == 3
