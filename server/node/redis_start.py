"""The Redis instances through which this node and others tell each other what is new."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from server.config.settings import ClusterSettings
from storage.bus import Bus, PresenceStore
from storage.rates import BucketStore, RateLimiter
from storage.redis.bus import RedisBus
from storage.redis.instance import RedisInstance, RedisUrl
from storage.redis.presence import RedisPresence
from storage.redis.rates import RedisBuckets, RedisRateLimiter


@dataclass(frozen=True)
class RedisEngines:
    """What a node uses of Redis."""

    instances: Sequence[RedisInstance]
    bus: Bus
    presence: PresenceStore
    limiter: RateLimiter
    buckets: BucketStore

    @property
    def up(self) -> dict[str, bool]:
        """By instance, whether it answers."""
        return {str(instance.url): instance.answers.is_set() for instance in self.instances}

    @property
    def faults(self) -> dict[str, int]:
        """By instance, how often its connection was lost or could not be made."""
        return {str(instance.url): instance.faults for instance in self.instances}


@contextlib.asynccontextmanager
async def running_redis(settings: ClusterSettings, deployment_key: bytes) -> AsyncIterator[RedisEngines | None]:
    """The engines over `cluster.redis_urls`, connected as soon as Redis answers; None: this node serves alone.

    Names in Redis begin with a hash of the deployment's key, so deployments may share an instance.
    """
    if not settings.redis_urls:
        yield None
        return
    password = settings.redis_password.reveal()
    instances = [RedisInstance(RedisUrl(url, password)) for url in settings.redis_urls]
    namespace = f"tchat:{hashlib.blake2b(deployment_key, digest_size=6).hexdigest()}"
    connected = [asyncio.ensure_future(instance.run()) for instance in instances]
    try:
        yield RedisEngines(
            instances,
            RedisBus(instances, namespace),
            RedisPresence(instances, namespace),
            RedisRateLimiter(instances[0], namespace, deployment_key),
            RedisBuckets(instances, namespace),
        )
    finally:
        for task in connected:
            task.cancel()
        await asyncio.wait(connected)
