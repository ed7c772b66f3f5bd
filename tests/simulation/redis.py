"""A Redis of the size of a dict: what nodes tell each other, with the faults that `storage/bus.py` allows.

* Messages of one node to another come in their order, after a while, or not at all. Pairs do not wait for each other.
* Nodes are cut off for a while: what is told meanwhile is lost. A receiver learns of it late, and again at the end.
* What a call asks for is done or not when its answer is lost; it is lost within `ANSWER_S_MAX`.
* The contents are wiped, or begin anew from an old dump, both under a new token. After a wipe the first who asks gets
  none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from server.clock import Clock
from server.identity.rates import MemoryRateLimiter
from server.node.redis_start import RedisEngines
from storage.bus import ANSWER_S_MAX, Bus, ConnectionKey, Located, PresenceStore
from storage.local.network import LocalPresence
from storage.local.rates import LocalBuckets
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.weather import Weather

_T = TypeVar("_T")


class Contents(LocalPresence):
    """Who is connected where, as Redis has it."""

    def __init__(self) -> None:
        self._marked = False
        super().__init__()

    async def read_token(self) -> str:
        if not self._marked:
            self._marked = True
            return ""
        return await super().read_token()

    def wipe(self) -> None:
        super().wipe()
        self._marked = False

    def restart(self) -> None:
        """Begin with an old dump: what it brings back is nowhere, and its key gives a token at once."""
        self.wipe()
        self._marked = True


class _Receiver:
    """A node that receives. `open`: it has a connection."""

    def __init__(
        self, process: Process, deliver: Callable[[bytes], None], interrupted: Callable[[], None], *, is_open: bool
    ) -> None:
        self.process = process
        self.deliver = deliver
        self.interrupted = interrupted
        self.open = is_open


class SimulatedRedis:
    """What all nodes share."""

    def __init__(self, loop: VirtualLoop, weather: Weather, clock: Clock) -> None:
        self.contents = Contents()
        self.limiter = MemoryRateLimiter(clock)
        self.buckets = LocalBuckets(clock.monotonic)
        self.loop = loop
        self.weather = weather
        self.absent = weather.dice.random() < 0.25
        """Whether it never answers: nodes have the journal alone."""
        self.away = self.absent
        self._lost = weather.dice.choice((0.0, 0.02, 0.2))
        """The share of messages that get lost without a sign, while the weather is not calm."""
        self.process = Process("redis")
        self._cut_off: set[Process] = set()
        self._unheard: set[Process] = set()
        """Whose calls of the store are lost, while messages come and go: several instances share the work."""
        self._receivers: dict[int, _Receiver] = {}
        self._unsent: list[tuple[str, int, bytes]] = []
        self._on_the_way: dict[tuple[str, int], list[bytes]] = {}

    def engines_of(self, process: Process) -> RedisEngines:
        """What a node has of it."""
        return RedisEngines((), _NodeBus(self, process), _NodePresence(self, process), self.limiter, self.buckets)

    def reaches(self, process: Process) -> bool:
        """Whether a node has a connection."""
        return not self.away and process not in self._cut_off

    # -- faults

    def cut_off(self, process: Process, *, notices_s: float) -> None:
        """Let a node neither tell nor hear anything."""
        self._cut_off.add(process)
        self._close(process, notices_s)

    def lose_calls(self, process: Process) -> None:
        """Let nothing that a node asks of the store arrive."""
        self._unheard.add(process)

    def hears(self, process: Process) -> bool:
        """Whether calls of the store arrive."""
        return self.reaches(process) and process not in self._unheard

    def go_away(self, *, notices_s: float) -> None:
        """Answer nobody."""
        self.away = True
        self._close(None, notices_s)

    def mend(self) -> None:
        """Let all nodes connect again."""
        self.away = self.absent
        self._cut_off.clear()
        self._unheard.clear()
        for receiver in self._receivers.values():
            if not receiver.open and self.reaches(receiver.process):
                self.loop.call_soon(self._reopen, receiver, context=receiver.process.context)

    def drop_receivers(self) -> None:
        """Lose what is on its way to all nodes, which connect again at once."""
        self._close(None, 0.0)
        self.mend()

    # -- messages

    def send(self, source: Process, target: int, message: bytes) -> bool:
        """Take a message; in which order a node tells several others does not depend on how a set is ordered."""
        if not self.reaches(source) or target not in self._receivers:
            return False
        if not self._unsent:
            self.loop.call_soon(self._send_all, context=self.process.context)
        self._unsent.append((source.name, target, message))
        return True

    async def receive(
        self, incarnation: int, process: Process, deliver: Callable[[bytes], None], interrupted: Callable[[], None]
    ) -> None:
        """Receive until cancelled."""
        self._receivers[incarnation] = _Receiver(process, deliver, interrupted, is_open=self.reaches(process))
        interrupted()
        try:
            await self.loop.create_future()
        finally:
            del self._receivers[incarnation]

    def _send_all(self) -> None:
        unsent, self._unsent = self._unsent, []
        for source, target, message in sorted(unsent, key=lambda each: each[:2]):
            receiver = self._receivers.get(target)
            if receiver is None or (not self.weather.calm and self.weather.dice.random() < self._lost):
                continue
            waiting = self._on_the_way.setdefault((source, target), [])
            waiting.append(message)
            if len(waiting) == 1:
                arrives_s = self.weather.network_s()
                self.loop.call_later(arrives_s, self._arrive, source, target, context=receiver.process.context)

    def _arrive(self, source: str, target: int) -> None:
        messages = self._on_the_way.pop((source, target))
        receiver = self._receivers.get(target)
        if receiver is not None and receiver.open:
            for message in messages:
                receiver.deliver(message)

    def _close(self, process: Process | None, notices_s: float) -> None:
        for receiver in self._receivers.values():
            if process in (None, receiver.process) and receiver.open:
                receiver.open = False
                self.loop.call_later(notices_s, receiver.interrupted, context=receiver.process.context)

    def _reopen(self, receiver: _Receiver) -> None:
        if self.reaches(receiver.process):
            receiver.open = True
            receiver.interrupted()


class _NodeBus(Bus):
    """The bus, as one node has it."""

    def __init__(self, redis: SimulatedRedis, process: Process) -> None:
        self._redis = redis
        self._process = process

    def publish(self, target: int, message: bytes) -> bool:
        return self._redis.send(self._process, target, message)

    async def receive(
        self, incarnation: int, deliver: Callable[[bytes], None], interrupted: Callable[[], None]
    ) -> None:
        await self._redis.receive(incarnation, self._process, deliver, interrupted)


class _NodePresence(PresenceStore):
    """The store of presence, as one node has it."""

    def __init__(self, redis: SimulatedRedis, process: Process) -> None:
        self._redis = redis
        self._process = process
        self._removing: list[ConnectionKey] = []
        """On their way, before what is asked for next."""

    async def put(self, keys: Sequence[ConnectionKey]) -> str:
        return await self._ask(lambda: self._redis.contents.put(keys), "")

    def remove(self, keys: Sequence[ConnectionKey]) -> None:
        redis = self._redis
        if redis.hears(self._process):
            self._removing += keys
            redis.loop.call_later(redis.weather.answer_s(), self._remove, context=redis.process.context)

    async def locate(self, principals: Sequence[bytes]) -> Located:
        return await self._ask(lambda: self._redis.contents.locate(principals), Located([[] for _ in principals], ""))

    async def read_token(self) -> str:
        return await self._ask(self._redis.contents.read_token, "")

    def _remove(self) -> None:
        self._redis.contents.remove(self._removing)
        self._removing = []

    async def _ask(self, call: Callable[[], Awaitable[_T]], nothing: _T) -> _T:
        """What a call of the store answers; `nothing` when it does not, though it may have done what was asked."""
        asked_at = self._redis.loop.time()
        weather = self._redis.weather
        await asyncio.sleep(weather.answer_s())
        if self._redis.hears(self._process) and not weather.loses_call():
            self._remove()
            answer = await call()
            await asyncio.sleep(weather.answer_s())
            if self._redis.reaches(self._process) and not weather.loses_call():
                return answer
        await asyncio.sleep(asked_at + ANSWER_S_MAX - self._redis.loop.time())
        return nothing
