"""`python -m tests.server.cluster.measure`: what three nodes on one PostgreSQL and one Redis cost, and what they lose.

Starts all of them on empty folders and prints one line of JSON for each measurement, in a few minutes. CPU is user and
system time of whole processes; the load shares the machine's cores. `--quick` is a run of some seconds that shows that
it works; `--only NAME` chooses a measurement.

* `lost`: every delivery to people who are spread over the nodes is checked, with no fault. Exits with 1 if one lacks.
* `direct`, `rooms`: the same load with everybody of a dialog on one node, and spread; round by round in turn.
* `hot`: the latency of quiet dialogs, alone and beside one dialog to which many write through all nodes.
* `ages`: the age of clients' positions at rest, with one node stopped, and without Redis.
* `rates`: flushes, rows, publishes and transaction ids at a fixed rate of messages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path

import msgspec
import uvloop

from loadtest.checking_client import CheckingClient
from loadtest.crowd import Crowd, Gathering
from loadtest.lean_client import LoadError
from loadtest.loads import Times, settle_deliveries, wait_until
from loadtest.pieces import Payload, PieceReader
from loadtest.run_result import Percentiles
from loadtest.tally import Tally
from loadtest.target import Usage
from loadtest.traffic import Place, Traffic
from tests.server.cluster.measure_deployment import Deployment

NODES = 3
_SAMPLE_S = 0.25
_SETTLES_S = 2.0
_WARM_UP_PART = 0.25
_PAYLOAD = Payload(256)


class Size(msgspec.Struct, frozen=True):
    """The size of the loads; `seconds` is the length of one round of one load."""

    people: int = 600
    room: int = 100
    quiet_dialogs: int = 10_000
    quiet_rate: float = 300.0
    hot_writers: int = 30
    rate: float = 1_000.0
    room_rate: float = 100.0
    high_rate: float = 5_000.0
    seconds: float = 8.0
    rounds: int = 3


QUICK = Size(30, 10, 60, 60.0, 6, 60.0, 30.0, 100.0, 0.6, 1)


class Stage(msgspec.Struct, frozen=True):
    """What was done in so many seconds, and what it took; `latency` of messages, from when they were due."""

    seconds: float
    done: int
    usage: Usage
    load_s: float
    latency: Percentiles | None

    @property
    def per_second(self) -> float:
        """Throughput by wall-clock time."""
        return self.done / self.seconds


class Town:
    """People on all nodes, and their dialogs."""

    def __init__(self, deployment: Deployment, size: Size) -> None:
        self.deployment = deployment
        self.tally = Tally()
        pieces = PieceReader(_PAYLOAD, shared=True)
        self._crowds: list[Crowd] = []
        for number, node in enumerate(deployment.nodes):
            tokens = [node.issuer.token(f"node-{number}-{i}") for i in range(size.people // len(deployment.nodes))]
            people = [CheckingClient(token, self.tally, pieces) for token in tokens]
            self._crowds.append(Crowd(node.address, number, people))
        homes = [crowd.people for crowd in self._crowds]
        self.spread = [client for neighbours in zip(*homes, strict=True) for client in neighbours]
        self.at_home = [client for people in homes for client in people]

    async def settle(self, size: Size) -> None:
        """Connect people and create their dialogs."""
        for crowd in self._crowds:
            await crowd.connect_all(crowd.people)
        room = min(size.room, len(self._crowds[0].people))
        self.pairs = {"one": await self._pair_up(self.at_home), "spread": await self._pair_up(self.spread)}
        self.rooms = {
            "one": await self._fill_rooms(self.at_home, room),
            "spread": await self._fill_rooms(self.spread, room),
        }
        await asyncio.sleep(_SETTLES_S)  # what the dialogs' creation has begun arrives everywhere

    async def leave(self) -> None:
        """Disconnect everybody."""
        for crowd in self._crowds:
            await crowd.disconnect()

    async def pair_more(self, count: int) -> list[Place]:
        """Places in so many more direct dialogs, each pair another."""
        people, places = self.spread, list[Place]()
        for shift in range(1, len(people)):
            places += await self._pair_up(
                [client for i, one in enumerate(people) for client in (one, people[(i + shift) % len(people)])]
            )
            if len(places) >= 2 * count:
                break
        await asyncio.sleep(_SETTLES_S)
        return places[: 2 * count]

    async def pace(
        self, places: Sequence[Place], rate: float, seconds: float, timed: Sequence[CheckingClient] | None = None
    ) -> Stage:
        """So many messages a second to these places; raises LoadError if a connection failed."""
        traffic = Traffic(places, _PAYLOAD)
        return await self.measure(lambda times: traffic.open_loop(rate, times), seconds, timed)

    async def measure(
        self,
        work: Callable[[Times], Coroutine[None, None, None]],
        seconds: float,
        timed: Sequence[CheckingClient] | None = None,
        tally: Tally | None = None,
    ) -> Stage:
        """The work after a warm-up; without a tally of its own, with a new one of the town."""
        if tally is None:
            tally = self.tally = Tally()
            for client in self.spread:
                client.tally, client.timed = tally, timed is None or client in timed
        now_ns = time.monotonic_ns()
        from_ns = now_ns + int(seconds * _WARM_UP_PART * 1e9)
        times = Times(now_ns, from_ns, from_ns + int(seconds * 1e9))
        tally.measure(times.from_ns, times.until_ns)
        working = asyncio.create_task(work(times))
        await wait_until(times.from_ns)
        acked, usage, load_s = tally.acked, self.deployment.usage(), time.process_time()
        await wait_until(times.until_ns)
        done, used, load_s = tally.acked - acked, self.deployment.usage().since(usage), time.process_time() - load_s
        await working
        await settle_deliveries(self._crowds[0], tally)
        if tally.broken:
            raise LoadError(tally.checks().first)
        return Stage(seconds, done, used, load_s, tally.delivery.percentiles())

    async def _pair_up(self, people: Sequence[CheckingClient]) -> list[Place]:
        made = await self._made(self._crowds[0].gather_pairs(list(zip(people[::2], people[1::2], strict=True))))
        return [(member, each.dialog) for each in made for member in each.members]

    async def _fill_rooms(self, people: Sequence[CheckingClient], size: int) -> list[list[Place]]:
        made = await self._made(self._crowds[0].gather_groups(size, people))
        return [[(member, each.dialog) for member in each.members] for each in made]

    async def _made(self, gathering: Coroutine[None, None, None]) -> list[Gathering]:
        before = len(self._crowds[0].gatherings)
        await gathering
        return self._crowds[0].gatherings[before:]


async def measure_lost(town: Town, size: Size) -> bool:
    """Check every delivery; True if each came once and in order."""
    complete = True
    for name, places in (("direct", town.pairs["spread"]), ("rooms", [p for r in town.rooms["spread"] for p in r])):
        stage = await town.pace(places, size.rate if name == "direct" else size.room_rate, size.seconds)
        town.tally.close(places)
        checks = town.tally.checks()
        complete = complete and not checks.failed
        show(
            "lost", name, expected=checks.expected, lost=checks.lost, twice=checks.doubled, **latency_of(stage),
            gaps=town.deployment.count("tchat_cluster_skipped_total"),
            doubts=town.deployment.count("tchat_cluster_doubts_total"),
        )  # fmt: skip
    return complete


async def measure_direct(town: Town, size: Size) -> bool:
    """Direct dialogs at a fixed rate, on one node and across nodes."""
    await compare(town, size, "direct", town.pairs, size.rate)
    return True


async def measure_rooms(town: Town, size: Size) -> bool:
    """Rooms at a fixed rate, on one node and across nodes."""
    places = {where: [place for room in rooms for place in room] for where, rooms in town.rooms.items()}
    await compare(town, size, f"rooms of {size.room}", places, size.room_rate)
    return True


async def compare(town: Town, size: Size, name: str, places: dict[str, list[Place]], rate: float) -> None:
    """The load of each kind of places in turn, `rounds` times; medians."""
    stages: dict[str, list[Stage]] = {where: [] for where in places}
    for _ in range(size.rounds):
        for where, these in places.items():
            stages[where].append(await town.pace(these, rate, size.seconds))
    for where, some in stages.items():
        middle = statistics.median(1e6 * stage.usage.tchat_s / stage.done for stage in some)
        database = statistics.median(1e6 * stage.usage.postgres_s / stage.done for stage in some)
        ranked = sorted(some, key=lambda stage: stage.latency.p99_ms if stage.latency else 0.0)
        show(
            name, where, messages_per_s=rate, tchat_us_per_message=middle, postgres_us_per_message=database,
            **latency_of(ranked[len(ranked) // 2]),
        )  # fmt: skip


async def measure_hot(town: Town, size: Size) -> bool:
    """Quiet dialogs at a fixed rate, alone and beside one to which many write as fast as they are acked."""
    quiet = await town.pair_more(size.quiet_dialogs)
    room = town.rooms["spread"][0]
    members = {client for client, _ in room}
    listeners = [client for client in town.spread if client not in members]
    calm = [(client, dialog) for client, dialog in quiet if client not in members]
    for number in range(2 * size.rounds):
        quiet_part = asyncio.create_task(town.pace(calm, size.quiet_rate, size.seconds, listeners))
        if number % 2 == 0:
            show("hot", "alone", quiet_per_s=size.quiet_rate, **latency_of(await quiet_part))
            continue
        await asyncio.sleep(0)  # it begins, and takes everybody
        hot = Tally()
        for client in members:
            client.tally = hot
        beside = Traffic(room[: size.hot_writers], _PAYLOAD)
        noise = await town.measure(beside.closed_loop, size.seconds * 0.8, tally=hot)
        stage = await quiet_part
        show("hot", "beside", quiet_per_s=size.quiet_rate, hot_per_s=noise.per_second, **latency_of(stage))
    return True


async def measure_rates(town: Town, size: Size) -> bool:
    """What happens in a second at a high rate of messages across nodes."""
    deployment, rate = town.deployment, size.high_rate
    names = (
        "pipeline_flushes",
        "pipeline_rows",
        "cluster_published_messages",
        "cluster_published_rows",
        "socket_writes",
    )
    for _ in range(size.rounds):
        before = {name: deployment.count(f"tchat_{name}_total") for name in names}
        first, began = await deployment.next_transaction(), time.perf_counter()
        stage = await town.pace(town.pairs["spread"], rate, size.seconds, town.spread[:60])
        took, last = time.perf_counter() - began, await deployment.next_transaction()
        per_s = {name: (deployment.count(f"tchat_{name}_total") - before[name]) / took for name in names}
        show(
            "rates", f"{rate:.0f}/s", acked_per_s=stage.per_second, transactions_per_s=(last - first) / took,
            rows_per_flush=per_s["pipeline_rows"] / per_s["pipeline_flushes"],
            tchat_cores=stage.usage.tchat_s / stage.seconds, postgres_cores=stage.usage.postgres_s / stage.seconds,
            load_cores=stage.load_s / stage.seconds, **per_s, **latency_of(stage),
        )  # fmt: skip
    return True


async def measure_ages(town: Town, size: Size) -> bool:
    """The ages of positions on the nodes that live, while one message comes each tenth of a second."""
    deployment, seconds = town.deployment, 3 * size.seconds
    survivors = deployment.nodes[:-1]

    async def sample(name: str) -> None:
        until, ages = time.perf_counter() + seconds, list[float]()
        while time.perf_counter() < until:
            for node in survivors:
                ages.append((await asyncio.to_thread(node.read_metrics))["tchat_position_age_seconds"])
            await asyncio.sleep(_SAMPLE_S)
        show("ages", name, p50_s=statistics.median(ages), max_s=max(ages))

    await sample("at rest")
    deployment.redis.kill()
    await sample("Redis absent")
    deployment.redis.start()
    await asyncio.sleep(seconds / 4)
    await sample("Redis back")
    deployment.nodes[-1].pause()
    try:
        await sample("one node stands still")
        await sample("one node was ended")
    finally:
        deployment.nodes[-1].resume()
    return True


def latency_of(stage: Stage) -> dict[str, float]:
    """Milliseconds from when a message was due."""
    names = ("p50_ms", "p99_ms", "p999_ms")
    return {} if stage.latency is None else {name: getattr(stage.latency, name) for name in names}


def show(name: str, variant: str, **values: float) -> None:
    """One line of JSON."""
    rounded = {key: round(value, 3 if key.endswith("_s") else 1) for key, value in values.items()}
    sys.stdout.write(f"{json.dumps({'measurement': name, 'variant': variant, **rounded})}\n")
    sys.stdout.flush()


MEASUREMENTS: dict[str, Callable[[Town, Size], Awaitable[bool]]] = {
    "lost": measure_lost,
    "direct": measure_direct,
    "rooms": measure_rooms,
    "hot": measure_hot,
    "rates": measure_rates,
    "ages": measure_ages,
}


async def measure(deployment: Deployment, size: Size, chosen: Sequence[str]) -> bool:
    """Run the chosen measurements; True if all held what they check."""
    town = Town(deployment, size)
    await town.settle(size)
    held = [await MEASUREMENTS[name](town, size) for name in chosen]
    await town.leave()
    return all(held)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a delivery lacks or a node did something unexpected."""
    parser = argparse.ArgumentParser(prog="python -m tests.server.cluster.measure", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a run of some seconds that shows that it works")
    parser.add_argument("--only", choices=MEASUREMENTS, action="append", help="this one; repeat it for more")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tchat-measure-") as folder:
        deployment = Deployment(Path(folder), nodes=NODES)
        try:
            with deployment, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                size = QUICK if chosen.quick else Size()
                return 0 if runner.run(measure(deployment, size, chosen.only or list(MEASUREMENTS))) else 1
        except LoadError as error:
            sys.stderr.write(f"The measurement failed: {error}\n{''.join(deployment.complaints())}\n")
            return 1


if __name__ == "__main__":
    sys.exit(main())
