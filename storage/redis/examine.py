"""What an operator should know of a Redis: how it is, and how it is configured."""

from __future__ import annotations

import asyncio

import msgspec

from storage.redis.instance import RedisUrl, connect
from storage.redis.resp import Command, RespConnection, RespError

_TIMEOUT_S = 2.0


class PasswordError(Exception):
    """Redis refuses the password, or wants one."""


class RedisState(msgspec.Struct, frozen=True):
    """One instance. Settings are None where Redis does not show them."""

    version: tuple[int, ...]
    is_primary: bool
    replicas: int
    policy: str | None
    """`maxmemory-policy`."""
    unread_bytes_max: int | None
    """How much may wait for a subscriber before it is dropped; 0: any amount."""


async def examine(url: RedisUrl) -> RedisState:
    """Ask one instance. Raises PasswordError; OSError, TimeoutError or RespError when it cannot be used."""
    try:
        connection = await connect(url)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await _read(connection)
        finally:
            connection.drop()
    except RespError as error:
        if "AUTH" in str(error) or "WRONGPASS" in str(error):
            raise PasswordError(str(error)) from error
        raise


async def _read(connection: RespConnection) -> RedisState:
    [info] = await connection.ask([("INFO",)], count=1)
    fields = dict(line.split(":", 1) for line in bytes(info).decode().splitlines() if ":" in line)
    limits = await _read_setting(connection, "client-output-buffer-limit")
    return RedisState(
        tuple(map(int, fields["redis_version"].split("."))),
        fields["role"] == "master",
        int(fields["connected_slaves"]),
        await _read_setting(connection, "maxmemory-policy"),
        None if limits is None else int(limits.split("pubsub ")[1].split()[0]),
    )


async def _read_setting(connection: RespConnection, name: str) -> str | None:
    command: Command = ("CONFIG", "GET", name)
    try:
        [found] = await connection.ask([command], count=1)
    except RespError:  # a Redis that somebody else runs may forbid it
        return None
    return bytes(found[1]).decode() if found else None
