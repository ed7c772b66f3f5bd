"""The devices of a person that others hand keys to: listed in their device log by commands, and taken out of it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from protocol.command_rules import Command
from protocol.device_log import LogState
from protocol.key_commands import AppendDeviceLog, NamedKey, UploadKeys
from protocol.replies import Reply
from tchat.actions import RefusedError, RequestLostError, StoppedError
from tchat.crypto.own_identity import OwnIdentity, new_identity
from tchat.crypto.own_keys import ONE_TIME_KEYS, OwnKeys
from tchat.crypto.state import MemoryState, Step
from tchat.shell import Client
from tests.adversity.restart_server import SignIn

_AGAIN_S = 0.2


class Asking(Protocol):
    """A device that asks, through all its lives."""

    @property
    def signed_in(self) -> SignIn:
        """Its sign-in."""

    @property
    def client(self) -> Client:
        """Its client, which may have ended."""

    @property
    def between_lives(self) -> bool:
        """Whether there is no client at the moment."""

    async def alive(self) -> Client:
        """The client, once there is one."""


class Household:
    """A person's identity, and the log of their devices. One change comes after the other."""

    def __init__(self, principal: bytes) -> None:
        self._principal = principal
        self._identity: OwnIdentity | None = None
        self._log: LogState | None = None
        self._changing = asyncio.Lock()

    async def add(self, device: Asking) -> int:
        """List a device, with keys that nobody uses; the length of the log that has it first."""
        async with self._changing:
            own = OwnKeys.create(Step(MemoryState()), self._principal, device.signed_in.device, 1)
            made = own.prepare_upload(ONE_TIME_KEYS, 0, fallback_used=True)
            fallback = [NamedKey(*each) for each in made.fallback_keys.items()]
            await _ask(device, UploadKeys(0, made.generation, made.device_keys, [], *fallback))
            entries = []
            if self._identity is None or self._log is None:
                self._identity, self._log, started = new_identity(self._principal, None, 1)
                entries.append(started)
            self._log, added = self._identity.add_device(self._log, device.signed_in.device, own.public, 1)
            await _ask(device, AppendDeviceLog(0, [*entries, added]))
            return self._log.length

    async def remove(self, device: bytes, by: Asking) -> None:
        """Take a device out, by another one; its sign-in ends."""
        async with self._changing:
            assert self._identity is not None
            assert self._log is not None
            self._log, removed = self._identity.remove_device(self._log, device, 1)
            await _ask(by, AppendDeviceLog(0, [removed]))


async def _ask(device: Asking, command: Command) -> Reply:
    """The reply, asked for until there is one: the commands of this module are repeated without harm."""
    while True:
        client = await device.alive()
        try:
            return await client.request(command)
        except RequestLostError:
            continue
        except StoppedError:
            if client is device.client and not device.between_lives:
                raise
        except RefusedError as error:
            if not error.temporary:
                raise
        await asyncio.sleep(_AGAIN_S)
