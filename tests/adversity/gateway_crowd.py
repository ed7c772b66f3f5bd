"""People who top up, pay requests by card and code, withdraw, and shops that refund to what paid: all over HTTP."""

from __future__ import annotations

import itertools
import random
from typing import Any
from uuid import UUID

import msgspec

from protocol.ids import new_id
from tests.adversity.gateway_processes import RemoteCommerce
from tests.support.commerce_world import Party, approval_of
from tests.support.money_world import MoneyWorld

PEOPLE = 24
SHOPS = 4
PLAYS = {"top_up": 3.0, "pay": 5.0, "withdraw": 1.0, "refund": 2.0}
_FIRST_MINOR, _LAST_MINOR = 100, 5_000
_REFUNDABLE_MAX = 200


class Crowd:
    """Everybody, and the requests that were paid by a gateway."""

    def __init__(self, remote: RemoteCommerce, rng: random.Random) -> None:
        self._remote = remote
        self._rng = rng
        self._numbers = itertools.count(1)
        self._paid: list[tuple[Party, str]] = []
        self.people: list[Party] = []
        self.shops: list[Party] = []
        self.refused = 0

    async def gather(self, money: MoneyWorld) -> None:
        """Open their wallets; nothing is in them."""
        world: Any = None  # they ask over `remote`
        for owners, count, slots in ((self.people, PEOPLE, 1), (self.shops, SHOPS, 16)):
            for _ in range(count):
                who = Party(world, UUID(bytes=new_id()))
                await money.open_wallet(who.id.bytes, slots=slots)
                owners.append(who)

    async def play(self) -> None:
        """One of the plays."""
        play = self._rng.choices(list(PLAYS), list(PLAYS.values()))[0]
        await getattr(self, f"_{play}")(self._rng.choice(self.people))

    async def _top_up(self, who: Party) -> None:
        await self._post(who, "topups", {"amount_minor": self._amount(), **self._method()})

    async def _pay(self, who: Party) -> None:
        shop, amount = self._rng.choice(self.shops), self._amount()
        later = {"capture": "later"} if self._rng.random() < 0.1 else {}
        asked = await self._post(shop, "payments", shop.request(who, amount, **later))
        fields = {"payment": asked["id"], "approval": approval_of(asked), **self._method()}
        for _ in range(self._rng.choice([1, 1, 1, 2])):  # some try twice
            await self._post(who, "topups", {"amount_minor": amount, **fields})
        self._paid = [*self._paid[-_REFUNDABLE_MAX:], (shop, asked["id"])]

    async def _withdraw(self, who: Party) -> None:
        fields = {"amount_minor": self._amount(), "currency": "THB", "destination": "acct_1"}
        await self._post(who, "withdrawals", fields)

    async def _refund(self, _who: Party) -> None:
        if self._paid:
            shop, payment = self._rng.choice(self._paid)
            part = self._rng.choice([{}, {"amount_minor": 50}])
            await self._post(shop, f"payments/{payment}/refund", {"to": "source", **part})

    async def _post(self, who: Party, path: str, body: dict[str, Any]) -> Any:
        key = f"{who.id}.{next(self._numbers)}"
        answer = await self._remote.ask(who, "POST", f"/v1/{path}", key, msgspec.json.encode(body))
        if answer.status_code >= 300:
            assert answer.status_code in (400, 403, 404, 409), answer.text
            self.refused += 1
        return answer.json()

    def _amount(self) -> int:
        return self._rng.randrange(_FIRST_MINOR, _LAST_MINOR)

    def _method(self) -> dict[str, str]:
        if self._rng.random() < 0.5:
            return {"currency": "THB", "method": "card", "source": "tok_visa"}
        return {"currency": "THB", "method": "promptpay"}
