"""A person's own identity: three private keys, and what they sign.

The master key signs the device log, which says whose devices are believed, and the two other keys. The self-signing
key signs devices in Matrix' format. The user-signing key signs nothing: Matrix' libraries take no identity without it.
Whom this person has verified, their devices tell each other through the backup (`trust.py`). Whoever has these keys is
this person to everybody else: they are on the person's devices, and sealed under the recovery key.

Every entry that is made here is appended to the log in memory first, so this never makes an entry that others refuse.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nacl.signing import SigningKey

from protocol.cross_signing import CrossSigningKeys, add_signature, cross_signing_object
from protocol.device_log import LogAction, LogState, extend, fold, next_entry, start_log
from protocol.public_keys import DevicePublic

SEED_BYTES = 32
SECRET_BYTES = 3 * SEED_BYTES


@dataclass(frozen=True, slots=True)
class IdentityObjects:
    """Matrix' objects of the three public keys, as others read them."""

    master: bytes
    self_signing: bytes
    user_signing: bytes


@dataclass(frozen=True, slots=True)
class OwnIdentity:
    """The private keys of one person, and which of their identities this is (`generation`, from 1)."""

    principal: bytes
    generation: int
    master: SigningKey = field(default_factory=SigningKey.generate, repr=False)
    self_signing: SigningKey = field(default_factory=SigningKey.generate, repr=False)
    user_signing: SigningKey = field(default_factory=SigningKey.generate, repr=False)

    @classmethod
    def from_secret(cls, principal: bytes, generation: int, secret: bytes) -> OwnIdentity:
        """The identity that `secret` is of; `ValueError` unless it has SECRET_BYTES."""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"the secret of an identity has {SECRET_BYTES} bytes")
        seeds = (secret[start : start + SEED_BYTES] for start in range(0, SECRET_BYTES, SEED_BYTES))
        return cls(principal, generation, *map(SigningKey, seeds))

    @property
    def secret(self) -> bytes:
        """All that it takes to be this person: SECRET_BYTES, never stored or sent but sealed."""
        return bytes(self.master) + bytes(self.self_signing) + bytes(self.user_signing)

    @property
    def public(self) -> CrossSigningKeys:
        """The three public keys."""
        return CrossSigningKeys(*(bytes(key.verify_key) for key in (self.master, self.self_signing, self.user_signing)))

    def owns(self, log: LogState) -> bool:
        """Whether this log is of this identity: any other one is somebody else's, or of an identity before or after."""
        return (log.principal, log.generation, log.master) == (
            self.principal,
            self.generation,
            self.public.master,
        )

    def objects(self) -> IdentityObjects:
        """Matrix' objects, the lesser two signed by the master key."""
        public = self.public
        lesser = (("self_signing", public.self_signing), ("user_signing", public.user_signing))
        signed = (
            add_signature(cross_signing_object(self.principal, usage, key), self.principal, self.master)
            for usage, key in lesser
        )
        return IdentityObjects(cross_signing_object(self.principal, "master", public.master), *signed)

    def start(self, previous: bytes, at_ms: int) -> tuple[LogState, bytes]:
        """The log of this identity, and its first entry; `previous` is the head of the log before, b"" for none."""
        entry = start_log(self.principal, self.generation, previous, at_ms=at_ms, master=self.master)
        return fold(self.principal, [entry]), entry

    def add_device(self, log: LogState, device: bytes, keys: DevicePublic, at_ms: int) -> tuple[LogState, bytes]:
        """The log with a device signed in, and the entry; `LogError` if the log does not take it."""
        return self._append(log, LogAction.ADDED, device, keys, at_ms)

    def change_keys(self, log: LogState, device: bytes, keys: DevicePublic, at_ms: int) -> tuple[LogState, bytes]:
        """The log with new keys of a device that lost its store, and the entry; `LogError` as `add_device`."""
        return self._append(log, LogAction.KEYS_CHANGED, device, keys, at_ms)

    def remove_device(self, log: LogState, device: bytes, at_ms: int) -> tuple[LogState, bytes]:
        """The log with a device signed out, and the entry; `LogError` if it is not in the log."""
        return self._append(log, LogAction.REMOVED, device, None, at_ms)

    def sign_device(self, device_keys: bytes) -> bytes:
        """Matrix' `device_keys` object with the signature of the self-signing key."""
        return add_signature(device_keys, self.principal, self.self_signing)

    def _append(
        self, log: LogState, action: LogAction, device: bytes, keys: DevicePublic | None, at_ms: int
    ) -> tuple[LogState, bytes]:
        assert self.owns(log), "a log is extended by its own identity"
        entry = next_entry(log, action, device, keys, at_ms=at_ms, master=self.master)
        return extend(log, [entry]), entry


def new_identity(principal: bytes, before: LogState | None, at_ms: int) -> tuple[OwnIdentity, LogState, bytes]:
    """A new identity, its log and its first entry: the first of a person, or one in place of `before`.

    All contacts see that it is another one: those who verified the person before send nothing until they agree.
    """
    identity = OwnIdentity(principal, 1 if before is None else before.generation + 1)
    return identity, *identity.start(b"" if before is None else before.head, at_ms)
