"""Steps about personal data: an erasure against what is written at the same time, and what they read."""

from __future__ import annotations

import asyncio

import pytest

from protocol.ids import NIL, new_id
from storage.commerce.money_rows import AccountStatus, Purpose, StepKey, StepOutcome, account_id
from storage.commerce.personal_exports import ExportRow, PersonalExports
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.personal_rows import ErasedKey, GivenUp, ItemKind, KeyKind, NewItem
from storage.unavailable import StorageUnavailableError
from tests.support.money_world import TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

OTHERS = 3_000
READ_MAX = 500
"""Rows of indexes and tables that all steps of one person may read, far below what others have."""
_READ = """
SELECT coalesce(sum(idx_tup_read), 0) + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname <> 'periods')
FROM pg_stat_user_indexes
"""
_FILL = f"""
INSERT INTO personal_keys (key_id, tenant_id, person_id, key_kind, erased_us, gone)
SELECT gen_random_uuid(), {TENANT}, gen_random_uuid(), 1, CASE WHEN s % 2 = 0 THEN 1 END, s % 2 = 0
FROM generate_series(1, {OTHERS}) s;
INSERT INTO personal_items (item_id, tenant_id, person_id, kind, key_id, version, at_us, keep_us, keep_until, sealed)
SELECT gen_random_uuid(), {TENANT}, k.person_id, 1, k.key_id, 1, 1, 1, 9e15, '' FROM personal_keys k;
INSERT INTO personal_erasures
SELECT gen_random_uuid(), {TENANT}, gen_random_uuid(), 1 FROM generate_series(1, {OTHERS});
INSERT INTO exports (export_id, tenant_id, person_id, key_id, at_us, expires_us, look_us, reached)
SELECT gen_random_uuid(), {TENANT}, gen_random_uuid(), gen_random_uuid(), 1, 9e15, 9e15, ''
FROM generate_series(1, {OTHERS});
INSERT INTO export_parts SELECT export_id, 0, '' FROM exports;
INSERT INTO accounts (account_id, slot, slots, tenant_id, owner_id, currency, purpose, floored, limited, status)
SELECT gen_random_uuid(), 0, 1, {TENANT}, gen_random_uuid(), 'THB', {Purpose.WALLET}, true, false, 1
FROM generate_series(1, {OTHERS});
"""


def item_of(key_id: bytes, most: int = 50) -> NewItem:
    return NewItem(item=new_id(), kind=ItemKind.ADDRESS, key_id=key_id, sealed=b"sealed", most=most)


def key() -> StepKey:
    return StepKey(new_id(), b"")


@pytest.fixture
def records(money: MoneyWorld) -> PersonalRecords:
    """Over the connections of the ledger."""
    return PersonalRecords(money.ledger._writes, money.ledger._reads)


async def test_what_is_written_while_a_person_is_erased_is_refused_or_goes(
    money: MoneyWorld, records: PersonalRecords
) -> None:
    for _ in range(20):
        ann = await money.open_person()
        key_id = await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id())
        assert key_id is not None
        writes = [records.put_item(key(), ann, TENANT, ann, item_of(key_id)) for _ in range(6)]
        erasing = records.begin_erasure(key(), ann, TENANT, ann, new_id())
        answers = await asyncio.gather(*writes[:3], erasing, *writes[3:])
        assert {answer.outcome for answer in answers} <= {StepOutcome.DONE, StepOutcome.AGAIN}
        assert await records.read_items(TENANT, ann, ItemKind.ADDRESS, NIL, 50) == []
        assert await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id()) is None
    assert await money.database.fetchval("SELECT count(*) FROM personal_items") == 0


async def test_of_a_payment_and_an_erasure_at_once_one_is_refused(money: MoneyWorld, records: PersonalRecords) -> None:
    outcomes = set()
    for _ in range(20):
        ann, bo = await money.open_person(), await money.open_person(100)
        paid, erased = await asyncio.gather(
            money.send(money.payment(bo, ann, 100)), records.begin_erasure(key(), ann, TENANT, ann, new_id())
        )
        outcomes.add((paid.outcome, erased.outcome))
        gone = erased.outcome is StepOutcome.DONE
        assert await money.balance(ann) == (0 if gone else 100)
        assert await money.balance(bo) == (100 if gone else 0)
    assert outcomes <= {
        (StepOutcome.DONE, StepOutcome.STILL_OPEN),
        (StepOutcome.WALLET_CLOSED, StepOutcome.DONE),
    }


async def test_a_wallet_that_is_opened_for_who_is_erased_is_closed(money: MoneyWorld, records: PersonalRecords) -> None:
    ann = await money.open_person()
    await records.begin_erasure(key(), ann, TENANT, ann, new_id())
    await money.open_wallet(ann, currency="IDR")
    status = "SELECT status FROM accounts WHERE account_id = $1"
    wallet = account_id(TENANT, ann, "IDR", Purpose.WALLET)
    assert await money.database.fetchval(status, wallet) == AccountStatus.CLOSED


async def test_no_step_reads_what_others_have(money_url: str) -> None:
    money = await MoneyWorld.open(money_url, size=1)
    writes, reads = money.ledger._writes, money.ledger._reads
    records, exports = PersonalRecords(writes, reads), PersonalExports(writes, reads)

    async def all_steps() -> None:
        ann = await money.open_person()
        key_id = await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id())
        assert key_id is not None
        assert key_id == await records.find_key(TENANT, ann, KeyKind.PROFILE)
        new = item_of(key_id)
        assert (await records.put_item(key(), ann, TENANT, ann, new)).outcome is StepOutcome.DONE
        assert await records.read_item(TENANT, ann, new.item, ItemKind.ADDRESS)
        assert len(await records.read_items(TENANT, ann, ItemKind.ADDRESS, NIL, 50)) == 1
        export = ExportRow(new_id(), TENANT, ann, key_id, 0, 10**12, 0, "{}")
        assert (await exports.begin(key(), export)).outcome is StepOutcome.DONE
        assert [row.export for row in await exports.list_to_make(10)] == [export.export]
        assert await exports.add_part(export.export, 0, b"sealed", None)
        assert await exports.read(TENANT, ann, export.export)
        assert await exports.read_part(export.export, 0) == b"sealed"
        assert (await records.drop_item(key(), TENANT, ann, new.item, ItemKind.ADDRESS)).outcome is StepOutcome.DONE
        erased = await records.begin_erasure(key(), new_id(), TENANT, ann, new_id())
        assert erased.subject is not None
        assert await records.list_keys_to_erase(10) == [ErasedKey(key_id, TENANT, ann, KeyKind.PROFILE)]
        await records.note_keys_gone([key_id])
        found = await records.read_erasure(TENANT, erased.subject)
        assert found is not None
        assert found.gone
        assert (await records.forget_erased_keys([key_id])).count == 0
        assert (await records.forget_erased_people([TENANT], [ann])).count == 0
        assert await records.is_erased(TENANT, ann)
        assert await records.end_kept_items(10) == await exports.end_past(10) == 0

    async def rows_read() -> int:
        await money.database.execute("SELECT pg_stat_force_next_flush()")
        await writes.fetch("SELECT pg_stat_force_next_flush()")
        await reads.execute("SELECT pg_stat_force_next_flush()")
        return int(await money.database.fetchval(_READ))

    for _ in range(3):  # plans are made while there is nothing
        await all_steps()
    await money.database.execute(_FILL)
    before = await rows_read()
    await all_steps()
    assert await rows_read() - before < READ_MAX
    await money.close()


async def test_while_the_books_are_read_only_nothing_personal_is_written(
    money: MoneyWorld, records: PersonalRecords
) -> None:
    exports = PersonalExports(money.ledger._writes, money.ledger._reads)
    ann = await money.open_person()
    key_id = await records.name_key(TENANT, ann, KeyKind.LEGAL, new_id())
    assert key_id is not None
    kept = NewItem(
        item=new_id(), kind=ItemKind.LEGAL_COPY, key_id=key_id, sealed=b"s", most=9, keep_us=-1, keep_begins=True
    )
    await records.put_item(key(), ann, TENANT, ann, kept)
    export = ExportRow(new_id(), TENANT, ann, key_id, 0, 10**12, 0, "{}")
    await exports.begin(key(), export)
    restored = "UPDATE book_history SET started_at = started_at - interval '1 hour', system_identifier = 7"
    await money.database.execute(restored)
    with pytest.raises(StorageUnavailableError):
        await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id())
    with pytest.raises(StorageUnavailableError):
        await exports.add_part(export.export, 0, b"sealed", None)
    assert await records.end_kept_items(10) == 0
    assert len(await records.read_items(TENANT, ann, ItemKind.LEGAL_COPY, NIL, 9)) == 1


async def test_what_is_sealed_under_keys_that_are_given_up_goes_and_nobody_is_erased(
    money: MoneyWorld, records: PersonalRecords
) -> None:
    ann, bo, eve = [await money.open_person(100) for _ in range(2)] + [await money.open_person()]
    named = [await records.name_key(TENANT, who, KeyKind.PROFILE, new_id()) for who in (ann, bo, eve)]
    of_ann, of_bo, _ = [key_id for key_id in named if key_id is not None]
    kept = NewItem(item=new_id(), kind=ItemKind.IDENTITY, key_id=of_ann, sealed=b"sealed", keep_us=1, most=1)
    for new in (item_of(of_ann), kept):
        await records.put_item(key(), ann, TENANT, ann, new)
    await records.put_item(key(), bo, TENANT, bo, item_of(of_bo))
    await records.begin_erasure(key(), eve, TENANT, eve, new_id())
    store = new_id()
    await records.note_store(store)

    first, second, last = [await records.give_up_keys(1) for _ in range(3)]
    assert sorted([(first.items, first.kept_by_law), (second.items, second.kept_by_law)]) == [(1, 0), (2, 1)]
    assert (first.keys, second.keys, last) == (1, 1, GivenUp())
    assert await records.read_store() is None
    assert await money.database.fetchval("SELECT count(*) FROM personal_items") == 0
    for living in (ann, bo):
        again = new_id()
        assert await records.name_key(TENANT, living, KeyKind.PROFILE, again) == again
        assert await money.balance(living) == 100
    assert await records.is_erased(TENANT, eve)
    assert [each.person for each in await records.list_erased_keys(NIL, 10)] == [eve]
    told = "SELECT subject_id, detail FROM audit WHERE action = 'give_up_key'"
    assert {tuple(row) for row in await money.database.fetch(told)} == {(ann, "items 2"), (bo, "items 1")}


async def test_a_key_store_stays_named_until_its_last_key_is_given_up(
    money: MoneyWorld, records: PersonalRecords
) -> None:
    ann, store = await money.open_person(), new_id()
    await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id())
    await records.note_store(store)
    assert (await records.give_up_keys(5)).keys == 1
    await records.name_key(TENANT, ann, KeyKind.LEGAL, new_id())
    assert await records.read_store() == store


async def test_a_key_that_is_erased_while_it_is_given_up_stays_for_the_key_store(
    money: MoneyWorld, records: PersonalRecords
) -> None:
    ann = await money.open_person()
    await records.name_key(TENANT, ann, KeyKind.PROFILE, new_id())
    async with money.database.transaction():
        await money.database.execute("SELECT lock_person($1)", ann)
        giving = asyncio.ensure_future(records.give_up_keys(5))
        while not await money.database.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ):
            pass
        await money.database.execute("UPDATE personal_keys SET erased_us = 1 WHERE person_id = $1", ann)
    assert await giving == GivenUp()
    assert [each.person for each in await records.list_erased_keys(NIL, 10)] == [ann]
