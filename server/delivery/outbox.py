"""What waits to be written to one connection, and what is to be caught up on once it has drained.

Two modes. *Live*: everything is queued in order. *Behind* (during the first catch-up, and after the
bound was passed): content is not queued. A few events are held as they come; when they get too many,
only the first missed number of each dialog is remembered, to be read from the timeline. Of the marks of
each member the newest is held. Ephemeral events are dropped while behind.

Invariants: per dialog, content leaves in the order of its numbers and without a hole; memory is
bounded by `bytes_max` queued, by `held_max` frames and `bytes_max` held, and by `missed_max` dialogs and marks.
"""

from __future__ import annotations

from collections.abc import Callable

from server.delivery.prepared_message import PreparedMessage


class Outbox:
    """See the module. `on_dirty` is called when the first bytes are queued, `on_behind` when it falls behind."""

    __slots__ = (
        "_bytes_max",
        "_dirty",
        "_held",
        "_held_max",
        "_held_size",
        "_marks",
        "_missed",
        "_missed_max",
        "_on_behind",
        "_on_dirty",
        "_parts",
        "_text",
        "live",
        "overwhelmed",
        "size",
    )

    def __init__(
        self,
        *,
        text: bool,
        bytes_max: int,
        held_max: int,
        missed_max: int,
        on_dirty: Callable[[], None],
        on_behind: Callable[[], None],
    ) -> None:
        self.live = False
        self.overwhelmed = False
        """More dialogs or marks were missed than can be remembered: only a new sync helps."""
        self.size = 0
        self._text = text
        self._bytes_max = bytes_max
        self._held_max = held_max
        self._missed_max = missed_max
        self._on_dirty = on_dirty
        self._on_behind = on_behind
        self._dirty = False
        self._parts: list[bytes] = []
        self._held: list[tuple[bytes, int, bytes]] = []
        self._held_size = 0
        self._missed: dict[bytes, int] = {}
        self._marks: dict[tuple[bytes, bytes], bytes] = {}

    def push(self, frame: bytes) -> None:
        """Queue a frame whatever the mode: replies, and what a catch-up sends."""
        self._parts.append(frame)
        self.size += len(frame)
        if not self._dirty:
            self._dirty = True
            self._on_dirty()

    def content(self, dialog: bytes, seq: int, prepared: PreparedMessage) -> None:
        """Queue an event of a timeline, or remember it."""
        frame = prepared.frame(self._text)
        if self.live:
            if self.size <= self._bytes_max:
                self.push(frame)
                return
            self.fall_behind()
        if dialog in self._missed:
            self.miss(dialog, seq)
        elif len(self._held) < self._held_max and self._held_size < self._bytes_max:
            self._held.append((dialog, seq, frame))
            self._held_size += len(frame)
        else:
            for held_dialog, held_seq, _ in self._take_held():
                self.miss(held_dialog, held_seq)
            self.miss(dialog, seq)

    def ephemeral(self, prepared: PreparedMessage) -> None:
        """Queue an event that is worth nothing later; dropped while behind or full."""
        if self.live and self.size <= self._bytes_max:
            self.push(prepared.frame(self._text))

    def mark(self, key: tuple[bytes, bytes], prepared: PreparedMessage) -> None:
        """Queue how far a member has read, or hold it; `key` says whose and where, and only the newest counts."""
        frame = prepared.frame(self._text)
        if self.live and self.size <= self._bytes_max:
            self.push(frame)
            return
        self.fall_behind()
        if key not in self._marks and len(self._marks) >= self._missed_max:
            self.overwhelmed = True
            return
        self._marks[key] = frame

    def miss(self, dialog: bytes, seq: int) -> None:
        """Remember that `dialog` is to be read from `seq` on, and all that is held of it too."""
        known = self._missed.get(dialog)
        if known is None:
            if len(self._missed) >= self._missed_max:
                self.overwhelmed = True
                return
            known = self._let_go_held(dialog)
        self._missed[dialog] = seq if known is None else min(seq, known)

    def fall_behind(self) -> None:
        """From here on content is caught up, not queued."""
        if self.live:
            self.live = False
            self._on_behind()

    def take_missed(self) -> dict[bytes, int]:
        """What is to be read from the timeline, first number by dialog; from here on remembered anew."""
        missed, self._missed = self._missed, {}
        return missed

    def try_live(self, sent_to: dict[bytes, int]) -> bool:
        """Go live if nothing is missed: queues what is held beyond what was sent (`sent_to` by dialog)."""
        if self._missed:
            return False
        for dialog, seq, frame in self._take_held():
            if seq > sent_to.get(dialog, 0):
                self.push(frame)
        marks, self._marks = self._marks, {}
        for frame in marks.values():
            self.push(frame)
        self.live = True
        return True

    def take(self) -> bytes:
        """All queued bytes, joined for one write."""
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        self._dirty = False
        return data

    def let_go(self) -> None:
        """Tell nobody anymore: the connection is gone, and its session with it."""
        self._on_dirty = self._on_behind = _tell_nobody

    def _let_go_held(self, dialog: bytes) -> int | None:
        """The first number held of a dialog. The reading that replaces it would otherwise begin after it."""
        first = next((seq for held, seq, _ in self._held if held == dialog), None)
        if first is not None:
            self._held = [held for held in self._held if held[0] != dialog]
            self._held_size = sum(len(frame) for _, _, frame in self._held)
        return first

    def _take_held(self) -> list[tuple[bytes, int, bytes]]:
        held, self._held = self._held, []
        self._held_size = 0
        return held

    def __bool__(self) -> bool:
        return bool(self._parts)


def _tell_nobody() -> None:
    """Nothing is left to be told."""
