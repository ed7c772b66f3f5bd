"""One writer, everybody else reads: the people of all workers are in one channel, whose writer is the first worker's.

The run tells the workers of each other (`shared_dialog.py`). A part of the people are visitors: they join the channel,
stay for a moment, and leave. What a visitor gets while they are in it is checked as that of the others.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from loadtest.checking_client import ASK_ID, CheckingClient
from loadtest.crowd import Crowd, Gathering, each
from loadtest.lean_client import LoadError
from loadtest.loads import Share, Times, settle_deliveries, wait_until
from loadtest.pieces import Payload
from loadtest.scenario import ChannelLoad
from loadtest.tally import Tally
from loadtest.traffic import Traffic, moments
from protocol.bodies import Settings
from protocol.commands import Add, Create, Leave
from protocol.dialog_types import DialogType, Mode
from protocol.limits import MEMBERS_PER_COMMAND_MAX
from protocol.replies import Acked

_STAY_S = 1.0
_VISITORS_PER_JOIN = 3
"""So many people for each join of a second: they stay for one, and need a while to come and go."""
_AT_ONCE_MAX = 1_000
_PACE_S = 0.001
_TIMED = 10
_LOOK_S = 0.01
_PATIENCE_S = 30.0


class Channel:
    """The load `channel` of one worker."""

    def __init__(self, spec: ChannelLoad, crowd: Crowd, tally: Tally, share: Share, ramp_s: float) -> None:
        self._spec = spec
        self._crowd = crowd
        self._tally = tally
        self._share = share
        self._ramp_s = ramp_s
        self._payload = Payload(spec.payload_bytes)
        self._dialog = b""
        visitors = min(math.ceil(spec.joins_per_s * _VISITORS_PER_JOIN / share.of), len(crowd.people) // 2)
        self._readers = crowd.people[: len(crowd.people) - visitors]
        self._timed = self._readers[-_TIMED:]
        self._visitors = crowd.people[len(crowd.people) - visitors :]

    # what the run asks for before and after

    def meet(self) -> list[bytes]:
        """Who is in the channel from the beginning."""
        return [reader.principal for reader in self._readers]

    async def gather(self, principals: Sequence[bytes]) -> Acked:
        """Create the channel of all these, some at a time; the first person here is its writer."""
        writer = self._writer
        others = [principal for principal in principals if principal != writer.principal]
        parts = [others[at : at + MEMBERS_PER_COMMAND_MAX] for at in range(0, len(others), MEMBERS_PER_COMMAND_MAX)]
        first = parts[0] if parts else []
        public = Settings(is_public=True)  # so that visitors may join
        made = await writer.ask(
            Create(ASK_ID, writer.next_n(), DialogType.CHANNEL, first, "a channel", mode=Mode.OPEN, settings=public)
        )
        assert isinstance(made, Acked)
        for part in parts[1:]:
            made = await writer.ask(Add(ASK_ID, made.dialog, writer.next_n(), part))
            assert isinstance(made, Acked)
        return made

    async def enter(self, dialog: bytes, head: int) -> None:
        """The channel is made, and everybody is in it with event `head`: wait until all here have that."""
        self._dialog = dialog
        await self._crowd.enter(Gathering(dialog, self._readers, head))

    async def reach(self, head: int) -> int:
        """Wait until the readers here have all up to `head`, and what was acked here; returns the highest acked."""
        acked = self._tally.acked_heads
        acked[self._dialog] = max(head, acked.get(self._dialog, 0))
        await settle_deliveries(self._crowd, self._tally)
        return acked[self._dialog]

    # the load

    async def prepare(self) -> None:
        """The timed ones are the last."""
        for reader in self._timed:
            reader.timed = True

    async def run(self, times: Times) -> None:
        beside = [
            self._keep_up(self._spec.joins_per_s, self._visitors, self._visit, times),
            self._keep_up(self._spec.reconnects_per_s, self._readers[1:-_TIMED], self._reconnect, times),
        ]
        await asyncio.gather(*beside, *([self._write(times)] if self._share.number == 0 else []))

    async def settle(self) -> None:
        """The run asks for `reach` when all workers have ended their part."""

    @property
    def _writer(self) -> CheckingClient:
        return self._crowd.people[0]

    async def _write(self, times: Times) -> None:
        """A message is under way until the timed readers here have it: acks alone would outrun the readers."""
        writer = self._writer
        if self._spec.rate:
            traffic = Traffic([(writer, self._dialog)], self._payload)
            await traffic.open_loop(self._spec.rate, times, ramp_s=self._ramp_s)
            return
        acked = self._tally.acked_heads
        await wait_until(times.begin_ns)
        while (now_ns := time.monotonic_ns()) < times.until_ns:
            slowest = min(reader.heads.get(self._dialog, 0) for reader in self._timed)
            under_way = writer.unanswered + max(0, acked.get(self._dialog, 0) - slowest)
            for _ in range(self._spec.outstanding - under_way):
                writer.post(self._dialog, self._payload.make(now_ns), now_ns)
            await asyncio.sleep(_PACE_S)

    async def _keep_up(
        self,
        rate: float,
        people: Sequence[CheckingClient],
        act: Callable[[CheckingClient], Awaitable[None]],
        times: Times,
    ) -> None:
        """Have these people act in turn at this rate of all workers; where too many act already, it is late."""
        if not rate or not people:
            return
        due = moments(times, rate / self._share.of)
        idle, turn = deque(people), asyncio.Lock()

        async def act_in_turn(_number: int) -> None:
            while True:
                async with turn:
                    due_ns = await anext(due, None)
                if due_ns is None:
                    return
                self._tally.take_sent(due_ns, time.monotonic_ns())
                person = idle.popleft()
                await act(person)
                idle.append(person)

        at_once = min(_AT_ONCE_MAX, len(people))
        await each(range(at_once), act_in_turn, at_once)

    async def _visit(self, visitor: CheckingClient) -> None:
        visitor.heads.pop(self._dialog, None)
        await visitor.ask(Add(ASK_ID, self._dialog, visitor.next_n(), [visitor.principal]))
        await asyncio.sleep(_STAY_S)
        left = await visitor.ask(Leave(ASK_ID, self._dialog, visitor.next_n()))
        assert isinstance(left, Acked)
        until = time.monotonic() + _PATIENCE_S
        while visitor.heads.get(self._dialog, 0) < left.seq:  # it is the last event that comes
            if time.monotonic() > until:
                raise LoadError(f"Who left the channel did not get all of it within {_PATIENCE_S:.0f} s.")
            await asyncio.sleep(_LOOK_S)

    async def _reconnect(self, reader: CheckingClient) -> None:
        await reader.disconnect()
        await self._crowd.connect(reader)
