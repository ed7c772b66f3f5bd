"""What `PeopleStore` and `ServiceAccountStore` guarantee, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from protocol import ids
from storage.identity_rows import KeyGrants, Outcome, ProfileChange
from storage.rows import PrincipalStatus
from storage.unavailable import StorageUnavailableError
from tests.support.identity_people import (
    DAY,
    GRACE,
    NOW,
    TENANT,
    IdentityStores,
    audit,
    phone,
    purge,
    put_code,
    refresh,
    sign_in,
)

pytestmark = pytest.mark.anyio


# -- people


async def test_a_profile_changes_field_by_field(stores: IdentityStores) -> None:
    who = (await sign_in(stores)).principal
    assert await stores.people.change_profile(NOW + 1, who, ProfileChange(avatar_url="https://example.org/nok.png"))
    assert await stores.people.change_profile(NOW + 2, who, ProfileChange(display_name="Nok S.", findable=False))
    row = await stores.people.read_profile(who)
    assert row is not None
    assert (row.display_name, row.avatar_url, row.findable) == ("Nok S.", "https://example.org/nok.png", False)
    assert (row.locale, row.phone_box, row.updated_at_ms) == ("th", b"box", NOW + 2)


async def test_people_are_found_by_number_only_where_they_want_it(stores: IdentityStores, pool: Any) -> None:
    await stores.people.add_tenants([2])
    nok = (await sign_in(stores)).principal
    ann = (await sign_in(stores, "+66800000002")).principal
    number = phone("+66800000001").hash
    found = await stores.people.find_by_phone(TENANT, ann, number)
    assert found is not None
    assert found.principal == nok
    assert await stores.people.find_by_phone(2, ann, number) is None
    await pool.execute("INSERT INTO blocks (blocked_id, blocker_id) VALUES ($1, $2)", ann, nok)
    assert await stores.people.find_by_phone(TENANT, ann, number) is None
    assert await stores.people.find_by_phone(TENANT, nok, number) is not None
    await stores.people.change_profile(NOW, nok, ProfileChange(findable=False))
    assert await stores.people.find_by_phone(TENANT, nok, number) is None


async def test_people_see_only_whom_they_share_a_dialog_with(stores: IdentityStores, pool: Any) -> None:
    nok = (await sign_in(stores)).principal
    ann = (await sign_in(stores, "+66800000002")).principal
    assert await stores.people.read_person(nok, nok) is not None
    assert await stores.people.read_person(ann, nok) is None
    dialog = ids.new_id()
    for who in (nok, ann):
        await pool.execute(
            "INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms)"
            " VALUES ($1, $2, 0, true, '{[1,)}', 1, 0)",
            dialog,
            who,
        )
    assert await stores.people.read_person(ann, nok) is not None
    await pool.execute("UPDATE members SET member = false WHERE principal_id = $1", ann)
    assert await stores.people.read_person(ann, nok) is None


async def test_the_suspended_keep_their_sign_ins_and_may_not_use_them(stores: IdentityStores, pool: Any) -> None:
    await stores.people.add_tenants([2])
    admin = (await sign_in(stores, "+66800000009")).principal
    who = (await sign_in(stores, refresh=b"0")).principal
    assert not await stores.people.set_status(NOW, 2, admin, who, PrincipalStatus.SUSPENDED)
    assert await stores.people.set_status(NOW, TENANT, admin, who, PrincipalStatus.SUSPENDED)
    assert (await refresh(stores, b"0", b"1")).outcome is Outcome.SUSPENDED
    assert (await sign_in(stores)).outcome is Outcome.SUSPENDED
    assert not await stores.people.delete(NOW, who)
    assert await stores.people.set_status(NOW, TENANT, admin, who, PrincipalStatus.ACTIVE)
    assert (await refresh(stores, b"0", b"1")).outcome is Outcome.OK
    assert (await audit(pool, who))[-2:] == ["principal.suspended", "principal.reinstated"]
    assert not await stores.people.set_status(NOW, TENANT, admin, ids.new_id(), PrincipalStatus.SUSPENDED)


async def test_an_admin_is_made_by_number(stores: IdentityStores) -> None:
    named = ids.new_id()
    who = (await sign_in(stores, sign_in=named)).principal
    assert await stores.people.grant_admin(NOW, TENANT, b"nobody") is None
    assert await stores.people.grant_admin(NOW, TENANT, phone("+66800000001").hash) == who
    caller = await stores.sign_ins.read_caller(NOW, who, named)
    assert caller is not None
    assert caller.admin


# -- deletion


async def test_a_deleted_person_is_signed_out_and_can_come_back_within_the_grace(stores: IdentityStores) -> None:
    named = ids.new_id()
    who = (await sign_in(stores, refresh=b"0", sign_in=named)).principal
    assert await stores.people.delete(NOW, who)
    assert not await stores.people.delete(NOW, who)
    caller = await stores.sign_ins.read_caller(NOW, who, named)
    assert caller is not None
    assert (caller.live, caller.status) == (False, PrincipalStatus.DELETED)
    assert (await refresh(stores, b"0", b"1")).outcome is Outcome.ENDED
    assert await stores.people.find_by_phone(TENANT, who, phone("+66800000001").hash) is None
    back = await sign_in(stores, name=None, now=NOW + GRACE - 1)
    assert (back.outcome, back.principal) == (Outcome.OK, who)


async def test_nothing_tells_who_a_purged_person_was(stores: IdentityStores, pool: Any) -> None:
    who = (await sign_in(stores)).principal
    await stores.people.delete(NOW, who)
    await purge(stores, NOW + GRACE - 1)
    assert await stores.people.read_profile(who) is not None
    assert await purge(stores, NOW + GRACE) == 1
    assert await purge(stores, NOW + GRACE) == 0
    assert await stores.people.read_profile(who) is None
    for table in ("people", "sign_ins", "refresh_tokens"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert (await audit(pool, who))[-1] == "person.purged"
    assert (await sign_in(stores, now=NOW + GRACE)).principal != who


async def test_a_purge_and_a_return_at_once_end_as_one_of_the_two(stores: IdentityStores) -> None:
    for at in range(5):
        number = f"+6680000001{at}"
        who = (await sign_in(stores, number)).principal
        await stores.people.delete(NOW, who)
        back, _ = await asyncio.gather(sign_in(stores, number, now=NOW + GRACE), purge(stores, NOW + GRACE))
        assert back.outcome is Outcome.OK
        assert await stores.people.read_profile(back.principal) is not None
        assert back.principal != who


async def test_a_purge_waits_for_no_row_that_somebody_holds(stores: IdentityStores, pool: Any) -> None:
    await sign_in(stores, refresh=b"0")
    await refresh(stores, b"0", b"1")
    await put_code(stores, b"number", expires_at_ms=NOW)
    tables = ("codes", "refresh_tokens", "principals")
    async with pool.acquire() as other, other.transaction():
        for table in tables:
            await other.execute(f"SELECT FROM {table} FOR UPDATE")
        async with asyncio.timeout(10):
            await purge(stores, NOW + 90 * DAY)
    assert [await pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables] == [1, 2, 1]
    await purge(stores, NOW + 90 * DAY)
    assert [await pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables] == [0, 0, 1]


async def test_a_return_after_the_grace_signs_up_anew_even_before_the_purge(stores: IdentityStores) -> None:
    who = (await sign_in(stores)).principal
    await stores.people.delete(NOW, who)
    assert (await sign_in(stores, name=None, now=NOW + GRACE)).outcome is Outcome.NAME_NEEDED
    assert (await sign_in(stores, now=NOW + GRACE)).principal != who


async def test_time_ends_codes_sign_ins_and_used_tokens(stores: IdentityStores, pool: Any) -> None:
    await sign_in(stores, refresh=b"0")
    await refresh(stores, b"0", b"1")
    await refresh(stores, b"1", b"2", NOW + 20 * DAY)
    await put_code(stores, b"number", expires_at_ms=NOW)
    await purge(stores, NOW + 40 * DAY)
    assert await pool.fetchval("SELECT count(*) FROM codes") == 0
    assert await pool.fetchval("SELECT array_agg(token_hash ORDER BY token_hash) FROM refresh_tokens") == [b"1", b"2"]
    await purge(stores, NOW + 80 * DAY)
    assert await pool.fetchval("SELECT count(*) FROM sign_ins") == 0


# -- the audit trail


async def test_the_audit_trail_cannot_be_rewritten(stores: IdentityStores, pool: Any) -> None:
    await sign_in(stores)
    for attack in ("UPDATE audit SET actor_id = subject_id", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await pool.execute(attack)


async def test_lines_about_signing_in_go_after_a_year_and_others_stay(stores: IdentityStores, pool: Any) -> None:
    long_ago = 1_500_000_000_000
    who = (await sign_in(stores, now=long_ago)).principal
    await purge(stores, long_ago + 364 * DAY)
    assert await audit(pool, who) == ["person.created", "sign_in.opened"]
    await purge(stores, long_ago + 366 * DAY)
    assert await audit(pool, who) == ["person.created"]


# -- services


async def test_a_service_is_known_by_its_key(stores: IdentityStores) -> None:
    admin = (await sign_in(stores)).principal
    service, key = ids.new_id(), ids.new_id()
    grants = KeyGrants(frozenset({11, 12}), frozenset({ids.new_id(), ids.new_id()}), all_dialogs=True)
    await stores.service_accounts.create(
        NOW, TENANT, admin, service=service, name="orders", device=key, key_hash=b"secret", grants=grants
    )
    row = await stores.service_accounts.find_by_key(b"secret")
    assert row is not None
    assert (row.service, row.device, row.tenant, row.grants) == (service, key, TENANT, grants)
    assert await stores.service_accounts.find_by_key(b"other") is None
    assert await stores.people.set_status(NOW, TENANT, admin, service, PrincipalStatus.SUSPENDED)
    suspended = await stores.service_accounts.find_by_key(b"secret")
    assert suspended is not None
    assert suspended.status is PrincipalStatus.SUSPENDED


async def test_only_an_active_business_of_the_tenant_is_acted_for(stores: IdentityStores, pool: Any) -> None:
    await stores.people.add_tenants([2])
    business = ids.new_id()
    await pool.execute("INSERT INTO principals VALUES ($1, 1, 3, 1, false, NULL, 0, NULL)", business)
    person = (await sign_in(stores)).principal
    assert await stores.service_accounts.are_businesses(TENANT, [business])
    assert not await stores.service_accounts.are_businesses(2, [business])
    assert not await stores.service_accounts.are_businesses(TENANT, [business, person])


async def test_a_store_that_cannot_answer_says_so(stores: IdentityStores, pool: asyncpg.Pool[Any]) -> None:
    await pool.close()
    with pytest.raises(StorageUnavailableError):
        await stores.service_accounts.find_by_key(b"secret")


async def test_the_purge_erases_in_steps_however_many_a_person_has_blocked(stores: IdentityStores, pool: Any) -> None:
    who = (await sign_in(stores)).principal
    await stores.people.delete(NOW, who)
    await pool.execute("INSERT INTO blocks SELECT uuidv7(), $1 FROM generate_series(1, 95)", who)
    steps = 0
    while True:
        people, more = await stores.people.purge(
            NOW + GRACE, deleted_before_ms=NOW, ended_before_ms=0, audit_before_ms=0, limit=10
        )
        assert people == (steps == 0)
        assert await pool.fetchval("SELECT count(*) FROM blocks") >= 95 - 10 * (steps + 1)
        steps += 1
        if not more:
            break
    assert steps >= 10
    assert await pool.fetchval("SELECT count(*) FROM blocks") == 0
    assert await pool.fetchval("SELECT purged FROM principals WHERE principal_id = $1", who)
