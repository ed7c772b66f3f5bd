"""The keys of this device: what it shows others so that they can write to it, signed by itself.

- The keys never change within a `generation`. A device whose state was lost or is behind makes new keys under a higher
  generation.
- A one-time key or fallback key that was made is offered until the server has it: no upload, repeated, makes new ones.
- vodozemac keeps the private part of one fallback key beside the current one. So a fallback key that was used is
  replaced, but not twice within FALLBACK_MS_MIN: what was written under the one before can still be opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import vodozemac

from protocol.canonical import device_id_of, encode_canonical, from_base64, user_id_of
from protocol.cross_signing import ALGORITHMS
from protocol.public_keys import DevicePublic
from tchat.crypto.state import OF_A_GENERATION, Step, Table

ONE_TIME_KEYS = 50
"""So many one-time keys a device keeps at the server."""
FALLBACK_MS_MIN = 3_600_000
FALLBACK_MS_MAX = 7 * 86_400_000


class _Record(msgspec.Struct, array_like=True):
    principal: bytes
    device: bytes
    generation: int
    device_keys: bytes
    ed25519: bytes
    curve25519: bytes
    pickle: str
    fallback_made_ms: int = 0


@dataclass(frozen=True, slots=True)
class Upload:
    """What the server must be given; keys by their ids, each the canonical JSON of a signed object."""

    generation: int
    device_keys: bytes
    one_time_keys: dict[str, bytes]
    fallback_keys: dict[str, bytes]


class OwnKeys:
    """The keys of this device within one step; the account is read when it is needed (1 ms), and saved by `save`."""

    def __init__(self, step: Step, record: _Record, account: vodozemac.Account | None = None) -> None:
        self._step = step
        self._record = record
        self._account = account
        self.principal = record.principal
        self.device = record.device
        self.generation = record.generation
        self.device_keys = record.device_keys
        """Matrix' object of the keys of this device, signed by it."""
        self.public = DevicePublic(record.ed25519, record.curve25519)

    @classmethod
    def create(cls, step: Step, principal: bytes, device: bytes, generation: int) -> OwnKeys:
        """Make new keys; those of before are lost, and with them all channels and sessions that were written with."""
        for table in OF_A_GENERATION:
            for key in step.keys(table):
                step.write(table, key, None)
        account = vodozemac.Account()
        curve25519, ed25519 = account.curve25519_key.to_base64(), account.ed25519_key.to_base64()
        device_id = device_id_of(device)
        device_keys: dict[str, object] = {
            "user_id": user_id_of(principal),
            "device_id": device_id,
            "algorithms": list(ALGORITHMS),
            "keys": {f"curve25519:{device_id}": curve25519, f"ed25519:{device_id}": ed25519},
        }
        signed = _signed(account, principal, device, device_keys)
        record = _Record(principal, device, generation, signed, from_base64(ed25519), from_base64(curve25519), "")
        own = cls(step, record, account)
        own.save()
        return own

    @classmethod
    def read(cls, step: Step) -> OwnKeys | None:
        """The keys that the state has; None for a new state."""
        data = step.read(Table.ACCOUNT)
        return None if data is None else cls(step, msgspec.msgpack.decode(data, type=_Record))

    @property
    def account(self) -> vodozemac.Account:
        """The private keys; call `save` when they have changed."""
        if self._account is None:
            self._account = vodozemac.Account.from_pickle(self._record.pickle, self._step.state.pickle_key)
        return self._account

    def save(self) -> None:
        """Write the private keys into the step."""
        self._record.pickle = self.account.pickle(self._step.state.pickle_key)
        self._step.write(Table.ACCOUNT, b"", msgspec.msgpack.encode(self._record))

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of this device, 64 bytes."""
        return from_base64(self.account.sign(message).to_base64())

    def prepare_upload(self, held: int, now_ms: int, *, fallback_used: bool) -> Upload:
        """What to upload when the server has `held` one-time keys; the same again until `uploaded` was called."""
        account = self.account
        if held < ONE_TIME_KEYS and not account.one_time_keys:
            account.generate_one_time_keys(ONE_TIME_KEYS - held)
        age_ms = now_ms - self._record.fallback_made_ms
        kept_ms = FALLBACK_MS_MIN if fallback_used else FALLBACK_MS_MAX
        if not 0 <= age_ms < kept_ms and not _fallback_keys(account):
            account.generate_fallback_key()  # type: ignore[attr-defined]  # the types of vodozemac lack it
            self._record.fallback_made_ms = now_ms
        self.save()
        return Upload(
            self.generation,
            self.device_keys,
            self._sign_keys(account.one_time_keys.items(), {}),
            self._sign_keys(_fallback_keys(account).items(), {"fallback": True}),
        )

    def uploaded(self, upload: Upload) -> None:
        """The server has these keys. If others were made meanwhile, all are offered once more."""
        account = self.account
        unpublished = account.one_time_keys.keys() | _fallback_keys(account).keys()
        if upload.generation == self.generation and unpublished <= upload.one_time_keys.keys() | upload.fallback_keys:
            account.mark_keys_as_published()
            self.save()

    def forget_offered(self) -> None:
        """The keys that were made and not confirmed are not offered again; what was written with them still opens."""
        account = self.account
        if account.one_time_keys or _fallback_keys(account):
            account.mark_keys_as_published()
            self._record.fallback_made_ms = 0
            self.save()

    def _sign_keys(
        self, keys: Iterable[tuple[str, vodozemac.Curve25519PublicKey]], more: dict[str, object]
    ) -> dict[str, bytes]:
        return {
            key_id: _signed(self.account, self.principal, self.device, {"key": key.to_base64(), **more})
            for key_id, key in keys
        }


def _fallback_keys(account: vodozemac.Account) -> dict[str, vodozemac.Curve25519PublicKey]:
    """The fallback key that is not published, by its id."""
    keys: dict[str, vodozemac.Curve25519PublicKey] = account.fallback_key  # type: ignore[attr-defined]  # lacks it, too
    return keys


def _signed(account: vodozemac.Account, principal: bytes, device: bytes, value: dict[str, object]) -> bytes:
    """The canonical JSON of a Matrix object with the signature of this device."""
    signature = account.sign(encode_canonical(value)).to_base64()
    signatures = {user_id_of(principal): {f"ed25519:{device_id_of(device)}": signature}}
    return encode_canonical({**value, "signatures": signatures})
