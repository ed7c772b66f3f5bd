"""The Cassandra of a cluster, and what happens to it. Each fault says how much of it was felt; 0: nothing.

`settled` is a file that says until when all that was written is settled: nodes delete what is older from the journal as
soon as the archive has it (`trimming_node.py`). While it is not there they delete nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from storage.cql.archive import CqlArchive
from storage.cql.driver import CqlServer
from tests.adversity.cluster_networks import becomes
from tests.adversity.trimming_node import SETTLED_FILE
from tests.engines.cassandra_server import CassandraServer
from tests.engines.server_process import HOST
from tests.support.cutting_proxy import CuttingProxy

_AWAY_S = (0.0, 4.0)
_PAUSED_S = (3.0, 12.0)
_BATCH_S_MAX = 10.0


class ClusterArchive:
    """One Cassandra, one life after another; `proxies` lead the nodes to it."""

    def __init__(self, folder: Path, rng: random.Random, running: tuple[CassandraServer, str] | None = None) -> None:
        """Its own Cassandra, or one that runs, with a keyspace."""
        self.settled = folder / "settled"
        self._server, self._keyspace = running or (CassandraServer(folder / "cassandra"), "tchat")
        self._ours = running is None
        self._rng = rng
        self._breaking = asyncio.Lock()

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def settings(self) -> dict[str, str]:
        """What a node needs to use it."""
        return {
            "TCHAT__STORAGE__CQL_HOSTS": f'["{HOST}"]',
            "TCHAT__STORAGE__CQL_KEYSPACE": self._keyspace,
            SETTLED_FILE: str(self.settled),
        }

    def launch(self) -> None:
        """Begin to start; `await_ready` returns when it has."""
        if self._ours:
            self._server.launch()

    async def await_ready(self) -> None:
        if self._ours:
            await asyncio.to_thread(self._server.await_ready)

    async def abandon(self) -> None:
        if self._ours:
            await asyncio.to_thread(self._server.kill)

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[CqlArchive]:
        """What it has, read past all proxies."""
        server = CqlServer((HOST,), self.port, self._keyspace)
        archive = CqlArchive(server, read_timeout_s=30.0, write_timeout_s=30.0)
        try:
            yield archive
        finally:
            await archive.close()

    # faults

    async def restart(self, proxies: Sequence[CuttingProxy]) -> int:
        """It dies while batches are on their way, and starts again; the answers that were on their way."""
        async with self._breaking:
            before = sum(proxy.withheld for proxy in proxies)
            for proxy in proxies:
                proxy.hold(to_server=False)
            await becomes(lambda: sum(proxy.withheld for proxy in proxies) > before, within_s=_BATCH_S_MAX)
            unanswered = sum(proxy.withheld for proxy in proxies) - before
            await asyncio.to_thread(self._server.kill)
            for proxy in proxies:
                proxy.swallow()
            await asyncio.sleep(self._rng.uniform(*_AWAY_S))
            await asyncio.to_thread(self._server.start)
        return unanswered

    async def pause(self) -> int:
        """It stands still for a while, without closing anything."""
        async with self._breaking:
            self._server.pause()
            await asyncio.sleep(self._rng.uniform(*_PAUSED_S))
            self._server.resume()
        return 1
