"""Batches of holds and captures do what the single steps do, and leave to them what is not plainly fine."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest

from protocol.commerce.payment_states import PaymentStep
from protocol.ids import NIL, new_id
from storage.commerce.gathered_steps import GatheredSteps
from storage.commerce.money_rows import (
    Answer,
    CaptureStep,
    HoldStep,
    Leg,
    LimitSpan,
    NewPaymentRow,
    Purpose,
    StepOutcome,
    TransferReason,
    account_id,
)
from storage.unavailable import WriteRefusedError
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld, key_of

pytestmark = pytest.mark.anyio

BANGKOK = "Asia/Bangkok"


def sending(world: MoneyWorld, new: NewPaymentRow, key: str | None = None) -> HoldStep:
    """A hold that is sent by its payer."""
    return HoldStep(world.key() if key is None else key_of(key), new.payer, new)


def capturing(world: MoneyWorld, new: NewPaymentRow, key: str | None = None, tenant: int = TENANT) -> CaptureStep:
    """A capture by the platform."""
    return CaptureStep(world.key() if key is None else key_of(key), NIL, tenant, new.payment)


OF_PARTIES = "p.payer_id = $1 AND p.payee_id = $2"
WRITTEN = (
    """SELECT sum(a.balance), bool_or(a.in_debt) FROM accounts a WHERE a.owner_id IN ($1, $2) GROUP BY a.account_id""",
    """SELECT u.span, u.used, u.ends_us - u.starts_us FROM limit_use u WHERE u.person_id IN ($1, $2)""",
    f"""SELECT h.amount, h.balance, h.state, h.counted, h.slot, h.person_id IS NULL, h.day_us, h.month_us
        FROM holds h JOIN payments p ON p.payment_id = h.hold_id WHERE {OF_PARTIES}""",
    f"""SELECT p.amount, p.state, p.version, p.captured, p.fee, p.refunded, p.fee_returned, p.basis_points, p.fixed,
               p.capture_later, p.hold_us, p.expires_us - p.moved_us > p.hold_us / 2, p.from_slots, p.to_slots,
               p.dialog_id, p.order_id, p.currency FROM payments p WHERE {OF_PARTIES}""",
    f"""SELECT v.version, v.step, v.state, v.captured, v.fee, v.refunded, v.actor_id = p.payer_id
        FROM payment_versions v JOIN payments p USING (payment_id) WHERE {OF_PARTIES}""",
    f"""SELECT o.version, o.dialog_id FROM outbox o JOIN payments p USING (payment_id) WHERE {OF_PARTIES}""",
    f"""SELECT k.outcome, k.version, k.detail, k.subject IS NULL
        FROM keys k JOIN payments p ON p.payment_id = k.subject WHERE {OF_PARTIES}""",
    f"""SELECT t.amount, t.reason, t.currency, t.debit_slot, t.debit_after, t.reverses
        FROM transfers t JOIN payments p ON p.payment_id = t.subject_id WHERE {OF_PARTIES}""",
)
"""All that is stored about two parties and their payments, without ids and times."""


async def written(database: asyncpg.Connection, payer: bytes, payee: bytes) -> list[list[str]]:
    """What each query of WRITTEN finds."""
    return [sorted(map(repr, map(tuple, await database.fetch(query, payer, payee)))) for query in WRITTEN]


@pytest.mark.parametrize("rate", [None, "1", "0.37"])
@pytest.mark.parametrize("fee", [(0, 0), (250, 0), (0, 7), (10_000, 0)])
@pytest.mark.parametrize("shop_slots", [1, 16])
async def test_a_batch_writes_what_single_steps_write(
    money: MoneyWorld, rate: str | None, fee: tuple[int, int], shop_slots: int
) -> None:
    await money.set_fee(*fee)
    if rate is not None:
        await money.database.execute(f"INSERT INTO reference_rates VALUES ({TENANT}, 'THB', {rate})")
    limits: dict[str, Any] = {} if rate is None else {"timezone": BANGKOK, "day_max": 10_000, "month_max": 20_000}
    people = [await money.open_person(10_000, **limits) for _ in range(2)]
    shops = [await money.open_person(slots=shop_slots) for _ in range(2)]
    for person, shop in zip(people, shops, strict=True):
        await money.send(money.payment(person, shop, 1))
    amounts = (5, 1_000, 333, 77)
    alone, together = (
        [money.payment(person, shop, amount, later=True, dialog=bytes(16)) for amount in amounts]
        for person, shop in zip(people, shops, strict=True)
    )
    for new in alone:
        await money.send(new)
        await money.capture(new)
    held = await money.ledger.hold_many([sending(money, new) for new in together])
    assert held == [Answer(StepOutcome.DONE, new.payment, 1) for new in together]
    captured = await money.ledger.capture_many([capturing(money, new) for new in together])
    assert captured == [Answer(StepOutcome.DONE, new.payment, 2) for new in together]
    one, other = [await written(money.database, *pair) for pair in zip(people, shops, strict=True)]
    assert one == other


async def test_each_slot_is_the_fold_of_its_transfers_after_batches(money: MoneyWorld) -> None:
    await money.set_fee(300)
    people, shops = [await money.open_person(10**6) for _ in range(4)], [await money.open_person() for _ in range(2)]
    dice = random.Random(1)
    for _ in range(6):
        new = [
            money.payment(dice.choice(people), dice.choice(shops), dice.randrange(1, 500), later=True)
            for _ in range(40)
        ]
        assert all(await money.ledger.hold_many([sending(money, each) for each in new]))
        assert all(await money.ledger.capture_many([capturing(money, each) for each in new]))
    wrong = await money.database.fetch(
        """SELECT * FROM (
            SELECT id, slot, after, at_us, sum(delta) OVER chain AS fold, lag(at_us) OVER chain AS before_us FROM (
                SELECT debit_id AS id, debit_slot AS slot, -amount AS delta, debit_after AS after, at_us, transfer_no
                FROM transfers
                UNION ALL
                SELECT credit_id, credit_slot, amount, credit_after, at_us, transfer_no FROM transfers) e
            WINDOW chain AS (PARTITION BY id, slot ORDER BY transfer_no)) x
        WHERE after <> fold OR at_us < before_us"""
    )
    assert wrong == []


async def holds_of(money: MoneyWorld, *changes: Callable[[NewPaymentRow], HoldStep]) -> list[bool]:
    """Which of a plain hold and the changed ones a batch takes; each has wallets of its own."""
    steps = []
    for change in (lambda new: sending(money, new), *changes):
        ann, shop = await money.open_person(1_000), await money.open_person()
        steps.append(change(money.payment(ann, shop, 100, later=True)))
    return [answer is not None for answer in await money.ledger.hold_many(steps)]


async def test_what_is_not_plainly_fine_goes_alone(money: MoneyWorld) -> None:
    import msgspec

    await money.send(money.payment(await money.open_person(1), await money.open_person(), 1), key_of("used"))
    rupiah = await money.open_wallet(new_id(), 1, currency="IDR")
    shared = await money.open_person(1_000, slots=16)

    def changed(**fields: object) -> Callable[[NewPaymentRow], HoldStep]:
        return lambda new: sending(money, msgspec.structs.replace(new, **fields))

    taken = await holds_of(
        money,
        lambda new: sending(money, new, "used"),
        lambda new: sending(money, new, "twice"),
        lambda new: sending(money, new, "twice"),
        changed(amount=0),
        changed(amount=1_001),
        changed(amount=10**15 + 1),
        changed(tenant=2),
        changed(currency="IDR"),
        changed(to_account=rupiah),
        changed(payee=new_id()),
        changed(payer=new_id()),
        changed(payer=shared, from_account=account_id(TENANT, shared, "THB", Purpose.WALLET)),
    )
    assert taken == [True, False, True] + [False] * 10


async def test_a_wallet_that_cannot_pay_all_of_a_batch_pays_none_of_it(money: MoneyWorld) -> None:
    ann, bob, shop = await money.open_person(1_000), await money.open_person(1_000), await money.open_person()
    new = [money.payment(payer, shop, 400, later=True) for payer in (ann, ann, bob, ann)]
    answers = await money.ledger.hold_many([sending(money, each) for each in new])
    assert [answer is not None for answer in answers] == [False, False, True, False]
    assert (await money.balance(ann), await money.balance(bob)) == (1_000, 600)


async def test_a_batch_begins_buckets_and_who_reaches_a_limit_goes_alone(money: MoneyWorld) -> None:
    await money.database.execute(f"INSERT INTO reference_rates VALUES ({TENANT}, 'THB', 1)")
    ann = await money.open_person(10_000, timezone=BANGKOK, day_max=1_000)
    shop = await money.open_person()

    async def takes(*amounts: int) -> list[bool]:
        steps = [sending(money, money.payment(ann, shop, amount, later=True)) for amount in amounts]
        return [answer is not None for answer in await money.ledger.hold_many(steps)]

    async def used() -> list[tuple[int, int]]:
        rows = await money.database.fetch("SELECT span, used FROM limit_use ORDER BY span, starts_us")
        return [(row[0], row[1]) for row in rows]

    assert await takes(1) == [True]
    assert await takes(500, 500) == [False, False]
    assert await takes(500, 499) == [True, True]
    assert await used() == [(LimitSpan.DAY, 1_000), (LimitSpan.MONTH, 1_000)]
    await money.step_clock(25 * HOUR_US)
    assert await takes(1, 2) == [True, True]
    assert await used() == [(LimitSpan.DAY, 1_000), (LimitSpan.DAY, 3), (LimitSpan.MONTH, 1_003)]


async def test_a_capture_that_is_not_plainly_fine_goes_alone(money: MoneyWorld) -> None:
    ann, shop, debtor = await money.open_person(10_000), await money.open_person(), await money.open_person()
    clearing = account_id(TENANT, NIL, "THB", Purpose.CLEARING)
    owed = Leg(account_id(TENANT, debtor, "THB", Purpose.WALLET), clearing, 50)
    await money.ledger.take_anyway(money.key(), TENANT, new_id(), TransferReason.CHARGEBACK, owed)
    fine, voided, twice, indebted, foreign = (
        money.payment(ann, payee, 100, later=True) for payee in (shop, shop, shop, debtor, shop)
    )
    due = money.payment(ann, shop, 100, later=True, hold_us=1)
    for new in (fine, voided, twice, indebted, foreign, due):
        await money.send(new)
    await money.void(voided)
    steps = [
        capturing(money, fine),
        capturing(money, voided),
        capturing(money, twice),
        capturing(money, twice),
        capturing(money, indebted),
        capturing(money, foreign, tenant=2),
        capturing(money, due),
        capturing(money, money.payment(ann, shop, 1)),
    ]
    answers = await money.ledger.capture_many(steps)
    assert [answer is not None for answer in answers] == [True, False, True, False, False, False, False, False]
    assert await money.balance(shop) == 200


async def test_opposed_batches_do_not_deadlock(money: MoneyWorld) -> None:
    people = [await money.open_person(10**6) for _ in range(20)]

    async def rounds(order: Sequence[bytes]) -> None:
        for _ in range(10):
            new = [money.payment(payer, payee, 1, later=True) for payer, payee in itertools.pairwise(order)]
            assert all(await money.ledger.hold_many([sending(money, each) for each in new]))
            assert all(await money.ledger.capture_many([capturing(money, each) for each in reversed(new)]))

    await asyncio.gather(*(rounds(order) for order in (people, people[::-1]) * 3))
    assert (
        await money.database.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    )


async def test_steps_that_wait_are_answered_one_by_one(money: MoneyWorld) -> None:
    steps = GatheredSteps(money.ledger, lanes=2)
    ann, shop = await money.open_person(2_000), await money.open_person()
    new = [money.payment(ann, shop, 100, later=True) for _ in range(30)]
    held = await asyncio.gather(*(steps.hold(sending(money, each)) for each in new))
    assert sorted(answer.outcome for answer in held) == [StepOutcome.DONE] * 20 + [StepOutcome.INSUFFICIENT] * 10
    done = [each for each, answer in zip(new, held, strict=True) if answer.outcome is StepOutcome.DONE]
    captured = await asyncio.gather(*(steps.capture(capturing(money, each)) for each in done))
    assert {answer.outcome for answer in captured} == {StepOutcome.DONE}
    assert (await money.balance(ann), await money.balance(shop)) == (0, 2_000)


async def test_a_batch_of_unknown_fate_fails_for_each_of_its_steps(money: MoneyWorld) -> None:
    class Broken:
        begin = money.ledger.begin

        async def hold_many(self, _steps: Sequence[HoldStep]) -> list[Answer | None]:
            raise OSError("cut")

        capture_many: Callable[..., Awaitable[list[Answer | None]]] = hold_many

    steps = GatheredSteps(Broken(), lanes=1)  # type: ignore[arg-type]
    ann, shop = await money.open_person(2_000), await money.open_person()
    held = [steps.hold(sending(money, money.payment(ann, shop, 100, later=True))) for _ in range(3)]
    assert [type(result) for result in await asyncio.gather(*held, return_exceptions=True)] == [OSError] * 3
    new = money.payment(ann, shop, 100, later=True)
    assert (await money.ledger.begin(money.key(), ann, PaymentStep.SEND, new)).outcome is StepOutcome.DONE


async def test_a_payment_whose_hold_is_missing_gives_nobody_money(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new = money.payment(ann, shop, 400, later=True)
    await money.send(new)
    await money.database.execute("DELETE FROM holds WHERE hold_id = $1", new.payment)
    with pytest.raises(WriteRefusedError):
        await money.capture(new)
    with pytest.raises(WriteRefusedError):
        await money.ledger.capture_many([capturing(money, new)])
    assert await money.balance(shop) == 0
