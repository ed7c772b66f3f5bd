"""Where principals are connected, in Redis: a hash for each, with a field for each connection.

The value of a field says which process of Redis it was written to. Those that an old dump brings back are passed over:
their connections may have ended, and a node writes again what it has. Nodes of an older version write no value: theirs
count, since others would spend no number for what they overlook under a token that these nodes have confirmed.

The token of an instance is the run id of its process and the value of a key of ours: a wipe takes the key, a restart
changes the run id although an old dump may bring the old key back. It is read after the answers: a wipe before them
is seen, one after them harms nothing. Principals are spread over the instances by a hash.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from storage.bus import KEPT_S, ConnectionKey, Located, PresenceStore
from storage.redis.instance import RedisInstance
from storage.redis.resp import Command, RespError

_FIELD = struct.Struct(">QQ")  # incarnation, stamp


class RedisPresence(PresenceStore):
    """Presence over some instances; `namespace` keeps deployments apart."""

    def __init__(self, instances: Sequence[RedisInstance], namespace: str) -> None:
        self._instances = instances
        self._prefix = f"{namespace}:at:".encode()
        self._token_key = f"{namespace}:token"

    async def put(self, keys: Sequence[ConnectionKey]) -> str:
        commands: list[list[Command]] = [[] for _ in self._instances]
        for key in keys:
            name = self._prefix + key.principal
            place = self._place_of(key.principal)
            process = _process_of(self._instances[place].run_id)
            commands[place] += [
                ("HSET", name, _FIELD.pack(key.incarnation, key.stamp), process),
                ("EXPIRE", name, KEPT_S),
            ]
        token, _ = await self._ask_all(commands)
        return token

    def remove(self, keys: Sequence[ConnectionKey]) -> None:
        commands: list[list[Command]] = [[] for _ in self._instances]
        for key in keys:
            command = ("HDEL", self._prefix + key.principal, _FIELD.pack(key.incarnation, key.stamp))
            commands[self._place_of(key.principal)].append(command)
        for instance, each in zip(self._instances, commands, strict=True):
            if each:
                instance.send(each, count=len(each))

    async def locate(self, principals: Sequence[bytes]) -> Located:
        commands: list[list[Command]] = [[] for _ in self._instances]
        places = [self._place_of(principal) for principal in principals]
        for principal, place in zip(principals, places, strict=True):
            commands[place].append(("HGETALL", self._prefix + principal))
        processes = [_process_of(instance.run_id) for instance in self._instances]
        token, answers = await self._ask_all(commands)
        taken = [iter(each) for each in answers]
        return Located([_nodes_of(next(taken[place], ()), processes[place]) for place in places], token)

    async def read_token(self) -> str:
        token, _ = await self._ask_all([[] for _ in self._instances])
        return token

    def _place_of(self, principal: bytes) -> int:
        return zlib.crc32(principal) % len(self._instances)

    async def _ask_all(self, commands: Sequence[list[Command]]) -> tuple[str, list[list[Any]]]:
        """The token over all instances, and the replies of each: none of an instance that does not answer."""
        if len(self._instances) == 1:
            answers = [await self._ask(self._instances[0], commands[0])]
        else:
            answers = await asyncio.gather(*map(self._ask, self._instances, commands))
        tokens = [token for token, _ in answers]
        return "+".join(tokens) if all(tokens) else "", [replies for _, replies in answers]

    async def _ask(self, instance: RedisInstance, commands: list[Command]) -> tuple[str, list[Any]]:
        run_id = instance.run_id
        try:
            *replies, mark = await instance.ask([*commands, ("GET", self._token_key)], count=len(commands) + 1)
        except RespError:
            return "", []
        if mark is None:  # no token for this answer: the wipe may have come between the commands and the key
            instance.send([("SET", self._token_key, secrets.token_hex(8), "NX")], count=1)
            return "", replies
        return f"{run_id}.{mark.decode()}", replies


def _process_of(run_id: str) -> bytes:
    return bytes.fromhex(run_id[:16])


def _nodes_of(found: Sequence[bytes], process: bytes) -> list[int]:
    """The incarnations of a hash, given as fields and values in turn, that this process was told."""
    pairs = zip(found[::2], found[1::2], strict=True)
    valid = (process, b"")
    return list({_FIELD.unpack(field)[0] for field, told in pairs if told in valid and len(field) == _FIELD.size})
