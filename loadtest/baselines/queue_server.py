"""A chat as one often finds it: each connection has an `asyncio.Queue` and a task that sends what comes out of it."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from loadtest.baselines.library_server import Handler, run
from loadtest.baselines.small_chat import SmallChat

_Queue = asyncio.Queue[bytes]


def make_handler() -> Handler:
    """The coroutine of each connection, over one chat."""
    chat = SmallChat[_Queue]()

    async def handle(connection: ServerConnection) -> None:
        queue = _Queue()
        writer = asyncio.create_task(_write(connection, queue))
        try:
            async for message in connection:
                assert isinstance(message, bytes)
                answer = chat.take(queue, message)
                for reply in answer.replies:
                    queue.put_nowait(reply)
                for each in answer.audience:
                    each.put_nowait(answer.event)
        except ConnectionClosed:
            pass
        finally:
            chat.leave(queue)
            writer.cancel()

    return handle


async def _write(connection: ServerConnection, queue: _Queue) -> None:
    try:
        while True:
            await connection.send(await queue.get())
    except ConnectionClosed:
        pass


if __name__ == "__main__":
    sys.exit(run(make_handler(), "A chat with a task and a queue per connection, without durability, checks, limits."))
