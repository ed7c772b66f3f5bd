"""Channels to the devices that may read: one-time keys are claimed for those to which nothing can be written yet.

Invariants:

- One claim is under way at a time; its number and its devices are durable before it leaves (`key_claims.py`).
- A device of which no usable key comes counts as one without keys: it holds nobody else back.
- When this device replaces a channel, it tells the other device, which then hands its sessions again. If that message
  is lost, the next slice brings the new channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from protocol.cross_signing import KeysRefusedError
from protocol.errors import ErrorCode
from protocol.key_commands import ClaimKeys
from protocol.limits import KEY_CLAIMS_PER_COMMAND_MAX
from protocol.replies import ClaimedKeys, Failed, Reply
from tchat.crypto.key_claims import NumberedClaim
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.olm import KnownDevice
from tchat.encryption.device_logs import DeviceLogs, waits_since


class Channels:
    """The claims of a device."""

    def __init__(self, machine: CryptoMachine, logs: DeviceLogs, now_ms: Callable[[], int]) -> None:
        self._machine = machine
        self._logs = logs
        self._now_ms = now_ms
        self._wanted: dict[bytes, dict[bytes, KnownDevice]] = {}
        self._asked = False
        self._refused_ms = 0
        self._at_least = 1
        self.tell: Callable[[bytes, bytes, bytes], None] = lambda _dialog, _device, _body: None
        """Sends a device, in a dialog, what it learns the new channel by."""

    def want(self, dialog: bytes, devices: Iterable[KnownDevice]) -> bool:
        """Have channels opened to those of these devices that have none, or a broken one; whether there are any."""
        missing = self._machine.to_claim(devices, self._now_ms())
        if missing:
            self._wanted[dialog] = {known.row: known for known in missing}
        return bool(missing)

    def due(self) -> ClaimKeys | None:
        """The claim to send now, once."""
        if self._asked or waits_since(self._refused_ms, self._now_ms()):
            return None
        claim = self._machine.claim_under_way()
        if claim is None:
            if not self._wanted:
                return None
            dialog, devices = next(iter(self._wanted.items()))
            some = list(devices.values())[:KEY_CLAIMS_PER_COMMAND_MAX]
            claim = self._machine.claim(dialog, some, self._at_least)
        self._asked = True
        return ClaimKeys(0, claim.number, claim.dialog, [known.device for known in claim.devices])

    def answered(self, reply: Reply) -> None:
        """The answer to the claim: channels are open to all devices of which keys came."""
        self._asked = False
        claim = self._machine.claim_under_way()
        assert claim is not None, "a claim is under way until it is answered"
        if isinstance(reply, ClaimedKeys):
            self._open(claim, reply)
        elif isinstance(reply, Failed) and reply.code in (ErrorCode.NUMBER_PASSED, ErrorCode.CONFLICT):
            # The store is younger than the device: numbers go on above all that it can have used.
            self._at_least = self._now_ms()
            self._machine.open_channels([], self._now_ms())
        elif isinstance(reply, Failed) and reply.code == ErrorCode.DIALOG_NOT_FOUND:
            self._machine.open_channels([], self._now_ms())
            self._wanted.pop(claim.dialog, None)
        else:
            self._refused_ms = self._now_ms()
            return
        self._forget(claim.dialog, claim.devices if isinstance(reply, ClaimedKeys) else ())

    def disconnected(self) -> None:
        """The claim under way is sent again, with the same number."""
        self._asked, self._refused_ms = False, 0

    def _open(self, claim: NumberedClaim, claimed: ClaimedKeys) -> None:
        keys = {each.device: each.key for each in claimed.keys}
        with_keys = [(known, keys[known.device]) for known in claim.devices if known.device in keys]
        outcomes = self._machine.open_channels(with_keys, self._now_ms())
        opened = set()
        for (known, _), outcome in zip(with_keys, outcomes, strict=True):
            if not isinstance(outcome, KeysRefusedError):
                opened.add(known.row)
            if isinstance(outcome, bytes):
                self.tell(claim.dialog, known.device, outcome)
        for known in claim.devices:
            if known.row not in opened:
                self._logs.has_no_key(known.principal, known.device)

    def _forget(self, dialog: bytes, devices: Iterable[KnownDevice]) -> None:
        wanted = self._wanted.get(dialog, {})
        for known in devices:
            wanted.pop(known.row, None)
        if not wanted:
            self._wanted.pop(dialog, None)
