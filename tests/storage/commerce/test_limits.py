"""What a person may spend in a day and a month: counted over all wallets, in buckets that a time zone cannot move."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from protocol.ids import new_id
from storage.commerce.money_rows import HoldStep, LimitSpan, StepOutcome
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

BANGKOK = "Asia/Bangkok"


@pytest.fixture(autouse=True)
async def rates(money: MoneyWorld) -> None:
    """The reference currency is THB; 100 IDR are 0.21 THB."""
    await money.database.executemany(
        "INSERT INTO reference_rates VALUES ($1, $2, $3)", [(TENANT, "THB", 1), (TENANT, "IDR", "0.0021")]
    )


async def used(money: MoneyWorld, person: bytes) -> list[int]:
    """What each bucket of the person has, day before month, oldest first."""
    rows = await money.database.fetch(
        "SELECT used FROM limit_use WHERE person_id = $1 ORDER BY span, starts_us", person
    )
    return [row[0] for row in rows]


async def test_wallets_of_one_person_share_their_limits(money: MoneyWorld) -> None:
    ann = await money.open_person(10_000, timezone=BANGKOK, day_max=1_000, month_max=1_500)
    await money.open_wallet(ann, 1_000_000, currency="IDR", timezone=BANGKOK)
    shop = await money.open_person()
    await money.open_wallet(shop, currency="IDR")
    assert (await money.send(money.payment(ann, shop, 900))).outcome is StepOutcome.DONE
    assert (await money.send(money.payment(ann, shop, 48_000, currency="IDR"))).outcome is StepOutcome.OVER_LIMIT
    assert (await money.send(money.payment(ann, shop, 47_001, currency="IDR"))).outcome is StepOutcome.DONE
    assert await used(money, ann) == [999, 999]
    await money.step_clock(24 * HOUR_US)
    assert (await money.send(money.payment(ann, shop, 502))).outcome is StepOutcome.OVER_LIMIT


async def test_a_currency_without_a_rate_is_refused_to_who_has_limits(money: MoneyWorld) -> None:
    await money.database.execute("DELETE FROM reference_rates")
    ann, shop = await money.open_person(1_000, timezone=BANGKOK, day_max=10), await money.open_person()
    assert (await money.send(money.payment(ann, shop, 1))).outcome is StepOutcome.CURRENCY


@pytest.mark.parametrize("later", [False, True])
async def test_a_count_that_would_overflow_is_refused_and_stops_no_other(money: MoneyWorld, later: bool) -> None:
    await money.database.execute("UPDATE reference_rates SET rate = 1e12 WHERE currency = 'THB'")
    ann, bob = [await money.open_person(10**15, timezone=BANGKOK) for _ in range(2)]
    shop = await money.open_person()
    for person in (ann, bob):
        assert (await money.send(money.payment(person, shop, 1))).outcome is StepOutcome.DONE
    new = money.payment(ann, shop, 10**14, later=later)
    assert (await money.send(new)).outcome is StepOutcome.OVER_LIMIT
    fine, large = money.payment(bob, shop, 1, later=True), money.payment(ann, shop, 10**14, later=True)
    steps = [HoldStep(money.key(), each.payer, each) for each in (fine, large)]
    assert [answer is not None for answer in await money.ledger.hold_many(steps)] == [True, False]


async def test_racers_at_a_limit_never_pass_it(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(10_000, timezone=BANGKOK, day_max=1_000), await money.open_person()
    sends = [money.send(money.payment(ann, shop, 300, later=later)) for later in (True, False) * 6]
    outcomes = [answer.outcome for answer in await asyncio.gather(*sends)]
    assert outcomes.count(StepOutcome.DONE) == 3
    assert await used(money, ann) == [900, 900]


async def test_what_returns_is_given_back_to_the_bucket_that_was_charged(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(10_000, timezone=BANGKOK, day_max=1_000), await money.open_person()
    held, part = money.payment(ann, shop, 600, later=True), money.payment(ann, shop, 400, later=True)
    await money.send(held)
    await money.send(part)
    await money.step_clock(24 * HOUR_US)
    await money.send(money.payment(ann, shop, 700))
    await money.void(held)
    await money.capture(part, 100)
    days = (await used(money, ann))[:2]
    assert days == [100, 700]


async def test_a_refund_gives_nothing_back(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(10_000, timezone=BANGKOK, day_max=1_000), await money.open_person()
    new = money.payment(ann, shop, 1_000)
    await money.send(new)
    await money.ledger.refund(money.key(), shop, TENANT, new.payment)
    assert (await money.send(money.payment(ann, shop, 1))).outcome is StepOutcome.OVER_LIMIT


async def test_changing_the_time_zone_gives_no_second_day(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(100_000, timezone=BANGKOK, day_max=1_000), await money.open_person()
    spent = 0
    for hour in range(0, 72, 2):
        await money.step_clock(hour * HOUR_US)
        zone = ("Pacific/Kiritimati", "Pacific/Niue", "Asia/Bangkok", "America/New_York")[hour // 2 % 4]
        await money.database.execute("UPDATE persons SET timezone = $1 WHERE person_id = $2", zone, ann)
        answer = await money.send(money.payment(ann, shop, 1_000))
        spent += answer.outcome is StepOutcome.DONE
    buckets = await money.database.fetch(
        "SELECT starts_us, ends_us FROM limit_use WHERE person_id = $1 AND span = $2 ORDER BY starts_us",
        ann,
        int(LimitSpan.DAY),
    )
    assert spent == len(buckets) <= 4
    assert all(ends - starts >= 20 * HOUR_US for starts, ends in buckets[1:])
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(buckets))


@pytest.mark.parametrize(
    ("zone", "at", "starts", "ends"),
    [
        ("Asia/Bangkok", (2026, 11, 23, 12), (2026, 11, 23, 0), (2026, 11, 24, 0)),
        ("America/Sao_Paulo", (2018, 11, 4, 12), (2018, 11, 4, 1), (2018, 11, 5, 0)),  # there is no midnight
        ("Europe/Berlin", (2026, 3, 29, 12), (2026, 3, 29, 0), (2026, 3, 30, 0)),  # 23 hours
        ("Europe/Berlin", (2026, 10, 25, 12), (2026, 10, 25, 0), (2026, 10, 26, 0)),  # 25 hours
    ],
)
async def test_a_day_is_the_local_one(
    money: MoneyWorld, zone: str, at: tuple[int, ...], starts: tuple[int, ...], ends: tuple[int, ...]
) -> None:
    def local(parts: tuple[int, ...]) -> int:
        return int(datetime(*parts, tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]

    found = await bucket(money.database, LimitSpan.DAY, zone, local(at))
    assert found == (local(starts), local(ends))


async def test_a_bucket_that_follows_another_lasts_twenty_hours_at_least(money: MoneyWorld) -> None:
    evening_us = int(datetime(2026, 11, 23, 23, tzinfo=ZoneInfo(BANGKOK)).timestamp()) * 1_000_000
    found = await bucket(money.database, LimitSpan.DAY, BANGKOK, evening_us, last_us=evening_us)
    assert found == (evening_us, evening_us + 25 * HOUR_US)


@pytest.mark.parametrize(("month", "following"), [((2026, 2), (2026, 3)), ((2026, 12), (2027, 1))])
async def test_a_month_is_the_local_one(money: MoneyWorld, month: tuple[int, int], following: tuple[int, int]) -> None:
    def first(parts: tuple[int, int]) -> int:
        return int(datetime(*parts, 1, tzinfo=ZoneInfo(BANGKOK)).timestamp()) * 1_000_000

    found = await bucket(money.database, LimitSpan.MONTH, BANGKOK, first(following) - HOUR_US)
    assert found == (first(month), first(following))


async def bucket(
    database: asyncpg.Connection, span: LimitSpan, zone: str, at_us: int, last_us: int | None = None
) -> tuple[int, int]:
    """Start and end of a bucket of a person; the one before ended at `last_us`."""
    person = new_id()
    await database.execute("SELECT begin_bucket($1, $2, $3, $4, $5)", person, int(span), zone, at_us, last_us)
    row = await database.fetchrow("SELECT starts_us, ends_us FROM limit_use WHERE person_id = $1", person)
    assert row is not None
    return row[0], row[1]
