"""One verification between two devices, from the request to the result, without I/O (Matrix, "Key verification").

    we ask                  WAITING ─┐
    they ask, person accepts ASKED ──┴─► READY ─ SAS ─► EXCHANGING ─► COMPARING ─ person ─► CONFIRMED ─► DONE
                                           ├─ our code is scanned ─► SCANNED ─ person ─────────────────► DONE
                                           └─ we scan their code ─────────────────► CONFIRMED ─ done ──► DONE

- Each call returns the messages to send; each message goes to one device. Anything wrong ends in CANCELLED, and the
  other side is told why. Nothing is verified (`compared`) before DONE.
- Keys are compared as they were known at the start. What a request or a server says later changes nothing.
- It ends by itself: every call takes the time, and after `TIMEOUT_MS` the next one cancels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from protocol.canonical import CanonicalError, decode_canonical, device_id_of, encode_canonical, user_id_of
from protocol.limits import N_MAX
from tchat.crypto import qr, sas
from tchat.crypto.compared import (
    CancelCode,
    Compared,
    Content,
    MessageType,
    Party,
    VerificationCancelledError,
    read_content,
)

TIMEOUT_MS = 600_000
CLOCKS_DIFFER_MS = 300_000
"""A request from further in the future is refused."""
_METHODS = (sas.METHOD, qr.METHOD, qr.SHOW, qr.SCAN)
_METHODS_MAX = 16
_TRANSACTION_BYTES = 16


class Phase(StrEnum):
    """Where a verification stands; ASKED, READY, COMPARING and SCANNED wait for a person."""

    ASKED = "asked"
    WAITING = "waiting"
    READY = "ready"
    EXCHANGING = "exchanging"
    COMPARING = "comparing"
    SCANNED = "scanned"
    CONFIRMED = "confirmed"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class VerificationMessage:
    """A message to one device of the other side; `content` is canonical JSON."""

    device: bytes
    kind: MessageType
    content: bytes


class _Ask(msgspec.Struct):
    transaction_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    from_device: str
    methods: Annotated[list[str], msgspec.Meta(max_length=_METHODS_MAX)]
    timestamp: Annotated[int, msgspec.Meta(ge=0, le=N_MAX)]


class _Ready(msgspec.Struct):
    from_device: str
    methods: Annotated[list[str], msgspec.Meta(max_length=_METHODS_MAX)]


class _MethodStart(msgspec.Struct):
    from_device: str
    method: str


class _Cancel(msgspec.Struct):
    code: str


class Verification:
    """One verification; `they` are the devices that may take part: one, once a device has answered."""

    def __init__(self, me: Party, they: Sequence[Party], transaction: str, phase: Phase, deadline_ms: int) -> None:
        assert all(can_compare(me, party) for party in they), "there is a master key to compare"
        self.transaction = transaction
        self.phase = phase
        self.cancelled: CancelCode | None = None
        self.code: qr.QrCode | None = None
        """What to show as a QR code, if the other device can scan one."""
        self._me, self._they = me, {party.device: party for party in they}
        self._deadline_ms = deadline_ms
        self._methods: frozenset[str] = frozenset()
        self._exchange: sas.SasExchange | None = None
        self._compared: Compared | None = None

    @classmethod
    def ask(cls, me: Party, they: Sequence[Party], now_ms: int) -> tuple[Verification, list[VerificationMessage]]:
        """Ask these devices of one person; the first that answers takes part."""
        asked = cls(me, they, os.urandom(_TRANSACTION_BYTES).hex(), Phase.WAITING, now_ms + TIMEOUT_MS)
        content: Content = {"methods": list(_METHODS), "timestamp": now_ms}
        return asked, asked._to_all(MessageType.REQUEST, asked._from_me(content))

    @classmethod
    def asked(cls, me: Party, they: Party, content: bytes, now_ms: int) -> Verification:
        """The other side asks; `VerificationCancelledError` if the request is malformed, old or of the future."""
        request = read_content(_decoded(content), _Ask)
        if request.from_device != device_id_of(they.device) or request.timestamp > now_ms + CLOCKS_DIFFER_MS:
            raise VerificationCancelledError(CancelCode.INVALID_MESSAGE)
        if request.timestamp + TIMEOUT_MS <= now_ms:
            raise VerificationCancelledError(CancelCode.TIMEOUT)
        deadline_ms = min(request.timestamp, now_ms) + TIMEOUT_MS
        verification = cls(me, [they], request.transaction_id, Phase.ASKED, deadline_ms)
        verification._methods = frozenset(request.methods)
        return verification

    @property
    def shown(self) -> sas.ShownSas | None:
        """What people compare, while COMPARING."""
        return None if self._exchange is None else self._exchange.shown

    @property
    def devices(self) -> frozenset[bytes]:
        """The devices of the other side: one, once a device has answered."""
        return frozenset(self._they)

    @property
    def compared(self) -> Compared | None:
        """The keys that are verified; None before DONE."""
        return self._compared if self.phase is Phase.DONE else None

    def accept(self, now_ms: int) -> list[VerificationMessage]:
        """The person wants to verify: ASKED becomes READY."""
        return self._step(now_ms, {Phase.ASKED}, self._accept)

    def start_sas(self, now_ms: int) -> list[VerificationMessage]:
        """The person chooses to compare symbols."""
        return self._step(now_ms, {Phase.READY}, self._start_sas)

    def scan(self, code: qr.QrCode, now_ms: int) -> list[VerificationMessage]:
        """The person has scanned the other device's code."""
        return self._step(now_ms, {Phase.READY}, lambda: self._scan(code))

    def confirm(self, now_ms: int) -> list[VerificationMessage]:
        """The person says that both show the same symbols, or that the other device has accepted our code."""
        return self._step(now_ms, {Phase.COMPARING, Phase.SCANNED}, self._confirm)

    def cancel(self) -> list[VerificationMessage]:
        """The person does not want to go on; while COMPARING: says that the symbols differ."""
        if self.phase in _ENDED:
            return []
        return self._cancel(CancelCode.MISMATCHED_SAS if self.phase is Phase.COMPARING else CancelCode.USER)

    def tick(self, now_ms: int) -> list[VerificationMessage]:
        """Cancel if it took too long."""
        late = self.phase not in _ENDED and now_ms >= self._deadline_ms
        return self._cancel(CancelCode.TIMEOUT) if late else []

    def receive(self, device: bytes, kind: MessageType, content: bytes, now_ms: int) -> list[VerificationMessage]:
        """Take a message of this transaction from a device of the other side; from any other device it is ignored."""
        if self.phase in _ENDED or device not in self._they:
            return []
        return self.tick(now_ms) or self._guarded(lambda: self._received(device, kind, content))

    def _step(
        self, now_ms: int, phases: set[Phase], step: Callable[[], list[VerificationMessage]]
    ) -> list[VerificationMessage]:
        """What a person does; nothing if the verification has gone on, or ended, before they did it."""
        late = self.tick(now_ms)
        return late or (self._guarded(step) if self.phase in phases else [])

    def _guarded(self, step: Callable[[], list[VerificationMessage]]) -> list[VerificationMessage]:
        try:
            return step()
        except VerificationCancelledError as error:
            return self._cancel(error.code)

    def _accept(self) -> list[VerificationMessage]:
        ready = self._to_all(MessageType.READY, self._from_me({"methods": list(_METHODS)}))
        self._make_ready()
        return ready

    def _start_sas(self) -> list[VerificationMessage]:
        if sas.METHOD not in self._methods:
            raise VerificationCancelledError(CancelCode.UNKNOWN_METHOD)
        start = self._from_me(sas.sas_start())
        self._exchange = sas.SasExchange(self._me, self._other, self.transaction, start, starter=True)
        self.phase = Phase.EXCHANGING
        return self._to_all(MessageType.START, start)

    def _scan(self, code: qr.QrCode) -> list[VerificationMessage]:
        self._compared, start = qr.scan(self._me, self._other, self.transaction, code)
        self.phase = Phase.CONFIRMED
        return self._to_all(MessageType.START, self._from_me(start))

    def _confirm(self) -> list[VerificationMessage]:
        if self.phase is Phase.SCANNED:
            return self._done()
        assert self._exchange is not None, "symbols are shown by an exchange"
        self.phase = Phase.CONFIRMED
        return self._all_to_all(self._exchange.confirm()) + self._done_if_compared()

    def _received(self, device: bytes, kind: MessageType, content: bytes) -> list[VerificationMessage]:
        value = _decoded(content)
        if value.get("transaction_id") != self.transaction:
            raise VerificationCancelledError(CancelCode.INVALID_MESSAGE)
        match kind:
            case MessageType.CANCEL:
                return self._cancelled_by(device, read_content(value, _Cancel))
            case MessageType.READY if self.phase is Phase.WAITING:
                return self._readied_by(device, read_content(value, _Ready))
            case MessageType.START if self.phase in {Phase.READY, Phase.EXCHANGING}:
                return self._started(value, read_content(value, _MethodStart))
            case MessageType.ACCEPT | MessageType.KEY | MessageType.MAC if self._exchange is not None:
                return self._exchanged(self._exchange, kind, value)
            case MessageType.DONE if self.phase is Phase.CONFIRMED and self._compared is not None:
                return self._done()
            case _:
                raise VerificationCancelledError(CancelCode.UNEXPECTED_MESSAGE)

    def _readied_by(self, device: bytes, ready: _Ready) -> list[VerificationMessage]:
        """This device takes part; its person's other devices stop asking."""
        others = [party for other, party in self._they.items() if other != device]
        self._methods = frozenset(ready.methods)
        self._they = {device: self._they[device]}
        self._make_ready()
        return [
            self._message(party.device, MessageType.CANCEL, _cancel_content(CancelCode.ACCEPTED)) for party in others
        ]

    def _make_ready(self) -> None:
        self.phase = Phase.READY
        if {qr.METHOD, qr.SCAN} <= self._methods:
            self.code = qr.code_to_show(self._me, self._other, self.transaction)

    def _started(self, content: Content, start: _MethodStart) -> list[VerificationMessage]:
        """The other side chose a method; if both chose at once, the start of the lesser id counts."""
        if self._exchange is not None:
            if not self._exchange.awaits_accept:
                raise VerificationCancelledError(CancelCode.UNEXPECTED_MESSAGE)
            if _id_of(self._me) < _id_of(self._other):
                return []
        if start.method == qr.METHOD and self.code is not None and self._exchange is None:
            self._compared = qr.scanned(self._other, self.code, content)
            self.phase = Phase.SCANNED
            return []
        if start.method != sas.METHOD:
            raise VerificationCancelledError(CancelCode.UNKNOWN_METHOD)
        self._exchange = sas.SasExchange(self._me, self._other, self.transaction, content, starter=False)
        self.phase = Phase.EXCHANGING
        return self._all_to_all([self._exchange.accept()])

    def _exchanged(self, exchange: sas.SasExchange, kind: MessageType, content: Content) -> list[VerificationMessage]:
        answers = self._all_to_all(exchange.receive(kind, content))
        if self.phase is Phase.EXCHANGING and exchange.shown is not None:
            self.phase = Phase.COMPARING
        return answers + self._done_if_compared()

    def _done_if_compared(self) -> list[VerificationMessage]:
        if self._exchange is None or self._exchange.compared is None:
            return []
        self._compared = self._exchange.compared
        return self._done()

    def _done(self) -> list[VerificationMessage]:
        self.phase = Phase.DONE
        return self._to_all(MessageType.DONE, {})

    def _cancel(self, code: CancelCode) -> list[VerificationMessage]:
        self.phase, self.cancelled = Phase.CANCELLED, code
        return self._to_all(MessageType.CANCEL, _cancel_content(code))

    def _cancelled_by(self, device: bytes, cancel: _Cancel) -> list[VerificationMessage]:
        """One device of the other side says no for all; a code that we do not know is a no, too."""
        known = cancel.code in set(CancelCode)
        self.phase, self.cancelled = Phase.CANCELLED, CancelCode(cancel.code) if known else CancelCode.USER
        del self._they[device]
        return self._to_all(MessageType.CANCEL, _cancel_content(self.cancelled))

    @property
    def _other(self) -> Party:
        """The one device that takes part."""
        (other,) = self._they.values()
        return other

    def _from_me(self, content: Content) -> Content:
        return {**content, "from_device": device_id_of(self._me.device), "transaction_id": self.transaction}

    def _to_all(self, kind: MessageType, content: Content) -> list[VerificationMessage]:
        return [self._message(device, kind, content) for device in self._they]

    def _all_to_all(self, messages: Sequence[tuple[MessageType, Content]]) -> list[VerificationMessage]:
        return [sent for kind, content in messages for sent in self._to_all(kind, content)]

    def _message(self, device: bytes, kind: MessageType, content: Content) -> VerificationMessage:
        return VerificationMessage(device, kind, encode_canonical({**content, "transaction_id": self.transaction}))


_ENDED = frozenset({Phase.DONE, Phase.CANCELLED})


def _decoded(content: bytes) -> Content:
    try:
        return decode_canonical(content)
    except CanonicalError as error:
        raise VerificationCancelledError(CancelCode.INVALID_MESSAGE) from error


def _cancel_content(code: CancelCode) -> Content:
    return {"code": str(code), "reason": code.sentence}


def can_compare(one: Party, other: Party) -> bool:
    """Whether both sides can be compared: of two people both master keys are known, of one person's devices one is."""
    known = (one.master is not None, other.master is not None)
    return any(known) if one.principal == other.principal else all(known)


def _id_of(party: Party) -> tuple[str, str]:
    return user_id_of(party.principal), device_id_of(party.device)
