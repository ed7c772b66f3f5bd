"""Racers in one shop: `python -m tests.adversity.shops --operations 20000 --kills 5 --seed N`.

A few people order from little stock; they, the staff and the clock pay, decline, cancel, capture, void, ship, refund
and expire the same orders at once, each call twice now and then. Sockets are lost, the clock steps, the server is
killed; what got no answer is repeated under its key.

Prints one JSON line, and exits with 1 unless each count of COUNTS is 0. `--break NAME` makes functions wrong, so that
they are not.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import random
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from protocol.commerce.order_states import OrderEvent, OrderParty
from protocol.commerce.payment_states import PaymentStep
from protocol.commerce.shop_terms import ShopStatus, StockMove
from protocol.ids import NIL, new_id
from storage.commerce.money_rows import (
    SLOTS_SHARED,
    Answer,
    Leg,
    Purpose,
    StepKey,
    StepOutcome,
    TransferReason,
    account_id,
)
from storage.commerce.schema import MONEY_SETTINGS
from storage.commerce.shops.businesses import Businesses
from storage.commerce.shops.catalogue import Catalogue
from storage.commerce.shops.orders import Orders
from storage.commerce.shops.shop_rows import BusinessRow, NewOrderRow, ProductRow, VariantRow
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.pool import Pool, open_pool
from storage.unavailable import StorageUnavailableError, WriteRefusedError
from tests.adversity.money_breaks import Break
from tests.adversity.money_stage import REPEAT_S, SETTINGS, MoneyStage
from tests.support.money_world import HOUR_US, TENANT
from tests.support.shop_world import AUDIT

RACERS = 24
PEOPLE = 8
VARIANTS = 4
COUNTS = (*AUDIT, "doubled", "lost", "deadlocks", "errors")
"""What must be 0. `doubled`: a key with two answers; `lost`: an order that was answered and is not there."""
BREAKS = {
    "stock_is_not_judged": Break(
        "oversold",
        {"judge_order": ("        WHEN v_missing IS NOT NULL THEN ${StepOutcome.OUT_OF_STOCK}\n", "")},
        before="ALTER TABLE stock DROP CONSTRAINT stock_available_check",
    ),
    "orders_do_not_follow": Break(
        "unfollowed",
        {"note_version": ("SELECT follow_order(p, p_actor) WHERE p.order_id IS NOT NULL", "SELECT NULL::void")},
    ),
    "stock_is_not_released": Break(
        "reserved_differs",
        {"follow_order": ("PERFORM move_order_stock(v.order_id, ${StockMove.RELEASED}::smallint, p_actor);", "NULL;")},
    ),
    "stock_is_not_locked_in_order": Break("deadlocks", {"lock_stock": ("ORDER BY u.id", "ORDER BY random()")}),
}
_numbers = itertools.count(1)


class ShopRows:
    """One shop, and what is asked of it."""

    def __init__(self, stage: MoneyStage, reads: Pool) -> None:
        self.shop, self.owner = new_id(), new_id()
        self.orders = Orders(stage.writes, reads)
        self._businesses = Businesses(stage.writes, reads)
        self._catalogue = Catalogue(stage.writes, reads)

    async def open(self) -> None:
        """Make the business."""
        new = BusinessRow(
            business=self.shop, tenant=TENANT, name="x", description="", currencies=["THB"], status=ShopStatus.ACTIVE
        )
        await self._businesses.set_business(_key(), NIL, new, version=None, owner=self.owner)

    async def sell(self, price: int, stock: int) -> bytes:
        """A variant of a new product."""
        product, variant = new_id(), new_id()
        of = {
            "product": product,
            "business": self.shop,
            "tenant": TENANT,
            "status": ShopStatus.ACTIVE,
            "attributes": {},
        }
        about = {"description": "", "category": "", "currency": "THB", "tax_basis_points": 0, "ships": False}
        row = ProductRow(**of, **about, name="x", images=[])  # type: ignore[arg-type]
        await self._catalogue.set_product(_key(), self.owner, row, version=None)
        new = VariantRow(**of, variant=variant, sku=variant.hex(), name="", price=price, tracked=True)  # type: ignore[arg-type]
        await self._catalogue.set_variant(_key(), self.owner, new, version=None)
        await self.count(_key(), variant, StockMove.RECEIVED, stock)
        return variant

    async def count(self, key: StepKey, variant: bytes, move: StockMove, change: int) -> Answer:
        """Staff count stock."""
        return await self._catalogue.change_stock(
            key, self.owner, TENANT, business=self.shop, variant=variant, move=move, change=change
        )

    async def put(self, key: StepKey, person: bytes, variant: bytes, quantity: int) -> Answer:
        """So many are in the cart."""
        return await self.orders.set_cart_line(
            key, person, TENANT, business=self.shop, variant=variant, quantity=quantity
        )

    def new_order(self, person: bytes, total: int, *, later: bool) -> NewOrderRow:
        """An order of what is in the cart."""
        return NewOrderRow(
            order=new_id(), payment=new_id(), tenant=TENANT, customer=person, business=self.shop, currency="THB",
            total=total, later=later,
        )  # fmt: skip


class ShopRacers:
    """What racers share: the shop, its people, the orders of late; and what was answered."""

    def __init__(self, stage: MoneyStage, rows: ShopRows, rng: random.Random) -> None:
        self.operations = 0
        self.found = dict.fromkeys(("doubled", "lost", "errors"), 0)
        self._stage = stage
        self._rows = rows
        self._rng = rng
        self._people = [new_id() for _ in range(PEOPLE)]
        self._prices: dict[bytes, int] = {}
        self._orders: deque[NewOrderRow] = deque(maxlen=12)
        self.placed: list[bytes] = []

    async def prepare(self) -> None:
        """Wallets, and a shop with little stock."""
        ledger = self._stage.ledger
        for purpose in (Purpose.FEES, Purpose.CLEARING, Purpose.OPENING):
            await ledger.open_own(TENANT, "THB", purpose, owner=NIL, slots=SLOTS_SHARED)
        for person in self._people:
            wallet = await ledger.open_wallet(TENANT, person, "THB")
            leg = Leg(account_id(TENANT, NIL, "THB", Purpose.OPENING), wallet, 10**9)
            await ledger.post_chain(_key(), TENANT, new_id(), TransferReason.OPENING_BALANCE, [leg])
        await ledger.open_wallet(TENANT, self._rows.shop, "THB", slots=SLOTS_SHARED)
        await self._rows.open()
        for number in range(VARIANTS):
            self._prices[await self._rows.sell(100 + number, 40)] = 100 + number

    async def run(self, operations: int) -> None:
        """Race until so many calls were answered in all."""
        while self.operations < operations:
            await self._rng.choices((self._place, self._step_twice, self._restock), (4, 6, 2))[0]()

    async def disturb(self, operations: int, kills: int) -> None:
        """Lose sockets, step the clock, kill the server: at even distances."""
        for turn in range(1, 2 * kills + 1):
            while self.operations < operations * turn // (2 * kills + 1):  # noqa: ASYNC110 - racers count, and set no event
                await asyncio.sleep(REPEAT_S)
            self._stage.writes.cut(self._rng)
            await self._stage.step_clock(self._rng.choice((-1, 30)) * HOUR_US)
            if turn % 2:
                await self._stage.kill(self._rng)

    async def audit(self) -> dict[str, int]:
        """The counts."""
        async with self._stage.connected() as connection:
            there = {row[0] for row in await connection.fetch("SELECT order_id FROM orders")}
            counts = {name: int(await connection.fetchval(query)) for name, query in AUDIT.items()}
        self.found["lost"] = len(set(self.placed) - there)
        return counts | self.found | {"deadlocks": await self._stage.count_deadlocks()}

    async def _place(self) -> None:
        person, cart = self._rng.choice(self._people), self._rng.sample(sorted(self._prices), 2)
        for variant in cart:
            await self._ask(partial(self._rows.put, person=person, variant=variant, quantity=self._rng.randint(1, 3)))
        try:
            lines = await self._rows.orders.read_cart(person, self._rows.shop)
        except StorageUnavailableError:
            return
        new = self._rows.new_order(person, sum(line.amount for line in lines), later=self._rng.random() < 0.5)
        answer = await self._ask(lambda key: self._rows.orders.place(key, new))
        if answer is not None and answer.outcome is StepOutcome.DONE and answer.subject is not None:
            self.placed.append(answer.subject)
            self._orders.append(new)

    async def _step_twice(self) -> None:
        if self._orders:
            new = self._rng.choice(self._orders)
            await asyncio.gather(*(self._ask(self._draw_step(new)) for _ in range(2)))

    async def _restock(self) -> None:
        variant = self._rng.choice(sorted(self._prices))
        move = self._rng.choice((StockMove.RECEIVED, StockMove.CORRECTED))
        change = self._rng.randint(1, 3) * (-1 if move is StockMove.CORRECTED else 1)
        await self._ask(lambda key: self._rows.count(key, variant, move, change))

    def _draw_step(self, new: NewOrderRow) -> Callable[[StepKey], Awaitable[Answer]]:
        ledger, orders, staff = self._stage.ledger, self._rows.orders, self._rows.owner
        event, part = self._rng.choice([*OrderEvent][2:]), self._rng.choice((None, 1, new.total))
        step = self._rng.choice((PaymentStep.DECLINE, PaymentStep.CANCEL, PaymentStep.CAPTURE, PaymentStep.VOID))
        party = self._rng.choice([*OrderParty])
        return self._rng.choices(
            (
                lambda key: ledger.approve(
                    key,
                    new.customer,
                    TENANT,
                    new.payment,
                    version=1,
                    amount=new.total,
                    currency="THB",
                    payee=new.business,
                ),
                lambda key: ledger.take_step(key, new.customer, TENANT, new.payment, step),
                lambda key: ledger.refund(key, staff, TENANT, new.payment, amount=part),
                lambda key: orders.take_step(key, staff, TENANT, new.order, event, party=party),
            ),
            (5, 1, 1, 5),
        )[0]

    async def _ask(self, call: Callable[[StepKey], Awaitable[Answer]]) -> Answer | None:
        """The answer, however often it must be asked for; now and then asked for again."""
        key, first = _key(), None
        for _ in range(2 if self._rng.random() < 0.2 else 1):
            answer = await self._insist(call, key)
            if first is not None and answer is not None and answer != first:
                self.found["doubled"] += 1
            first = first or answer
        self.operations += 1
        return first

    async def _insist(self, call: Callable[[StepKey], Awaitable[Answer]], key: StepKey) -> Answer | None:
        while True:
            try:
                return await call(key)
            except WriteRefusedError as error:
                self.found["errors"] += 1
                print(error, file=sys.stderr)  # noqa: T201 - a command prints
                return None
            except StorageUnavailableError:
                await asyncio.sleep(REPEAT_S)


async def race_in_a_shop(
    postgres: EmbeddedPostgres, operations: int, kills: int, seed: int, broken: Break | None = None
) -> dict[str, Any]:
    """A run in a fresh database of `postgres`, which runs; what came of it."""
    rng = random.Random(seed)
    stage = await MoneyStage.open(postgres, f"shops_{next(_numbers)}", broken.statements() if broken else ())
    reads = await open_pool(stage.url, size=4, statement_timeout_s=30, settings=MONEY_SETTINGS)
    try:
        racers = ShopRacers(stage, ShopRows(stage, reads), rng)
        await racers.prepare()
        async with asyncio.TaskGroup() as group:
            for _ in range(RACERS):
                group.create_task(racers.run(operations))
            group.create_task(racers.disturb(operations, kills))
        counts = await racers.audit()
    finally:
        reads.terminate()
        await stage.close()
    said = {"operations": racers.operations, "orders": len(racers.placed), "kills": stage.kills, "seed": seed}
    return said | {name: counts[name] for name in COUNTS}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.shops", description=__doc__)
    parser.add_argument("--operations", type=int, default=20_000, help="calls that are answered in all")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS), metavar="NAME", help=", ".join(BREAKS))
    chosen = parser.parse_args()
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # its pool says each time that it could not connect
    with (
        tempfile.TemporaryDirectory(prefix="tchat-shops-") as folder,
        EmbeddedPostgres(Path(folder) / "data", SETTINGS) as postgres,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        broken = BREAKS.get(chosen.broken)
        said = runner.run(race_in_a_shop(postgres, chosen.operations, chosen.kills, chosen.seed, broken))
    print(json.dumps(said))  # noqa: T201 - a command prints
    return 1 if any(said[name] for name in COUNTS) else 0


def _key() -> StepKey:
    return StepKey(new_id(), b"body")


if __name__ == "__main__":
    sys.exit(main())
