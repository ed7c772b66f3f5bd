"""What stands between ledger and chat: a relay whose clock and network the test owns, and people who pay each other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import msgspec

from protocol.bodies import AnyBody, Posted
from protocol.commerce.payment_notice import PaymentNotice, decode_notice
from protocol.dialog_types import DialogType, Mode
from protocol.ids import from_text, self_dialog_id
from server.config.payment_settings import RelaySettings
from server.relay.announcer import Announcer
from server.relay.chat_api import ChatApi
from storage.commerce.announcements import Announcements
from storage.commerce.money_rows import NewPaymentRow
from storage.identity_rows import WhoMayAdd
from tests.support.api_world import ANN, BO, ApiWorld, Me
from tests.support.clock import ManualClock
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld
from tests.support.world import Person, World

Interfere = Callable[[httpx.Request], Awaitable[httpx.Response | None]]
"""What the network does with a request: None lets it pass."""


class Network(httpx.AsyncBaseTransport):
    """Requests to the chat, which a test may answer instead, or lose the answers of."""

    def __init__(self, api: ApiWorld) -> None:
        self.requests: list[httpx.Request] = []
        self.interfere: Interfere | None = None
        self.lose_answers = False
        self._chat = httpx.ASGITransport(api.identity.app, client=("198.51.100.1", 50_000))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        self.requests.append(request)
        answer = None if self.interfere is None else await self.interfere(request)
        if answer is None:
            answer = await self._chat.handle_async_request(request)
        if self.lose_answers:
            raise httpx.ReadError("the answer is lost")
        return answer

    def posted(self) -> list[dict[str, Any]]:
        """The bodies of what was posted, and where."""
        return [
            {"path": each.url.path, **msgspec.json.decode(each.content)}
            for each in self.requests
            if each.method == "POST"
        ]


class Between:
    """Ann and Bo, and the relay."""

    def __init__(self, url: str, money: MoneyWorld, api: ApiWorld, world: World) -> None:
        self.money, self.api, self.world = money, api, world
        self.network = Network(api)
        self.key = ""
        self.service = ""
        self.admin: Me
        self.ann: Person
        self.bo: Person
        self.url = url
        self._stack = contextlib.AsyncExitStack()

    async def prepare(self) -> None:
        """Sign people in, give them money, and make the service."""
        self.admin = await self.api.admin()
        self.ann, self.bo = [await self._person(number) for number in (ANN, BO)]
        wish = {"name": "relay", "kinds": ["payment"], "all_dialogs": True}
        made = (await self.admin.ask("POST", "/v1/admin/services", wish)).json()
        self.key, self.service = made["key"], made["service"]

    async def close(self) -> None:
        """End all relays."""
        await self._stack.aclose()

    async def relay(self) -> Announcer:
        """Another relay, which looks only when it is told to."""
        announcements = await Announcements.open(self.url, TENANT, writes=4, statement_timeout_s=30)
        self._stack.push_async_callback(announcements.aclose)
        chat = ChatApi("http://chat.test", lambda: self.key, connections=8, transport=self.network)
        self._stack.push_async_callback(chat.aclose)
        return Announcer(announcements, chat, ManualClock(), RelaySettings(lease_s=3600))

    async def announce(self, relay: Announcer, looks: int = 4) -> None:
        """Have a relay look several times, and finish each time what it began."""
        for _ in range(looks):
            await relay.look()
            await relay.finish()

    async def lease_ends(self) -> None:
        """What is leased or pauses is due."""
        await self.money.step_clock(HOUR_US)

    async def dialog(self, mode: Mode = Mode.OPEN) -> bytes:
        """A group of Ann, Bo and somebody else."""
        return await self.world.create(DialogType.GROUP, self.ann, self.bo, await self.world.person(), mode=mode)

    async def request(self, dialog: bytes | None, **more: Any) -> NewPaymentRow:
        """Bo asks Ann for 700."""
        new = self.money.payment(self.ann.principal, self.bo.principal, 700, dialog=dialog, **more)
        await self.money.request(new)
        return new

    async def approve(self, new: NewPaymentRow) -> None:
        """Ann pays."""
        await self.money.ledger.approve(
            self.money.key(),
            new.payer,
            TENANT,
            new.payment,
            version=1,
            amount=new.amount,
            currency=new.currency,
            payee=new.payee,
        )

    async def notices(self, dialog: bytes) -> list[PaymentNotice]:
        """What its timeline says of payments."""
        rows = await self.world.pool.fetch("SELECT body FROM journal WHERE dialog_id = $1 ORDER BY seq", dialog)
        bodies = [msgspec.msgpack.decode(row["body"], type=AnyBody) for row in rows]
        return [read_notice(body) for body in bodies if isinstance(body, Posted)]

    async def own_notices(self, person: Person) -> list[PaymentNotice]:
        """What a person's `self` dialog says of payments."""
        return await self.notices(self_dialog_id(person.principal))

    async def _person(self, number: str) -> Person:
        me = await self.api.sign_in(number)
        person = Person(from_text(me.principal), from_text(me.device), from_text(me.sign_in))
        await self.world.chooses(person, WhoMayAdd.EVERYBODY)
        await self.money.open_wallet(person.principal, 10_000)
        return person


@contextlib.asynccontextmanager
async def opened_between(url: str, money: MoneyWorld, api: ApiWorld, world: World) -> AsyncIterator[Between]:
    """All of it, ready."""
    opened = Between(url, money, api, world)
    await opened.prepare()
    try:
        yield opened
    finally:
        await opened.close()


def read_notice(body: Posted) -> PaymentNotice:
    """What an event says of a payment, as readers read it."""
    assert body.header.ref is not None
    return decode_notice(body.payload, (body.header.ref.type, body.header.ref.id))
