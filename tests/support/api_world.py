"""An API on a fresh database, with a clock, a code sender and sessions that the test owns."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import msgspec

from protocol import ids
from protocol.close_codes import CloseCode
from server.busyness import Busyness
from server.config.payment_settings import CommerceSettings
from server.config.settings import Config, IdentitySettings, IssuerSettings, PipelineSettings, RateSettings
from server.identity.code_sender import CodeNotSentError, CodeSender
from server.identity.context import OWN_TENANT
from server.identity.ports import SessionsControl
from server.identity.rates import MemoryRateLimiter
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.vault import Vault, new_key
from server.node.identity_parts import IdentitySecrets, NodeIdentity
from server.writing.pipeline import Pipeline
from storage.postgres.journal import PostgresJournal
from storage.postgres.people import PeopleStore
from storage.postgres.pool import open_pool
from tests.support.clock import ManualClock

ANN, BO, CHAI = "+6591234567", "+66812345678", "+639171234567"
_KEYS = SigningKeys.from_pem(new_pem())
_VAULT = Vault.from_text(new_key())
_addresses = (f"198.51.{high}.{low}" for high, low in itertools.product(range(100), range(1, 250)))


class KeptCodes(CodeSender):
    """Remembers the newest code of each number; `broken` refuses to send."""

    def __init__(self) -> None:
        self.codes: dict[str, str] = {}
        self.broken = False

    async def send(self, phone_number: str, code: str) -> None:
        if self.broken:
            raise CodeNotSentError("no network")
        self.codes[phone_number] = code


class ClosedSessions(SessionsControl):
    """Remembers whose sessions were closed, and why."""

    def __init__(self) -> None:
        self.closed: list[tuple[str, CloseCode]] = []

    def end_sign_in(self, _principal: bytes, sign_in: bytes, close_code: CloseCode, _reason: str) -> None:
        self.closed.append((ids.to_text(sign_in), close_code))

    def end_principal(self, principal: bytes, close_code: CloseCode, _reason: str) -> None:
        self.closed.append((ids.to_text(principal), close_code))


class Me:
    """A signed-in person: the ids and tokens, and requests with them."""

    def __init__(self, api: ApiWorld, answer: dict[str, Any]) -> None:
        self.api = api
        self.principal: str = answer["principal"]
        self.device: str = answer["device"]
        self.sign_in: str = answer["sign_in"]
        self.access_token: str = answer["access_token"]
        self.refresh_token: str = answer["refresh_token"]

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """A request with this sign-in's access token."""
        return await self.api.ask(method, path, body, token=self.access_token, **more)


class ApiWorld:
    """The API and what a test needs around it."""

    def __init__(self, pool: asyncpg.Pool[Any], pipeline: Pipeline, clock: ManualClock, config: Config) -> None:
        self.pool = pool
        self.clock = clock
        self.sent = KeptCodes()
        self.code_ids: dict[str, str] = {}
        self.sessions = ClosedSessions()
        self.identity = NodeIdentity(
            config,
            IdentitySecrets(signing_keys=_KEYS, vault=_VAULT, sender=self.sent),
            pool,
            clock,
            appender=pipeline,
            sessions=self.sessions,
            limiter=MemoryRateLimiter(clock),
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        address: str | None = None,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """One request, from an address of its own unless one is given."""
        transport = httpx.ASGITransport(
            self.identity.app,
            client=(address or next(_addresses), 50_000),
        )
        all_headers = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        async with httpx.AsyncClient(transport=transport, base_url="http://tchat.test") as client:
            return await client.request(method, path, json=body, content=content, headers=all_headers)

    async def code(self, number: str, **more: Any) -> str:
        """Ask for a code, remember its id, and read it."""
        answer = await self.ask("POST", "/v1/sign-in/codes", {"phone_number": number}, **more)
        assert answer.status_code == 202, answer.text
        self.code_ids[number] = answer.json()["code_id"]
        return self.sent.codes[number]

    async def try_sign_in(
        self, number: str, code: str, *, device: str | None = None, name: str | None = "Somebody", **more: Any
    ) -> httpx.Response:
        """Sign in with a code; with the id of the newest one, or from an address without an id."""
        installation = {"platform": "web", "app_version": "1.0", "name": "laptop", "device_id": device}
        body = {"phone_number": number, "code": code, "device": installation, "display_name": name}
        body["code_id"] = None if "address" in more else self.code_ids.get(number)
        return await self.ask("POST", "/v1/sign-in", body, **more)

    async def sign_in(self, number: str = ANN, *, device: str | None = None, **more: Any) -> Me:
        """Ask for a code and sign in with it, both from one address if one is given."""
        code = await self.code(number, address=more.get("address"))
        answer = await self.try_sign_in(number, code, device=device, **more)
        assert answer.status_code == 200, answer.text
        return Me(self, answer.json())

    async def admin(self, number: str = CHAI) -> Me:
        """Sign in, and become an admin."""
        me = await self.sign_in(number)
        await grant_admin(self.identity.people, self.clock.wall_ms(), _VAULT, number)
        return me

    async def refresh(self, token: str) -> httpx.Response:
        """Use a refresh token."""
        return await self.ask("POST", "/v1/tokens/refresh", {"refresh_token": token})


async def grant_admin(people: PeopleStore, now_ms: int, vault: Vault, number: str) -> None:
    """Make the person of this number an admin."""
    assert await people.grant_admin(now_ms, OWN_TENANT, vault.hash_phone(OWN_TENANT, number))


def error(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, whose form is checked."""
    body = answer.json()
    assert set(body) == {"code", "message", "retry_after_s"}
    assert "Traceback" not in answer.text
    return answer.status_code, body["code"]


@contextlib.asynccontextmanager
async def opened_api(
    database_url: str,
    clock: ManualClock,
    *,
    identity: IdentitySettings | None = None,
    limits: RateSettings | None = None,
    commerce: CommerceSettings | None = None,
) -> AsyncIterator[ApiWorld]:
    """An API with a write pipeline of its own."""
    pool = await open_pool(database_url, size=12, statement_timeout_s=30.0)
    journal = PostgresJournal(pool, pool)
    incarnation = await journal.begin_incarnation("test")
    pipeline = Pipeline(journal, lambda *_: None, PipelineSettings(), clock, Busyness(clock), incarnation=incarnation)
    lanes = asyncio.ensure_future(pipeline.run())
    config = Config(
        identity=identity or IdentitySettings(),
        limits=limits or RateSettings(),
        commerce=commerce or CommerceSettings(),
    )
    world = ApiWorld(pool, pipeline, clock, config)
    await world.identity.start()
    yield world
    lanes.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await lanes
    await pool.close()


def issuer(jwks_url: str, tenant: int = 2) -> IdentitySettings:
    """Settings with one other issuer."""
    found = IssuerSettings(issuer="https://shop.example", audience="tchat-shop", jwks_url=jwks_url, tenant=tenant)
    return msgspec.structs.replace(IdentitySettings(), issuers=(found,))
