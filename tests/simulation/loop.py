"""An event loop without sockets or a clock: time jumps to the next timer, and dice draw which callback runs next.

Invariants:

* The same program with the same dice makes the same run. Nothing here looks at a real clock, an address or a hash.
* Time stands still while anything is ready. What is ready runs in a drawn order: asyncio runs it in order of arrival,
  and no promise of the product may depend on that. A callback never overtakes itself: a task has one step at a time.
* A process is what dies at once: of a dead one no callback, timer or task ever runs again, not even a `finally`. What a
  callback starts belongs to the process of that callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Process:
    """What lives and dies together: a node, the database, the clients."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused: list[Call] | None = None
        """What would run if it did not stand still; None: it does not."""
        self.context = contextvars.copy_context()
        self.context.run(_process.set, self)

    def __repr__(self) -> str:
        return self.name


_process: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class Call(asyncio.TimerHandle):
    """A callback that will run: when it is drawn, at `when` at the earliest."""

    __slots__ = ("process",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: VirtualLoop,
        context: contextvars.Context,
    ) -> None:
        self._context = context
        self._loop = loop  # what the base class does, without its look at the stack
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = False
        self.process = context.get(_process)

    def cancel(self) -> None:
        """Let it not run."""
        self._cancelled = True
        self._callback = self._args = None  # type: ignore[assignment]


class CountedTask(asyncio.Task[_T]):
    """A task whose hash is its number, not its address: a TaskGroup goes through a set of them."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, _T],
        *,
        loop: VirtualLoop,
        name: str,
        context: contextvars.Context | None,
        number: int,
    ) -> None:
        self._number = number
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.AbstractEventLoop):
    """See the module. `faults` are exceptions that nobody handled."""

    def __init__(self, dice: random.Random) -> None:
        self.faults: list[str] = []
        self.steps = 0
        self._draw = dice.random
        self._now = 0.0
        self._ready: list[Call] = []
        self._timers: list[tuple[float, int, Call]] = []
        self._timer_count = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._ended = False

    # -- what drives it

    def run_until(self, done: Callable[[], object], *, at_most_s: float) -> bool:
        """Run until the condition holds, which is looked at after each callback; whether it does."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            return self._run(done, self._now + at_most_s)
        finally:
            asyncio._set_running_loop(before)

    def run_for(self, seconds: float) -> None:
        """Let so much time pass."""
        self.run_until(_never, at_most_s=seconds)

    def _run(self, done: Callable[[], object], until: float) -> bool:
        ready, timers, draw = self._ready, self._timers, self._draw
        while not done():
            while timers and (timers[0][0] <= self._now or timers[0][2].cancelled()):
                call = heapq.heappop(timers)[2]
                if not call.cancelled():
                    ready.append(call)
            if not ready:
                if not timers or timers[0][0] > until:
                    self._now = until
                    return bool(done())
                self._now = timers[0][0]
                continue
            chosen = int(draw() * len(ready))
            call, ready[chosen] = ready[chosen], ready[-1]
            ready.pop()
            process = call.process
            if process is not None and process.paused is not None:
                process.paused.append(call)
            elif not call.cancelled() and (process is None or process.alive):
                self.steps += 1
                try:
                    call._context.run(call._callback, *call._args)
                except Exception as error:  # noqa: BLE001 - whatever nobody handled is a fault of the product
                    self.faults.append(f"{error!r} in a callback of {process}")
        return True

    def resume(self, process: Process) -> None:
        """Let a process that stands still go on: all that it missed is ready now."""
        missed, process.paused = process.paused, None
        self._ready += missed or ()

    def close(self) -> None:
        """End everything without running it: a task that is destroyed must not run its `finally` in another run."""
        self._ended = True
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined] # it will be, on purpose
                    coroutine = task.get_coro()
                    with contextlib.suppress(RuntimeError):  # it waits in a `finally`
                        coroutine.close()
        finally:
            asyncio._set_running_loop(before)
        self._tasks.clear()
        self._ready.clear()
        self._timers.clear()

    # -- what asyncio calls

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override] # plain callables, as a node has them
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        call = Call(self._now, callback, args, self, context or contextvars.copy_context())
        if not self._ended:
            self._ready.append(call)
        return call

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        call = Call(when, callback, args, self, context or contextvars.copy_context())
        if not self._ended:
            self._timer_count += 1
            heapq.heappush(self._timers, (when, self._timer_count, call))
        return call

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, _T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[_T]:
        task = CountedTask(coro, loop=self, name=name or "", context=context, number=len(self._tasks))
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "exception" in context and not self._ended:
            self.faults.append(f"{context['message']}: {context['exception']!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._ended


def _never() -> bool:
    return False
