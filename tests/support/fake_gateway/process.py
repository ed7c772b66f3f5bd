"""The fake gateway as a process that a test starts, kills and starts again, and what the test does there."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from server.trusted import read_trusted
from tests.engines.server_process import HOST, EngineError, RestartableServer, ServerProcess

API_KEY = "key-of-a-merchant"
WEBHOOK_SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ROOT = Path(__file__).parents[3]
_START_TIMEOUT_S = 30.0


class FakeGateway(RestartableServer):
    """One gateway; `options` are those of its command line, without `--`. Its book and port stay over restarts."""

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None, *, customers: bool = False) -> None:
        super().__init__()
        self._folder = folder
        self._options = {"api-key": API_KEY, "webhook-secret": WEBHOOK_SECRET, **(options or {})}
        self._flags = ["--customers"] if customers else []
        self._chances: dict[str, float] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        given = {**self._options, "port": str(self.port), "folder": str(self._folder)}
        options = [part for name, value in given.items() for part in (f"--{name}", value)]
        options += [part for name, chance in self._chances.items() for part in ("--fault", f"{name}={chance}")]
        command = [sys.executable, "-m", "tests.support.fake_gateway", *options, *self._flags]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = ServerProcess(command, self._folder / "gateway.log", environment)
        try:
            self._process.await_ready("listens on", _START_TIMEOUT_S)
        except EngineError:
            self.kill()
            raise

    def order(self, path: str, **body: Any) -> dict[str, Any]:
        """Have customers, banks or operators do something there: `/customers/...`, `/admin/...`."""
        answer = httpx.post(f"{self.url}{path}", json=body, trust_env=False, verify=read_trusted())
        assert answer.status_code == httpx.codes.OK, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def have_faults(self, **chances: float) -> None:
        """Have these faults from now on, also after a restart, and no others; without any it is healed."""
        self._chances = chances
        self.order("/admin/faults", **chances)

    def advance(self, by_s: float) -> None:
        """Put its clock forward, and have happen what is due then."""
        self.order("/admin/advance", by_s=by_s)

    def read_book(self) -> dict[str, Any]:
        """Its book, for an audit."""
        found: dict[str, Any] = httpx.get(f"{self.url}/book", trust_env=False, verify=read_trusted(), timeout=60).json()
        return found
