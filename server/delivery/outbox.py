"""What waits to be written to one connection, and what is to be caught up on once it has drained.

Two modes. *Live*: everything is queued in order. *Behind* (during the first catch-up, and after the bound was passed):
timeline events are not queued but held or, when they get too many, read from the timeline later (`behind.py`). Of each
state, receipts and presence, the newest is held. Ephemeral events are dropped while behind.

Invariants: per dialog, events leave in the order of their numbers and without a hole; memory is bounded by
`outbox_bytes_max` queued, and by the bounds of `Behind`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from server.clock import Clock
from server.config.settings import SessionSettings
from server.delivery.behind import Behind
from server.delivery.flush_turn import FlushTurn
from server.delivery.prepared_message import PreparedEvents, PreparedMessage, encode_frame

_LITTLE_BYTES = 4096
"""So much may wait to be written when a catch-up goes on."""
FRAMES_PER_POSITION = 32
"""After so many frames a session owes its client a position. Fewer are cheap to receive again."""


class Writer(Protocol):
    """Where an outbox writes: one connection."""

    @property
    def paused(self) -> bool:
        """Whether the socket's write buffer is full."""
        ...

    def write(self, data: bytes) -> None:
        """Send whole frames."""
        ...

    def abort(self) -> None:
        """End the connection now."""
        ...


class Owner(Protocol):
    """What an outbox reports to: its session."""

    def fell_behind(self) -> None:
        """Events are no longer queued: they must be read from the timeline."""
        ...

    def drained(self) -> None:
        """Everything queued was written and the socket takes more; called if it was `awaited`."""
        ...

    def owe_position(self) -> None:
        """So many frames were written that the client should get a position."""
        ...


class Outbox:
    """The outbox of one connection."""

    __slots__ = (
        "_behind",
        "_bytes_max",
        "_clock",
        "_drained",
        "_frames",
        "_hurried",
        "_owner",
        "_parts",
        "_settings",
        "_text",
        "_turn",
        "_writer",
        "awaited",
        "frames_since_position",
        "live",
        "size",
        "stuck_since",
    )

    def __init__(
        self,
        writer: Writer,
        owner: Owner,
        turn: FlushTurn,
        settings: SessionSettings,
        clock: Clock,
        *,
        text: bool,
    ) -> None:
        self.live = False
        self.size = 0
        """Bytes queued."""
        self.stuck_since: float | None = None
        """Since when the socket takes nothing."""
        self.frames_since_position = 0
        """Frames written since the client got a position."""
        self.awaited = False
        """Whether the owner wants to know, once, when all was written."""
        self._bytes_max = settings.outbox_bytes_max
        self._writer = writer
        self._owner: Owner | None = owner
        self._turn = turn
        self._settings = settings
        self._clock = clock
        self._text = text
        self._drained: asyncio.Future[None] | None = None
        self._parts: list[bytes] | None = None  # from the first frame until all is written; then a turn is awaited
        self._frames = 0  # in the parts: one may have several
        self._hurried = False  # the parts have something that does not gather
        self._behind: Behind | None = None  # what came while not live; most sessions need none

    def __bool__(self) -> bool:
        return self._parts is not None

    @property
    def overwhelmed(self) -> bool:
        """Whether more dialogs or states were missed than can be remembered: only a new sync helps."""
        return self._behind is not None and self._behind.overwhelmed

    @property
    def owes_position(self) -> bool:
        """Whether the client should get a position soon."""
        return self.frames_since_position >= FRAMES_PER_POSITION

    @property
    def stuck(self) -> bool:
        """Whether the socket takes nothing now."""
        return self._writer.paused

    # -- queueing

    def push(self, message: msgspec.Struct) -> None:
        """Queue a message for this connection alone, whatever the mode: replies, and what a catch-up sends."""
        self._queue(encode_frame(message, text=self._text))

    def push_all(self, messages: Sequence[msgspec.Struct]) -> None:
        """Queue messages for this connection alone, one after the other."""
        self._queue(b"".join([encode_frame(message, text=self._text) for message in messages]), len(messages))

    def push_page(self, page: PreparedEvents) -> None:
        """Queue events that a catch-up has read, whatever the mode."""
        self._queue(page.get_joined(self._text), len(page.events))

    def push_events(self, prepared: PreparedEvents) -> None:
        """Queue events of a timeline, or remember them."""
        if self.live:
            joined = prepared.get_joined(self._text)
            size = self.size + len(joined)
            if size <= self._bytes_max:
                if self._parts is None or not (prepared.gathers or self._hurried):
                    self._queue(joined, len(prepared.events), gathers=prepared.gathers)
                else:
                    self._parts.append(joined)  # `_queue`, without the call: this runs once for each recipient
                    self._frames += len(prepared.events)
                    self.size = size
                return
        for event, frame in zip(prepared.events, prepared.get_frames(self._text), strict=True):
            self._push_event(event.dialog, event.seq, frame)

    def push_ephemeral(self, prepared: PreparedMessage) -> None:
        """Queue an ephemeral event; dropped while behind or full."""
        if self.live and self.size <= self._bytes_max:
            self._queue(prepared.get_frame(self._text))

    def push_state(self, key: tuple[bytes, ...], prepared: PreparedMessage) -> None:
        """Queue how something is now, or hold it; of one key only the newest counts.

        The key of a receipt is (dialog, member), that of presence (principal,).
        """
        frame = prepared.get_frame(self._text)
        if self.live and self.size <= self._bytes_max:
            self._queue(frame)
            return
        self._fall_behind()
        self._get_behind().hold_state(key, frame)

    def read_from(self, dialog: bytes, seq: int) -> None:
        """Have `dialog` read from the timeline, from `seq` on."""
        self._get_behind().miss(dialog, seq)
        self._fall_behind()

    # -- writing

    def flush(self) -> None:
        """Write what is queued, unless the socket is full."""
        self.write_out()
        if self._writer.paused:
            if self.stuck_since is None:
                self.stuck_since = self._clock.monotonic()
            return
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        if self.awaited and self._owner is not None:
            self.awaited = False
            self._owner.drained()

    def write_out(self) -> None:
        """Write what is queued at once, as far as the connection still takes it."""
        parts = self._parts
        if parts is not None and not self._writer.paused:
            self._writer.write(parts[0] if len(parts) == 1 else b"".join(parts))
            turn, frames = self._turn, self._frames
            turn.writes += 1
            turn.frames += frames
            before = self.frames_since_position
            self.frames_since_position = before + frames
            self._parts = None
            self.size = self._frames = 0
            self._hurried = False
            if before < FRAMES_PER_POSITION <= self.frames_since_position and self._owner is not None:
                self._owner.owe_position()

    def abort(self) -> None:
        """End the connection now."""
        self._writer.abort()

    def writable(self) -> None:
        """Go on writing: the socket has drained."""
        self.stuck_since = None
        self.flush()

    async def wait_drained(self) -> None:
        """Return once nothing waits to be written, or the connection is gone."""
        while (self._parts is not None or self._writer.paused) and self._owner is not None:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    async def wait_room(self) -> None:
        """Return once the socket takes more and little waits to be written: at once when it is so already."""
        if self._writer.paused or self.size > _LITTLE_BYTES:
            await self.wait_drained()

    def release(self) -> None:
        """Stop reporting to the session: both it and the connection have ended."""
        self._owner = None

    # -- catching up

    def take_missed(self, dialogs_max: int) -> dict[bytes, int]:
        """What is to be read from the timeline now, first number by dialog; from here on, more of these is held."""
        return {} if self._behind is None else self._behind.take_missed(dialogs_max)

    def forget_behind(self) -> None:
        """Drop what was held or missed before the first snapshot: one that is taken later has all that is valid."""
        assert not self.live
        self._behind = None

    def try_live(self, sent_to: dict[bytes, int]) -> bool:
        """Go live if nothing is missed: queues what is held beyond what was sent (`sent_to` by dialog)."""
        behind = self._behind
        if behind:
            return False
        if behind is not None:
            for dialog, seq, frame in behind.take_held():
                if seq > sent_to.get(dialog, 0):
                    self._queue(frame)
            for frame in behind.take_states():
                self._queue(frame)
            self._behind = None
        self.live = True
        if self.owes_position and self._owner is not None:  # what was written meanwhile counts, too
            self._owner.owe_position()
        return True

    def _push_event(self, dialog: bytes, seq: int, frame: bytes) -> None:
        if self.live:
            if self.size <= self._bytes_max:
                self._queue(frame)
                return
            self._fall_behind()
        self._get_behind().hold(dialog, seq, frame)

    def _queue(self, frame: bytes, count: int = 1, *, gathers: bool = False) -> None:
        if self._parts is not None:
            self._parts.append(frame)
        elif self._owner is None:  # the connection has ended
            return
        else:
            self._parts = [frame]
            if gathers:
                self._turn.add(self)
        if not (gathers or self._hurried):
            self._hurried = True
            self._turn.add_now(self)
        self._frames += count
        self.size += len(frame)

    def _fall_behind(self) -> None:
        if self.live:
            self.live = False
            if self._owner is not None:
                self._owner.fell_behind()

    def _get_behind(self) -> Behind:
        if self._behind is None:
            self._behind = Behind(self._settings)
        return self._behind
