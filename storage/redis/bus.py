"""Messages between nodes through Redis: a channel for each incarnation, on one of the instances.

Redis loses messages without a word when it drops a slow reader, and says nothing of a wipe. So a lost subscription is
always an interruption, and a connection that is silent is asked each second whether it lives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from storage.bus import MESSAGE_BYTES_MAX, Bus
from storage.redis.instance import RedisInstance, connect
from storage.redis.resp import RespConnection, RespError

_log = logging.getLogger(__name__)

_ASK_EVERY_S = 1.0
_PAUSE_S = 0.25


class RedisBus(Bus):
    """The bus over some instances; `namespace` keeps deployments apart."""

    def __init__(self, instances: Sequence[RedisInstance], namespace: str) -> None:
        self._instances = instances
        self._namespace = namespace

    def publish(self, target: int, message: bytes) -> bool:
        if len(message) > MESSAGE_BYTES_MAX:
            return False
        return self._instance_of(target).send([("PUBLISH", self._channel_of(target), message)], count=1)

    async def receive(
        self, incarnation: int, deliver: Callable[[bytes], None], interrupted: Callable[[], None]
    ) -> None:
        url, channel = self._instance_of(incarnation).url, self._channel_of(incarnation)
        while True:
            subscription = _Subscription(deliver, interrupted)
            try:
                connection = await connect(url, subscription.take)
                try:
                    await subscription.hold(connection, channel)
                finally:
                    connection.drop()
                    interrupted()
            except (OSError, RespError, TimeoutError) as error:
                _log.debug("the channel %s cannot be received: %s", channel, error)
            await asyncio.sleep(_PAUSE_S)

    def _instance_of(self, incarnation: int) -> RedisInstance:
        return self._instances[incarnation % len(self._instances)]

    def _channel_of(self, incarnation: int) -> str:
        return f"{self._namespace}:node:{incarnation}"


class _Subscription:
    """One life of a subscription."""

    def __init__(self, deliver: Callable[[bytes], None], interrupted: Callable[[], None]) -> None:
        self._deliver = deliver
        self._interrupted = interrupted
        self._heard = False

    async def hold(self, connection: RespConnection, channel: str) -> None:
        """Subscribe, and return when the connection is lost or silent."""
        asked = connection.send([("SUBSCRIBE", channel)], count=0)
        while asked and not connection.lost.done():
            self._heard = False
            asked = connection.send([("PING",)], count=0)
            await asyncio.wait([connection.lost], timeout=_ASK_EVERY_S)
            if not self._heard:
                return

    def take(self, pushed: list[Any]) -> None:
        """Take what Redis pushes: `[kind, channel, content]`, or `[pong, text]`."""
        self._heard = True
        if pushed[0] == b"message":
            self._deliver(pushed[2])
        elif pushed[0] == b"subscribe":
            self._interrupted()
