"""Several nodes under faults: `python -m tests.adversity.cluster --nodes 3 --minutes 20 --faults all --seed N`.

The `conversation` runs through three nodes on one PostgreSQL, one Redis and one Cassandra, which has what has left the
journal. Beside all that happens in every one:

* nodes are killed, paused (some longer than a lease), rolled one by one, and stopped between a commit and its publish;
* networks (clients, PostgreSQL, Redis, Cassandra) cut, hold, lose, delay and slice what passes; replies of PostgreSQL
  are lost;
* PostgreSQL is killed in the middle of commits, commits of one node late, its clock steps by an hour, a synchronous
  standby stands still and then takes over;
* Redis is wiped, loses its subscribers, is restarted empty or from an old dump;
* Cassandra stands still, and is killed in the middle of batches.

In each round everything heals, comes to rest within a stated time while clients stay connected, and is held against the
stores. Kinds of faults come in turn, as from a deck of cards.

Prints one JSON line, and exits with 1 when a promise was broken, when it never came to rest, or when a kind of fault
was never felt in three tries (`unfelt`). `heal_s_max`: the longest time from the last fault's end to the rest. A round
counts as `undelivered` when clients had to reconnect for it. `left_out`: the faults of "all" that this machine cannot
do.
"""

# ruff: noqa: T201 - it is run as a command, which prints

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.adversity.cluster_archive import ClusterArchive
from tests.adversity.cluster_clock import find_compiler
from tests.adversity.cluster_networks import TROUBLES
from tests.adversity.cluster_nodes import FROZEN_S, LEASE_S, ClusterNode, Nodes, shared_settings
from tests.adversity.cluster_postgres import ClusterPostgres
from tests.adversity.cluster_redis import ClusterRedis
from tests.adversity.conversation import SETTINGS, Servers, converse, run_to_the_end
from tests.adversity.restart_timeline import Timeline
from tests.adversity.restart_verify import Violations
from tests.engines.cassandra_jars import fetch_jars, find_java
from tests.engines.cassandra_server import CassandraServer
from tests.engines.server_process import EngineMissingError
from tests.support.cutting_proxy import CuttingProxy

MESSAGES_PER_ROUND = 500
_PER_ROUND = (4, 7)
_CUTS, _CUT_SHARE = 4, 0.5
_TRIES = 2
"""Something else may be broken just then, such as the node that the dice chose."""
_FELT_BY = 3
"""A fault may fall into moments in which nothing happens that it could meet; not so often."""


class Cluster(Servers):
    """Nodes and their engines. Without an `archive` the journal is the whole timeline."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        nodes: int,
        faults: Sequence[str],
        archived: bool,
        frozen_s: tuple[float, float] = FROZEN_S,
        cassandra: tuple[CassandraServer, str] | None = None,
    ) -> None:
        self._log = folder / "server.log"
        self._struck: Counter[str] = Counter()
        self._felt: Counter[str] = Counter()
        self._rng = rng = random.Random(f"{seed} faults")
        self._faults = faults
        self._deck: list[str] = []
        self._timeline = Timeline()
        self.postgres = ClusterPostgres(folder, rng, self._lead_to_postgres)
        self.redis = ClusterRedis(folder / "redis", rng)
        self.archive = ClusterArchive(folder, rng, cassandra) if archived else None
        settings = {**shared_settings(), **SETTINGS, **(self.archive.settings if self.archive else {})}
        each = [
            ClusterNode(
                folder / f"node-{number}", self._log, self.postgres.url, settings, rng=rng, moved=self._lead_to_nodes
            )
            for number in range(nodes)
        ]
        self.nodes = Nodes(each, rng, frozen_s)
        self.clients: CuttingProxy

    @property
    def port(self) -> int:
        """Of some node that listens and is not paused."""
        return next((node.port for node in self.nodes if node.port and not node.paused), 0)

    @property
    def log(self) -> Path:
        return self._log

    async def read_timeline(self) -> Timeline:
        if self.archive is None:
            self._timeline = await Timeline.read_from(self.postgres.url)
        else:
            async with self.archive.reader() as archive:
                self._timeline = await Timeline.read_from(self.postgres.url, archive)
        return self._timeline

    async def open(self, proxy: CuttingProxy) -> None:
        self.clients = proxy
        if self.archive is not None:
            self.archive.launch()
        await self.postgres.start()
        await self.redis.start()
        if self.archive is not None:
            await self.archive.await_ready()
        async with asyncio.TaskGroup() as group:
            for node in self.nodes:
                group.create_task(node.open(self.redis.port, self.archive.port if self.archive else 0))

    async def close(self) -> int:
        codes = [await node.stop() for node in self.nodes]
        return max(codes)

    async def abandon(self) -> None:
        for node in self.nodes:
            await node.abandon()
        await self.redis.abandon()
        await self.postgres.abandon()
        if self.archive is not None:
            await self.archive.abandon()

    def plan(self) -> list[str]:
        """The next cards of the deck."""
        blows: list[str] = []
        for _ in range(self._rng.randint(*_PER_ROUND) if self._faults else 0):
            if not self._deck:
                self._deck = self._rng.sample(self._faults, len(self._faults))
            blows.append(self._deck.pop())
        return blows

    async def strike(self, blow: str) -> None:
        self._struck[blow] += 1
        for _ in range(_TRIES):
            if await FAULTS[blow](self):
                self._felt[blow] += 1
                return
        self._deck.insert(0, blow)

    async def heal(self) -> None:
        """Wait until every node listens, and one that was ended while it stood still has noticed."""
        for node in self.nodes:
            for proxy in node.proxies:
                proxy.calm()
        await asyncio.sleep(LEASE_S)
        for node in self.nodes:
            await node.start()

    def rested(self) -> None:
        if self.archive is not None:
            self.archive.settled.touch()

    def summary(self) -> dict[str, Any]:
        proxies = [self.clients, *(proxy for node in self.nodes for proxy in node.proxies)]
        archived = {"moved": self._timeline.moved + self._timeline.trimmed, "trimmed": self._timeline.trimmed}
        return {
            "faults": dict(sorted(self._felt.items())),
            "struck": sum(self._struck.values()),
            "node_lives": sum(node.lives for node in self.nodes),
            "promotions": self.postgres.promotions,
            "replies_lost": sum(node.postgres.lost for node in self.nodes),
            "slices": sum(proxy.sliced for proxy in proxies),
            "delays": sum(proxy.delayed for proxy in proxies),
            **(archived if self.archive is not None else {}),
        }

    def check(self, violations: Violations) -> None:
        for kind in self._struck:
            if not self._felt[kind] and self._struck[kind] >= _FELT_BY:
                violations.add("unfelt", f"{kind}: tried {self._struck[kind]} times, and never felt")
        if self.archive is not None and not (self._timeline.moved and self._timeline.trimmed):
            violations.add("unfelt", f"{self._timeline.moved} rows moved, {self._timeline.trimmed} left the journal")

    # faults of several engines

    async def trouble(self, path: str, kind: str) -> int:
        """Trouble in a network: that of all clients, or of one node."""
        node = self.nodes.one()
        proxies = {"clients": self.clients, "postgres": node.postgres, "redis": node.redis, "cassandra": node.archive}
        return await TROUBLES[kind](proxies[path], self._rng)

    async def partition(self) -> int:
        """The other nodes hear nothing of one, and before they notice, clients lose their connections."""
        node = self.nodes.one()
        withheld, cut = node.redis.withheld, 0
        node.redis.hold(to_client=False)
        for _ in range(_CUTS):
            await asyncio.sleep(self._rng.uniform(0.3, 1.0))
            cut += self.clients.cut(share=_CUT_SHARE)
        node.redis.release()
        return cut if node.redis.withheld > withheld else 0

    async def restart_archive(self) -> int:
        """Cassandra dies in the middle of batches."""
        assert self.archive is not None
        return await self.archive.restart([node.archive for node in self.nodes])

    async def pause_archive(self) -> int:
        """Cassandra stands still."""
        assert self.archive is not None
        return await self.archive.pause()

    async def step_clock(self) -> int:
        """PostgreSQL's clock steps. What is written under a wrong time may look old: nothing leaves the journal."""
        if self.archive is not None:
            self.archive.settled.unlink(missing_ok=True)
            await asyncio.sleep(1.0)
        return await self.postgres.step_clock()

    def _lead_to_nodes(self) -> None:
        self.clients.targets = [node.port for node in self.nodes if node.port]

    def _lead_to_postgres(self, url: str) -> None:
        for node in self.nodes:
            node.postgres.lead_to(url)


def _trouble(path: str, kind: str) -> Callable[[Cluster], Awaitable[int]]:
    return lambda cluster: cluster.trouble(path, kind)


FAULTS: Mapping[str, Callable[[Cluster], Awaitable[int]]] = {
    "kill": lambda it: it.nodes.kill(),
    "pause": lambda it: it.nodes.pause(),
    "freeze": lambda it: it.nodes.freeze(),
    "roll": lambda it: it.nodes.roll(),
    "stop before publish": lambda it: it.nodes.stop_before_publish(),
    "reply loss": lambda it: it.nodes.lose_replies(),
    "postgres kill": lambda it: it.postgres.kill(),
    "postgres late commit": lambda it: it.postgres.commit_late(),
    "postgres clock": Cluster.step_clock,
    "postgres failover": lambda it: it.postgres.fail_over(),
    "partition": Cluster.partition,
    "redis wipe": lambda it: it.redis.wipe(),
    "redis drop": lambda it: it.redis.drop_subscribers(),
    "redis restart": lambda it: it.redis.restart(),
    "redis restore": lambda it: it.redis.restore(),
    "cassandra restart": Cluster.restart_archive,
    "cassandra pause": Cluster.pause_archive,
    **{
        f"{path} {kind}": _trouble(path, kind)
        for path in ("clients", "postgres", "redis", "cassandra")
        for kind in TROUBLES
    },
}


def find_missing() -> dict[str, str]:
    """What this machine lacks for which faults, in a sentence that says how to get it."""
    missing = {}
    if find_compiler() is None:
        missing["postgres clock"] = "There is no C compiler `cc` (apt-get install gcc)."
    try:
        find_java()
        fetch_jars()
    except EngineMissingError as error:
        missing |= {fault: str(error) for fault in FAULTS if fault.startswith("cassandra")}
    return missing


async def cluster(
    going: Callable[[int], bool],
    seed: int,
    *,
    nodes: int = 3,
    faults: Sequence[str],
    archived: bool,
    messages_per_round: int = MESSAGES_PER_ROUND,
    frozen_s: tuple[float, float] = FROZEN_S,
    folder: Path | None = None,
    cassandra: tuple[CassandraServer, str] | None = None,
) -> tuple[dict[str, Any], Violations]:
    """Rounds while `going` of the next one's number; the summary, and what was found."""
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tchat-cluster-")))
        folder.mkdir(exist_ok=True)
        servers = Cluster(
            folder, seed, nodes=nodes, faults=faults, archived=archived, frozen_s=frozen_s, cassandra=cassandra
        )
        return await converse(servers, going, seed, messages_per_round, folder)


def _for_minutes(minutes: float) -> Callable[[int], bool]:
    """Rounds until so much time has passed since the first began."""
    began: list[float] = []

    def going(_number: int) -> bool:
        began.append(time.monotonic())
        return began[-1] - began[0] < 60 * minutes

    return going


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
    left_out = {fault: why for fault, why in find_missing().items() if fault in faults}
    if left_out and chosen.faults != "all":
        parser.error(" ".join(f"{fault}: {why}" for fault, why in left_out.items()))
    for fault, why in left_out.items():
        print(f"without {fault}: {why}", file=sys.stderr)
    work = cluster(
        _for_minutes(chosen.minutes),
        chosen.seed,
        nodes=chosen.nodes,
        faults=[fault for fault in faults if fault not in left_out],
        archived=any(fault.startswith("cassandra") for fault in faults if fault not in left_out),
        messages_per_round=chosen.messages,
        folder=chosen.folder,
    )
    return run_to_the_end(work, left_out=sorted(left_out))


if __name__ == "__main__":
    sys.exit(main())
