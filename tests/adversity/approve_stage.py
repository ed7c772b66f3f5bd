"""Where money is attacked: the commerce service over HTTP, people with wallets, and what they truly agreed to.

A consent is the digest of a step: who takes it, of which payment, and what they saw. It is noted before the request of
an honest person is sent. An attacker never notes one.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import msgspec

from protocol.commerce.payment_states import PaymentStep
from protocol.ids import new_id
from server.config.settings import Config
from storage.commerce.api_key_store import Right
from tests.support.commerce_world import STEP_UP_URL, CommerceWorld, Party, approval_of

FUNDS = 10**11
ABOVE = 600_000
"""An amount that needs a proof."""
_PEOPLE, _BUSINESSES = 12, 4
_UNLIMITED = 10**15


def make_config() -> Config:
    """The default configuration; no limit ends a long run."""
    settings = msgspec.structs.replace(
        Config().commerce_service,
        day_max_minor=_UNLIMITED,
        month_max_minor=_UNLIMITED,
        requests_per_caller_per_s=10**6,
        requests_per_service_per_s=10**6,
        step_up_jwks_url=STEP_UP_URL,
    )
    return msgspec.structs.replace(Config(), commerce_service=settings)


@dataclass(frozen=True)
class Signed:
    """A request with the token that was signed for it."""

    path: str
    token: str
    key: str
    content: bytes


@dataclass(frozen=True)
class Deal:
    """A payment between two, as it was when it began."""

    payer: Party
    payee: Party
    payment: dict[str, Any]

    @property
    def path(self) -> str:
        """Where its steps are."""
        return f"/v1/payments/{self.payment['id']}"

    @property
    def seen(self) -> dict[str, Any]:
        """What an honest client shows."""
        return approval_of(self.payment)


def consent_digest(step: PaymentStep, subject: UUID, *fields: object) -> str:
    """What somebody agreed to: a step of a payment (of a send: of the order that it names), and its fields."""
    return hashlib.sha256("\n".join(map(str, (step.text, subject, *fields))).encode()).hexdigest()


class ApproveStage:
    """People, their second devices, businesses with their services, a bot, and attackers."""

    def __init__(self, world: CommerceWorld, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.consents: set[str] = set()
        self.attempts = 0
        self.statuses: Counter[int] = Counter()
        self.honest: Counter[str] = Counter()
        self.people: list[Party] = []
        self.businesses: list[Party] = []
        self.services: list[Party] = []
        self.mallory: Party
        self.bot: Party
        self._keys = itertools.count(1)

    async def open(self) -> None:
        """Give everybody a wallet."""
        world = self.world
        self.people = [await world.person(FUNDS) for _ in range(_PEOPLE)]
        self.businesses = [await world.person(FUNDS, business=True) for _ in range(_BUSINESSES)]
        self.services = [await world.service(Right.PAYMENTS | Right.TRANSFERS, each) for each in self.businesses]
        self.mallory, self.bot = await world.person(FUNDS), await world.person(FUNDS)

    def new_key(self) -> str:
        """An idempotency key that nobody has used."""
        return f"key-{next(self._keys)}"

    def other_device(self, of: Party) -> Party:
        """The same person on another device."""
        return Party(self.world, of.id)

    def sign(self, who: Party, path: str, body: Any = None, *, key: str = "", **claims: Any) -> Signed:
        """A request of `who` and the token of the chat for it; `claims` that differ."""
        content = b"" if body is None else msgspec.json.encode(body)
        key = key or self.new_key()
        return Signed(path, self.world.sign(who, "POST", path, key, content, **claims), key, content)

    async def attack(self, signed: Signed) -> httpx.Response:
        """Send what nobody agreed to, or agreed to once already."""
        self.attempts += 1
        answer = await self._send(signed)
        self.statuses[answer.status_code] += 1
        return answer

    async def act(self, signed: Signed) -> httpx.Response:
        """Send what somebody agreed to."""
        answer = await self._send(signed)
        self.honest["done" if answer.status_code < 300 else "refused"] += 1
        return answer

    async def attack_as_service(self, service: Party, path: str, body: Any = None) -> None:
        """A request with an API key."""
        self.attempts += 1
        answer = await service.ask("POST", path, body, key=self.new_key())
        self.statuses[answer.status_code] += 1

    async def request(self, amount: int | None = None, *, payer: Party | None = None, **more: Any) -> Deal:
        """A payee asks a payer for money."""
        payer = payer or self.rng.choice(self.people)
        payee = more.pop("payee", None) or self.rng.choice([each for each in self.people if each.id != payer.id])
        body = payee.request(payer, amount or self.rng.randint(1, 400_000), **more)
        answer = await self.act(self.sign(payee, "/v1/payments", body))
        return Deal(payer, payee, answer.json())

    async def send_held(self) -> Deal:
        """A payer sends money that is held for the payee."""
        payer, payee = self.rng.sample(self.people, 2)
        body = payer.payment(payee, self.rng.randint(1_000, 400_000), capture="later", order=UUID(bytes=new_id()))
        self.agree_to_send(body)
        answer = await self.act(self.sign(payer, "/v1/payments", body))
        return Deal(payer, payee, answer.json())

    async def pay(self) -> Deal:
        """A request that is approved by the payer."""
        deal = await self.request()
        self.agree(deal)
        await self.act(self.sign(deal.payer, f"{deal.path}/approve", deal.seen))
        return deal

    def agree(self, deal: Deal, seen: dict[str, Any] | None = None) -> None:
        """The payer approves what they see."""
        seen = seen or deal.seen
        self.consents.add(
            consent_digest(
                PaymentStep.APPROVE,
                UUID(deal.payment["id"]),
                *(deal.payer.id, seen["version"], seen["amount_minor"], seen["currency"], seen["payee"]),
            )
        )

    def agree_to_send(self, body: dict[str, Any]) -> None:
        """The payer sends this, once: its order names it."""
        fields = (body[name] for name in ("payer", "amount_minor", "currency", "payee"))
        self.consents.add(consent_digest(PaymentStep.SEND, body["order"], *fields))

    def agree_to_step(self, deal: Deal, step: PaymentStep, amount: int = 0) -> None:
        """Who may take this step of a payment takes it once, with this amount."""
        self.consents.add(consent_digest(step, UUID(deal.payment["id"]), amount))

    async def _send(self, signed: Signed) -> httpx.Response:
        return await self.world.send("POST", signed.path, signed.token, signed.key, signed.content)
