"""The state of one dialog for `rosters.py`: what is kept of its roster, and what only this process knows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec

from protocol.bodies import TimelineEvent
from protocol.codec import MSGPACK
from tchat.crypto.sealed_roster import SealedRoster


class KeptRoster(msgspec.Struct, frozen=True):
    """What the state keeps of a sealed dialog."""

    roster: SealedRoster
    last: bytes = b""
    """The hash of the last event that was folded: the server is asked for it again, to notice that it lost events."""
    disputed: bytes | None = None
    """A member who sees other members or devices, until a person agrees: nothing is sent."""
    known: list[bytes] = []
    """Who was there before the server lost events."""

    def followed_by(self, roster: SealedRoster, event: TimelineEvent) -> KeptRoster:
        """What is kept after an event that made this roster, or was passed over."""
        last = hash_of(event) if roster.seq == event.seq else self.last
        return msgspec.structs.replace(self, roster=roster, last=last)

    def started_again(self) -> KeptRoster:
        """What is kept when the server has lost events."""
        known = list(self.roster.members) or self.known
        return KeptRoster(self.roster.after_restore(), disputed=self.disputed, known=known)

    def ends_with(self, event: TimelineEvent | None) -> bool:
        """Whether this event is the last one that was folded."""
        return event is not None and event.seq == self.roster.seq and hash_of(event) == self.last


@dataclass(frozen=True, slots=True)
class Joining:
    """What the server says was before the event that brings this person, which is the last one; `whole`: all of it."""

    snapshot: SealedRoster
    events: tuple[TimelineEvent, ...]
    whole: bool


@dataclass(slots=True)
class Track:
    """What is known of a dialog in this process. `kept` is None while it is not known to be sealed.

    `stated`: its state was heard; `member` and `open` are what it said. `have`: its events up to here were heard.
    `ahead`: the server has named this `keys_seq`.
    """

    kept: KeptRoster | None
    stated: bool = False
    open: bool = False
    member: bool = True
    have: int = 0
    ahead: int = 0

    waiting: list[TimelineEvent] = field(default_factory=list)
    """Events of the roster that come next, and wait for device logs."""
    asked_logs: tuple[int, int] | None = None
    """For which event, and as of which change of the logs, device logs were asked for."""

    behind: bool = False
    """Events of the roster may be missing, before those that are `later`; `heard_from` is where these begin."""
    heard_from: int = 0
    later: list[TimelineEvent] = field(default_factory=list)
    later_lost: bool = False
    wanted: bool = False
    """Somebody needs what is missing."""
    asked: bool = False
    """The server was asked for it."""
    doubted: bool = False
    """The server was asked whether this person is in the dialog."""
    founder: bool = False
    """The server has nothing to say to a newcomer: this person was there from the beginning."""
    refused: bool = False
    """The server does not show what is missing, on this connection."""
    checked: bool = False
    """The last event that was folded is still there."""
    read_to: int = 0
    joining: Joining | None = None

    @property
    def roster(self) -> SealedRoster:
        """The roster of a dialog that is sealed."""
        assert self.kept is not None, "only what is sealed is folded"
        return self.kept.roster

    def may_ask(self) -> bool:
        """Whether what is missing is to be asked for now."""
        waits = bool(self.waiting) or (self.joining is not None and self.joining.whole)
        asks = self.behind and self.wanted and not self.refused
        return asks and not self.asked and not waits

    def has_to_hear(self, event: TimelineEvent) -> bool:
        """Whether this event was read before those that come before it were heard."""
        return event.seq > max(self.have, 0 if self.kept is None else self.kept.roster.seq)

    def fall_behind(self, heard_from: int) -> None:
        """Events before this one are missing."""
        self.behind, self.heard_from = True, heard_from

    def catch_up(self) -> None:
        """Nothing is missing any more but what was heard meanwhile."""
        self.behind, self.wanted = self.later_lost, self.later_lost
        self.later_lost = False
        if not self.behind:
            self.waiting = _in_order(self.waiting, self.later)
            self.later = []

    def forget(self) -> None:
        """The server has lost what was heard: all is read again."""
        self.waiting, self.later, self.joining = [], [], None
        self.founder, self.checked, self.read_to = False, False, 0
        self.asked_logs = None

    def disconnected(self) -> None:
        """What was asked is asked again."""
        self.asked_logs, self.asked, self.joining = None, False, None
        self.founder = self.refused = self.doubted = False


def hash_of(event: TimelineEvent) -> bytes:
    """What tells an event from any other one."""
    return hashlib.sha256(MSGPACK.encode(event)).digest()


def _in_order(*several: list[TimelineEvent]) -> list[TimelineEvent]:
    by_seq = {event.seq: event for events in several for event in events}
    return [by_seq[seq] for seq in sorted(by_seq)]
