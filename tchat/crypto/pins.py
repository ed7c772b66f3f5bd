"""What a client believes of a person's devices, and what it does when the server says something else.

A client **pins** the log that it has seen: generation, master key, length and head. Whatever the server gives later
must go on from there. Who may get keys is decided by `devices_for`, from the pin alone:

- A log that is shorter, forked or wrong is refused and shown. Nothing is sent to this person until the server gives a
  log that goes on from the pin.
- A new identity (another master key, under a higher generation) of somebody whom this person has verified is held:
  nothing is sent until a person agrees, or verifies it. Of anybody else it is believed, and shown as a notice.
- A device outside the log gets no key, and what it sends is not believed.
- The own identity counts as verified from the start: another one in its place is held like a stranger's.

First contact is trust on first use: until they verify each other, people believe what the server gave first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from protocol.device_log import LogError, LogReason, LogState, extend, fold
from protocol.public_keys import DevicePublic


class LogVerdict(StrEnum):
    """What an answer of the server is, compared with the pin."""

    FIRST = "first"
    SAME = "same"
    GROWN = "grown"
    CHANGED = "changed"
    HELD = "held"
    SHORTER = "shorter"
    FORKED = "forked"
    WRONG = "wrong"

    @property
    def sentence(self) -> str:
        """What it means and what to do, for people; empty when the answer is as it should be."""
        return _SENTENCES.get(self, "")

    @property
    def own_sentence(self) -> str:
        """The same when it is about the own person's devices."""
        return _OWN_SENTENCES.get(self, "")


_SENTENCES = {
    LogVerdict.CHANGED: "This person has a new identity, and may have lost their devices. Verify them if it matters.",
    LogVerdict.HELD: "You had verified this person, and now they have another identity. It may be somebody else: ask"
    " them in another way. Nothing is sent to them until you verify them again, or agree.",
    LogVerdict.SHORTER: "The server hides devices of this person that it has shown before. Nothing is sent to them.",
    LogVerdict.FORKED: "The server shows another list of this person's devices than before. Nothing is sent to them.",
    LogVerdict.WRONG: "The server shows a list of this person's devices without the right signatures. Nothing is sent"
    " to them.",
}

_OWN_SENTENCES = {
    LogVerdict.CHANGED: "You have a new identity, which another device signed in as you has started.",
    LogVerdict.HELD: "Another device signed in as you has started a new identity, and this device is not part of it."
    " If that was you, confirm this device on that one, or enter the new recovery key. If not, sign the others out and"
    " start a new identity.",
    LogVerdict.SHORTER: "The server hides devices of yours that it has shown before. Nothing is sent.",
    LogVerdict.FORKED: "The server shows another list of your devices than before. Nothing is sent. If it was restored"
    " from a backup, start a new identity.",
    LogVerdict.WRONG: "The server shows a list of your devices without the right signatures. Nothing is sent.",
}


class PinnedLog(msgspec.Struct, frozen=True):
    """What is remembered of one person; it is kept as a whole."""

    log: LogState
    verified: bool = False
    """Somebody has compared the master key of `log` outside the server."""
    held: LogState | None = None
    """The log of a new identity that waits for a person's word, while `verified`."""
    refused: bool = False
    """The last answer of the server was a lie, or damaged."""
    before: LogState | None = None
    """The log of the identity before: what its devices wrote in their time is believed, they get no keys."""
    former: tuple[LogState, ...] = ()
    """Logs before these, from the newest on, which were read later: the log after each has signed its head."""

    @property
    def newest(self) -> LogState:
        """The log to ask the server to go on from."""
        return self.held or self.log

    def keys_at(self, device: bytes, generation: int, length: int) -> DevicePublic | None:
        """The keys of a device as the log of this identity had it at this length; None for any other device."""
        for log in self.logs:
            if log.generation == generation:
                return log.keys_at(device, length)
        return None

    @property
    def logs(self) -> tuple[LogState, ...]:
        """All logs that are believed of their time, from the newest on."""
        return (self.log, *(() if self.before is None else (self.before,)), *self.former)


@dataclass(frozen=True, slots=True)
class GivenLog:
    """What the server says a log is: its head, and the entries that this client lacks.

    `entries` go on from the newest log that the client has of this generation, or are all, for another generation.
    """

    generation: int
    length: int
    head: bytes
    entries: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer is, what to remember of the person from now on (None: still nothing), and why it is wrong."""

    verdict: LogVerdict
    pin: PinnedLog | None
    reason: LogReason | None = None


class Hold(StrEnum):
    """Why nobody may be given keys for this person."""

    UNKNOWN = "unknown"
    REFUSED = "refused"
    IDENTITY_CHANGED = "identity_changed"
    BEHIND = "behind"


class HeldError(Exception):
    """No keys go to this person now; `hold` says what has to happen: ask the server again, or a person."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(f"no keys for this person: {hold}")
        self.hold = hold


def judge(principal: bytes, pin: PinnedLog | None, given: GivenLog) -> Judgement:
    """Compare what the server gives with what is pinned: answers in the order in which they were asked for."""
    known = None if pin is None else pin.newest
    if known is not None and (lie := _lie_about(known, given)) is not None:
        return _refused(pin, lie)
    try:
        log = _read(principal, known, given)
    except LogError as error:
        forked = error.reason in {LogReason.WRONG_PREVIOUS, LogReason.WRONG_MASTER}
        return _refused(pin, LogVerdict.FORKED if forked else LogVerdict.WRONG, error.reason)
    if pin is None:
        return Judgement(LogVerdict.FIRST, PinnedLog(log))
    return _continued(pin, log) if log.generation == pin.newest.generation else _replaced(pin, log)


def devices_for(pin: PinnedLog | None) -> Mapping[bytes, DevicePublic]:
    """The devices that may be given keys, and that are believed; `HeldError` when nobody may be now."""
    if pin is None:
        raise HeldError(Hold.UNKNOWN)
    if pin.refused:
        raise HeldError(Hold.REFUSED)
    if pin.held is not None:
        raise HeldError(Hold.IDENTITY_CHANGED)
    return pin.log.devices


def verify(pin: PinnedLog, master: bytes) -> PinnedLog | None:
    """What to remember once a person has compared this master key; None if it is none of those that the pin knows.

    It may be that of the identity before: then the newer one was somebody else's.
    """
    for log, before in ((pin.newest, pin.log if pin.held else pin.before), (pin.log, pin.before), (pin.before, None)):
        if log is not None and log.master == master:
            former = () if log is pin.held else pin.former
            return PinnedLog(log, verified=True, refused=pin.refused, before=before, former=former)
    return None


def agree(pin: PinnedLog) -> PinnedLog:
    """What to remember once a person takes a new identity without having compared it: it is not verified."""
    assert pin.held is not None, "there is a new identity to agree to"
    return PinnedLog(pin.held, refused=pin.refused, before=pin.log)


def _lie_about(known: LogState, given: GivenLog) -> LogVerdict | None:
    """What the head alone gives away, before any entry is read."""
    if given.generation < known.generation:
        return LogVerdict.SHORTER
    if given.generation > known.generation or given.length > known.length:
        return None
    if given.length < 1 or given.head != known.heads[given.length - 1]:
        return LogVerdict.FORKED
    return LogVerdict.SHORTER if given.length < known.length else None


def _read(principal: bytes, known: LogState | None, given: GivenLog) -> LogState:
    """The whole log that was given, verified; `LogError`, also when it is not the one that its head says."""
    if known is not None and given.generation == known.generation:
        log = extend(known, given.entries)
    else:
        log = fold(principal, given.entries)
        if known is not None and log.master == known.master:
            raise LogError(LogReason.REUSED_KEY)
    if (log.generation, log.length, log.head) != (given.generation, given.length, given.head):
        raise LogError(LogReason.WRONG_INDEX)
    return log


def _continued(pin: PinnedLog, log: LogState) -> Judgement:
    if pin.held is not None:
        return Judgement(LogVerdict.HELD, msgspec.structs.replace(pin, held=log, refused=False))
    verdict = LogVerdict.GROWN if log.length > pin.log.length else LogVerdict.SAME
    return Judgement(verdict, msgspec.structs.replace(pin, log=log, refused=False))


def _replaced(pin: PinnedLog, log: LogState) -> Judgement:
    if pin.verified:
        return Judgement(LogVerdict.HELD, msgspec.structs.replace(pin, held=log, refused=False))
    return Judgement(LogVerdict.CHANGED, PinnedLog(log, before=pin.log))


def _refused(pin: PinnedLog | None, verdict: LogVerdict, reason: LogReason | None = None) -> Judgement:
    """The pin stays as it is, and nobody gets keys until the server gives what goes on from it."""
    return Judgement(verdict, None if pin is None else msgspec.structs.replace(pin, refused=True), reason)
