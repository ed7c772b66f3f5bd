"""Rates of all nodes together, in Redis: a key for each bucket that is not full, changed by functions that run there.

The clock is that of Redis, because those of nodes differ. What is judged here is on one instance, so that several
buckets are taken in one round trip, all of them or none. Their names are keyed hashes: who reads Redis finds no phone
number and no address, and cannot try which one it is.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storage.rates import Bucket, BucketStore, Rate, RateLimiter, Taken
from storage.redis.instance import RedisInstance
from storage.redis.resp import RespError
from storage.unavailable import StorageUnavailableError

_FUNCTIONS = Path(__file__).parent / "functions"
_TAKE, _GIVE_BACK, _ADD = [
    (_FUNCTIONS / f"{name}.lua").read_text(encoding="utf-8") for name in ("take", "give_back", "add")
]


class RedisRateLimiter(RateLimiter):
    """Counts on one instance; `secret`, at most 64 bytes, keys the hashes and is the same for all nodes."""

    def __init__(self, instance: RedisInstance, namespace: str, secret: bytes) -> None:
        self._instance = instance
        self._prefix = f"{namespace}:rate:".encode()
        self._secret = secret

    async def take(self, buckets: Sequence[Bucket], *, cost: int = 1) -> float:
        amounts = [amount for rate, _ in buckets for amount in (_taken_us(rate, cost), _held_us(rate))]
        return int(await self._call(_TAKE, buckets, amounts)) / 1e6

    async def give_back(self, buckets: Sequence[Bucket], *, cost: int = 1) -> None:
        await self._call(_GIVE_BACK, buckets, [_taken_us(rate, cost) for rate, _ in buckets])

    async def _call(self, function: str, buckets: Sequence[Bucket], amounts: list[int]) -> Any:
        return await _call(self._instance, function, [self._key_of(bucket) for bucket in buckets], amounts)

    def _key_of(self, bucket: Bucket) -> bytes:
        rate, key = bucket
        name = f"{rate.name}\0{type(key).__name__}\0".encode() + (key.encode() if isinstance(key, str) else key)
        return self._prefix + hashlib.blake2b(name, digest_size=16, key=self._secret, person=b"rates").digest()


class RedisBuckets(BucketStore):
    """Buckets of sessions, spread over some instances by a hash; those of one that is away count as full."""

    def __init__(self, instances: Sequence[RedisInstance], namespace: str) -> None:
        self._instances = instances
        self._prefix = f"{namespace}:bucket:".encode()

    async def add_taken(self, taken: Sequence[Taken]) -> list[float]:
        shares: list[list[int]] = [[] for _ in self._instances]
        for at, (key, _, _) in enumerate(taken):
            shares[zlib.crc32(key) % len(shares)].append(at)
        left_s = [0.0] * len(taken)
        asked = [(instance, share) for instance, share in zip(self._instances, shares, strict=True) if share]
        errors = []
        for instance, share in asked:
            keys = [self._prefix + taken[at][0] for at in share]
            amounts = [round(seconds * 1000) for at in share for seconds in taken[at][1:]]
            try:
                answer = await _call(instance, _ADD, keys, amounts)
            except StorageUnavailableError as error:
                errors.append(error)
                continue
            for at, left_ms in zip(share, answer, strict=True):
                left_s[at] = left_ms / 1000
        if errors and len(errors) == len(asked):
            raise errors[0]
        return left_s


async def _call(instance: RedisInstance, function: str, keys: Sequence[bytes], amounts: Sequence[int]) -> Any:
    try:
        [answer] = await instance.ask([("EVAL", function, len(keys), *keys, *amounts)], count=1)
    except RespError as error:
        raise StorageUnavailableError(f"rates cannot be counted: {error}") from error
    return answer


def _taken_us(rate: Rate, cost: int) -> int:
    """Rounded down, so that a bucket has room for as many as it says."""
    return int(min(cost, rate.burst) * rate.interval_s * 1e6)


def _held_us(rate: Rate) -> int:
    return int(rate.burst * rate.interval_s * 1e6)
