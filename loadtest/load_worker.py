"""One worker of a load test: a process with its share of the people, `python -m loadtest.load_worker`.

It reads orders from its standard input and writes answers to its standard output (`worker_messages.py`), and ends when
the input does.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time

import msgspec
import uvloop

from loadtest.channel import Channel
from loadtest.checking_client import CheckingClient
from loadtest.crowd import Crowd
from loadtest.issuer import Issuer
from loadtest.lean_client import LoadError
from loadtest.loads import Load, Times, until_whole_second_s, wait_until
from loadtest.mixed import Mixed
from loadtest.pieces import Payload, PieceReader
from loadtest.processes import allow_all_files
from loadtest.scenario import ChannelLoad, IdleLoad, MixedLoad, SlowLoad, StormLoad, TalkLoad
from loadtest.slow import Slow
from loadtest.storm import Storm
from loadtest.talking import Talking
from loadtest.tally import Tally
from loadtest.worker_messages import (
    AnyOrder,
    AnyWord,
    Begin,
    ConnectPeople,
    Counts,
    Enter,
    Failure,
    Finished,
    Gather,
    Glance,
    Meet,
    Perform,
    Prepare,
    Reach,
    StopWork,
    WorkerReport,
)

_PAYLOAD_BYTES = 24
_GROUPED = (ChannelLoad, MixedLoad)
"""Loads whose people read the same, beside those that have a `dialog_size`."""
_INPUT_BYTES_MAX = 2**24
_decode_order = msgspec.json.Decoder(AnyOrder).decode


class Worker:
    """The people of one worker, and what they do."""

    def __init__(self, begin: Begin) -> None:
        self.tally = Tally()
        load = begin.scenario.load
        issuer = Issuer.load(begin.key)
        payload = Payload(getattr(load, "payload_bytes", _PAYLOAD_BYTES))
        pieces = PieceReader(payload, shared=getattr(load, "dialog_size", 2) > 2 or isinstance(load, _GROUPED))
        names = (f"{begin.name}-{number}" for number in range(begin.people))
        people = [CheckingClient(issuer.token(name), self.tally, pieces) for name in names]
        self.crowd = Crowd(begin.address, begin.share.number, people)
        self._load = _make_load(begin, self.crowd, self.tally)  # None: they are idle
        self._measured = Counts()
        self._counted_late_ms = 0.0

    async def carry_out(self, order: AnyOrder) -> AnyWord:
        """Do what an order says; raises LoadError."""
        match order:
            case ConnectPeople():
                await self._connect(order)
            case Prepare() if self._load:
                await self._load.prepare()
            case Perform() if self._load:
                await self._perform(self._load, order.times)
            case Meet() | Gather() | Enter() | Reach() if isinstance(self._load, Channel):
                return await self._share_dialog(self._load, order)
            case _:
                return self._report()
        return Finished(self.counts())

    async def _share_dialog(self, load: Channel, order: Meet | Gather | Enter | Reach) -> Finished:
        match order:
            case Meet():
                return Finished(self.counts(), principals=load.meet())
            case Gather():
                made = await load.gather(order.principals)
                return Finished(self.counts(), dialog=made.dialog, head=made.seq)
            case Enter():
                await load.enter(order.dialog, order.head)
                return Finished(self.counts())
            case Reach():
                head = await load.reach(order.head)
                return Finished(self.counts(), head=head)

    def counts(self) -> Counts:
        """The totals now."""
        it = self.tally
        return Counts(it.connected, it.acked, it.delivered, it.connects, time.process_time())

    async def _connect(self, order: ConnectPeople) -> None:
        if order.measured:
            self.tally.measure(time.monotonic_ns())
        before = self.counts()
        await self.crowd.connect_all([client for client in self.crowd.people if not client.is_here][: order.count])
        if order.measured:
            self.tally.measure(sys.maxsize)
            self._measured = _difference(self.counts(), before)

    async def _perform(self, load: Load, times: Times) -> None:
        gc.collect()
        gc.disable()  # what a load leaves behind has no cycles, and a look for them would make it late
        try:
            await self._measure(load, times)
        finally:
            gc.enable()

    async def _measure(self, load: Load, times: Times) -> None:
        self.tally.measure(times.from_ns, times.until_ns)
        running = asyncio.create_task(load.run(times))
        await _until(times.from_ns, running)
        before, late_ns = self.counts(), time.monotonic_ns() - times.from_ns
        await _until(times.until_ns, running)
        self._measured = _difference(self.counts(), before)
        self._counted_late_ms = max(late_ns, time.monotonic_ns() - times.until_ns) / 1e6
        await running
        await load.settle()

    def _report(self) -> WorkerReport:
        tally = self.tally
        tally.close(self.crowd.members)
        late = tally.lateness.percentiles()
        return WorkerReport(
            measured=self._measured,
            ack=tally.ack.encode(),
            delivery=tally.delivery.encode(),
            connect=tally.connect.encode(),
            late_p99_ms=late.p99_ms if late else 0.0,
            counted_late_ms=self._counted_late_ms,
            checks=tally.checks(),
        )


def _make_load(begin: Begin, crowd: Crowd, tally: Tally) -> Load | None:
    scenario, share = begin.scenario, begin.share
    match scenario.load:
        case IdleLoad():
            return None
        case StormLoad() as storm:
            return Storm(storm, crowd, max(1, storm.at_once // share.of))
        case TalkLoad() as talk:
            return Talking(talk, crowd, tally, share, scenario.ramp_s)
        case ChannelLoad() as channel:
            return Channel(channel, crowd, tally, share, scenario.ramp_s)
        case MixedLoad() as mixed:
            return Mixed(mixed, crowd, tally, share)
        case SlowLoad() as slow:
            return Slow(slow, crowd, tally, share, scenario.ramp_s)


def _difference(after: Counts, before: Counts) -> Counts:
    return Counts(
        after.connected,
        after.acked - before.acked,
        after.delivered - before.delivered,
        after.connects - before.connects,
        after.cpu_s - before.cpu_s,
    )


async def _until(at_ns: int, running: asyncio.Task[None]) -> None:
    """Sleep until this moment; raises what the load raises meanwhile."""
    sleeping = asyncio.ensure_future(wait_until(at_ns))
    await asyncio.wait({sleeping, running}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    await sleeping


def _say(word: AnyWord) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


async def _work() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(_INPUT_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    begin = _decode_order(await lines.readline())
    assert isinstance(begin, Begin)
    worker = Worker(begin)
    _say(Finished(worker.counts()))

    def look() -> None:
        _say(Glance(worker.counts(), worker.tally.delivery.take_new()))
        loop.call_later(until_whole_second_s(), look)

    loop.call_later(until_whole_second_s(), look)
    while line := await lines.readline():
        order = _decode_order(line)
        _say(await worker.carry_out(order))
        if isinstance(order, StopWork):
            await worker.crowd.disconnect()
            return


def main() -> int:
    """Be a worker; returns the exit code."""
    allow_all_files()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_work())
    except (LoadError, OSError) as error:
        _say(Failure(str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
