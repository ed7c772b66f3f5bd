"""`python -m tests.server.cluster.measure`: what three nodes on one PostgreSQL and one Redis cost, and what they lose.

Starts all of them on empty folders and prints one line of JSON for each measurement, in a few minutes. CPU is user and
system time of whole processes; the load shares the machine's cores. `--quick` is a run of some seconds that shows that
it works; `--only NAME` chooses a measurement.

* `lost`: every delivery to people who are spread over the nodes is counted, with no fault. Exits with 1 if one lacks.
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
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import uvloop

from loadtest.measure_client import LeanClient, LoadError
from loadtest.measure_crowd import Crowd
from loadtest.measure_stage import Stage
from loadtest.measure_talk import Place, Traffic
from protocol.bodies import Posted, TimelineEvent
from protocol.codec import MSGPACK
from tests.server.cluster.measure_deployment import Deployment

NODES = 3
_SAMPLE_S = 0.25
_SETTLES_S = 2.0
_ARRIVES_S_MAX = 10.0


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


class Town:
    """People on all nodes, and their dialogs."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self._crowds = [Crowd(node) for node in deployment.nodes]

    async def settle(self, people: int, room: int) -> None:
        """Connect people and create their dialogs."""
        share = people // len(self._crowds)
        homes = [crowd.create_clients(share, f"node-{i}") for i, crowd in enumerate(self._crowds)]
        for crowd, clients in zip(self._crowds, homes, strict=True):
            await crowd.connect(clients)
        self.spread = [client for neighbours in zip(*homes, strict=True) for client in neighbours]
        self.at_home = [client for clients in homes for client in clients]
        anybody = self._crowds[0]
        self.pairs = {"one": await anybody.pair_up(self.at_home), "spread": await anybody.pair_up(self.spread)}
        self.rooms = {
            "one": await anybody.fill_rooms(self.at_home, min(room, share)),
            "spread": await anybody.fill_rooms(self.spread, min(room, share)),
        }
        await asyncio.sleep(_SETTLES_S)  # what the dialogs' creation has begun arrives everywhere

    async def leave(self) -> None:
        """Disconnect everybody."""
        await self._crowds[0].disconnect(self.spread)

    def check(self) -> None:
        """Raise LoadError if a connection failed."""
        for crowd in self._crowds:
            crowd.check()

    async def pair_more(self, count: int) -> list[Place]:
        """Places in so many more direct dialogs, each pair another."""
        people, places = self.spread, []
        for shift in range(1, len(people)):
            places += await self._crowds[0].pair_up(
                [client for i, one in enumerate(people) for client in (one, people[(i + shift) % len(people)])]
            )
            if len(places) >= 2 * count:
                break
        await asyncio.sleep(_SETTLES_S)
        return places[: 2 * count]

    def traffic(self, places: Sequence[Place], timed: Sequence[LeanClient] | None = None) -> Traffic:
        """Traffic to these places, everybody listening."""
        return Traffic(self.deployment, places, self.spread, set(self.spread if timed is None else timed))


async def measure_lost(town: Town, size: Size) -> bool:
    """Count every delivery to others than the author; True if none lacks."""
    complete = True
    for name, places in (("direct", town.pairs["spread"]), ("rooms", [p for r in town.rooms["spread"] for p in r])):
        sent: Counter[bytes] = Counter()
        got: dict[tuple[LeanClient, bytes], set[int]] = {}
        deliveries = expected = 0

        def take(client: LeanClient, message: bytes, got: dict[tuple[LeanClient, bytes], set[int]] = got) -> None:
            event = MSGPACK.decode_server(message)
            if isinstance(event, TimelineEvent) and isinstance(event.body, Posted) and event.author != client.principal:
                nonlocal deliveries
                deliveries += 1
                got.setdefault((client, event.dialog), set()).add(event.seq)

        members: Counter[bytes] = Counter(dialog for _, dialog in places)
        traffic = town.traffic(places)
        for client in town.spread:
            client.receiver = take_both(traffic, take)
        rate = size.rate if name == "direct" else size.room_rate
        stage = await traffic.open_loop(rate, size.seconds)
        for number in range(int(rate * size.seconds * 0.25)):
            sent[places[number % len(places)][1]] += 1
        for number in range(int(rate * size.seconds)):
            sent[places[number % len(places)][1]] += 1
        expected = sum(count * (members[dialog] - 1) for dialog, count in sent.items())
        for _ in range(round(_ARRIVES_S_MAX / _SAMPLE_S)):
            if (distinct := sum(map(len, got.values()))) >= expected:
                break
            await asyncio.sleep(_SAMPLE_S)
        complete = complete and distinct == expected
        show(
            "lost", name, expected=expected, lost=expected - distinct, twice=deliveries - distinct, **latency_of(stage),
            gaps=town.deployment.count("tchat_cluster_skipped_total"),
            doubts=town.deployment.count("tchat_cluster_doubts_total"),
        )  # fmt: skip
    return complete


def take_both(traffic: Traffic, take: Callable[[LeanClient, bytes], None]) -> Callable[[LeanClient, bytes], None]:
    """A receiver that hands each message to the traffic and to `take`."""

    def receive(client: LeanClient, message: bytes) -> None:
        traffic.receive(client, message)
        take(client, message)

    return receive


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
            stages[where].append(await town.traffic(these).open_loop(rate, size.seconds))
            town.check()
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
        traffic = Traffic(town.deployment, calm, listeners, set(listeners))
        if number % 2 == 0:
            stage = await traffic.open_loop(size.quiet_rate, size.seconds)
            show("hot", "alone", quiet_per_s=size.quiet_rate, **latency_of(stage))
            continue
        beside = Traffic(town.deployment, room[: size.hot_writers], members, set())
        noise = asyncio.ensure_future(beside.closed_loop(size.seconds))
        stage = await traffic.open_loop(size.quiet_rate, size.seconds * 0.8)
        acked, _ = await noise
        show("hot", "beside", quiet_per_s=size.quiet_rate, hot_per_s=acked.per_second, **latency_of(stage))
        town.check()
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
        traffic = town.traffic(town.pairs["spread"], town.spread[:60])
        before = {name: deployment.count(f"tchat_{name}_total") for name in names}
        first, began = await deployment.next_transaction(), time.perf_counter()
        stage = await traffic.open_loop(rate, size.seconds)
        took, last = time.perf_counter() - began, await deployment.next_transaction()
        per_s = {name: (deployment.count(f"tchat_{name}_total") - before[name]) / took for name in names}
        show(
            "rates", f"{rate:.0f}/s", acked_per_s=stage.per_second, transactions_per_s=(last - first) / took,
            rows_per_flush=per_s["pipeline_rows"] / per_s["pipeline_flushes"],
            tchat_cores=stage.usage.tchat_s / stage.seconds, postgres_cores=stage.usage.postgres_s / stage.seconds,
            load_cores=stage.load_s / stage.seconds, **per_s, **latency_of(stage),
        )  # fmt: skip
        town.check()
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
    return {} if stage.latency is None else msgspec.structs.asdict(stage.latency)


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
    town = Town(deployment)
    await town.settle(size.people, size.room)
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
