"""A chat as one writes it with `websockets`: a coroutine per connection, fan-out by the library's `broadcast`."""

from __future__ import annotations

import sys

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed

from loadtest.baselines.library_server import Handler, run
from loadtest.baselines.small_chat import SmallChat


def make_handler() -> Handler:
    """The coroutine of each connection, over one chat."""
    chat = SmallChat[ServerConnection]()

    async def handle(connection: ServerConnection) -> None:
        try:
            async for message in connection:
                assert isinstance(message, bytes)
                answer = chat.take(connection, message)
                if answer.event:  # before anything waits: else a later event could overtake it
                    broadcast(answer.audience, answer.event)
                for reply in answer.replies:
                    await connection.send(reply)
        except ConnectionClosed:
            pass
        finally:
            chat.leave(connection)

    return handle


if __name__ == "__main__":
    sys.exit(run(make_handler(), "A chat over websockets.broadcast, without durability, checks and limits."))
