"""People beside a measurement of a sealed group, as a process of their own: `python -m ... talk` or `... read`.

It reads one line of JSON with the port and the tokens, prints `ready` once all are connected, and ends with its input.

* `talk`: strangers, a pair for two tokens, write to each other in direct dialogs at a steady pace. At the end one line
  of JSON has of each message when it was acked, in seconds of the machine's monotonic clock, and after how many
  milliseconds.
* `read`: members of the group, who confirm the keys that they get as a client does.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

from loadtest.lean_client import Address, LeanClient
from protocol.codec import MSGPACK
from protocol.commands import Send
from protocol.events import KeySlices
from protocol.ids import from_text
from protocol.share_commands import ConfirmSlices
from tchat.encryption.key_inbox import CONFIRM_WITHIN_S

_PACE_S = 0.05
_FIRST_N = 1_000
"""Those who made the dialogs have used lower ones."""
_AT_ONCE = 16
_PER_ADDRESS = 200


def _fail(why: str) -> None:
    raise SystemExit(why)


async def _connect(port: int, tokens: Sequence[str]) -> list[LeanClient]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def connect(place: int, token: str) -> LeanClient:
        client = LeanClient(token, _fail)
        async with turns:
            await client.connect(Address("127.0.0.1", port), f"127.0.2.{1 + place // _PER_ADDRESS}")
        return client

    return list(await asyncio.gather(*(connect(*each) for each in enumerate(tokens))))


async def _talk(port: int, tokens: Sequence[str], dialogs: Sequence[bytes]) -> list[tuple[float, float]]:
    """Write until the input ends; when each message was acked, and how long that took."""
    writers = (await _connect(port, tokens))[::2]
    took: list[tuple[float, float]] = []

    async def write(client: LeanClient, dialog: bytes) -> None:
        while True:
            began = time.monotonic()
            await client.ask(Send(1, dialog, _FIRST_N + client.next_n(), b"x" * 100))
            ended = time.monotonic()
            took.append((round(ended, 4), round((ended - began) * 1000, 3)))
            await asyncio.sleep(_PACE_S)

    await _while(asyncio.gather(*(write(*pair) for pair in zip(writers, dialogs, strict=True))))
    return took


async def _read(port: int, tokens: Sequence[str]) -> None:
    """Confirm keys until the input ends."""
    loop, dice = asyncio.get_running_loop(), random.Random(1)

    def take(client: LeanClient, payload: bytes) -> None:
        message = MSGPACK.decode_server(payload)
        if isinstance(message, KeySlices):
            confirm = ConfirmSlices(1, [each.number for each in message.slices])
            loop.call_later(CONFIRM_WITHIN_S * dice.random(), client.send, confirm)

    for client in await _connect(port, tokens):
        client.receiver = take
    await _while(asyncio.get_running_loop().create_future())


async def _while(work: asyncio.Future[Any]) -> None:
    """Say that all are here, and go on with the work until the input ends."""
    print("ready", flush=True)
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _run(role: str, said: dict[str, Any]) -> None:
    port, tokens = said["port"], said["tokens"]
    if role == "talk":
        print(json.dumps(await _talk(port, tokens, [from_text(each) for each in said["dialogs"]])))
    else:
        await _read(port, tokens)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], json.loads(sys.stdin.readline())))
