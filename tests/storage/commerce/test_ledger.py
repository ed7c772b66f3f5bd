"""Payments over the ledger: what moves, what is refused, and that both happen once."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.ids import NIL, new_id
from storage.commerce.money_rows import (
    FIRST_DUE,
    AccountStatus,
    CaptureStep,
    Leg,
    Purpose,
    StepOutcome,
    TransferReason,
    account_id,
)
from storage.unavailable import WriteRefusedError
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld, key_of

pytestmark = pytest.mark.anyio


async def test_a_payment_moves_at_once_and_the_fee_goes_to_the_platform(money: MoneyWorld) -> None:
    await money.set_fee(250, 3)
    ann, shop = await money.open_person(10_000), await money.open_person()
    new = money.payment(ann, shop, 4_000)
    answer = await money.send(new)
    assert (answer.outcome, answer.subject, answer.version) == (StepOutcome.DONE, new.payment, 1)
    assert (await money.balance(ann), await money.balance(shop), await money.fees()) == (6_000, 3_897, 103)
    row = await money.ledger.read_payment(new.payment)
    assert row is not None
    assert (row.state, row.captured, row.fee) == (PaymentState.PAID, 4_000, 103)


async def test_a_hold_is_captured_in_part_and_the_rest_returns(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(10_000), await money.open_person()
    new = money.payment(ann, shop, 4_000, later=True)
    await money.send(new)
    (wallet,) = await money.ledger.read_accounts(TENANT, ann)
    assert (wallet.balance, wallet.held) == (6_000, 4_000)
    answer = await money.capture(new, 1_500)
    assert (answer.outcome, answer.version) == (StepOutcome.DONE, 2)
    assert (await money.balance(ann), await money.balance(shop)) == (8_500, 1_500)
    (wallet,) = await money.ledger.read_accounts(TENANT, ann)
    assert wallet.held == 0


async def test_a_hold_ends_once(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(10_000), await money.open_person()
    new = money.payment(ann, shop, 4_000, later=True)
    await money.send(new)
    ends = [money.capture(new, amount) for amount in (None, 100, 4_000)] + [money.void(new) for _ in range(3)]
    outcomes = sorted(answer.outcome for answer in await asyncio.gather(*ends))
    assert outcomes == [StepOutcome.DONE] + [StepOutcome.STATE] * 5
    assert await money.balance(ann) + await money.balance(shop) == 10_000


async def test_what_is_not_there_is_refused_and_the_late_copy_too(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(100), await money.open_person()
    new, key = money.payment(ann, shop, 101), money.key()
    assert (await money.send(new, key)).outcome is StepOutcome.INSUFFICIENT
    await money.fund(new.from_account, 1_000)
    assert (await money.send(new, key)).outcome is StepOutcome.INSUFFICIENT
    assert (await money.send(new)).outcome is StepOutcome.DONE
    assert await money.balance(shop) == 101


async def test_a_key_is_one_step_and_another_body_is_refused(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 100)
    same = await asyncio.gather(*(money.send(new, key_of("k", "100")) for _ in range(8)))
    assert {(each.outcome, each.subject) for each in same} == {(StepOutcome.DONE, new.payment)}
    assert await money.balance(shop) == 100
    assert (await money.send(new, key_of("k", "200"))).outcome is StepOutcome.KEY_REUSED
    assert (await money.send(new, key_of("k", "100"))).outcome is StepOutcome.DONE


async def test_racers_on_one_wallet_never_spend_more_than_it_has(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    sends = [money.send(money.payment(ann, shop, 300, later=later)) for later in (True, False) * 8]
    outcomes = [answer.outcome for answer in await asyncio.gather(*sends)]
    assert outcomes.count(StepOutcome.DONE) == 3
    assert outcomes.count(StepOutcome.INSUFFICIENT) == 13
    assert await money.balance(ann) == 100


async def test_a_shared_account_spends_its_sum_and_not_more(money: MoneyWorld) -> None:
    people = [await money.open_person(1_000) for _ in range(6)]
    shop, supplier = await money.open_person(slots=16), await money.open_person()
    for person in people:
        await money.send(money.payment(person, shop, 1_000))
    assert (await money.send(money.payment(shop, supplier, 6_001))).outcome is StepOutcome.INSUFFICIENT
    assert (await money.send(money.payment(shop, supplier, 6_000))).outcome is StepOutcome.DONE
    assert (await money.balance(shop), await money.balance(supplier)) == (0, 6_000)


async def test_a_request_is_approved_as_it_was_seen(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 400)
    await money.request(new)

    async def approve(**seen: object) -> StepOutcome:
        fields = {"version": 1, "amount": 400, "currency": "THB", "payee": shop} | seen
        approved = await money.ledger.approve(money.key(), ann, TENANT, new.payment, **fields)  # type: ignore[arg-type]
        return approved.outcome

    for seen in ({"version": 2}, {"amount": 399}, {"currency": "IDR"}, {"payee": ann}):
        assert await approve(**seen) is StepOutcome.CHANGED
    assert await money.balance(ann) == 1_000
    assert await approve() is StepOutcome.DONE
    assert await approve() is StepOutcome.STATE
    assert await money.balance(shop) == 400


@pytest.mark.parametrize("step", [PaymentStep.DECLINE, PaymentStep.CANCEL])
async def test_a_request_that_ended_is_paid_by_nobody(money: MoneyWorld, step: PaymentStep) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 400)
    await money.request(new)
    await money.ledger.take_step(money.key(), ann, TENANT, new.payment, step, party=ann)
    answer = await money.ledger.approve(
        money.key(), ann, TENANT, new.payment, version=1, amount=400, currency="THB", payee=shop
    )
    assert answer.outcome is StepOutcome.STATE
    assert await money.balance(ann) == 1_000


async def test_a_stranger_is_no_party(money: MoneyWorld) -> None:
    ann, shop, eve = [await money.open_person(1_000) for _ in range(3)]
    new = money.payment(ann, shop, 400)
    await money.request(new)
    declined = await money.ledger.take_step(money.key(), eve, TENANT, new.payment, PaymentStep.DECLINE, party=eve)
    approved = await money.ledger.approve(
        money.key(), eve, TENANT, new.payment, version=1, amount=400, currency="THB", payee=shop
    )
    assert {declined.outcome, approved.outcome} == {StepOutcome.NOT_FOUND}


async def test_what_is_due_is_expired_before_it_is_told_and_a_clock_that_steps_back_undoes_nothing(
    money: MoneyWorld,
) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    held, asked = money.payment(ann, shop, 400, later=True), money.payment(ann, shop, 500)
    await money.send(held)
    await money.request(asked)
    await money.step_clock(8 * 24 * HOUR_US)
    due = await money.ledger.list_due(FIRST_DUE, 10)
    assert {each.payment for each in due} == {held.payment, asked.payment}
    told = [await money.ledger.read_payment(each.payment) for each in (held, asked)]
    assert [each.state for each in told if each] == [PaymentState.EXPIRED] * 2
    await money.step_clock(0)
    assert (await money.capture(held)).outcome is StepOutcome.EXPIRED
    assert (await money.balance(ann), await money.balance(shop)) == (1_000, 0)
    assert await money.ledger.list_due(FIRST_DUE, 10) == []


async def test_a_capture_that_comes_late_expires_the_hold(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 400, later=True)
    await money.send(new)
    await money.step_clock(8 * 24 * HOUR_US)
    answer = await money.capture(new)
    assert (answer.outcome, answer.version) == (StepOutcome.EXPIRED, 2)
    assert (await money.balance(ann), await money.balance(shop)) == (1_000, 0)
    versions = await money.ledger.read_versions(new.payment)
    assert [(each.step, each.state) for each in versions] == [
        (PaymentStep.SEND, PaymentState.HELD),
        (PaymentStep.EXPIRE, PaymentState.EXPIRED),
    ]


async def test_a_clock_that_jumped_and_returned_makes_nothing_due(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    held = [money.payment(ann, shop, 100, later=True, hold_us=HOUR_US) for _ in range(3)]
    asked = money.payment(ann, shop, 100, request_us=HOUR_US)
    for new in held:
        await money.send(new)
    await money.request(asked)
    await money.step_clock(50 * HOUR_US)
    await money.send(money.payment(ann, shop, 1))  # which dates what follows in these wallets
    await money.step_clock(0)
    assert (await money.capture(held[0], 40)).outcome is StepOutcome.DONE
    (captured,) = await money.ledger.capture_many([CaptureStep(money.key(), NIL, TENANT, held[1].payment)])
    assert captured is not None
    assert await money.ledger.expire(held[2].payment) is False
    approved = await money.ledger.approve(
        money.key(), ann, TENANT, asked.payment, version=1, amount=100, currency="THB", payee=shop
    )
    assert approved.outcome is StepOutcome.DONE
    late = money.payment(ann, shop, 100, later=True, hold_us=HOUR_US)
    await money.send(late)
    row = await money.ledger.read_payment(late.payment)
    assert row is not None
    assert row.expires_us < row.moved_us, "a hold lasts as long as was asked, by the clock"
    await money.step_clock(2 * HOUR_US)
    assert (await money.capture(late)).outcome is StepOutcome.EXPIRED


async def test_a_refusal_is_dated_by_the_clock(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 100)
    await money.send(new)
    await money.step_clock(31 * 24 * HOUR_US)
    key = money.key()
    assert (await money.void(new, key)).outcome is StepOutcome.STATE
    assert await money.ledger.forget_answers(30 * 24 * HOUR_US, 100) > 0
    assert (await money.void(new, key)).subject == new.payment


async def test_a_step_that_moves_nothing_is_dated_behind_closed_months(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    ends_us = await money.database.fetchval("SELECT clock_us()")
    assert await money.ledger.close_period(202611, ends_us)
    await money.step_clock(-HOUR_US)
    new = money.payment(ann, shop, 100)
    await money.request(new)
    await money.ledger.take_step(money.key(), ann, TENANT, new.payment, PaymentStep.DECLINE, party=ann)
    assert all(each.at_us >= ends_us for each in await money.ledger.read_versions(new.payment))


async def test_refunds_in_part_return_exactly_the_fee(money: MoneyWorld) -> None:
    await money.set_fee(290)
    ann, shop = await money.open_person(10_000), await money.open_person(500)
    new = money.payment(ann, shop, 9_999)
    await money.send(new)
    earned = await money.fees()
    for part in (1, 3_333, 3, 6_000, 662):
        answer = await money.ledger.refund(money.key(), shop, TENANT, new.payment, party=shop, amount=part)
        assert answer.outcome is StepOutcome.DONE
    assert earned == 290
    assert (await money.fees(), await money.balance(ann), await money.balance(shop)) == (0, 10_000, 500)
    more = await money.ledger.refund(money.key(), shop, TENANT, new.payment, party=shop, amount=1)
    assert more.outcome is StepOutcome.AMOUNT


async def test_only_the_payee_refunds_and_only_from_what_they_have(money: MoneyWorld) -> None:
    ann, shop, bank = [await money.open_person(1_000) for _ in range(3)]
    new = money.payment(ann, shop, 1_000)
    await money.send(new)
    await money.send(money.payment(shop, bank, 1_500))
    assert (
        await money.ledger.refund(money.key(), ann, TENANT, new.payment, party=ann)
    ).outcome is StepOutcome.NOT_FOUND
    refused = await money.ledger.refund(money.key(), shop, TENANT, new.payment, party=shop)
    assert refused.outcome is StepOutcome.INSUFFICIENT


@pytest.mark.parametrize("amount", [0, -1, 10**15 + 1])
async def test_an_amount_that_cannot_be_is_refused(money: MoneyWorld, amount: int) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    assert (await money.send(money.payment(ann, shop, amount))).outcome is StepOutcome.AMOUNT
    held = money.payment(ann, shop, 100, later=True)
    await money.send(held)
    assert (await money.capture(held, amount)).outcome is StepOutcome.AMOUNT
    assert (await money.capture(held, 101)).outcome is StepOutcome.AMOUNT


async def test_parties_that_cannot_be_are_refused(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    rupiah = await money.open_person(1_000, currency="IDR")
    assert (await money.send(money.payment(ann, ann, 1))).outcome is StepOutcome.OWN_PAYEE
    assert (await money.send(money.payment(ann, new_id(), 1))).outcome is StepOutcome.WALLET_NOT_FOUND
    mixed = money.payment(ann, rupiah, 1)
    assert (await money.send(mixed)).outcome is StepOutcome.WALLET_NOT_FOUND
    await money.database.execute("UPDATE accounts SET status = $1 WHERE owner_id = $2", int(AccountStatus.CLOSED), shop)
    assert (await money.send(money.payment(ann, shop, 1))).outcome is StepOutcome.WALLET_CLOSED


async def test_a_chain_is_all_or_nothing_and_names_the_leg_that_cannot_be(money: MoneyWorld) -> None:
    wallets = [await money.open_wallet(new_id(), 10) for _ in range(101)]
    ring = [Leg(one, other, 10) for one, other in itertools.pairwise(wallets)]
    broken = [*ring[:49], Leg(wallets[49], wallets[50], 11 + 10), *ring[50:]]
    answer = await money.ledger.post_chain(money.key(), TENANT, new_id(), TransferReason.TRANSFER, broken)
    assert (answer.outcome, answer.detail) == (StepOutcome.INSUFFICIENT, 50)
    assert {await money.balance_of(wallet) for wallet in wallets} == {10}
    answer = await money.ledger.post_chain(money.key(), TENANT, new_id(), TransferReason.TRANSFER, ring)
    assert answer.outcome is StepOutcome.DONE
    assert [await money.balance_of(wallet) for wallet in (wallets[0], wallets[50], wallets[100])] == [0, 10, 20]


async def test_reversals_never_sum_above_the_original(money: MoneyWorld) -> None:
    ann, shop = await money.open_wallet(new_id(), 100), await money.open_wallet(new_id(), 100)
    subject = new_id()
    await money.ledger.post_chain(money.key(), TENANT, subject, TransferReason.TRANSFER, [Leg(ann, shop, 60)])
    (line, _) = await money.ledger.read_statement(shop, 2**62, 10)

    async def reverse(amount: int, from_account: bytes = shop, to_account: bytes = ann) -> StepOutcome:
        leg = Leg(from_account, to_account, amount, line.transfer_no)
        return (await money.ledger.post_chain(money.key(), TENANT, new_id(), TransferReason.REVERSAL, [leg])).outcome

    raced = await asyncio.gather(*(reverse(25) for _ in range(5)))
    assert sorted(raced) == [StepOutcome.DONE] * 2 + [StepOutcome.AMOUNT] * 3
    assert await reverse(10, ann, shop) is StepOutcome.AMOUNT
    assert await reverse(10) is StepOutcome.DONE
    assert (await money.balance_of(ann), await money.balance_of(shop)) == (100, 100)


async def test_a_payment_is_taken_back_by_its_own_steps_alone(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 400)
    await money.send(new)
    (line,) = await money.ledger.read_statement(new.to_account, 2**62, 10)
    leg = Leg(new.to_account, new.from_account, 400, line.transfer_no)
    reversed_ = await money.ledger.post_chain(money.key(), TENANT, new_id(), TransferReason.REVERSAL, [leg])
    assert (reversed_.outcome, reversed_.detail) == (StepOutcome.STATE, 1)
    assert await money.balance(shop) == 400


async def test_an_exchange_uses_its_quote_once(money: MoneyWorld) -> None:
    ann = await money.open_person(1_000)
    await money.open_wallet(ann, currency="IDR")
    wallet = [account_id(TENANT, ann, code, Purpose.WALLET) for code in ("THB", "IDR")]
    desk = [account_id(TENANT, bytes(16), code, Purpose.EXCHANGE) for code in ("THB", "IDR")]
    quote = new_id()
    await money.database.execute(
        "INSERT INTO quotes VALUES ($1, $2, $3, 'THB', 300, 'IDR', 140000, clock_us() + 60000000, NULL)",
        quote,
        TENANT,
        ann,
    )

    async def exchange(sell: int, buy: int) -> StepOutcome:
        legs = [Leg(wallet[0], desk[0], sell), Leg(desk[1], wallet[1], buy)]
        posted = await money.ledger.post_chain(money.key(), TENANT, quote, TransferReason.EXCHANGE, legs, quote=quote)
        return posted.outcome

    assert await exchange(300, 150_000) is StepOutcome.QUOTE
    assert sorted([await exchange(300, 140_000) for _ in range(2)]) == [StepOutcome.DONE, StepOutcome.QUOTE]
    assert (await money.balance(ann), await money.balance(ann, "IDR")) == (700, 140_000)


async def test_old_answers_are_forgotten_and_a_late_copy_still_does_nothing(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new, key = money.payment(ann, shop, 100), money.key()
    await money.send(new, key)
    assert await money.ledger.forget_answers(HOUR_US, 100) == 0
    assert await money.ledger.forget_answers(-HOUR_US, 100) == 2
    late = await money.send(new, key)
    assert (late.outcome, late.subject, late.version) == (StepOutcome.DONE, None, None)
    assert await money.balance(shop) == 100


async def test_a_closed_month_takes_nothing_more(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    await money.send(money.payment(ann, shop, 1))
    now_us = await money.database.fetchval("SELECT clock_us()")
    assert not await money.ledger.close_period(202611, now_us + HOUR_US)
    ends_us = now_us + 1
    assert await money.ledger.close_period(202611, ends_us)
    await money.step_clock(-HOUR_US)
    cat, dog = await money.open_person(1_000), await money.open_person()
    await money.send(money.payment(cat, dog, 1))
    (line, *_) = await money.ledger.read_statement(account_id(TENANT, dog, "THB", Purpose.WALLET), 2**62, 1)
    assert line.at_us >= ends_us


async def test_what_was_written_is_never_changed(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    await money.send(money.payment(ann, shop, 1))
    for table in ("transfers", "payment_versions", "audit"):
        with pytest.raises(Exception, match="append-only"):
            await money.database.execute(f"DELETE FROM {table}")


async def test_chains_accounts_and_closed_months_have_a_line_of_audit_with_their_actor(money: MoneyWorld) -> None:
    admin, owner = new_id(), new_id()
    wallet = await money.ledger.open_wallet(TENANT, owner, "THB", actor=admin)
    assert await money.ledger.open_wallet(TENANT, owner, "THB", actor=new_id()) == wallet
    clearing, subjects = account_id(TENANT, NIL, "THB", Purpose.CLEARING), [new_id(), new_id()]
    leg = Leg(clearing, wallet, 5)
    await money.ledger.post_chain(money.key(), TENANT, subjects[0], TransferReason.TOP_UP, [leg], actor=admin)
    back = Leg(wallet, clearing, 7)
    await money.ledger.take_anyway(money.key(), TENANT, subjects[1], TransferReason.CHARGEBACK, back, actor=admin)
    for _ in range(2):
        assert await money.ledger.close_period(202001, 1, actor=admin)
    rows = await money.database.fetch(
        "SELECT action, subject_id FROM audit WHERE actor_id = $1 ORDER BY audit_id", admin
    )
    receivable = account_id(TENANT, owner, "THB", Purpose.RECEIVABLE)
    assert [tuple(row) for row in rows] == [
        ("open_account", wallet),
        ("open_account", receivable),
        ("post_chain", subjects[0]),
        ("take_anyway", subjects[1]),
        ("close_period", NIL),
    ]


async def test_an_account_stays_as_it_was_opened_first(money: MoneyWorld) -> None:
    owners = [new_id() for _ in range(6)]

    async def open_both(owner: bytes) -> None:
        await asyncio.gather(*(money.ledger.open_wallet(TENANT, owner, "THB", slots=slots) for slots in (1, 16, 1, 16)))

    await asyncio.gather(*map(open_both, owners))
    rows = await money.database.fetch(
        "SELECT count(*), min(slots), max(slots) FROM accounts WHERE owner_id = ANY ($1) AND purpose = $2 "
        "GROUP BY owner_id",
        owners,
        int(Purpose.WALLET),
    )
    assert len(rows) == 6
    assert all(count == least == most for count, least, most in rows)


async def test_a_fee_that_has_nowhere_to_go_fails_the_step_and_a_rule_opens_its_account(money: MoneyWorld) -> None:
    with pytest.raises(WriteRefusedError):
        await money.ledger.open_own(2, "THB", Purpose.FEES, owner=NIL, slots=1)
    await money.set_fee(100)
    ann, shop = await money.open_person(1_000), await money.open_person()
    held = [money.payment(ann, shop, 100, later=True) for _ in range(2)]
    for new in held:
        await money.send(new)
    fees = account_id(TENANT, NIL, "THB", Purpose.FEES)
    await money.database.execute("DELETE FROM accounts WHERE account_id = $1", fees)
    with pytest.raises(WriteRefusedError):
        await money.capture(held[0])
    with pytest.raises(WriteRefusedError):
        await money.ledger.capture_many([CaptureStep(money.key(), NIL, TENANT, held[1].payment)])
    assert await money.balance(shop) == 0
    query = "SELECT set_fee_rule($1, $2, $3, $4::int2, $3, 'THB', 100, 0)"
    await money.database.execute(query, new_id(), b"", NIL, TENANT)
    assert (await money.capture(held[0])).outcome is StepOutcome.DONE
    assert (await money.balance(shop), await money.fees()) == (99, 1)
