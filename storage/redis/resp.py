"""One connection to a Redis: commands out in one write, replies back in order, parsed by `hiredis`.

Invariants: replies belong to commands by their order; a connection on which an answer is late is dropped, so no later
answer is taken for another's. What is not yet written is bounded by `UNSENT_BYTES_MAX`: commands above it are refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import hiredis

UNSENT_BYTES_MAX = 33_554_432

Command = tuple[bytes | str | int, ...]
"""A command and its arguments."""

_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # typed for one word only


class RespError(Exception):
    """Redis refused a command, or its connection is gone."""


class _Replies:
    """The replies of some commands that were sent together; `future` is None when nobody waits for them."""

    __slots__ = ("count", "future", "values")

    def __init__(self, count: int, future: asyncio.Future[list[Any]] | None) -> None:
        self.count = count
        self.future = future
        self.values: list[Any] = []

    def add(self, value: Any) -> bool:
        """Take the next reply; whether it was the last one."""
        self.count -= 1
        if self.future is None:
            return not self.count
        self.values.append(value)
        if self.count:
            return False
        if not self.future.done():
            refused = next((each for each in self.values if isinstance(each, hiredis.ReplyError)), None)
            if refused is None:
                self.future.set_result(self.values)
            else:
                self.future.set_exception(RespError(str(refused)))
        return True


class RespConnection(asyncio.Protocol):
    """An open connection. `pushed` gets what comes without a command: messages of subscriptions."""

    def __init__(self, pushed: Callable[[list[Any]], None] | None = None) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        """Done when the connection is gone."""
        self._more = object()
        self._reader = hiredis.Reader(notEnoughData=self._more)
        self._pushed = pushed
        self._waiting: deque[_Replies] = deque()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's is no subclass
        self._transport = transport

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport.is_closing()

    def send(self, commands: Iterable[Command], *, count: int) -> bool:
        """Send `count` commands whose replies nobody needs; False when they were not sent."""
        return self._write(commands, _Replies(count, None))

    def ask(self, commands: Iterable[Command], *, count: int) -> asyncio.Future[list[Any]]:
        """Send `count` commands and get their replies; raises RespError."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        if not self._write(commands, _Replies(count, future)):
            future.set_exception(RespError("the connection takes nothing more"))
        return future

    def drop(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not self._more:
                self._take(reply)
        except hiredis.ProtocolError:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            if each.future is not None and not each.future.done():
                each.future.set_exception(RespError("the connection to Redis is gone"))
        if not self.lost.done():
            self.lost.set_result(None)

    def _take(self, reply: Any) -> None:
        if self._pushed is not None and isinstance(reply, list):
            self._pushed(reply)
        elif not self._waiting:
            raise hiredis.ProtocolError("a reply without a command")
        elif self._waiting[0].add(reply):
            self._waiting.popleft()

    def _write(self, commands: Iterable[Command], replies: _Replies) -> bool:
        if self.closed or self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            return False
        self._transport.write(b"".join([_pack(command) for command in commands]))
        if replies.count:
            self._waiting.append(replies)
        return True
