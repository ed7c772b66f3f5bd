"""`tchat commerce` as processes over one database, people who pay, and a service that captures: pairs over HTTP.

The tokens of holds are signed before each measurement: in production the chat does it, on other cores. All that the
service does is measured: tokens and API keys, strict bodies, limits, fees, answers that are kept.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import msgspec
import psutil

from loadtest.issuer import Issuer
from loadtest.latencies import Latencies
from loadtest.lean_client import LoadError
from loadtest.money.lean_http import LeanHttp
from loadtest.money.money_stage import AMOUNT, CURRENCY, TENANT
from loadtest.processes import end_process
from loadtest.run_result import Percentiles
from protocol.commerce.contract import AUDIENCE, TOKEN_LIFE_S, NewPayment, request_digest
from protocol.ids import NIL, new_id, to_text
from storage.embedded.cluster import EmbeddedPostgres

HOST = "127.0.0.1"
_COMMAND = (str(Path(sys.executable).with_name("tchat")), "commerce")
_STOP_TIMEOUT_S = 30.0
_MUCH = 10**12
_WALLETS_TOGETHER = 8
_PATH = "/v1/payments"


class HttpResult(msgspec.Struct, frozen=True):
    """Pairs a second; the CPU time of the service and of PostgreSQL for a pair; latency of a request."""

    pairs_per_s: float
    service_ms: float
    postgres_ms: float
    request: Percentiles


class _HeldPayment(msgspec.Struct):
    id: UUID


class _Wallet(msgspec.Struct):
    id: str
    purpose: str


class _Wallets(msgspec.Struct):
    wallets: list[_Wallet]


class SignedHold(msgspec.Struct, frozen=True):
    """A request that is ready to be sent."""

    key: str
    token: str
    body: bytes


class HttpStage:
    """So many processes of the service, with their keys in `folder`, over a PostgreSQL; they run within `with`."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres, *, processes: int) -> None:
        self._count = processes
        self._issuer = Issuer()
        self._ports: list[int] = []
        self._processes: list[psutil.Popen] = []
        self._postgres = psutil.Process(postgres.pid)
        self._key = ""
        self._payers: list[UUID] = []
        self._shops: list[UUID] = []
        self._numbers = itertools.count(1)
        jwks = folder / "jwks.json"
        jwks.write_text(json.dumps(self._issuer.jwks()))
        self._environment = {
            **os.environ,
            "TCHAT__SERVER__LOG_LEVEL": "warning",
            "TCHAT__COMMERCE_SERVICE__PORT": "0",
            "TCHAT__COMMERCE_SERVICE__ADMIN_PORT": "0",
            "TCHAT__COMMERCE_SERVICE__DATA_DIR": str(folder / "commerce"),
            "TCHAT__COMMERCE_SERVICE__POSTGRES_URL": postgres.url,
            "TCHAT__COMMERCE_SERVICE__JWKS_URL": jwks.as_uri(),
            "TCHAT__COMMERCE_SERVICE__DAY_MAX_MINOR": str(_MUCH),
            "TCHAT__COMMERCE_SERVICE__MONTH_MAX_MINOR": str(_MUCH),
        }

    def __enter__(self) -> Self:
        for _ in range(self._count):
            process = psutil.Popen(_COMMAND, stdout=subprocess.PIPE, env=self._environment)
            self._processes.append(process)
            found = re.search(rb"http://[\d.]+:(\d+)", process.stdout.readline())
            if found is None:
                self._stop()
                raise LoadError("tchat commerce did not start: its log above says why.")
            self._ports.append(int(found[1]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    async def fill(self, people: int, shops: int) -> None:
        """Open the wallets, and put money into those of the people; raises LoadError."""
        self._payers = [UUID(bytes=new_id()) for _ in range(people)]
        self._shops = [UUID(bytes=new_id()) for _ in range(shops)]
        self._key = self._make_key("setup", "admin", "transfers")
        waiting = [(shop, True) for shop in self._shops] + [(payer, False) for payer in self._payers]
        wallets: dict[UUID, str] = {}

        async def open_some() -> None:
            connection = await LeanHttp.open(HOST, self._ports[0])
            while waiting:
                owner, business = waiting.pop()
                body = {"currency": CURRENCY, "owner": str(owner), "business": business}
                wallets[owner] = msgspec.json.decode(await self._set_up(connection, "wallets", body), type=_Wallet).id
            await connection.close()

        await asyncio.gather(*(open_some() for _ in range(_WALLETS_TOGETHER)))
        connection = await LeanHttp.open(HOST, self._ports[0])
        platform = _check("wallets", *await connection.get(f"/v1/wallets?owner={to_text(NIL)}", self._key))
        opening = next(
            each.id for each in msgspec.json.decode(platform, type=_Wallets).wallets if each.purpose == "opening"
        )
        for first in range(0, people, 100):
            legs = [
                {"from_wallet": opening, "to_wallet": wallets[payer], "amount_minor": _MUCH}
                for payer in self._payers[first : first + 100]
            ]
            await self._set_up(connection, "transfers", {"legs": legs})
        await connection.close()
        self._key = self._make_key("till", "payments", businesses=self._shops)

    def sign_holds(self, count: int) -> list[SignedHold]:
        """Requests of so many holds, whose tokens live for TOKEN_LIFE_S."""
        return [self._sign_hold() for _ in range(count)]

    async def run(self, clients: int, holds: list[SignedHold], seconds: float) -> HttpResult:
        """Clients that each hold, then capture, one request after the other; raises LoadError."""
        latencies, ready = Latencies(), iter(holds)

        async def client(port: int, ends: float) -> int:
            connection, pairs = await LeanHttp.open(HOST, port), 0
            while time.perf_counter() < ends and (hold := next(ready, None)) is not None:
                began_ns = time.perf_counter_ns()
                answer = _check("a hold", *await connection.post(_PATH, hold.token, hold.key, hold.body))
                held_ns = time.perf_counter_ns()
                capture = f"{_PATH}/{msgspec.json.decode(answer, type=_HeldPayment).id}/capture"
                _check("a capture", *await connection.post(capture, self._key, hold.key, b""))
                latencies.record(held_ns - began_ns)
                latencies.record(time.perf_counter_ns() - held_ns)
                pairs += 1
            await connection.close()
            return pairs

        before, began = self._cpu_s(), time.perf_counter()
        ports = itertools.islice(itertools.cycle(self._ports), clients)
        pairs = sum(await asyncio.gather(*(client(port, began + seconds) for port in ports)))
        took, after = time.perf_counter() - began, self._cpu_s()
        if next(ready, None) is None:
            raise LoadError("all holds that were signed were used up: sign more")
        request = latencies.percentiles()
        assert request is not None, "there were pairs"
        service_ms, postgres_ms = ((late - early) * 1000 / pairs for late, early in zip(after, before, strict=True))
        return HttpResult(pairs / took, service_ms, postgres_ms, request)

    async def _set_up(self, connection: LeanHttp, name: str, body: dict[str, Any]) -> bytes:
        key = f"set up {next(self._numbers)}".replace(" ", ".")
        status, answer = await connection.post(f"/v1/{name}", self._key, key, msgspec.json.encode(body))
        return _check(name, status, answer)

    def _sign_hold(self) -> SignedHold:
        payer, payee = random.choice(self._payers), random.choice(self._shops)  # noqa: S311 - no secret
        key = f"hold.{next(self._numbers)}"
        body = msgspec.json.encode(
            NewPayment(intent="send", payer=payer, payee=payee, amount_minor=AMOUNT, currency=CURRENCY, capture="later")
        )
        claims: dict[str, str | int] = {
            "aud": AUDIENCE,
            "sub": str(payer),
            "tenant": TENANT,
            "device": str(payer),
            "jti": key,
            "digest": request_digest("POST", _PATH, key, body),
        }
        return SignedHold(key, self._issuer.sign(claims, lives_s=TOKEN_LIFE_S), body)

    def _cpu_s(self) -> tuple[float, float]:
        """The CPU time of the service, and that of PostgreSQL in processes that live."""
        of_postgres = [self._postgres, *self._postgres.children(recursive=True)]
        service, postgres = (sum(sum(each.cpu_times()[:2]) for each in all_) for all_ in (self._processes, of_postgres))
        return service, postgres

    def _make_key(self, name: str, *rights: str, businesses: list[UUID] | None = None) -> str:
        named = [part for right in rights for part in ("--right", right)]
        named += [part for business in businesses or [] for part in ("--business", str(business))]
        command = [*_COMMAND, "key", name, *named]
        return subprocess.check_output(command, env=self._environment, text=True).strip()  # noqa: S603 - our own

    def _stop(self) -> None:
        for process in self._processes:
            end_process(process, _STOP_TIMEOUT_S)


def _check(what: str, status: int, answer: bytes) -> bytes:
    if status not in {200, 201}:
        raise LoadError(f"{what}: {status} {answer[:300].decode(errors='replace')}")
    return answer
