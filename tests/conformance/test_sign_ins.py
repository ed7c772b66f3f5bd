"""What `SignInStore` guarantees, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from protocol import ids
from storage.identity_rows import KeyGrants, Outcome, RefreshedSignIn
from storage.rows import PrincipalStatus
from tests.support.identity_people import (
    DAY,
    NOW,
    TENANT,
    IdentityStores,
    audit,
    guess,
    phone,
    put_code,
    refresh,
    sign_in,
    sign_in_by_issuer,
)

pytestmark = pytest.mark.anyio


# -- codes and signing in


async def test_a_number_signs_up_once_and_signs_in_afterwards(stores: IdentityStores, pool: Any) -> None:
    first = await sign_in(stores)
    again = await sign_in(stores, name=None)
    assert first.outcome is again.outcome is Outcome.OK
    assert first.principal == again.principal
    assert await audit(pool, first.principal) == ["person.created", "sign_in.opened", "sign_in.opened"]


async def test_an_unknown_number_without_a_name_keeps_its_code_and_its_guesses(stores: IdentityStores) -> None:
    number = phone("+66800000001")
    code_id = await put_code(stores, number.hash, attempts=1)
    assert await guess(stores, number.hash) == b"right"
    assert (await sign_in(stores, name=None, code_id=code_id)).outcome is Outcome.NAME_NEEDED
    assert await guess(stores, number.hash) == b"right"
    assert (await sign_in(stores, name="Nok", code_id=code_id)).outcome is Outcome.OK


async def test_a_code_has_so_many_guesses(stores: IdentityStores) -> None:
    await put_code(stores, b"number", attempts=3)
    guesses = await asyncio.gather(*(guess(stores, b"number") for _ in range(10)))
    assert sorted(one is not None for one in guesses) == [False] * 7 + [True] * 3


async def test_a_code_expires_and_a_new_one_of_its_network_replaces_it(stores: IdentityStores) -> None:
    first = await put_code(stores, b"number", code=b"first")
    await put_code(stores, b"number", code=b"second", expires_at_ms=NOW + 2)
    assert await guess(stores, b"number", now=NOW + 1) == b"second"
    assert await guess(stores, b"number", code_id=first) is None
    assert await guess(stores, b"number", now=NOW + 2) is None


async def test_a_code_belongs_to_the_network_that_requested_it(stores: IdentityStores) -> None:
    mine = await put_code(stores, b"number", code=b"mine", network="198.51.100.1")
    await put_code(stores, b"number", code=b"theirs", network="203.0.113.1")
    assert await guess(stores, b"number", network="198.51.100.1") == b"mine"
    assert await guess(stores, b"number", network="203.0.113.1", code_id=mine) == b"mine"
    assert await guess(stores, b"number", network="192.0.2.1") is None
    assert await guess(stores, b"another number", network="198.51.100.1", code_id=mine) is None


async def test_a_code_of_one_tenant_is_none_of_another(stores: IdentityStores) -> None:
    await stores.people.add_tenants([2])
    await put_code(stores, b"number")
    assert await guess(stores, b"number", tenant=2) is None


async def test_many_who_come_with_one_code_at_once_are_let_in_once(stores: IdentityStores) -> None:
    code_id = await put_code(stores, phone("+66800000001").hash, attempts=99)
    tries = await asyncio.gather(*(sign_in(stores, code_id=code_id) for _ in range(10)))
    assert sorted(one.outcome for one in tries) == [Outcome.OK] + [Outcome.CODE_USED] * 9


async def test_codes_of_many_networks_used_at_once_make_one_person(stores: IdentityStores, pool: Any) -> None:
    number = phone("+66800000001").hash
    codes = [await put_code(stores, number, network=f"203.0.113.{at}") for at in range(5)]
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM codes FOR SHARE")  # so that all have begun before one of them ends
        tries = [asyncio.ensure_future(sign_in(stores, code_id=code)) for code in codes]
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while await pool.fetchval(waiting) < len(codes):
            pass
    outcomes = [one.outcome for one in await asyncio.gather(*tries)]
    assert sorted(outcomes) == [Outcome.OK] + [Outcome.CODE_USED] * 4
    assert await pool.fetchval("SELECT count(*) FROM people") == 1


async def test_a_number_that_signs_up_many_times_at_once_is_one_person(stores: IdentityStores, pool: Any) -> None:
    tries = await asyncio.gather(*(sign_in(stores) for _ in range(20)))
    opened = [one for one in tries if one.outcome is Outcome.OK]
    assert opened
    assert len({one.principal for one in opened}) == 1
    assert await pool.fetchval("SELECT count(*) FROM people") == 1


async def test_never_more_than_five_sign_ins_are_live_and_the_oldest_go(stores: IdentityStores) -> None:
    named = [ids.new_id() for _ in range(7)]
    results = [await sign_in(stores, sign_in=one, now=NOW + at) for at, one in enumerate(named)]
    live = await stores.sign_ins.list_live(NOW + 10, results[0].principal)
    assert [row.sign_in for row in live] == named[:1:-1]
    assert [list(one.crowded_out) for one in results] == [[], [], [], [], [], named[:1], named[1:2]]


async def test_five_live_sign_ins_hold_under_a_race(stores: IdentityStores) -> None:
    who = (await sign_in_by_issuer(stores, "nok", ids.new_id())).principal
    many = await asyncio.gather(*(sign_in_by_issuer(stores, "nok", ids.new_id(), now=NOW + 1) for _ in range(20)))
    assert {one.outcome for one in many} == {Outcome.OK}
    live = {row.sign_in for row in await stores.sign_ins.list_live(NOW + 1, who)}
    ended = {sign_in for one in many for sign_in in one.crowded_out}
    assert len(live) == 5
    assert len(ended) == 16
    assert not live & ended


async def test_expired_sign_ins_take_no_place(stores: IdentityStores) -> None:
    for at in range(5):
        await sign_in(stores, now=NOW + at)
    later = await sign_in(stores, now=NOW + 31 * DAY)
    assert later.crowded_out == ()
    assert len(await stores.sign_ins.list_live(NOW + 31 * DAY, later.principal)) == 1


async def test_a_device_that_signs_in_again_replaces_its_own_sign_in(stores: IdentityStores) -> None:
    mine, first = ids.new_id(), ids.new_id()
    who = (await sign_in(stores, on=mine, sign_in=first)).principal
    again = await sign_in(stores, on=mine)
    assert (again.device, again.replaced) == (mine, (first,))
    assert len(await stores.sign_ins.list_live(NOW, who)) == 1


async def test_nobody_gets_the_device_of_another(stores: IdentityStores) -> None:
    mine = ids.new_id()
    await sign_in(stores, on=mine)
    other = await sign_in(stores, "+66800000002", on=mine)
    assert other.outcome is Outcome.OK
    assert other.device not in {mine, ids.NIL}
    key = ids.new_id()
    await stores.service_accounts.create(
        NOW,
        TENANT,
        other.principal,
        service=ids.new_id(),
        name="pay",
        device=key,
        key_hash=b"k",
        grants=KeyGrants(frozenset({10})),
    )
    assert (await sign_in(stores, on=key)).device != key
    assert (await sign_in_by_issuer(stores, "nok", mine)).outcome is Outcome.DEVICE_TAKEN


# -- refreshing


async def test_a_refresh_token_is_followed_by_its_successor(stores: IdentityStores) -> None:
    mine, named = ids.new_id(), ids.new_id()
    who = await sign_in(stores, refresh=b"0", on=mine, sign_in=named)
    for at in range(3):
        got = await refresh(stores, b"%d" % at, b"%d" % (at + 1), NOW + at)
        assert got == RefreshedSignIn(Outcome.OK, who.principal, mine, named, TENANT)
    (row,) = await stores.sign_ins.list_live(NOW + 5, who.principal)
    assert (row.address, row.last_used_at_ms) == ("203.0.113.9", NOW + 2)


async def test_a_lost_answer_may_be_asked_for_again_for_a_minute(stores: IdentityStores) -> None:
    await sign_in(stores, refresh=b"0")
    for at in (NOW, NOW + 60_000):
        assert (await refresh(stores, b"0", b"1", at)).outcome is Outcome.OK
    assert (await refresh(stores, b"1", b"2", NOW + 60_000)).outcome is Outcome.OK


async def test_the_same_token_sent_twice_at_once_has_one_successor(stores: IdentityStores, pool: Any) -> None:
    await sign_in(stores, refresh=b"0")
    got = await asyncio.gather(*(refresh(stores, b"0", b"1") for _ in range(8)))
    assert {one.outcome for one in got} == {Outcome.OK}
    assert await pool.fetchval("SELECT count(*) FROM refresh_tokens") == 2


@pytest.mark.parametrize("late", [False, True])
async def test_a_used_token_that_comes_again_ends_its_sign_in(stores: IdentityStores, pool: Any, late: bool) -> None:
    who = await sign_in(stores, refresh=b"0")
    other = await sign_in(stores, refresh=b"elsewhere")
    await refresh(stores, b"0", b"1")
    if not late:  # its successor has been used: then not even at once
        await refresh(stores, b"1", b"2")
    assert (await refresh(stores, b"0", b"1", NOW + (60_001 if late else 1))).outcome is Outcome.REUSED
    for token in (b"0", b"1", b"2"):
        assert (await refresh(stores, token, token + b"x")).outcome in {Outcome.ENDED, Outcome.UNKNOWN}
    assert "sign_in.token_reused" in await audit(pool, who.principal)
    assert (await refresh(stores, b"elsewhere", b"e2")).principal == other.principal


async def test_a_refresh_token_that_nobody_has_is_unknown(stores: IdentityStores) -> None:
    assert (await refresh(stores, b"?", b"!")).outcome is Outcome.UNKNOWN


async def test_a_refresh_token_expires(stores: IdentityStores) -> None:
    await sign_in(stores, refresh=b"0")
    assert (await refresh(stores, b"0", b"1", NOW + 30 * DAY)).outcome is Outcome.EXPIRED


async def test_an_ended_sign_in_is_not_refreshed(stores: IdentityStores) -> None:
    named = ids.new_id()
    who = (await sign_in(stores, refresh=b"0", sign_in=named)).principal
    assert await stores.sign_ins.end(NOW, who, named)
    assert not await stores.sign_ins.end(NOW, who, named)
    assert (await refresh(stores, b"0", b"1")).outcome is Outcome.ENDED


# -- ending


async def test_nobody_ends_the_sign_in_of_another(stores: IdentityStores) -> None:
    named = ids.new_id()
    await sign_in(stores, sign_in=named)
    other = await sign_in(stores, "+66800000002")
    assert not await stores.sign_ins.end(NOW, other.principal, named)
    assert await stores.sign_ins.end_others(NOW, other.principal, ids.new_id()) != [named]


async def test_all_sign_ins_but_one_end(stores: IdentityStores) -> None:
    named = [ids.new_id() for _ in range(3)]
    who, _, _ = [(await sign_in(stores, sign_in=one)).principal for one in named]
    assert set(await stores.sign_ins.end_others(NOW, who, named[1])) == {named[0], named[2]}
    assert [row.sign_in for row in await stores.sign_ins.list_live(NOW, who)] == [named[1]]


async def test_a_caller_is_live_until_the_sign_in_ends(stores: IdentityStores) -> None:
    named = ids.new_id()
    who = (await sign_in(stores, sign_in=named)).principal
    other = (await sign_in(stores, "+66800000002")).principal
    caller = await stores.sign_ins.read_caller(NOW, who, named)
    assert caller is not None
    assert (caller.live, caller.admin, caller.status) == (True, False, PrincipalStatus.ACTIVE)
    stranger = await stores.sign_ins.read_caller(NOW, other, named)
    assert stranger is not None
    assert not stranger.live
    assert await stores.sign_ins.read_caller(NOW, ids.new_id(), named) is None
    await stores.sign_ins.end(NOW, who, named)
    ended = await stores.sign_ins.read_caller(NOW, who, named)
    assert ended is not None
    assert not ended.live


# -- other issuers


async def test_an_external_id_is_one_person_per_tenant(stores: IdentityStores) -> None:
    await stores.people.add_tenants([1, 2])
    many = await asyncio.gather(*(sign_in_by_issuer(stores, "nok", ids.new_id()) for _ in range(5)))
    elsewhere = await sign_in_by_issuer(stores, "nok", ids.new_id(), tenant=2)
    assert len({one.principal for one in many}) == 1
    assert elsewhere.principal != many[0].principal


async def test_a_device_of_an_external_person_keeps_its_sign_in(stores: IdentityStores) -> None:
    mine = ids.new_id()
    first = await sign_in_by_issuer(stores, "nok", mine)
    again = await sign_in_by_issuer(stores, "nok", mine, issued=NOW + 1, now=NOW + 1)
    assert (first.opened, again.opened) == (True, False)
    assert first.sign_in == again.sign_in


async def test_a_token_from_before_the_end_does_not_bring_a_sign_in_back(stores: IdentityStores) -> None:
    mine = ids.new_id()
    first = await sign_in_by_issuer(stores, "nok", mine)
    await stores.sign_ins.end(NOW + 10, first.principal, first.sign_in)
    assert (await sign_in_by_issuer(stores, "nok", mine, issued=NOW + 10, now=NOW + 20)).outcome is Outcome.ENDED
    newer = await sign_in_by_issuer(stores, "nok", mine, issued=NOW + 11, now=NOW + 20)
    assert newer.outcome is Outcome.OK
    assert newer.sign_in != first.sign_in


async def test_an_external_person_who_left_comes_back_with_a_newer_token(stores: IdentityStores) -> None:
    mine, other = ids.new_id(), ids.new_id()
    who = (await sign_in_by_issuer(stores, "nok", mine)).principal
    await stores.people.delete(NOW + 10, who)
    assert (await sign_in_by_issuer(stores, "nok", other, issued=NOW, now=NOW + 20)).outcome is Outcome.ENDED
    back = await sign_in_by_issuer(stores, "nok", other, issued=NOW + 15, now=NOW + 20)
    assert (back.outcome, back.principal) == (Outcome.OK, who)
    await stores.people.delete(NOW + 30, who)
    anew = await sign_in_by_issuer(stores, "nok", mine, issued=NOW + 31 * DAY, now=NOW + 31 * DAY)
    assert anew.outcome in {Outcome.OK, Outcome.DEVICE_TAKEN}
    assert anew.principal != who
