"""The commerce service on a fresh database, asked over HTTP by people with tokens and by services with API keys."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.commerce.contract import (
    AUDIENCE,
    IDEMPOTENCY_HEADER,
    STEP_UP_AUDIENCE,
    TOKEN_LIFE_S,
    Approval,
    NewPayment,
    approval_text,
    request_digest,
    send_text,
    step_up_digest,
)
from protocol.ids import NIL, new_id
from server.clock import Clock
from server.commerce.gateways.configured_gateways import ConfiguredGateways
from server.commerce.personal.held_keys import PersonKeys
from server.config.settings import Config
from server.identity.jwks import FetchDocument
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.vault import hash_token, new_api_key
from server.node.commerce_composition import make_commerce, opened_person_keys
from storage.commerce.api_key_store import ApiKeyStore, Right
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.schema import MONEY_SETTINGS
from storage.postgres.pool import Pool, open_pool
from storage.postgres.write_connections import WriteConnections
from tests.support.clock import ManualClock

TENANT = 1
CHAT_KEYS = SigningKeys.from_pem(new_pem())
PLATFORM_KEYS = SigningKeys.from_pem(new_pem())
STEP_UP_URL = "http://127.0.0.1/platform.json"
"""Where the service finds PLATFORM_KEYS, if it is configured to."""
SECRET = bytes(range(100, 132))
_MOVED = "SELECT coalesce(sum(amount), 0)::bigint, count(*) FROM transfers"


class _Keys(FetchDocument):
    async def __call__(self, url: str) -> bytes:
        return json.dumps((PLATFORM_KEYS if url == STEP_UP_URL else CHAT_KEYS).as_jwks()).encode()


class Party:
    """Somebody who asks: `token` signs in for one request, or is the same for all (an API key)."""

    def __init__(self, world: CommerceWorld, principal: UUID, *, api_key: str | None = None) -> None:
        self.world = world
        self.id = principal
        self.device = UUID(bytes=new_id())
        self.signing = Ed25519PrivateKey.generate()
        self._api_key = api_key
        self._numbers = itertools.count(1)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        content: bytes | None = None,
        **more: Any,
    ) -> httpx.Response:
        """A request with a token for it; a POST has a key of its own unless one is given, or none with None."""
        content = content if content is not None else b"" if body is None else msgspec.json.encode(body)
        if key == "" and method == "POST":
            key = f"{self.id}.{next(self._numbers)}"
        key = key or ""
        token = self._api_key or self.world.sign(self, method, path, key, content, **more)
        return await self.world.send(method, path, token, key, content)

    async def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """A step."""
        return await self.ask("POST", f"/v1/{path}", body, **more)

    async def read(self, path: str) -> Any:
        """What a read answers."""
        answer = await self.ask("GET", f"/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def balance(self, currency: str = "THB") -> int:
        """What is in their wallet and not held."""
        (found,) = [each for each in (await self.read("wallets"))["wallets"] if each["currency"] == currency]
        return int(found["balance_minor"])

    def payment(self, payee: Party, amount: int, **more: Any) -> dict[str, Any]:
        """A payment that they send."""
        return {
            "intent": "send", "payer": self.id, "payee": payee.id, "amount_minor": amount, "currency": "THB", **more
        }  # fmt: skip

    def request(self, payer: Party, amount: int, **more: Any) -> dict[str, Any]:
        """A payment that they request."""
        return {**payer.payment(self, amount), "intent": "request", **more}

    def prove(self, payment: str, seen: dict[str, Any]) -> dict[str, Any]:
        """An approval with the signature of their device."""
        return {**seen, "proof": self.sign_text(approval_text(UUID(payment), msgspec.convert(seen, Approval)))}

    def prove_send(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """A send under this key with the signature of their device."""
        return {**body, "proof": self.sign_text(send_text(key, msgspec.convert(body, NewPayment)))}

    def sign_text(self, text: bytes) -> dict[str, Any]:
        """A proof by their device."""
        return {"device": self.device, "signature": base64.b64encode(self.signing.sign(text)).decode()}

    def step_up(self, text: bytes, *, signed_by: SigningKeys = PLATFORM_KEYS, **changed: Any) -> dict[str, Any]:
        """A proof by the platform that they have seen this text; `changed` claims, None leaves one out."""
        now_s = self.world.clock.wall_ms() // 1000
        claims = {
            "aud": STEP_UP_AUDIENCE,
            "sub": str(self.id),
            "tenant": TENANT,
            "iat": now_s,
            "exp": now_s + TOKEN_LIFE_S,
            "jti": str(uuid4()),
            "digest": step_up_digest(text),
        } | changed
        said = {name: value for name, value in claims.items() if value is not None}
        token = jwt.encode(said, signed_by.signing, algorithm="EdDSA", headers={"kid": signed_by.kid})
        return {"step_up": token}


def approval_of(payment: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """What the payer saw."""
    return {name: payment[name] for name in ("version", "amount_minor", "currency", "payee")} | changed


def sign_request(
    who: Party,
    method: str,
    path: str,
    key: str,
    content: bytes,
    *,
    now_s: int,
    signed_by: SigningKeys = CHAT_KEYS,
    **changed: Any,
) -> str:
    """A token of the chat for one request; `changed` claims, None leaves one out."""
    claims = {
        "aud": AUDIENCE,
        "sub": str(who.id),
        "tenant": TENANT,
        "device": str(who.device),
        "device_key": base64.b64encode(who.signing.public_key().public_bytes_raw()).decode(),
        "iat": now_s,
        "exp": now_s + TOKEN_LIFE_S,
        "jti": "x",
        "digest": request_digest(method, path, key, content),
    } | changed
    said = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(said, signed_by.signing, algorithm="EdDSA", headers={"kid": signed_by.kid})


class CommerceWorld:
    """The service, people with wallets, and an admin."""

    def __init__(
        self,
        config: Config,
        writes: WriteConnections,
        reads: Pool,
        database: asyncpg.Connection,
        *,
        clock: Clock | None,
        person_keys: PersonKeys,
        gateways: ConfiguredGateways,
    ) -> None:
        self.clock = ManualClock()
        self.present: Clock = clock or self.clock
        self.database = database
        self.commerce = make_commerce(
            config,
            writes=writes,
            reads=reads,
            fetch=_Keys(),
            clock=self.present,
            digest_key=SECRET,
            sealing_key=SECRET,
            person_keys=person_keys,
            gateways=gateways,
        )
        self.person_keys = person_keys
        self.personal_records = PersonalRecords(writes, reads)
        self._api_keys = ApiKeyStore(reads)
        self._numbers = itertools.count(1)
        self.admin: Party

    def sign(
        self,
        who: Party,
        method: str,
        path: str,
        key: str,
        content: bytes,
        *,
        signed_by: SigningKeys = CHAT_KEYS,
        **changed: Any,
    ) -> str:
        """A token of the chat for one request; `changed` claims, None leaves one out."""
        now_s = self.present.wall_ms() // 1000
        return sign_request(who, method, path, key, content, now_s=now_s, signed_by=signed_by, **changed)

    async def send(self, method: str, path: str, token: str, key: str, content: bytes) -> httpx.Response:
        """A request as it is."""
        headers = {b"Authorization": f"Bearer {token}".encode()}
        if key:
            headers[IDEMPOTENCY_HEADER.encode()] = key.encode("latin-1")
        if content:
            headers[b"Content-Type"] = b"application/json"
        transport = httpx.ASGITransport(self.commerce.app)  # type: ignore[arg-type]  # a dict, which it is
        async with httpx.AsyncClient(transport=transport, base_url="http://commerce.test") as client:
            return await client.request(method, path, content=content, headers=headers)

    async def post_raw(self, path: str, headers: dict[str, str], content: bytes) -> int:
        """The status of a request without a token."""
        transport = httpx.ASGITransport(self.commerce.app)  # type: ignore[arg-type]  # a dict, which it is
        async with httpx.AsyncClient(transport=transport, base_url="http://commerce.test") as client:
            return (await client.post(path, content=content, headers=headers)).status_code

    async def service(self, rights: Right, *businesses: Party, name: str = "") -> Party:
        """A platform service with an API key."""
        api_key = new_api_key()
        name = name or f"service {next(self._numbers)}"
        granted = [each.id.bytes for each in businesses]
        caller = await self._api_keys.set_key(
            TENANT, name, new_id(), hash_token(api_key), rights=rights, businesses=granted
        )
        return Party(self, UUID(bytes=caller), api_key=api_key)

    async def person(self, balance: int = 0, *currencies: str, business: bool = False) -> Party:
        """Somebody with a wallet in each currency, THB by default, and so much in the first."""
        who = Party(self, UUID(bytes=new_id()))
        for number, currency in enumerate(currencies or ("THB",)):
            opened = {"currency": currency, "owner": who.id, "business": business}
            answer = await self.admin.post("wallets", opened)
            assert answer.status_code == 201, answer.text
            if balance and not number:
                await self.fund(answer.json()["id"], balance, currency)
        return who

    async def fund(self, wallet: str, amount: int, currency: str = "THB") -> None:
        """Give a wallet an opening balance."""
        own = (await self.admin.read(f"wallets?owner={UUID(bytes=NIL)}"))["wallets"]
        (opening,) = [each["id"] for each in own if (each["purpose"], each["currency"]) == ("opening", currency)]
        legs = [{"from_wallet": opening, "to_wallet": wallet, "amount_minor": amount}]
        answer = await self.admin.post("transfers", {"legs": legs})
        assert answer.status_code == 201, answer.text

    async def moved(self) -> tuple[int, int]:
        """The sum and the number of all transfers: the same before and after what moves nothing."""
        row = await self.database.fetchrow(_MOVED)
        assert row is not None
        return row[0], row[1]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, whose form is checked."""
    body = answer.json()
    assert set(body) == {"code", "message", "retry_after_s"}
    assert "Traceback" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, body["code"]


@contextlib.asynccontextmanager
async def opened_world(
    url: str, config: Config, *, clock: Clock | None = None, gateways: ConfiguredGateways | None = None
) -> AsyncIterator[CommerceWorld]:
    """The service on the migrated database at `url`; its clock is the test's unless one is given."""
    async with contextlib.AsyncExitStack() as stack:
        reads = await open_pool(url, size=4, statement_timeout_s=30, settings=MONEY_SETTINGS)
        stack.push_async_callback(reads.close)
        writes = WriteConnections(url, size=8, statement_timeout_s=30, settings=MONEY_SETTINGS)
        stack.callback(writes.terminate)
        database = await asyncpg.connect(url)
        stack.push_async_callback(database.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tchat-commerce-")))
        settings = msgspec.structs.replace(config.commerce_service, data_dir=folder)
        config = msgspec.structs.replace(config, commerce_service=settings)
        person_keys = await stack.enter_async_context(opened_person_keys(config, PersonalRecords(writes, reads)))
        used = gateways or ConfiguredGateways()
        world = CommerceWorld(config, writes, reads, database, clock=clock, gateways=used, person_keys=person_keys)
        world.admin = await world.service(Right.TRANSFERS | Right.ADMIN, name="admin")
        yield world
