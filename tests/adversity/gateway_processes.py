"""Commerce as processes on one database, with a gateway beside them: started, killed, started again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from pathlib import Path

import httpx

from protocol.commerce.contract import IDEMPOTENCY_HEADER
from tests.engines.server_process import HOST, EngineError, RestartableServer, ServerProcess
from tests.support.commerce_process import TCHAT
from tests.support.commerce_world import CHAT_KEYS, Party, sign_request
from tests.support.fake_gateway.process import API_KEY, ROOT, WEBHOOK_SECRET

NAME = "simulated"
KEY_WINDOW_S = 60
SETTLE_S = 3
_START_TIMEOUT_S = 60.0
_AGAIN_S = 0.1
_TIMEOUT_S = 10.0


class CommerceProcess(RestartableServer):
    """One `tchat commerce`; its port stays over restarts."""

    def __init__(self, folder: Path, number: int, database_url: str) -> None:
        super().__init__()
        self._folder = folder
        self._log = folder / f"commerce_{number}.log"
        self._database_url = database_url

    def start(self) -> None:
        settings = {
            "PORT": str(self.port),
            "ADMIN_PORT": "0",
            "POSTGRES_URL": self._database_url,
            "DATA_DIR": str(self._folder / "data"),
            "JWKS_URL": (self._folder / "jwks.json").as_uri(),
            "GATEWAYS": str(self._folder / "gateways.toml"),
        }
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment |= {f"TCHAT__COMMERCE_SERVICE__{name}": value for name, value in settings.items()}
        self._process = ServerProcess([*TCHAT, "commerce"], self._log, environment)
        try:
            self._process.await_ready("listens on", _START_TIMEOUT_S)
        except EngineError:
            self.kill()
            raise


def write_settings(folder: Path, gateway_url: str) -> None:
    """What all processes of commerce read."""
    (folder / "jwks.json").write_text(json.dumps(CHAT_KEYS.as_jwks()))
    (folder / "key").write_text(API_KEY)
    (folder / "secret").write_text(WEBHOOK_SECRET)
    (folder / "gateways.toml").write_text(
        f"[{NAME}]\n"
        f'url = "{gateway_url}"\napi_key_file = "key"\nwebhook_secret_file = "secret"\ncurrencies = ["THB"]\n'
        'methods = ["card", "promptpay", "bank"]\n'
        f"key_window_s = {KEY_WINDOW_S}\nsettle_s = {SETTLE_S}\ntimeout_s = 1.0\ncode_life_s = 2\n"
    )


class RemoteCommerce:
    """Asks any of the processes, and again under the same key until one answers."""

    def __init__(self, processes: list[CommerceProcess], rng: random.Random) -> None:
        self._processes = processes
        self._rng = rng
        self._client = httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S)
        self.repeated = 0

    async def ask(self, who: Party, method: str, path: str, key: str = "", content: bytes = b"") -> httpx.Response:
        """The final answer."""
        while True:
            port = self._rng.choice(self._processes).port
            token = sign_request(who, method, path, key, content, now_s=int(time.time()))
            headers = {"Authorization": f"Bearer {token}"}
            if key:
                headers[IDEMPOTENCY_HEADER] = key
            if content:
                headers["Content-Type"] = "application/json"
            try:
                answer = await self._client.request(
                    method, f"http://{HOST}:{port}{path}", content=content, headers=headers
                )
                if answer.status_code < 500:
                    return answer
            except httpx.HTTPError:
                pass
            self.repeated += 1
            await asyncio.sleep(_AGAIN_S)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
