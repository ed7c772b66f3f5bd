"""A server for a measurement that says by its metrics what it did."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from loadtest.measure_server import CONFIG, Server
from tests.engines.server_process import HOST, free_port

_SAMPLE = re.compile(r"^(tchat_\w+)(?:\{.*\})? ([-+.\w]+)$", re.MULTILINE)


class MeasuredServer(Server):
    """A `tchat serve`, run within `with`."""

    def __init__(self, folder: Path, environment: Mapping[str, str], key: Ed25519PrivateKey | None = None) -> None:
        self._admin_port = free_port()
        config = CONFIG.replace("admin_port = 0", f"admin_port = {self._admin_port}")
        super().__init__(folder, config, environment, key)

    @property
    def pid(self) -> int:
        """Its process."""
        pid: int = self._process.pid
        return pid

    def read_metrics(self) -> dict[str, float]:
        """Its metrics now, those with labels summed."""
        with urllib.request.urlopen(f"http://{HOST}:{self._admin_port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        values: dict[str, float] = {}
        for name, value in _SAMPLE.findall(text):
            values[name] = values.get(name, 0.0) + float(value)
        return values
