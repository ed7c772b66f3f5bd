"""Puts the events of each dialog into order, and finds what is missing.

Invariants: what the `accept_` methods return is in rising order of `seq` per dialog, each number once, and
without a hole, except where the server cuts (`DialogState.first_seq`) or a page of history leaves numbers out. A
bounded number of events beyond a gap is kept; the others are fetched again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from protocol.bodies import TimelineEvent
from protocol.events import DialogState
from protocol.replies import HistoryPage

HELD_EVENTS_MAX = 200
"""Events kept per dialog beyond a gap."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The missing events of a dialog: `from_seq` to `to_seq`, both included."""

    dialog: bytes
    from_seq: int
    to_seq: int


@dataclass(slots=True)
class _Track:
    """`have`: every event up to here was returned. `target`: the highest number known to exist beyond a gap.

    `stated`: what the newest state of the dialog named as its newest number.
    """

    have: int
    target: int = 0
    stated: int = 0
    held: dict[int, TimelineEvent] = field(default_factory=dict)
    fetching: bool = False
    retry_at: float = 0.0


class Ordering:
    """Takes every state, event and page of the server, and returns the events that are next in order."""

    def __init__(self) -> None:
        self._tracks: dict[bytes, _Track] = {}
        self._gapped: set[bytes] = set()
        self.duplicates = 0
        self.gaps = 0

    @property
    def whole(self) -> bool:
        """Whether no event is known to be missing."""
        return not self._gapped

    def reset(self) -> None:
        """Forget all dialogs."""
        self._tracks.clear()
        self._gapped.clear()

    def disconnected(self) -> None:
        """Fetches under way are lost; the gaps remain."""
        for dialog in self._gapped:
            self._tracks[dialog].fetching = False
            self._tracks[dialog].retry_at = 0.0

    def accept_state(self, state: DialogState) -> list[TimelineEvent]:
        """The state of a dialog: events before its `first_seq` do not come."""
        track = self._tracks.get(state.dialog)
        if track is None:
            self._tracks[state.dialog] = _Track(state.first_seq - 1, stated=state.seq)
            return []
        track.stated = max(track.stated, state.seq)
        track.have = max(track.have, state.first_seq - 1)
        return list(self._drain(state.dialog, track))

    def caught_up(self) -> None:
        """Catch-up has ended. What a state named and no connection brought is missing.

        A dialog that one has left is not part of a sync. When the removal is told late, after a sync that did not name
        the dialog, its state and its events come nevertheless, and a cut in between is noticed by nobody else.
        """
        for dialog, track in self._tracks.items():
            if track.have < track.stated:
                self._expect(dialog, track, track.stated)

    def accept_event(self, event: TimelineEvent) -> list[TimelineEvent]:
        """The event and those that waited for it; nothing if it is known or beyond a gap."""
        track = self._tracks.get(event.dialog)
        if track is None:
            track = self._tracks[event.dialog] = _Track(event.seq - 1)
        if event.seq <= track.have:
            self.duplicates += 1
            return []
        if event.seq > track.have + 1:
            self._hold(track, event)
            return []
        track.have = event.seq
        return [event, *self._drain(event.dialog, track)]

    def take_gaps(self, now: float) -> list[Gap]:
        """The gaps to fetch now; each once, until `accept_page` or `accept_failure` is called for it."""
        gaps = []
        for dialog in self._gapped:
            track = self._tracks[dialog]
            if not track.fetching and track.retry_at <= now:
                track.fetching = True
                to_seq = min(track.held) - 1 if track.held else track.target
                gaps.append(Gap(dialog, track.have + 1, to_seq))
        return gaps

    def accept_page(self, gap: Gap, page: HistoryPage) -> list[TimelineEvent]:
        """The answer to a gap; numbers that the page leaves out are not visible to this member."""
        track = self._tracks.get(gap.dialog)
        if track is None:
            return []
        track.fetching = False
        events = list(_rising(page.events, track.have))
        if events:
            track.have = events[-1].seq
        if not page.more or not page.events:
            track.have = max(track.have, gap.to_seq)
        return [*events, *self._drain(gap.dialog, track)]

    def accept_failure(self, gap: Gap, retry_at: float | None) -> list[TimelineEvent]:
        """A gap could not be fetched: try again at `retry_at`; None gives it up, since it is not visible."""
        track = self._tracks.get(gap.dialog)
        if track is None:
            return []
        track.fetching = False
        if retry_at is not None:
            track.retry_at = retry_at
            return []
        track.have = max(track.have, gap.to_seq)
        return list(self._drain(gap.dialog, track))

    def next_retry(self) -> float | None:
        """When to fetch the next gap again, in the caller's time."""
        waiting = [self._tracks[dialog] for dialog in self._gapped]
        return min((track.retry_at for track in waiting if not track.fetching), default=None)

    def _hold(self, track: _Track, event: TimelineEvent) -> None:
        self._expect(event.dialog, track, event.seq)
        if len(track.held) < HELD_EVENTS_MAX:
            track.held[event.seq] = event

    def _expect(self, dialog: bytes, track: _Track, seq: int) -> None:
        if dialog not in self._gapped:
            self.gaps += 1
            self._gapped.add(dialog)
        track.target = max(track.target, seq)

    def _drain(self, dialog: bytes, track: _Track) -> Iterator[TimelineEvent]:
        """The kept events that are next now."""
        while (event := track.held.pop(track.have + 1, None)) is not None:
            track.have = event.seq
            yield event
        if dialog not in self._gapped:
            return
        track.held = {seq: event for seq, event in track.held.items() if seq > track.have}
        if track.have >= track.target:
            self._gapped.discard(dialog)


def _rising(events: Iterable[TimelineEvent], above: int) -> Iterator[TimelineEvent]:
    for event in events:
        if event.seq > above:
            above = event.seq
            yield event
