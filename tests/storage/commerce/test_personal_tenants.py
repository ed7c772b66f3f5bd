"""A person in one tenant, whom another tenant knows the id of."""

from __future__ import annotations

import pytest

from protocol.ids import NIL, new_id
from storage.commerce.money_rows import AccountStatus, StepKey, StepOutcome
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.personal_rows import ItemKind, KeyKind, NewItem
from tests.support.money_world import TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

OTHER_TENANT = TENANT + 1


def key() -> StepKey:
    return StepKey(new_id(), b"")


@pytest.fixture
def records(money: MoneyWorld) -> PersonalRecords:
    """Over the connections of the ledger."""
    return PersonalRecords(money.ledger._writes, money.ledger._reads)


async def store_identity(records: PersonalRecords, tenant: int, person: bytes) -> bytes:
    """Store an identity that is kept from the erasure on; its key."""
    key_id = await records.name_key(tenant, person, KeyKind.LEGAL, new_id())
    assert key_id is not None
    new = NewItem(item=new_id(), kind=ItemKind.IDENTITY, key_id=key_id, sealed=b"sealed", most=1, keep_us=7)
    assert (await records.put_item(key(), person, tenant, person, new)).outcome is StepOutcome.DONE
    return key_id


async def test_a_service_of_another_tenant_erases_nobody_and_learns_nothing(
    money: MoneyWorld, records: PersonalRecords
) -> None:
    for balance in (0, 7):
        ann, service = await money.open_person(balance), new_id()
        profile = await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id())
        await store_identity(records, TENANT, ann)
        answer = await records.begin_erasure(key(), service, OTHER_TENANT, ann, new_id())
        assert (answer.outcome, answer.detail) == (StepOutcome.ITEM_NOT_FOUND, None)
        assert await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id()) == profile
        (identity,) = await records.read_items(TENANT, ann, ItemKind.IDENTITY, NIL, 9)
        assert identity.keep_until_us is None
        status = await money.database.fetch("SELECT DISTINCT status FROM accounts WHERE owner_id = $1", ann)
        assert [row[0] for row in status] == [AccountStatus.ACTIVE]


async def test_an_erasure_in_one_tenant_leaves_the_others_as_they_are(
    money: MoneyWorld, records: PersonalRecords
) -> None:
    ann = await money.open_person(7)
    kept = await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id())
    await store_identity(records, TENANT, ann)
    await store_identity(records, OTHER_TENANT, ann)
    answer = await records.begin_erasure(key(), ann, OTHER_TENANT, ann, new_id())
    assert (answer.outcome, answer.detail) == (StepOutcome.DONE, None)
    assert await records.name_key(OTHER_TENANT, ann, KeyKind.PROFILE, new_id()) is None
    assert await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id()) == kept
    (here,) = await records.read_items(TENANT, ann, ItemKind.IDENTITY, NIL, 9)
    (there,) = await records.read_items(OTHER_TENANT, ann, ItemKind.IDENTITY, NIL, 9)
    assert here.keep_until_us is None
    assert there.keep_until_us is not None
    await money.ledger.open_wallet(TENANT, ann, "IDR")
    status = await money.database.fetch("SELECT DISTINCT status FROM accounts WHERE owner_id = $1", ann)
    assert [row[0] for row in status] == [AccountStatus.ACTIVE]


async def test_a_key_of_another_tenant_is_in_nobodys_way(money: MoneyWorld, records: PersonalRecords) -> None:
    ann = await money.open_person()
    theirs = await store_identity(records, OTHER_TENANT, ann)
    ours = await store_identity(records, TENANT, ann)
    assert theirs != ours
    assert await records.find_key(TENANT, ann, KeyKind.LEGAL) == ours


async def test_the_platform_itself_is_not_erased(money: MoneyWorld, records: PersonalRecords) -> None:
    answer = await records.begin_erasure(key(), NIL, TENANT, NIL, new_id())
    assert answer.outcome is StepOutcome.ITEM_NOT_FOUND
    closed = "SELECT count(*) FROM accounts WHERE status <> $1"
    assert await money.database.fetchval(closed, int(AccountStatus.ACTIVE)) == 0


async def test_a_restored_database_erases_again_all_that_an_erasure_does(
    money: MoneyWorld, records: PersonalRecords
) -> None:
    ann, rich = await money.open_person(), await money.open_person(7)
    keys = []
    for who in (ann, rich):
        keys.append(await records.name_key(TENANT, who, KeyKind.PROFILE, new_id()))
        await store_identity(records, TENANT, who)
    forgotten = await records.forget_erased_keys([each for each in keys if each is not None])
    assert (forgotten.count, forgotten.still_open) == (2, 1)
    status = "SELECT DISTINCT status FROM accounts WHERE owner_id = $1 AND (balance <> 0 OR $2)"
    assert await money.database.fetchval(status, ann, True) == AccountStatus.CLOSED
    assert await money.database.fetchval(status, rich, False) == AccountStatus.ACTIVE
    for who in (ann, rich):
        assert await records.is_erased(TENANT, who)
        (identity,) = await records.read_items(TENANT, who, ItemKind.IDENTITY, NIL, 9)
        assert identity.keep_until_us is not None
    named = await money.database.fetch("SELECT subject_id FROM audit WHERE action = 'erase_again' AND detail <> ''")
    assert [row[0] for row in named] == [rich]
