"""After a restore, of the database or of the keys, what was erased is erased again before anything is read."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from protocol.ids import new_id
from server.commerce.personal.item_sealing import HeldKey
from server.refusals import RequestRefusedError
from storage.commerce.personal_rows import KeyKind
from storage.person_keys.erased_list import PEOPLE_FILE_NAME
from tests.support.commerce_world import TENANT, CommerceWorld, Party, refusal

pytestmark = pytest.mark.anyio

HOME = {"name": "Ann Marker", "line": "1 Marker Road", "country": "TH"}
_TABLES = ("personal_keys", "personal_items", "personal_erasures", "exports", "export_parts")


async def save(database: asyncpg.Connection) -> dict[str, list[Any]]:
    """All rows of the tables of personal data."""
    return {table: await database.fetch(f"SELECT * FROM {table}") for table in _TABLES}


async def restore(database: asyncpg.Connection, saved: dict[str, list[Any]]) -> None:
    """The tables as they were."""
    for table, rows in saved.items():
        await database.execute(f"TRUNCATE {table}")
        if rows:
            await database.copy_records_to_table(table, records=[tuple(row) for row in rows])


async def test_a_database_that_is_older_than_an_erasure_loses_it_all_again(commerce: CommerceWorld) -> None:
    ann, bo = await commerce.person(), await commerce.person()
    for who in (ann, bo):
        await who.post("addresses", HOME)
        await who.post("exports")
    saved = await save(commerce.database)
    await ann.post("erasures", {})
    await restore(commerce.database, saved)
    await commerce.person_keys.reconcile()
    assert (await ann.read("addresses"))["addresses"] == []
    assert refusal(await ann.post("addresses", HOME)) == (409, "person_erased")
    owners = "SELECT DISTINCT person_id FROM personal_items UNION SELECT DISTINCT person_id FROM exports"
    assert [row[0] for row in await commerce.database.fetch(owners)] == [bo.id]
    assert len((await bo.read("addresses"))["addresses"]) == 1
    await commerce.person_keys.reconcile()
    assert len((await bo.read("addresses"))["addresses"]) == 1


async def test_a_key_that_the_database_has_erased_goes_from_an_older_key_store(commerce: CommerceWorld) -> None:
    ann, bo = await commerce.person(), await commerce.person()
    keys = {who: await key_of(commerce, who) for who in (ann, bo)}
    erased = "UPDATE personal_keys SET erased_us = 1, gone = true WHERE key_id = $1"
    await commerce.database.execute(erased, keys[ann].id.hex())
    await commerce.person_keys.reconcile()
    commerce.person_keys._held.clear()
    with pytest.raises(RequestRefusedError):
        await commerce.person_keys.open(keys[ann].id)
    assert await commerce.person_keys.open(keys[bo].id) == keys[bo]


async def test_who_comes_second_gets_the_key_of_the_first(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    first = await key_of(commerce, ann)
    records = commerce.personal_records
    assert await records.name_key(TENANT, ann.id.bytes, KeyKind.PROFILE, new_id()) == first.id
    assert await key_of(commerce, ann) == first


async def key_of(commerce: CommerceWorld, who: Party) -> HeldKey:
    """Their profile key."""
    return await commerce.person_keys.ensure(TENANT, who.id.bytes, KeyKind.PROFILE)


async def test_who_had_no_key_yet_in_an_older_database_is_erased_again(commerce: CommerceWorld) -> None:
    ann, bo = await commerce.person(), await commerce.person()
    saved = await save(commerce.database)
    await ann.post("addresses", HOME)
    for who in (ann, bo):  # bo never has a key
        assert (await who.post("erasures", {})).json()["state"] == "erased"
    await restore(commerce.database, saved)
    await commerce.database.execute("UPDATE accounts SET status = 1")
    await commerce.person_keys.reconcile()
    for who in (ann, bo):
        assert refusal(await who.post("addresses", HOME)) == (409, "person_erased")
        assert {each["status"] for each in (await who.read("wallets"))["wallets"]} == {"closed"}
    folder = commerce.person_keys._store._copies[0].folder
    assert ann.id.hex not in (folder / PEOPLE_FILE_NAME).read_text()
