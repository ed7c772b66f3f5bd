"""The books of commerce are restored in another cluster, with payments made and told since the backup.

Chat, commerce and relay as processes: read-only, then reconciled, then the dialog shows what is in the books. In one
test: what takes time is starting them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest

from protocol.commands import Create
from protocol.dialog_types import DialogType, Mode
from protocol.ids import new_id, to_text
from storage.embedded import dump
from storage.embedded.cluster import EmbeddedPostgres
from tchat import Client
from tests.adversity.announce_stage import RelayProcess
from tests.adversity.test_paid_conversation import Town, online, shows
from tests.support.commerce_process import TCHAT, run, serving_process

pytestmark = pytest.mark.anyio

_POSTGRES = ("TCHAT__COMMERCE_SERVICE__POSTGRES_URL", "TCHAT__RELAY__POSTGRES_URL")


@contextlib.asynccontextmanager
async def books_at(town: Town, url: str) -> AsyncIterator[None]:
    """Commerce and a relay over the books at `url`."""
    town.commerce_environment[_POSTGRES[0]] = town.relay_environment[_POSTGRES[1]] = url
    async with serving_process(town.commerce_environment):
        chat_url = f"http://127.0.0.1:{town.chat.port}"
        if not hasattr(town, "ann"):
            await town.sign_in()
            await town.give_money(2_000_000)
        relay = RelayProcess(
            town.relay_environment | {"TCHAT__RELAY__CHAT_URL": chat_url}, town.folder / "relay.log", ""
        )
        await relay.start()
        try:
            yield
        finally:
            await relay.kill()


async def both_see(clients: tuple[Client, Client], dialog: bytes, payment: bytes, state: str, version: int) -> None:
    for client in clients:
        await client.wait_until(functools.partial(shows, client, dialog, payment, state, version))


async def try_transfer(url: str, key: str) -> httpx.Response:
    leg = {"from_wallet": to_text(new_id()), "to_wallet": to_text(new_id()), "amount_minor": 1}
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "once"}
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        return await client.post("/v1/transfers", json={"legs": [leg]}, headers=headers)


async def reconcile(town: Town, *more: str) -> tuple[int | None, str]:
    return await run(*TCHAT, "commerce", "reconcile", *more, environment=town.commerce_environment)


async def test_restored_books_are_read_only_until_they_are_reconciled_with_what_was_told(
    tmp_path: Path, money_url: str
) -> None:
    town, backup = Town(tmp_path, money_url), io.BytesIO()
    with anyio.fail_after(300), EmbeddedPostgres(tmp_path / "restored") as elsewhere:
        async with contextlib.AsyncExitStack() as stack:
            await town.chat.start()
            stack.push_async_callback(town.chat.abandon)
            jwks = f"http://127.0.0.1:{town.chat.port}/.well-known/jwks.json"
            town.commerce_environment["TCHAT__COMMERCE_SERVICE__JWKS_URL"] = jwks
            before = await stack.enter_async_context(contextlib.AsyncExitStack())
            await before.enter_async_context(books_at(town, money_url))
            assert (await reconcile(town))[0] == 0
            key = (
                await run(*TCHAT, "commerce", "key", "t", "--right", "transfers", environment=town.commerce_environment)
            )[1]
            ann = await stack.enter_async_context(online(town, town.ann))
            bo = await stack.enter_async_context(online(town, town.bo))
            both = (ann, bo)
            made = await bo.perform(Create(0, 0, DialogType.DIRECT, [town.ann.principal], mode=Mode.OPEN))
            dialog = made.dialog
            known = await bo.pay_request(dialog, town.ann.principal, 1_000, "THB")
            await ann.approve_payment(dialog, await ann.read_payment(known.payment))
            await both_see(both, dialog, known.payment, "paid", 2)
            await asyncio.to_thread(dump.dump, money_url, backup, lambda _size: None)
            await bo.refund_payment(dialog, known.payment, 400)
            await both_see(both, dialog, known.payment, "refunded", 3)
            lost = await bo.pay_request(dialog, town.ann.principal, 5_000, "THB")
            await ann.approve_payment(dialog, await ann.read_payment(lost.payment))
            await both_see(both, dialog, lost.payment, "paid", 2)
            await before.aclose()

            backup.seek(0)
            await asyncio.to_thread(dump.load, elsewhere.url, backup, lambda _size: None)
            await stack.enter_async_context(books_at(town, elsewhere.url))
            refused = await try_transfer(town.commerce_url, key.strip())
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert "restored" in refused.json()["message"]
            assert (await ann.read_payment(known.payment)).state == "paid"
            code, said = await reconcile(town)
            assert code == 1
            assert "read-only" in said
            while (answer := await reconcile(town, "--accept"))[0] != 0:
                assert "is not read back" in answer[1]
            assert to_text(lost.payment) in answer[1]
            assert to_text(known.payment) in answer[1]
            assert "5000 THB" in answer[1]
            await both_see(both, dialog, known.payment, "paid", 4)
            await both_see(both, dialog, lost.payment, "cancelled", 3)
            assert [await town.balance(each) for each in (town.ann, town.bo)] == [1_999_000, 1_000]
            await bo.refund_payment(dialog, known.payment, 1_000)
            await both_see(both, dialog, known.payment, "refunded", 5)
            assert (await try_transfer(town.commerce_url, key.strip())).status_code == 404  # judged again, with its key
