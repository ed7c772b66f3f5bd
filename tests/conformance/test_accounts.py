"""Accounts of bots and businesses: owners, keys, and sign-ins that a renewed key does not outlive."""

from __future__ import annotations

import asyncio

import pytest

from protocol.ids import NIL, new_id
from storage.identity_rows import Outcome
from tests.support.accounts import create, sign_in_by_key
from tests.support.identity_people import NOW, TENANT, IdentityStores

pytestmark = pytest.mark.anyio


async def test_a_sign_in_that_races_with_a_new_key_does_not_outlive_it(stores: IdentityStores) -> None:
    for _ in range(10):
        old, new = new_id(), new_id()
        bot = await create(stores.accounts, old)
        assert bot is not None
        raced = await asyncio.gather(
            sign_in_by_key(stores.accounts, old, bot, new_id()),
            stores.accounts.renew_key(NOW, TENANT, NIL, NIL, principal=bot, key_hash=new),
            sign_in_by_key(stores.accounts, old, bot, new_id()),
        )
        assert raced[1]
        assert await stores.sign_ins.list_live(NOW, bot) == []


async def test_a_device_has_one_sign_in_and_the_oldest_is_crowded_out(stores: IdentityStores) -> None:
    key, device = new_id(), new_id()
    bot = await create(stores.accounts, key)
    assert bot is not None
    first = await sign_in_by_key(stores.accounts, key, bot, device)
    again = await sign_in_by_key(stores.accounts, key, bot, device, NOW + 1)
    assert (first.opened, again.opened, again.sign_in) == (True, False, first.sign_in)
    await sign_in_by_key(stores.accounts, key, bot, new_id(), NOW + 2)
    assert (await sign_in_by_key(stores.accounts, key, bot, new_id(), NOW + 3)).crowded_out == (first.sign_in,)


async def test_a_sign_in_that_expired_is_opened_anew(stores: IdentityStores) -> None:
    key, device = new_id(), new_id()
    bot = await create(stores.accounts, key)
    assert bot is not None
    first = await sign_in_by_key(stores.accounts, key, bot, device)
    later = await sign_in_by_key(stores.accounts, key, bot, device, NOW + 5000)
    assert later.opened
    assert later.sign_in != first.sign_in


async def test_the_key_of_another_account_signs_nobody_in(stores: IdentityStores) -> None:
    key = new_id()
    bot, _ = await create(stores.accounts, new_id()), await create(stores.accounts, key)
    assert bot is not None
    assert (await sign_in_by_key(stores.accounts, key, bot, new_id())).outcome is Outcome.UNKNOWN


async def test_an_owner_has_a_bounded_number(stores: IdentityStores) -> None:
    owner = new_id()
    made = [await create(stores.accounts, new_id(), owner=owner, accounts_max=2) for _ in range(3)]
    assert [one is not None for one in made] == [True, True, False]
    assert await create(stores.accounts, new_id(), accounts_max=2) is not None
    assert made[0] is not None
    assert await stores.accounts.delete(NOW, TENANT, owner, owner, made[0])
    assert await create(stores.accounts, new_id(), owner=owner, accounts_max=2) is not None
