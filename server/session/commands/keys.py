"""Keys of devices: uploaded, claimed and read; device logs and identities.

What comes from a client is checked before it is stored: form, owner, keys that mean nothing, signatures. Every client
checks it again, and trusts no server for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence

from protocol import key_commands as k
from protocol.canonical import CanonicalError, decode_canonical, from_base64, to_base64
from protocol.close_codes import CloseCode
from protocol.cross_signing import KeysRefusedError, read_cross_signing, read_device_keys, read_one_time_key
from protocol.device_log import LogError, LogReason, LogState, extend, fold, hash_of_entry
from protocol.errors import ErrorCode
from protocol.limits import IDENTITIES_AHEAD_MAX, REPLY_BYTES_MAX
from protocol.replies import ClaimedKey, ClaimedKeys, DeviceKeys, DevicesPage, KeysUploaded, PersonDevices
from server.clock import Clock
from server.config.settings import RateSettings
from server.delivery.registry import Registry
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.device_keys import DeviceKeyStore, IdentityRow, KeyClaim, KeysOutcome, KeyUpload, StoredKey
from storage.rates import Rate, RateLimiter

_KEY_ID_BYTES = 8
_KEY_NUMBER_MAX = 2**63 - 1
_LOG_ENTRIES_PER_PAGE = 100
_PAGE_HEAD_BYTES = 256

_REUSED = "another device has a key of these, or this one had it before: make new ones"
_REFUSED: dict[KeysOutcome, tuple[ErrorCode, str]] = {
    KeysOutcome.SIGNED_OUT: (ErrorCode.SIGNED_OUT, ""),
    KeysOutcome.REUSED: (ErrorCode.KEYS_REFUSED, _REUSED),
    KeysOutcome.PASSED: (ErrorCode.KEYS_PASSED, ""),
    KeysOutcome.BOUND: (ErrorCode.KEYS_BOUND, ""),
    KeysOutcome.MISSING: (ErrorCode.KEYS_MISSING, ""),
    KeysOutcome.NOT_FOUND: (ErrorCode.DIALOG_NOT_FOUND, ""),
    KeysOutcome.CONFLICT: (ErrorCode.CONFLICT, "this claim was made for other devices"),
}
_LOG_PASSED = frozenset({LogReason.WRONG_INDEX, LogReason.WRONG_PREVIOUS})


class Keys:
    """Handlers of the commands about keys, devices and identities."""

    def __init__(
        self, store: DeviceKeyStore, registry: Registry, limiter: RateLimiter, settings: RateSettings, clock: Clock
    ) -> None:
        self._store = store
        self._registry = registry
        self._limiter = limiter
        self._clock = clock
        self._by_person = Rate.per_hour("key claims of person", settings.key_claims_per_person_per_h)
        self._of_device = Rate.per_hour("key claims of device", settings.key_claims_per_device_per_h)
        self._entries = Rate.per_day("device log of person", settings.device_log_entries_per_person_per_day)
        self.claimed: Counter[str] = Counter({"one_time": 0, "fallback": 0, "none": 0})
        """Devices of which a key was claimed, by what was given."""

    async def upload_keys(self, session: Session, command: k.UploadKeys) -> None:
        """Store the keys of the device of this session."""
        principal, device = session.principal, session.device
        try:
            public = read_device_keys(command.device_keys, principal, device)
            signed_by = (principal, device, public.ed25519)
            one_time = [_read_key(named, *signed_by, fallback=False) for named in command.one_time_keys]
            fallback = _read_key(named, *signed_by, fallback=True) if (named := command.fallback) else None
        except KeysRefusedError as error:
            raise RequestRefusedError(ErrorCode.KEYS_REFUSED, str(error)) from error
        if len({each.number for each in one_time}) < len(one_time):
            raise RequestRefusedError(ErrorCode.KEYS_REFUSED, "two one-time keys have one id")
        uploaded = await self._store.upload(
            KeyUpload(
                sign_in=session.sign_in,
                device=device,
                principal=principal,
                generation=command.generation,
                keys=command.device_keys,
                public=public,
                one_time=one_time,
                fallback=fallback,
            )
        )
        _check(uploaded.outcome)
        session.push(KeysUploaded(command.id, uploaded.held, uploaded.fallback_used))

    async def claim_keys(self, session: Session, command: k.ClaimKeys) -> None:
        """Give out a key of each device; above a rate the fallback key, never a refusal.

        Only what a device gives counts for its rate: nobody uses up that of a device whose keys they cannot get.
        """
        limited = await self._find_limited(session.principal, set(command.devices))
        unused = {(self._of_device, device) for device in command.devices if device not in limited}
        try:
            claimed = await self._store.claim(
                KeyClaim(session.device, session.principal, command.dialog, command.claim, command.devices, limited)
            )
            unused -= {(self._of_device, given.device) for given in claimed.keys if not given.fallback}
        finally:
            await self._limiter.give_back(list(unused))
        if claimed.outcome is KeysOutcome.PASSED:
            raise RequestRefusedError(ErrorCode.NUMBER_PASSED)
        _check(claimed.outcome)
        fallbacks = sum(given.fallback for given in claimed.keys)
        self.claimed["fallback"] += fallbacks
        self.claimed["one_time"] += len(claimed.keys) - fallbacks
        self.claimed["none"] += len(set(command.devices)) - len(claimed.keys)
        keys = [ClaimedKey(each.device, _id_of(each.key), each.key.key, each.fallback) for each in claimed.keys]
        session.push(ClaimedKeys(command.id, keys))

    async def read_devices(self, session: Session, command: k.ReadDevices) -> None:
        """A page of what the server has of people's identities and devices."""
        known = [(each.principal, each.generation, each.length) for each in command.people]
        rows = await self._store.read_identities(
            session.principal, command.dialog, known, entries_max=_LOG_ENTRIES_PER_PAGE
        )
        if rows is None:
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
        people: list[PersonDevices] = []
        size = _PAGE_HEAD_BYTES
        for row in rows:
            person = _person(row)
            size += 1 + len(session.codec.encode(person))
            if size > REPLY_BYTES_MAX:
                break
            people.append(person)
        session.push(DevicesPage(command.id, command.dialog, people, len(people) < len(rows)))

    async def append_device_log(self, session: Session, command: k.AppendDeviceLog) -> None:
        """Append to the own log what it does not have yet; a device that is removed is signed out."""
        principal, removed = session.principal, frozenset[bytes]()
        before = await self._store.read_log(principal)
        entries = [each for each in command.entries if before is None or hash_of_entry(each) not in before.heads]
        if entries:
            after = _follow(before, principal, entries)
            wait_s = await self._limiter.take([(self._entries, principal)], cost=len(entries))
            if wait_s:
                raise RequestRefusedError(ErrorCode.DAILY_LIMIT, retry_after_s=round(wait_s, 3))
            outcome = await self._store.append_log(before, after, entries, self._clock.wall_ms())
            if outcome is KeysOutcome.PASSED:
                raise RequestRefusedError(ErrorCode.LOG_PASSED, "another device was faster")
            if outcome is KeysOutcome.MISSING:
                raise RequestRefusedError(ErrorCode.KEYS_MISSING, "a device that is added has other keys here")
            _check(outcome)
            removed = _removed_by(after, len(entries))
        session.done(command.id)
        for device in removed:
            self._registry.end_device(principal, device, CloseCode.SIGNED_OUT, "its person removed it")

    async def put_identity(self, session: Session, command: k.PutIdentity) -> None:
        """Store the cross-signing keys of the identity whose log there is."""
        objects = (command.master, command.self_signing, command.user_signing)
        try:
            keys = read_cross_signing(session.principal, *objects)
        except KeysRefusedError as error:
            raise RequestRefusedError(ErrorCode.KEYS_REFUSED, str(error)) from error
        outcome = await self._store.put_identity(session.principal, keys.master, *objects)
        if outcome is KeysOutcome.PASSED:
            raise RequestRefusedError(ErrorCode.KEYS_REFUSED, "the master key is not that of the device log")
        session.done(command.id)

    async def _find_limited(self, principal: bytes, devices: Collection[bytes]) -> list[bytes]:
        """The devices of which too many keys were claimed lately: all of them, if this person claimed too many."""
        if await self._limiter.take([(self._by_person, principal)], cost=len(devices)):
            return list(devices)
        waits = await asyncio.gather(*(self._limiter.take([(self._of_device, device)]) for device in devices))
        return [device for device, wait_s in zip(devices, waits, strict=True) if wait_s]


def _removed_by(log: LogState, entries: int) -> frozenset[bytes]:
    """The devices that the last entries of a log took out of it, as `append_device_log` signs them out."""
    ended = {one.device for one in log.listed if one.until is not None and one.until >= log.length - entries}
    return frozenset(ended - log.devices.keys())


def _check(outcome: KeysOutcome) -> None:
    if outcome is not KeysOutcome.OK:
        raise RequestRefusedError(*_REFUSED[outcome])


def _read_key(named: k.NamedKey, principal: bytes, device: bytes, ed25519: bytes, *, fallback: bool) -> StoredKey:
    if read_one_time_key(named.key, principal, device, ed25519).fallback is not fallback:
        raise RequestRefusedError(ErrorCode.KEYS_REFUSED, "`fallback` is in fallback keys only")
    try:
        number = int.from_bytes(from_base64(named.id, _KEY_ID_BYTES), "big")
    except CanonicalError as error:
        raise RequestRefusedError(ErrorCode.KEYS_REFUSED, f"the id of a key is {error}") from error
    if number > _KEY_NUMBER_MAX:
        raise RequestRefusedError(ErrorCode.KEYS_REFUSED, "the id of a key is above 2**63")
    return StoredKey(number, named.key)


def _id_of(key: StoredKey) -> str:
    return to_base64(key.number.to_bytes(_KEY_ID_BYTES, "big"))


def _follow(before: LogState | None, principal: bytes, entries: Sequence[bytes]) -> LogState:
    """The log with these entries after it, or the log of a new identity that they begin."""
    try:
        if before is not None:
            try:
                return extend(before, entries)
            except LogError as error:
                if error.reason is not LogReason.WRONG_GENERATION:
                    raise
        after = fold(principal, entries)
    except LogError as error:
        code = ErrorCode.LOG_PASSED if error.reason in _LOG_PASSED else ErrorCode.KEYS_REFUSED
        raise RequestRefusedError(code, str(error)) from error
    generation, head = (0, b"") if before is None else (before.generation, before.head)
    follows = decode_canonical(entries[0])["previous"] == to_base64(head)
    if after.generation > generation + IDENTITIES_AHEAD_MAX:
        raise RequestRefusedError(ErrorCode.KEYS_REFUSED, "the generation of the identity is too high")
    # A log of which a restore has lost an identity goes on with the one after it.
    if after.generation <= generation or (after.generation == generation + 1 and not follows):
        raise RequestRefusedError(ErrorCode.LOG_PASSED, "another identity is newer")
    return after


def _person(row: IdentityRow) -> PersonDevices:
    return PersonDevices(
        row.principal,
        row.generation,
        row.length,
        row.head,
        list(row.entries),
        row.master,
        row.self_signing,
        row.user_signing,
        [DeviceKeys(each.device, each.generation, each.keys) for each in row.devices],
        row.former,
    )
