"""Nodes as processes on one PostgreSQL and one Redis, and what they use: for measurements."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import asyncpg
import psutil

from loadtest.issuer import Issuer
from loadtest.own_server import UNBOUND, OwnServer
from loadtest.target import Usage, used_s
from server.identity.signing_keys import new_pem
from server.identity.vault import new_key
from storage.embedded.cluster import EmbeddedPostgres
from tests.engines.redis_server import RedisServer


class MeasuredNode(OwnServer):
    """A `tchat serve` of a deployment."""

    def __init__(self, folder: Path, deployment: Deployment, issuer: Issuer) -> None:
        folder.mkdir()
        environment = {
            **deployment.shared,
            "TCHAT__STORAGE__POSTGRES_URL": deployment.database.url,
            "TCHAT__CLUSTER__REDIS_URLS": f'["{deployment.redis.url}"]',
        }
        super().__init__(folder, UNBOUND, environment, issuer)

    def pause(self) -> None:
        """Stop it without closing anything."""
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.send_signal(signal.SIGCONT)


class Deployment:
    """Runs within `with`."""

    def __init__(self, folder: Path, *, nodes: int) -> None:
        self.database = EmbeddedPostgres(folder / "data", {"max_connections": "300"})
        self.redis = RedisServer(folder / "redis")
        self.shared = {
            "TCHAT__IDENTITY__SIGNING_KEY": new_pem(),
            "TCHAT__IDENTITY__PHONE_KEY": new_key(),
        }
        self.nodes: list[MeasuredNode] = []
        self._folder = folder
        self._count = nodes
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.database)
            stack.enter_context(self.redis)
            issuer = Issuer()
            for number in range(self._count):
                node = MeasuredNode(self._folder / f"node-{number}", self, issuer)
                self.nodes.append(stack.enter_context(node))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def usage(self) -> Usage:
        """CPU time of all nodes, and of PostgreSQL."""
        postmaster = psutil.Process(self.database.pid)
        processes = [postmaster, *postmaster.children(recursive=True)]
        return Usage(sum(node.usage().tchat_s for node in self.nodes), sum(used_s(each) for each in processes))

    def count(self, metric: str) -> float:
        """The sum of a metric over all nodes."""
        return sum(node.read_metrics().get(metric, 0.0) for node in self.nodes)

    async def next_transaction(self) -> int:
        """The id of the next transaction of PostgreSQL."""
        connection = await asyncpg.connect(self.database.url)
        try:
            found: int = await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        finally:
            await connection.close()
        return found

    def complaints(self) -> Iterator[str]:
        """The ends of the nodes' logs."""
        return (node.complaints() for node in self.nodes)
