"""Several nodes under faults: `python -m tests.adversity.cluster --nodes 3 --minutes 20 --faults all --seed N`.

The `conversation` runs through three nodes on one PostgreSQL and one Redis. Beside all that happens in every one, nodes
are killed, paused (some longer than a lease), and rolled one by one; they lose replies of PostgreSQL, and their
connections to it or to Redis are cut or held; Redis is wiped, loses its subscribers, is restarted empty or from an old
dump; PostgreSQL is killed in the middle of commits. In each round everything heals, comes to rest within a stated time
while clients stay connected, and is held against the database.

Prints one JSON line, and exits with 1 when a promise was broken or it never came to rest. `heal_s_max`: the longest
time from the last fault's end to the rest. A round counts as `undelivered` when clients had to reconnect for it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import redis.asyncio as redis

from storage.embedded.cluster import EmbeddedPostgres
from tests.adversity.cluster_nodes import LEASE_S, ClusterNode, shared_settings
from tests.adversity.conversation import SETTINGS, Servers, converse, run_to_the_end
from tests.adversity.restart_verify import Violations
from tests.engines.redis_server import RedisServer
from tests.support.cutting_proxy import CuttingProxy

MESSAGES_PER_ROUND = 500
_HELD_S = (2.0, 8.0)
_PER_ROUND = (3, 5)


class Cluster(Servers):
    """Nodes, their PostgreSQL and their Redis."""

    def __init__(self, folder: Path, seed: int, *, nodes: int, faults: Sequence[str]) -> None:
        self._log = folder / "server.log"
        self.done: Counter[str] = Counter()
        self._rng = random.Random(f"{seed} faults")
        self._database = EmbeddedPostgres(folder / "data", {"max_connections": "200"})
        self._redis = RedisServer(folder / "redis")
        self._faults = faults
        settings = {**shared_settings(), **SETTINGS}
        self._nodes = [
            ClusterNode(folder / f"node-{number}", self._log, self._database.url, settings, moved=self._spread)
            for number in range(nodes)
        ]
        self._proxy: CuttingProxy
        self._rolling, self._restarting = asyncio.Lock(), asyncio.Lock()

    @property
    def port(self) -> int:
        """Of some node that listens and is not paused."""
        return next((node.port for node in self._nodes if node.port and not node.paused), 0)

    @property
    def log(self) -> Path:
        return self._log

    @property
    def database_url(self) -> str:
        return self._database.url

    async def open(self, proxy: CuttingProxy) -> None:
        self._proxy = proxy
        await asyncio.to_thread(self._database.start)
        await asyncio.to_thread(self._redis.start)
        async with asyncio.TaskGroup() as group:
            for node in self._nodes:
                group.create_task(node.open(self._redis.port))

    async def close(self) -> int:
        codes = [await node.stop() for node in self._nodes]
        return max(codes)

    async def abandon(self) -> None:
        for node in self._nodes:
            await node.abandon()
        await asyncio.to_thread(self._redis.kill)
        await asyncio.to_thread(self._database.stop)

    def plan(self) -> list[str]:
        return self._rng.choices(self._faults, k=self._rng.randint(*_PER_ROUND)) if self._faults else []

    async def strike(self, blow: str) -> None:
        self.done[blow] += 1
        await FAULTS[blow](self)

    async def heal(self) -> None:
        """Wait until every node listens, and one that was ended while it stood still has noticed."""
        for node in self._nodes:
            node.postgres.spare()
        await asyncio.sleep(LEASE_S)
        for node in self._nodes:
            await node.start()

    def summary(self) -> dict[str, Any]:
        return {
            "faults": dict(sorted(self.done.items())),
            "node_lives": sum(node.lives for node in self._nodes),
            "replies_lost": sum(node.postgres.lost for node in self._nodes),
        }

    def _spread(self) -> None:
        self._proxy.targets = [node.port for node in self._nodes if node.port]

    def _one(self) -> ClusterNode:
        return self._rng.choice(self._nodes)

    # faults

    async def kill(self) -> None:
        """SIGKILL a node; its supervisor starts it again."""
        self._one().kill()

    async def pause(self) -> None:
        """A node stands still for a moment, less than a lease."""
        await self._pause(self._rng.uniform(0.2, 0.6) * LEASE_S)

    async def freeze(self) -> None:
        """A node stands still for longer than a lease: the others end it."""
        await self._pause(self._rng.uniform(2.0, 4.0) * LEASE_S)

    async def roll(self) -> None:
        """Every node ends in good order and starts again, one after the other."""
        async with self._rolling:
            for node in self._nodes:
                await node.stop()
                await node.start()

    async def lose_replies(self) -> None:
        """PostgreSQL's next answers do not reach a node."""
        self._one().postgres.lose_replies()

    async def cut_postgres(self) -> None:
        """All connections of a node to PostgreSQL break."""
        self._one().postgres.cut()

    async def cut_redis(self) -> None:
        """A node's connections to Redis are reset."""
        self._one().redis.cut(self._rng, share=1.0)

    async def hold_redis(self) -> None:
        """Redis vanishes for one node, without a reset."""
        node = self._one()
        node.redis.hold()
        await asyncio.sleep(self._rng.uniform(*_HELD_S))
        node.redis.release()

    async def wipe_redis(self) -> None:
        """FLUSHALL."""
        await self._tell_redis("FLUSHALL")

    async def drop_subscribers(self) -> None:
        """Redis closes the connections of those who listen."""
        await self._tell_redis("CLIENT", "KILL", "TYPE", "pubsub")

    async def restart_redis(self) -> None:
        """Redis dies and comes back empty."""
        async with self._restarting:
            await asyncio.to_thread(self._redis.kill)
            await asyncio.sleep(self._rng.uniform(0.0, _HELD_S[1]))
            await asyncio.to_thread(self._redis.start)

    async def restore_redis(self) -> None:
        """Redis dies and comes back as it was a while ago."""
        await self._tell_redis("SAVE")
        await asyncio.sleep(self._rng.uniform(0.5, 2.0))
        await self.restart_redis()

    async def kill_postgres(self) -> None:
        """PostgreSQL dies in the middle of commits, and starts again."""
        async with self._restarting:
            self._database.kill()
            await asyncio.to_thread(self._database.start)

    async def _pause(self, seconds: float) -> None:
        node = self._one()
        if node.paused:
            return
        node.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            node.resume()

    async def _tell_redis(self, *command: str) -> None:
        with contextlib.suppress(redis.RedisError):
            async with redis.Redis(port=self._redis.port) as client:
                await client.execute_command(*command)  # type: ignore[no-untyped-call]


FAULTS: dict[str, Callable[[Cluster], Awaitable[None]]] = {
    "kill": Cluster.kill,
    "pause": Cluster.pause,
    "freeze": Cluster.freeze,
    "roll": Cluster.roll,
    "reply loss": Cluster.lose_replies,
    "postgres cut": Cluster.cut_postgres,
    "postgres kill": Cluster.kill_postgres,
    "redis cut": Cluster.cut_redis,
    "redis hold": Cluster.hold_redis,
    "redis wipe": Cluster.wipe_redis,
    "redis drop": Cluster.drop_subscribers,
    "redis restart": Cluster.restart_redis,
    "redis restore": Cluster.restore_redis,
}


async def cluster(
    going: Callable[[int], bool],
    seed: int,
    *,
    nodes: int = 3,
    faults: Sequence[str] = tuple(FAULTS),
    messages_per_round: int = MESSAGES_PER_ROUND,
    folder: Path | None = None,
) -> tuple[dict[str, Any], Violations]:
    """Rounds while `going` of the next one's number; the summary, and what was found."""
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tchat-cluster-")))
        folder.mkdir(exist_ok=True)
        servers = Cluster(folder, seed, nodes=nodes, faults=faults)
        return await converse(servers, going, seed, messages_per_round, folder)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.cluster", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--faults", default="all", help=f"all, none, or some of: {', '.join(FAULTS)} (with commas)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--messages", type=int, default=MESSAGES_PER_ROUND, help="per round")
    parser.add_argument("--folder", type=Path, help="keep the data and the nodes' log here; default: nowhere")
    chosen = parser.parse_args()
    faults = {"all": list(FAULTS), "none": []}.get(chosen.faults, chosen.faults.split(","))
    if unknown := [fault for fault in faults if fault not in FAULTS]:
        parser.error(f"unknown faults: {', '.join(unknown)}")
    ends_at = time.monotonic() + 60 * chosen.minutes
    work = cluster(
        lambda _: time.monotonic() < ends_at,
        chosen.seed,
        nodes=chosen.nodes,
        faults=faults,
        messages_per_round=chosen.messages,
        folder=chosen.folder,
    )
    return run_to_the_end(work)


if __name__ == "__main__":
    sys.exit(main())
