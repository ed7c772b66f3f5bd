"""Opening balances are posted once, however often and in whatever pieces their file is imported."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from protocol.ids import new_id
from server.commerce.balance_import import BalanceImport, read_line
from server.commerce.step_keys import StepKeys
from server.commerce.wallet_keeping import WalletKeeping, WalletTerms
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import Leg, Purpose, TransferReason, account_id
from storage.commerce.terms import Terms
from storage.unavailable import StorageUnavailableError
from tests.support.money_world import TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

KEYS = StepKeys(bytes(range(32)))


def importing(money: MoneyWorld, ledger: Ledger | None = None) -> tuple[BalanceImport, list[str]]:
    said: list[str] = []
    terms = Terms(money.ledger._writes, money.ledger._reads)
    begins = WalletTerms(timezone="UTC", reference_currency="THB", day_max=10**6, month_max=10**6)
    wallets = WalletKeeping(money.ledger, terms, KEYS, begins)
    return BalanceImport(ledger or money.ledger, wallets, KEYS, TENANT, said.append), said


def line(owner: bytes, amount: int, source: str, **more: Any) -> bytes:
    return msgspec.json.encode(
        {"owner": UUID(bytes=owner), "currency": "THB", "amount_minor": amount, "source": source, **more}
    )


async def test_a_repeated_or_interrupted_import_posts_nothing_twice(money: MoneyWorld) -> None:
    owners = [new_id() for _ in range(130)]
    lines = [line(owner, 100 + number, f"wallet {number}") for number, owner in enumerate(owners)]
    lines.append(line(owners[0], 7, "another wallet", currency="IDR"))

    class Cut(Ledger):
        calls = 0

        async def import_balances(self, *arguments: Any, **more: Any) -> Any:
            answer = await super().import_balances(*arguments, **more)
            raise StorageUnavailableError("the answer was lost") if answer else AssertionError

    with pytest.raises(StorageUnavailableError):
        await importing(money, Cut(money.ledger._writes, money.ledger._reads))[0].run(lines)
    first, said = importing(money)
    await first.run([*lines[50:], b"\n", *lines[:50]])
    total = sum(100 + number for number in range(130))
    assert first.posted["THB"] + first.found["THB"] == total
    assert first.found["THB"] == sum(100 + number for number in range(100))
    again, said = importing(money)
    await again.run(lines)
    assert (again.posted, again.refused) == ({}, 0)
    assert said == [
        "IDR: 0.00 posted, 0.07 found posted before",
        "THB: 0.00 posted, 213.85 found posted before",
        "131 lines, 0 refused",
    ]
    opening = account_id(TENANT, bytes(16), "THB", Purpose.OPENING)
    assert await money.balance_of(opening) == -total
    assert [await money.balance(owner) for owner in (owners[0], owners[129])] == [100, 229]
    assert await money.database.fetchval("SELECT count(*) FROM transfers") == 131


async def test_another_amount_or_owner_under_the_same_id_is_refused(money: MoneyWorld) -> None:
    ann, bob = new_id(), new_id()
    importer, said = importing(money)
    await importer.run([line(ann, 100, "one"), line(ann, 101, "one"), line(bob, 100, "one"), line(bob, 5, "two")])
    assert (importer.posted, importer.refused) == ({"THB": 105}, 2)
    assert said[:2] == [f"line {number}: one: was imported with other fields" for number in (2, 3)]
    assert [await money.balance(owner) for owner in (ann, bob)] == [100, 5]


async def test_what_cannot_be_posted_is_posted_when_it_was_mended(money: MoneyWorld) -> None:
    ann = await money.open_person()
    await money.database.execute("UPDATE accounts SET status = 3 WHERE owner_id = $1", ann)
    importer, said = importing(money)
    await importer.run([line(ann, 100, "one")])
    assert (said[0], importer.refused) == ("line 1: one: wallet_closed", 1)
    await money.database.execute("UPDATE accounts SET status = 1 WHERE owner_id = $1", ann)
    importer, _ = importing(money)
    await importer.run([line(ann, 100, "one")])
    assert await money.balance(ann) == 100


async def test_who_owes_settles_from_what_is_imported_and_a_business_has_a_shared_wallet(money: MoneyWorld) -> None:
    shop = await money.open_person()
    wallet, clearing = (
        account_id(TENANT, *what) for what in ((shop, "THB", Purpose.WALLET), (bytes(16), "THB", Purpose.CLEARING))
    )
    await money.ledger.take_anyway(money.key(), TENANT, new_id(), TransferReason.CHARGEBACK, Leg(wallet, clearing, 30))
    mall = new_id()
    importer, _ = importing(money)
    await importer.run([line(shop, 100, "one"), line(mall, 1, "two", business=True)])
    (row,) = await money.ledger.read_accounts(TENANT, shop)
    assert (row.balance, row.debt) == (70, 0)
    (row,) = await money.ledger.read_accounts(TENANT, mall)
    assert (row.balance, row.slots) == (1, 16)


@pytest.mark.parametrize(
    "wrong",
    [
        b"{",
        line(bytes(16), 0, "x"),
        line(bytes(16), 10**15 + 1, "x"),
        line(bytes(16), 1, ""),
        line(bytes(16), 1, "x", currency="XXX"),
        line(bytes(16), 1, "x", other=1),
    ],
)
def test_a_malformed_line_is_an_error(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_line(wrong)
