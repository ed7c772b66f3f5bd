"""People whose device logs are in a store: begun, grown and begun anew, as their devices would do it."""

from __future__ import annotations

import itertools

import msgspec
from nacl.signing import SigningKey

from protocol.bodies import LogHead
from protocol.device_log import LogState
from protocol.public_keys import DevicePublic
from storage.device_keys import DeviceKeyStore, KeysOutcome, KeyUpload
from tchat.crypto.own_identity import OwnIdentity, new_identity
from tchat.crypto.pins import PinnedLog
from tests.support.key_pairs import fresh_keys
from tests.support.world import Person


class LoggedPerson:
    """A person, their identity and their log as it is in the store."""

    def __init__(self, store: DeviceKeyStore, person: Person) -> None:
        self.person = person
        self.entries: dict[int, list[bytes]] = {}
        """By generation."""
        self.signing = SigningKey.generate()
        """The Ed25519 key of the device that was added last."""
        self._store = store
        self._generations = itertools.count(1)
        self._before: LogState | None = None
        self._identity: OwnIdentity
        self._upload: KeyUpload
        self._log: LogState | None = None

    @property
    def log(self) -> LogState:
        """The log that was begun."""
        assert self._log is not None
        return self._log

    @property
    def head(self) -> LogHead:
        """How far the log goes."""
        return LogHead(self.log.generation, self.log.length, self.log.head)

    async def start(self) -> LogHead:
        """Begin the log of a new identity."""
        self._before = self._log
        self._identity, log, entry = new_identity(self.person.principal, self._log, 1)
        return await self._append(log, entry)

    @property
    def pin(self) -> PinnedLog:
        """What a client believes of this person."""
        return PinnedLog(self.log, before=self._before)

    async def add(self, device: Person) -> LogHead:
        """Add a device, which uploads keys first."""
        self.signing = SigningKey.generate()
        public = DevicePublic(bytes(self.signing.verify_key), fresh_keys().curve25519)
        upload = KeyUpload(
            sign_in=device.sign_in,
            device=device.device,
            principal=device.principal,
            generation=next(self._generations),
            keys=b"keys",
            public=public,
        )
        self._upload = upload
        await self.upload_again(device)
        return await self._append(*self._identity.add_device(self.log, device.device, public, 1))

    async def upload_again(self, device: Person) -> None:
        """The device that was added last uploads its keys, by its present sign-in."""
        upload = msgspec.structs.replace(self._upload, sign_in=device.sign_in)
        assert (await self._store.upload(upload)).outcome is KeysOutcome.OK

    async def remove(self, device: Person) -> LogHead:
        """Remove a device."""
        return await self._append(*self._identity.remove_device(self.log, device.device, 1))

    async def _append(self, log: LogState, entry: bytes) -> LogHead:
        assert await self._store.append_log(self._log, log, [entry], 1) is KeysOutcome.OK
        self._log = log
        self.entries.setdefault(log.generation, []).append(entry)
        return self.head
