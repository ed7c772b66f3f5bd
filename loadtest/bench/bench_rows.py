"""What is measured, as data: runs of scenarios, and the rows of the table with their targets.

A run is a scenario with what differs from it. Rows share runs: each is run once in a round, however many rows read it.
A target names a metric of `run_result.METRICS` in one run; with `beside` its ratio to that of another run of the same
round. `must` and `aim` are the numbers that performance work is held to; a number without them is shown for comparison.
"""

from __future__ import annotations

from typing import Any

import msgspec

from loadtest.bench.machine_noise import MachineNoise

TCHAT = "tchat"
FLOOR = "floor"


class BenchRun(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is run in each round: a scenario, on which server, and what differs from its file.

    `changes` are fields of the scenario, `load` those of its load, `settings` those of the server, by section. `apart`
    gives the server the first core alone. With `journal_rows` the journal has so many rows before the run begins.
    """

    scenario: str
    server: str = TCHAT
    changes: dict[str, Any] = {}
    load: dict[str, Any] = {}
    settings: dict[str, dict[str, Any]] = {}
    apart: bool = True
    redis: bool = False
    journal_rows: int = 0


class TargetNumber(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a row. `at_most`: less is better. `factor` scales it to the unit of the target."""

    what: str
    run: str
    metric: str
    beside: str = ""
    factor: float = 1.0
    must: float | None = None
    aim: float | None = None
    at_most: bool = False


class TargetRow(msgspec.Struct, frozen=True):
    """One line of the targets. `long`: it takes minutes a round, and is measured only when it is asked for."""

    number: int
    what: str
    numbers: tuple[TargetNumber, ...]
    long: bool = False

    @property
    def runs(self) -> list[str]:
        """The names of the runs that it reads, each once."""
        return list(dict.fromkeys(name for each in self.numbers for name in (each.run, each.beside) if name))


class RunNumbers(msgspec.Struct, frozen=True):
    """What one run of one round gave. `trouble`: why it gave nothing; `bottleneck`: why its numbers are the load's.

    `noise` is what the machine did just before it; nothing else ran then.
    """

    run: str
    round: int
    metrics: dict[str, float | None] = {}
    bottleneck: str = ""
    trouble: str = ""
    noise: MachineNoise | None = None


_FLAT = 0.8
_TENS = {"people": 50}
_IN_TENS = {"dialog_size": 10, "writers": 10, "rate": 1_000.0}
_STEADY = {"rate": 4_000.0}
"""Below what saturates: at the same rate flushes are as large, however much there is beside."""

RUNS: dict[str, BenchRun] = {
    "direct": BenchRun(scenario="direct"),
    "sealed": BenchRun(scenario="sealed"),
    "rooms": BenchRun(scenario="rooms"),
    "rooms-one": BenchRun(scenario="rooms-one"),
    "direct-paced": BenchRun(scenario="direct-paced"),
    "rooms-paced": BenchRun(scenario="rooms-paced"),
    "rooms-offered": BenchRun(scenario="rooms-offered"),
    "idle": BenchRun(scenario="idle", changes={"people": 18_000}),
    "storm": BenchRun(scenario="storm"),
    "first-sync": BenchRun(scenario="first-sync"),
    "channel": BenchRun(scenario="channel"),
    "channel-busy": BenchRun(scenario="channel-busy"),
    "broadcast": BenchRun(scenario="rooms", server="broadcast_server"),
    "queue": BenchRun(scenario="rooms", server="queue_server"),
    "floor": BenchRun(scenario="rooms-one", server=FLOOR),
    "floor-joined": BenchRun(scenario="rooms", server=FLOOR),
    "one-worker": BenchRun(scenario="direct"),
    "two-workers": BenchRun(
        scenario="direct",
        changes={"people": 2_000},
        redis=True,
        apart=False,
        settings={"server": {"workers": 2}},
    ),
    "idle-100k": BenchRun(
        scenario="idle",
        changes={"people": 100_000, "workers": 6},
        redis=True,
        apart=False,
        settings={"server": {"workers": 6}},
    ),
    "among-100k": BenchRun(
        scenario="rooms-paced",
        changes={"people": 100_000, "workers": 6},
        load={"rate": 50.0},
        redis=True,
        apart=False,
        settings={"server": {"workers": 6}},
    ),
    "1k-connections": BenchRun(scenario="direct-paced", load=_STEADY),
    "18k-connections": BenchRun(scenario="direct-paced", changes={"people": 18_000}, load=_STEADY),
    "1-dialog": BenchRun(scenario="rooms-paced", changes=_TENS, load=_IN_TENS),
    "1000-dialogs": BenchRun(scenario="rooms-paced", changes=_TENS, load={**_IN_TENS, "dialogs": 1_000}),
    "first-sync-1": BenchRun(scenario="first-sync", changes={"people": 200}, load={"dialogs": 1}),
    "first-sync-150": BenchRun(scenario="first-sync", changes={"people": 200}, load={"dialogs": 150}),
    "10k-rows": BenchRun(scenario="direct-paced", load=_STEADY, journal_rows=10_000),
    "10M-rows": BenchRun(scenario="direct-paced", load=_STEADY, journal_rows=10_000_000),
}
"""Every run, by its name."""

_THOUSAND = 1e-3
_PER_CPU_S = "thousand deliveries per CPU second"

ROWS: tuple[TargetRow, ...] = (
    TargetRow(
        1,
        "direct dialogs, saturated",
        (
            TargetNumber(
                what="thousand durable messages per CPU second",
                run="direct",
                metric="acked_per_cpu_s",
                factor=_THOUSAND,
                must=20,
                aim=30,
            ),
        ),
    ),
    TargetRow(
        2,
        "rooms of 100, ten outstanding",
        (
            TargetNumber(
                what=_PER_CPU_S, run="rooms", metric="delivered_per_cpu_s", factor=_THOUSAND, must=700, aim=1_000
            ),
        ),
    ),
    TargetRow(
        3,
        "rooms of 100, one outstanding",
        (
            TargetNumber(
                what=_PER_CPU_S, run="rooms-one", metric="delivered_per_cpu_s", factor=_THOUSAND, must=110, aim=150
            ),
        ),
    ),
    TargetRow(
        4,
        "1,000 messages/s in 500 direct dialogs",
        (
            TargetNumber(what="cores", run="direct-paced", metric="server_cores", must=0.35, aim=0.20, at_most=True),
            TargetNumber(what="p50 ms", run="direct-paced", metric="delivery_p50_ms", must=1.5, aim=1.0, at_most=True),
            TargetNumber(what="p99 ms", run="direct-paced", metric="delivery_p99_ms", must=5, aim=3, at_most=True),
        ),
    ),
    TargetRow(
        5,
        "20,000 deliveries/s in rooms of 100",
        (TargetNumber(what="p99 ms", run="rooms-paced", metric="delivery_p99_ms", must=4, aim=3, at_most=True),),
    ),
    TargetRow(
        6,
        "300,000 deliveries/s offered in rooms of 100",
        (
            TargetNumber(what="p50 ms", run="rooms-offered", metric="delivery_p50_ms", must=15, aim=10, at_most=True),
            TargetNumber(what="p99 ms", run="rooms-offered", metric="delivery_p99_ms", must=40, aim=25, at_most=True),
        ),
    ),
    TargetRow(
        7,
        "18,000 idle sessions in one process",
        (
            TargetNumber(
                what="KB per session",
                run="idle",
                metric="bytes_per_session",
                factor=_THOUSAND,
                must=3.5,
                aim=2.5,
                at_most=True,
            ),
        ),
    ),
    TargetRow(
        8,
        "reconnect storm",
        (
            TargetNumber(
                what="thousand resumes per CPU second",
                run="storm",
                metric="connects_per_cpu_s",
                factor=_THOUSAND,
                must=4,
                aim=8,
            ),
            TargetNumber(
                what="thousand first syncs of 20 dialogs per CPU second",
                run="first-sync",
                metric="connects_per_cpu_s",
                factor=_THOUSAND,
                must=2,
                aim=4,
            ),
        ),
    ),
    TargetRow(
        9,
        "a channel with 10,000 readers",
        (
            TargetNumber(
                what=_PER_CPU_S, run="channel", metric="delivered_per_cpu_s", factor=_THOUSAND, must=700, aim=1_500
            ),
            TargetNumber(
                what="with 100 joins and 200 reconnects/s, against alone",
                run="channel-busy",
                metric="delivered_per_cpu_s",
                beside="channel",
                must=0.8,
                aim=0.9,
            ),
        ),
    ),
    TargetRow(
        10,
        "rooms of 100, ten outstanding: tchat's own CPU alone, against servers that keep nothing",
        (
            TargetNumber(
                what="times websockets.broadcast",
                run="rooms",
                metric="delivered_per_tchat_cpu_s",
                beside="broadcast",
                must=6,
                aim=9,
            ),
            TargetNumber(
                what="times a task and a queue per connection",
                run="rooms",
                metric="delivered_per_tchat_cpu_s",
                beside="queue",
            ),
            TargetNumber(
                what="of the bound: one send() per delivery",
                run="rooms",
                metric="delivered_per_tchat_cpu_s",
                beside="floor",
            ),
            TargetNumber(
                what="of the bound: one send() per ten deliveries",
                run="rooms",
                metric="delivered_per_tchat_cpu_s",
                beside="floor-joined",
            ),
        ),
    ),
    TargetRow(
        11,
        "two workers on two cores against one on one, direct dialogs",
        (
            TargetNumber(
                what="times as much, at two cores' CPU",
                run="two-workers",
                metric="acked_per_cpu_s",
                beside="one-worker",
                factor=2,
                must=1.7,
                aim=1.9,
            ),
        ),
    ),
    TargetRow(
        12,
        "100,000 sessions over six workers",
        (
            TargetNumber(
                what="KB per idle session",
                run="idle-100k",
                metric="bytes_per_session",
                factor=_THOUSAND,
                must=8,
                aim=4,
                at_most=True,
            ),
            TargetNumber(
                what="p99 ms of 5,000 deliveries/s among them",
                run="among-100k",
                metric="delivery_p99_ms",
                must=20,
                aim=5,
                at_most=True,
            ),
        ),
        long=True,
    ),
    TargetRow(
        13,
        "sealed direct dialogs against open ones, saturated",
        (
            TargetNumber(
                what="times as many per CPU second",
                run="sealed",
                metric="acked_per_cpu_s",
                beside="direct",
                must=0.9,
                aim=0.97,
            ),
        ),
    ),
    TargetRow(
        14,
        "messages per CPU second as the work grows, at the same rate",
        (
            TargetNumber(
                what="18,000 connections against 1,000",
                run="18k-connections",
                metric="acked_per_cpu_s",
                beside="1k-connections",
                must=_FLAT,
            ),
            TargetNumber(
                what="1,000 groups of ten per person against one",
                run="1000-dialogs",
                metric="acked_per_cpu_s",
                beside="1-dialog",
                must=_FLAT,
            ),
            TargetNumber(
                what="first syncs of 150 dialogs against those of one",
                run="first-sync-150",
                metric="connects_per_cpu_s",
                beside="first-sync-1",
            ),
            TargetNumber(
                what="ten million rows in the journal against ten thousand",
                run="10M-rows",
                metric="acked_per_cpu_s",
                beside="10k-rows",
                must=_FLAT,
            ),
        ),
        long=True,
    ),
)
