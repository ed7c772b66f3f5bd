"""What waits to be written to one connection, and what is to be caught up on once it has drained.

Two modes. *Live*: everything is queued in order. *Behind* (during the first catch-up, and after the bound was passed):
timeline events are not queued. A few are held as they come; when they get too many, only the first missed number of
each dialog is remembered, to be read from the timeline. Of each state, receipts and presence, the newest is held.
Ephemeral events are dropped while behind.

Invariants: per dialog, events leave in the order of their numbers and without a hole; memory is bounded by
`outbox_bytes_max` queued, by `held_frames_max` frames and `outbox_bytes_max` bytes held, and by `missed_dialogs_max`
dialogs and states.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from server.config.settings import SessionSettings
from server.delivery.flush_turn import FlushTurn
from server.delivery.prepared_message import PreparedEvents, PreparedMessage, encode_frame

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


class Owner(Protocol):
    """What an outbox reports to: its session."""

    def fell_behind(self) -> None:
        """Events are no longer queued: they must be read from the timeline."""
        ...

    def drained(self) -> None:
        """Everything queued was written and the socket takes more."""
        ...

    def owe_position(self) -> None:
        """So many frames were written that the client should get a position."""
        ...


class Outbox:
    """The outbox of one connection; `monotonic` gives seconds."""

    __slots__ = (
        "_bytes_max",
        "_dirty",
        "_drained",
        "_frames",
        "_held",
        "_held_size",
        "_missed",
        "_monotonic",
        "_owner",
        "_parts",
        "_settings",
        "_states",
        "_text",
        "_turn",
        "_writer",
        "frames_since_position",
        "live",
        "overwhelmed",
        "size",
        "stuck_since",
    )

    def __init__(
        self,
        writer: Writer,
        owner: Owner,
        turn: FlushTurn,
        settings: SessionSettings,
        monotonic: Callable[[], float],
        *,
        text: bool,
    ) -> None:
        self.live = False
        self.overwhelmed = False
        """More dialogs or states were missed than can be remembered: only a new sync helps."""
        self.size = 0
        """Bytes queued."""
        self.stuck_since: float | None = None
        """Since when the socket takes nothing."""
        self.frames_since_position = 0
        """Frames written since the client got a position."""
        self._bytes_max = settings.outbox_bytes_max
        self._writer = writer
        self._owner: Owner | None = owner
        self._turn = turn
        self._settings = settings
        self._monotonic = monotonic
        self._text = text
        self._dirty = False
        self._drained: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._frames = 0  # in the parts: one may have several
        self._held: list[tuple[bytes, int, bytes]] = []
        self._held_size = 0
        self._missed: dict[bytes, int] = {}
        self._states: dict[tuple[bytes, ...], bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._parts)

    @property
    def owes_position(self) -> bool:
        """Whether the client should get a position soon."""
        return self.frames_since_position >= FRAMES_PER_POSITION

    # -- queueing

    def push(self, message: msgspec.Struct) -> None:
        """Queue a message for this connection alone, whatever the mode: replies, and what a catch-up sends."""
        self._queue(encode_frame(message, text=self._text))

    def push_events(self, prepared: PreparedEvents) -> None:
        """Queue events of a timeline, or remember them."""
        if self.live:
            joined = prepared.get_joined(self._text)
            size = self.size + len(joined)
            if size <= self._bytes_max:
                self._parts.append(joined)  # `_queue`, without the call: this runs once for each recipient
                self._frames += len(prepared.events)
                self.size = size
                if not self._dirty:
                    self._await_turn()
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
        if key not in self._states and len(self._states) >= self._settings.missed_dialogs_max:
            self.overwhelmed = True
            return
        self._states[key] = frame

    def read_from(self, dialog: bytes, seq: int) -> None:
        """Have `dialog` read from the timeline, from `seq` on."""
        self._miss(dialog, seq)
        self._fall_behind()

    # -- writing

    def flush(self) -> None:
        """Write what is queued, unless the socket is full."""
        self.write_out()
        if self._writer.paused:
            if self.stuck_since is None:
                self.stuck_since = self._monotonic()
            return
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._owner is not None:
            self._owner.drained()

    def write_out(self) -> None:
        """Write what is queued at once, as far as the connection still takes it."""
        parts = self._parts
        if parts and not self._writer.paused:
            self._writer.write(parts[0] if len(parts) == 1 else b"".join(parts))
            turn, frames = self._turn, self._frames
            turn.writes += 1
            turn.frames += frames
            before = self.frames_since_position
            self.frames_since_position = before + frames
            parts.clear()
            self.size = self._frames = 0
            self._dirty = False
            if before < FRAMES_PER_POSITION <= self.frames_since_position and self._owner is not None:
                self._owner.owe_position()

    def writable(self) -> None:
        """Go on writing: the socket has drained."""
        self.stuck_since = None
        self.flush()

    async def wait_drained(self) -> None:
        """Return once nothing waits to be written, or the connection is gone."""
        while (self._parts or self._writer.paused) and self._owner is not None:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def release(self) -> None:
        """Stop reporting to the session: both it and the connection have ended."""
        self._owner = None

    # -- catching up

    def take_missed(self) -> dict[bytes, int]:
        """What is to be read from the timeline, first number by dialog; nothing is missed after this."""
        missed, self._missed = self._missed, {}
        return missed

    def try_live(self, sent_to: dict[bytes, int]) -> bool:
        """Go live if nothing is missed: queues what is held beyond what was sent (`sent_to` by dialog)."""
        if self._missed:
            return False
        for dialog, seq, frame in self._take_held():
            if seq > sent_to.get(dialog, 0):
                self._queue(frame)
        states, self._states = self._states, {}
        for frame in states.values():
            self._queue(frame)
        self.live = True
        return True

    def _push_event(self, dialog: bytes, seq: int, frame: bytes) -> None:
        if self.live:
            if self.size <= self._bytes_max:
                self._queue(frame)
                return
            self._fall_behind()
        if dialog in self._missed:
            self._miss(dialog, seq)
        elif len(self._held) < self._settings.held_frames_max and self._held_size < self._bytes_max:
            self._held.append((dialog, seq, frame))
            self._held_size += len(frame)
        else:
            for held_dialog, held_seq, _ in self._take_held():
                self._miss(held_dialog, held_seq)
            self._miss(dialog, seq)

    def _queue(self, frame: bytes) -> None:
        self._parts.append(frame)
        self._frames += 1
        self.size += len(frame)
        if not self._dirty:
            self._await_turn()

    def _await_turn(self) -> None:
        if self._owner is not None:
            self._dirty = True
            self._turn.add(self)

    def _miss(self, dialog: bytes, seq: int) -> None:
        """Remember that `dialog` is to be read from `seq` on, and all that is held of it too."""
        known = self._missed.get(dialog)
        if known is None:
            if len(self._missed) >= self._settings.missed_dialogs_max:
                self.overwhelmed = True
                return
            known = self._drop_held(dialog)
        self._missed[dialog] = seq if known is None else min(seq, known)

    def _fall_behind(self) -> None:
        if self.live:
            self.live = False
            if self._owner is not None:
                self._owner.fell_behind()

    def _drop_held(self, dialog: bytes) -> int | None:
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
