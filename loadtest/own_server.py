"""A server of a load test's own: `tchat serve` with an embedded PostgreSQL on an empty folder, as separate processes.

Its rates are too high to refuse anything (every send and connect is still checked against them), and heartbeats are so
far apart that none falls into a measurement.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil

from loadtest.issuer import Issuer, as_setting
from loadtest.lean_client import Address, LoadError
from loadtest.processes import end_process
from loadtest.target import Usage, read_metrics, usage_of

HOST = "127.0.0.1"
_COMMAND = (str(Path(sys.executable).with_name("tchat")), "serve")
_STOP_TIMEOUT_S = 30.0
_LOG_CHARS = 2_000

Setting = int | float | str | bool
Settings = Mapping[str, Mapping[str, Setting]]

UNBOUND: Settings = {
    "server": {"log_level": "warning"},
    "gateway": {
        "connections_per_address_max": 100_000,
        "connects_per_s": 100_000.0,
        "connects_per_address_per_s": 100_000.0,
    },
    "sessions": {
        "sends_per_s": 100_000.0,
        "sends_burst": 100_000,
        "commands_per_s": 100_000.0,
        "commands_burst": 100_000,
        "heartbeat_s": 600.0,
        "idle_timeout_s": 1200.0,
    },
    "identity": {"who_may_add": "everybody"},
    "limits": {
        "direct_dialogs_per_person_per_day": 100_000,
        "dialogs_per_person_per_day": 100_000,
        "additions_per_person_per_day": 100_000,
    },
}
"""Limits that do not bite."""


class OwnServer:
    """Runs within `with`."""

    name = "embedded"

    def __init__(
        self,
        folder: Path,
        settings: Settings = UNBOUND,
        environment: Mapping[str, str] | None = None,
        issuer: Issuer | None = None,
    ) -> None:
        """`settings` by section; everything else is as by default, but for ports, data and who issues tokens."""
        self.issuer = issuer or Issuer()
        self.address = Address(HOST, 0)
        self.log = folder / "server.log"
        self._folder = folder
        self._settings = settings
        self._environment = {**os.environ, **(environment or {})}
        self._admin_port = 0
        self._process: psutil.Popen
        self._children: list[psutil.Process] = []

    @property
    def pid(self) -> int:
        """Its process."""
        pid: int = self._process.pid
        return pid

    def usage(self) -> Usage:
        return usage_of(self._process)

    def resident_bytes(self) -> int:
        """Resident memory of its own process, without workers: quicker than `usage`."""
        size: int = self._process.memory_info().rss
        return size

    def read_metrics(self) -> dict[str, float]:
        return read_metrics(HOST, self._admin_port)

    def complaints(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-_LOG_CHARS:]

    def send_signal(self, number: int) -> None:
        """Send its process a signal."""
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        jwks, config = self._folder / "jwks.json", self._folder / "config.toml"
        jwks.write_bytes(msgspec.json.encode(self.issuer.jwks()))
        self._admin_port = free_port()
        config.write_text(self._config(jwks.as_uri()))
        with self.log.open("wb") as stderr:
            self._process = psutil.Popen(
                [*_COMMAND, "--config", str(config)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=self._environment,
            )
        try:
            self.address = Address(HOST, self._await_port())
            self._children = self._process.children(recursive=True)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _config(self, jwks_url: str) -> str:
        ports: dict[str, Setting] = {"port": 0, "admin_port": self._admin_port, "data_dir": "data"}
        sections = {**self._settings, "server": {**self._settings.get("server", {}), **ports}}
        lines = ["version = 1"]
        for section, settings in sections.items():
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
        return "\n".join([*lines, as_setting(jwks_url)])

    def _await_port(self) -> int:
        for line in self._process.stdout:
            if found := re.search(r"http://[^/ ]*:(\d+)", line):
                return int(found[1])
        raise LoadError(f"The server did not start: {self.complaints().strip()}")

    def _stop(self) -> None:
        end_process(self._process, _STOP_TIMEOUT_S)
        self._end_orphans()

    def _end_orphans(self) -> None:
        """End the PostgreSQL and the workers of a server that was killed, and could not."""
        _, alive = psutil.wait_procs(self._children, timeout=0)
        for orphan in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.kill()
        psutil.wait_procs(alive, _STOP_TIMEOUT_S)


def merge(settings: Settings, changes: Settings) -> Settings:
    """Settings with those of `changes` instead of their own."""
    return {section: {**settings.get(section, {}), **changes.get(section, {})} for section in {**settings, **changes}}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
