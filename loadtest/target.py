"""What a load test is put on: a server of its own, or one at a URL; and what that uses of this machine."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import urllib.request
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
import psutil

from loadtest.issuer import Issuer
from loadtest.lean_client import Address, LoadError

_METRIC = re.compile(r"^(tchat_\w+)(?:\{.*\})? ([-+.\w]+)$", re.MULTILINE)
_ANSWER_S = 5.0


class Usage(msgspec.Struct, frozen=True):
    """CPU seconds (user and system) and resident memory: of the server's own processes, and of PostgreSQL's."""

    tchat_s: float = 0.0
    postgres_s: float = 0.0
    tchat_bytes: int = 0
    postgres_bytes: int = 0

    def since(self, earlier: Usage) -> Usage:
        """The CPU time between two readings; memory is that of the later."""
        return Usage(
            self.tchat_s - earlier.tchat_s, self.postgres_s - earlier.postgres_s, self.tchat_bytes, self.postgres_bytes
        )


class Target(Protocol):
    """A server that runs, and lets in whom `issuer` names."""

    name: str
    """`embedded`, or the URL."""
    issuer: Issuer

    @property
    def address(self) -> Address:
        """Where it listens."""

    def usage(self) -> Usage:
        """What it uses up to now; zeros where that cannot be known."""

    def read_metrics(self) -> dict[str, float]:
        """Its metrics now, those with labels summed; empty where they cannot be known."""


class RemoteServer:
    """The server at a URL. What it uses is known if it listens on this machine, in a process that this user may see."""

    def __init__(self, url: str, issuer: Issuer) -> None:
        """Raises LoadError for what is no URL of a server."""
        self.name = url
        self.issuer = issuer
        self.address = _read_url(url)

    @functools.cached_property
    def _process(self) -> psutil.Process | None:
        return _find_listener(self.address)

    def usage(self) -> Usage:
        return Usage() if self._process is None else usage_of(self._process)

    def read_metrics(self) -> dict[str, float]:
        return {}


def usage_of(server: psutil.Process) -> Usage:
    """What a server, its workers and its PostgreSQL use. What ended counts through its parent, which waited for it."""
    tchat_s = postgres_s = 0.0
    tchat_bytes = private = shared = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                cpu_s, memory = used_s(process, with_ended=process != server), process.memory_info()
                if process.name().startswith("postgres"):
                    postgres_s += cpu_s
                    private += memory.rss - memory.shared
                    shared = max(shared, memory.shared)
                else:
                    tchat_s += cpu_s
                    tchat_bytes += memory.rss
    return Usage(tchat_s, postgres_s, tchat_bytes, private + shared)


def used_s(process: psutil.Process, *, with_ended: bool = True) -> float:
    """CPU seconds of a process until now, and of its children that have ended; 0 when it has ended itself."""
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        ended_s = times.children_user + times.children_system if with_ended else 0.0
        return float(times.user + times.system + ended_s)
    return 0.0


def read_metrics(host: str, port: int) -> dict[str, float]:
    """The metrics of the private port of a server, those with labels summed."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=_ANSWER_S) as answer:
        text = answer.read().decode()
    values: dict[str, float] = {}
    for name, value in _METRIC.findall(text):
        values[name] = values.get(name, 0.0) + float(value)
    return values


def _read_url(url: str) -> Address:
    try:
        parts = urlsplit(url)
        port, scheme, host = parts.port, parts.scheme, parts.hostname
    except ValueError as error:
        raise LoadError(f"{url} is no URL of a server: {error}.") from None
    if scheme not in {"http", "https", "ws", "wss"} or not host:
        raise LoadError(f"{url} is no URL of a server, such as http://127.0.0.1:7420.")
    tls = scheme in {"https", "wss"}
    return Address("127.0.0.1" if host == "localhost" else host, port or (443 if tls else 80), tls)


def _find_listener(address: Address) -> psutil.Process | None:
    if not address.is_loopback:
        return None
    # Not only psutil.Error: what /proc says of a process that ends meanwhile comes as the kernel's error, or unparsed.
    with contextlib.suppress(psutil.Error, OSError, RuntimeError):
        for found in psutil.net_connections("tcp"):
            listens = found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == address.port
            if listens and found.family == socket.AF_INET and found.pid is not None:
                return psutil.Process(found.pid)
    return None
