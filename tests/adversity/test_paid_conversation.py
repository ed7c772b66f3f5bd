"""Chat, commerce and relay as processes: a payment is asked for, approved and refunded in a conversation.

In an open dialog, and in a sealed one; then a shop that people fill and order from, with tokens that the chat signs.
In one test: what takes time is starting the three.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from protocol.commands import Create
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.ids import NIL, new_id, self_dialog_id, to_text
from tchat import Client
from tchat.actions import RefusedError
from tchat.commerce_api import CommerceApi
from tchat.encryption.notices import Standing
from tchat.memory_store import MemoryStore
from tests.adversity.announce_stage import RelayProcess
from tests.adversity.restart_server import Accounts, ServerProcess, SignIn
from tests.support.commerce_process import TCHAT, run, serving_process

pytestmark = pytest.mark.anyio


def free_port() -> int:
    """A port that nobody has now: chat and commerce must each know the other's before it starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Town:
    """The three processes, and three people with wallets."""

    def __init__(self, folder: Path, books: str) -> None:
        self.folder = folder
        commerce = free_port()
        self.commerce_url = self.second_url = f"http://127.0.0.1:{commerce}"
        self.chat = ServerProcess(folder, {"TCHAT__COMMERCE__URL": self.commerce_url})
        self.accounts = Accounts(self.chat)
        self.commerce_environment = {
            **os.environ,
            "TCHAT__COMMERCE_SERVICE__PORT": str(commerce),
            "TCHAT__COMMERCE_SERVICE__ADMIN_PORT": "0",
            "TCHAT__COMMERCE_SERVICE__POSTGRES_URL": books,
            "TCHAT__COMMERCE_SERVICE__DATA_DIR": str(folder / "commerce"),
        }
        self.relay_environment = {
            **os.environ,
            "TCHAT__RELAY__API_KEY_FILE": str(folder / "relay.key"),
            "TCHAT__RELAY__POSTGRES_URL": books,
            "TCHAT__RELAY__ADMIN_PORT": "0",
        }
        self._key = ""
        self.ann: SignIn
        self.bo: SignIn
        self.cem: SignIn

    async def sign_in(self) -> None:
        """Three people, of whom the first is an admin and makes the service of the relay."""
        self.ann, self.bo, self.cem = [await self.accounts.sign_in(name) for name in ("ann", "bo", "cem")]
        connection = await asyncpg.connect(self.chat.database.url)
        await connection.execute(
            "UPDATE principals SET admin = true WHERE principal_id = $1", to_text(self.ann.principal)
        )
        await connection.close()
        wish = {"name": "relay", "kinds": ["payment"], "all_dialogs": True}
        made = await self.accounts.ask("POST", "/admin/services", wish, self.ann.token)
        (self.folder / "relay.key").write_text(made["key"])

    async def give_money(self, amount: int) -> None:
        """Open all wallets, and put money into Ann's."""
        rights = ("--right", "admin", "--right", "transfers")
        made = await run(*TCHAT, "commerce", "key", "setup", *rights, environment=self.commerce_environment)
        self._key, ask = made[1].strip(), self.ask
        owners = [to_text(each.principal) for each in (self.ann, self.bo, self.cem)]
        wallets = [(await ask("POST", "wallets", {"currency": "THB", "owner": owner}))["id"] for owner in owners]
        own = (await ask("GET", f"wallets?owner={to_text(NIL)}"))["wallets"]
        (opening,) = [each["id"] for each in own if each["purpose"] == "opening"]
        leg = {"from_wallet": opening, "to_wallet": wallets[0], "amount_minor": amount}
        await ask("POST", "transfers", {"legs": [leg]})

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What commerce answers to the key of the platform."""
        headers = {"Authorization": f"Bearer {self._key}", "Idempotency-Key": to_text(new_id())}
        async with httpx.AsyncClient(base_url=self.commerce_url, trust_env=False) as client:
            answer = await client.request(method, f"/v1/{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def balance(self, person: SignIn) -> int:
        """What a person's own client reads."""
        headers = {"Authorization": f"Bearer {person.token}"}
        async with httpx.AsyncClient(base_url=self.commerce_url, trust_env=False) as client:
            (wallet,) = (await client.get("/v1/wallets", headers=headers)).json()["wallets"]
        return int(wallet["balance_minor"])


@contextlib.asynccontextmanager
async def opened(folder: Path, books: str) -> AsyncIterator[Town]:
    """The town while everything runs."""
    town = Town(folder, books)
    async with contextlib.AsyncExitStack() as stack:
        await town.chat.start()
        stack.push_async_callback(town.chat.abandon)
        jwks = f"http://127.0.0.1:{town.chat.port}/.well-known/jwks.json"
        town.commerce_environment["TCHAT__COMMERCE_SERVICE__JWKS_URL"] = jwks
        await stack.enter_async_context(serving_process(town.commerce_environment))
        await town.sign_in()
        await town.give_money(2_000_000)
        chat_url = f"http://127.0.0.1:{town.chat.port}"
        relay = RelayProcess(town.relay_environment | {"TCHAT__RELAY__CHAT_URL": chat_url}, folder / "relay.log", "")
        await relay.start()
        stack.push_async_callback(relay.kill)
        yield town


@contextlib.asynccontextmanager
async def online(town: Town, person: SignIn) -> AsyncIterator[Client]:
    """A client of a person that has keys."""

    async def token(_fresh: bool) -> str:
        return person.token

    url = f"ws://127.0.0.1:{town.chat.port}/v1/ws"
    async with Client(url, token, store=MemoryStore(), on_event=lambda _event: None) as client:
        await client.wait_until(lambda: client.encryption.standing is Standing.LISTED)
        yield client


def shows(client: Client, dialog: bytes, payment: bytes, state: str | None, version: int) -> bool:
    """Whether the dialog shows this version of a payment."""
    view = client.view.dialogs.get(dialog)
    notice = None if view is None else view.payments.get(payment)
    return notice is not None and (notice.state, notice.version) == (state, version)


async def tell(ann: Client, other: Client, people: tuple[SignIn, SignIn], mode: Mode) -> None:
    """`other` asks Ann for money, who approves; a part is refunded; another request is refused, and declined."""
    payer, payee = people
    dialog = (await other.perform(Create(0, 0, DialogType.DIRECT, [payer.principal], mode=mode))).dialog

    async def both_see(payment: bytes, state: str, version: int) -> None:
        said = state if mode is Mode.OPEN else None  # a sealed dialog names the version only
        for client in (ann, other):
            await client.wait_until(functools.partial(shows, client, dialog, payment, said, version))
        assert (await ann.read_payment(payment)).state == state

    asked = await other.pay_request(dialog, payer.principal, 600_000, "THB")
    await both_see(asked.payment, "requested", 1)
    shown = await ann.read_payment(asked.payment)
    assert (shown.payee, shown.amount_minor) == (payee.principal, 600_000)
    with pytest.raises(RefusedError) as refused:
        await ann.approve_payment(dialog, replace(shown, amount_minor=599_999))
    assert refused.value.failed.code == ErrorCode.CHANGED
    with pytest.raises(RefusedError):  # who asks does not approve
        await other.approve_payment(dialog, shown)
    await ann.approve_payment(dialog, shown)  # above the amount that needs the signature of the device
    await both_see(asked.payment, "paid", 2)
    await other.refund_payment(dialog, asked.payment, 100_000)
    await both_see(asked.payment, "refunded", 3)
    asked = await other.pay_request(dialog, payer.principal, 4_000_000, "THB")
    with pytest.raises(RefusedError) as refused:
        await ann.approve_payment(dialog, await ann.read_payment(asked.payment))
    assert refused.value.failed.code == ErrorCode.INSUFFICIENT
    await ann.decline_payment(dialog, asked.payment)
    await both_see(asked.payment, "declined", 2)


async def order(town: Town, ann: Client) -> None:
    """Bo fills his shop, Ann orders there and approves in her own dialog: people, without a key of commerce."""
    shop = to_text(town.bo.principal)
    await town.ask("POST", "businesses", {"id": shop, "owner": shop, "name": "Noodles", "currencies": ["THB"]})
    async with as_person(town, town.bo) as bo, as_person(town, town.ann) as buyer:
        soup: dict[str, Any] = {"business": shop, "currency": "THB", "name": "Soup", "ships": False, "status": "active"}
        soup["images"] = ["https://example.com/soup.png"]
        product = (await bo.post("/v1/products", soup, key="soup"))["id"]
        variant = (await bo.post("/v1/variants", {"product": product, "sku": "s", "price_minor": 250}, key="one"))["id"]
        await bo.post("/v1/stock", {"variant": variant, "move": "received", "change": 3}, key="three")
        await buyer.post(f"/v1/carts/{shop}/lines", {"variant": variant, "quantity": 2}, key="two")
        wish = {"business": shop, "currency": "THB", "total_minor": 500}
        placed = await buyer.post("/v1/orders", wish, key="order")
        assert await buyer.post("/v1/orders", wish, key="order") == placed
        payment = UUID(placed["payment"]).bytes
        await ann.approve_payment(self_dialog_id(town.ann.principal), await ann.read_payment(payment))
        assert (await buyer.get(f"/v1/orders/{placed['id']}"))["state"] == "confirmed"
        with pytest.raises(RefusedError) as refused:
            await buyer.post(f"/v1/orders/{placed['id']}/ship", key="ship")
        assert refused.value.failed.code in {ErrorCode.ORDER_NOT_FOUND, ErrorCode.NOT_ALLOWED}
        new = {"intent": "send", "payer": to_text(town.ann.principal), "payee": shop, "currency": "THB"}
        with pytest.raises(RefusedError) as refused:
            await buyer.post("/v1/payments", new | {"amount_minor": 1}, key="send")
        assert refused.value.failed.code == ErrorCode.NOT_ALLOWED


@contextlib.asynccontextmanager
async def as_person(town: Town, person: SignIn) -> AsyncIterator[CommerceApi]:
    """What a person's own client asks of commerce."""

    async def token(_fresh: bool) -> str:
        return person.token

    async with CommerceApi(f"http://127.0.0.1:{town.chat.port}", town.commerce_url, token) as commerce:
        yield commerce


async def test_a_payment_in_a_conversation_is_seen_by_both_from_the_request_to_the_refund(
    tmp_path: Path, money_url: str
) -> None:
    with anyio.fail_after(100):
        async with opened(tmp_path, money_url) as town, online(town, town.ann) as ann:
            for person, mode in ((town.bo, Mode.OPEN), (town.cem, Mode.SEALED)):
                async with online(town, person) as other:
                    await tell(ann, other, (town.ann, person), mode)
            await order(town, ann)
            balances = [await town.balance(each) for each in (town.ann, town.bo, town.cem)]
    assert balances == [999_500, 500_500, 500_000]
