"""What a run and its workers tell each other: JSON, a line for each message."""

from __future__ import annotations

import msgspec

from loadtest.latencies import DelayCounts
from loadtest.lean_client import Address
from loadtest.loads import Share, Times
from loadtest.run_result import Checks
from loadtest.scenario import Scenario


class Order(msgspec.Struct, frozen=True, tag_field="order"):
    """What a run tells a worker."""


class Begin(Order, frozen=True, tag="begin"):
    """The first line: who this worker is. Its people are `people` of `name`, and their tokens are signed with `key`."""

    scenario: Scenario
    address: Address
    key: str
    name: str
    people: int
    share: Share


class ConnectPeople(Order, frozen=True, tag="connect"):
    """Connect the first `count` people that are not yet; `measured`: their latencies count."""

    count: int
    measured: bool = False


class Prepare(Order, frozen=True, tag="prepare"):
    """Make what the load needs."""


class Meet(Order, frozen=True, tag="meet"):
    """Of a load that all workers share: say whose principals are in its dialog from the beginning."""


class Gather(Order, frozen=True, tag="gather"):
    """Create the dialog of all these people, and say which it is, and its head."""

    principals: list[bytes]


class Enter(Order, frozen=True, tag="enter"):
    """This is the dialog, with everybody in it since event `head`: wait until the people here have that."""

    dialog: bytes
    head: int


class Reach(Order, frozen=True, tag="reach"):
    """Wait until the people here have the events up to this number, and up to the highest one acked; say that one."""

    head: int


class Perform(Order, frozen=True, tag="perform"):
    """Put the load on the server, and answer with a report."""

    times: Times


class StopWork(Order, frozen=True, tag="stop"):
    """Answer with a report, and end."""


class Word(msgspec.Struct, frozen=True, tag_field="word"):
    """What a worker tells a run."""


class Counts(msgspec.Struct, frozen=True):
    """Totals since the beginning, or those of the measured part."""

    connected: int = 0
    acked: int = 0
    delivered: int = 0
    connects: int = 0
    cpu_s: float = 0.0


class Glance(Word, frozen=True, tag="glance"):
    """On each whole second of CLOCK_MONOTONIC. `delays` are latencies of deliveries since the last one."""

    counts: Counts
    delays: DelayCounts


class Finished(Word, frozen=True, tag="finished"):
    """An order is carried out; the rest is what some orders ask for."""

    counts: Counts
    principals: list[bytes] = []
    dialog: bytes = b""
    head: int = 0


class WorkerReport(Word, frozen=True, tag="report"):
    """The end: counts of the measured part, histograms (`Latencies.encode`), checks.

    `late_p99_ms`: how late messages of a schedule were sent. `counted_late_ms`: how late the begin or the end of the
    measured part was noticed; the counts are of a part that is longer or shorter by as much.
    """

    measured: Counts
    ack: str
    delivery: str
    connect: str
    late_p99_ms: float
    counted_late_ms: float
    checks: Checks


class Failure(Word, frozen=True, tag="failure"):
    """The worker cannot go on."""

    why: str


AnyOrder = Begin | ConnectPeople | Prepare | Meet | Gather | Enter | Reach | Perform | StopWork
AnyWord = Glance | Finished | WorkerReport | Failure
