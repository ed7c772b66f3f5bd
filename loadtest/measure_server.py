"""A real server for a measurement: `tchat serve` as a separate process, its CPU time and memory, and tokens for it.

Tokens come from an issuer that the server is configured to accept, so that no person has to sign up. Rates are too high
to refuse anything (every send and connect is still checked against them), and heartbeats so far apart that none falls
into a measurement.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import jwt
import msgspec
import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from loadtest.measure_client import LoadError

COMMAND = (str(Path(sys.executable).with_name("tchat")), "serve")
_STOP_TIMEOUT_S = 30.0
_LOG_CHARS = 2_000
_ISSUER = "loadtest"
_KEY_ID = "loadtest"
CONFIG = """\
version = 1
[server]
port = 0
admin_port = 0
data_dir = "data"
log_level = "warning"
[gateway]
connections_per_address_max = 100000
connects_per_s = 100000.0
connects_per_address_per_s = 100000.0
[sessions]
sends_per_s = 100000.0
sends_burst = 100000
commands_per_s = 100000.0
commands_burst = 100000
heartbeat_s = 600.0
idle_timeout_s = 1200.0
[identity]
who_may_add = "everybody"
[limits]
direct_dialogs_per_person_per_day = 100000
dialogs_per_person_per_day = 100000
additions_per_person_per_day = 100000
[[identity.issuers]]
issuer = "{issuer}"
audience = "{issuer}"
jwks_url = "{jwks_url}"
tenant = 1
"""


class Usage(msgspec.Struct, frozen=True):
    """CPU seconds (user and system) since their start: of the server's own process, and of PostgreSQL's together."""

    tchat_s: float
    postgres_s: float

    def since(self, earlier: Usage) -> Usage:
        """The CPU time between two readings."""
        return Usage(self.tchat_s - earlier.tchat_s, self.postgres_s - earlier.postgres_s)


def used_s(process: psutil.Process) -> float:
    """CPU seconds of a process, and of its children that have ended, until now; 0 when it has ended itself."""
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


class Server:
    """Runs within `with`; `port` is where it listens."""

    def __init__(
        self,
        folder: Path,
        config: str = CONFIG,
        environment: Mapping[str, str] | None = None,
        key: Ed25519PrivateKey | None = None,
    ) -> None:
        """`config` names the issuer of the tokens as `{issuer}`, its keys as `{jwks_url}`; `key` signs the tokens."""
        self.port = 0
        self.log = folder / "server.log"
        self._folder = folder
        self._config = config
        self._environment = {**os.environ, **(environment or {})}
        self._key = key or Ed25519PrivateKey.generate()
        self._process: psutil.Popen

    def token(self, name: str) -> str:
        """An access token of a person; the server creates an unknown person on first use."""
        now_s = int(time.time())
        claims = {"iss": _ISSUER, "aud": _ISSUER, "sub": name, "iat": now_s, "exp": now_s + 3600}
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": _KEY_ID})

    def usage(self) -> Usage:
        """CPU time up to now. Ended processes of PostgreSQL count through their parent, which waited for them."""
        own = self._process.cpu_times()
        return Usage(own.user + own.system, sum(map(used_s, self._process.children(recursive=True))))

    def resident_bytes(self) -> int:
        """Resident memory of the server's own process."""
        size: int = self._process.memory_info().rss
        return size

    def __enter__(self) -> Self:
        jwks = self._folder / "jwks.json"
        jwks.write_bytes(msgspec.json.encode({"keys": [self._public_key()]}))
        config = self._folder / "config.toml"
        config.write_text(self._config.format(issuer=_ISSUER, jwks_url=jwks.as_uri()))
        with self.log.open("wb") as stderr:
            self._process = psutil.Popen(
                [*COMMAND, "--config", str(config)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=self._environment,
            )
        try:
            self.port = self._await_port()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _await_port(self) -> int:
        for line in self._process.stdout:
            if found := re.search(r"http://[^/ ]*:(\d+)", line):
                return int(found[1])
        raise LoadError("the server did not start")

    def complaints(self) -> str:
        """The end of the log of the server."""
        return self.log.read_text(errors="replace")[-_LOG_CHARS:]

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            self._process.kill()
        self._process.stdout.close()

    def _public_key(self) -> dict[str, str]:
        x = base64.urlsafe_b64encode(self._key.public_key().public_bytes_raw()).rstrip(b"=").decode()
        return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": _KEY_ID, "x": x}
