"""A worker as the run sees it: starts the process, gives orders, and keeps what it said last."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import msgspec

from loadtest.latencies import DelayCounts, add_counts
from loadtest.lean_client import LoadError
from loadtest.worker_messages import AnyOrder, AnyWord, Begin, Counts, Failure, Finished, Glance, StopWork, WorkerReport

_LINE_BYTES_MAX = 2**24
_END_S = 10.0
_decode_word = msgspec.json.Decoder(AnyWord).decode


class WorkerHandle:
    """One worker; `counts` are its newest totals."""

    def __init__(self, process: asyncio.subprocess.Process, begin: Begin) -> None:
        self.people = begin.people
        self.counts = Counts()
        self._delays: DelayCounts = {}
        self._process = process
        self._has_reported = False
        self._answers: asyncio.Queue[Finished | WorkerReport | LoadError] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, begin: Begin) -> WorkerHandle:
        """Start the process; returns when it is ready, raises LoadError if it cannot be."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtest.load_worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES_MAX,
            start_new_session=True,  # a terminal's Ctrl-C is for the run, which ends its workers
        )
        worker = cls(process, begin)
        try:
            await worker.order(begin)
        except BaseException:
            await worker.end()
            raise
        return worker

    async def order(self, order: AnyOrder) -> Finished | WorkerReport:
        """Give an order, and return the answer; raises LoadError if the worker cannot go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        answer = await self._answers.get()
        if isinstance(answer, LoadError):
            raise answer
        return answer

    async def report(self) -> WorkerReport:
        """The end of its work."""
        report = await self.order(StopWork())
        assert isinstance(report, WorkerReport)
        return report

    def take_delays(self) -> DelayCounts:
        """Latencies of deliveries since the last call."""
        delays, self._delays = self._delays, {}
        return delays

    async def end(self) -> None:
        """End the process: it ends by itself after its report, and has nothing to finish without one."""
        if not self._has_reported:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        try:
            await self._read_words()
        finally:
            self._answers.put_nowait(LoadError("A worker ended before its work was done."))

    async def _read_words(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            match _decode_word(line):
                case Glance() as glance:
                    self.counts = glance.counts
                    add_counts(self._delays, glance.delays)
                case Failure() as failure:
                    self._answers.put_nowait(LoadError(failure.why))
                case Finished() as finished:
                    self.counts = finished.counts
                    self._answers.put_nowait(finished)
                case WorkerReport() as report:
                    self._has_reported = True
                    self._answers.put_nowait(report)
