"""What came for a session that reads from the timeline: while it catches up first, and after it fell behind.

A few events are held as they came. When they get too many, the first missed number of each dialog is remembered. Of
each state, a receipt or presence, the newest is held. A session that is live has none of this.
"""

from __future__ import annotations

import itertools

from server.config.settings import SessionSettings


class Behind:
    """Bounded by `held_frames_max` frames and `outbox_bytes_max` bytes held, `missed_dialogs_max` dialogs and states.

    `overwhelmed`: more dialogs or states were missed than that. Then only a new sync helps.
    """

    __slots__ = ("_held", "_held_size", "_missed", "_settings", "_states", "overwhelmed")

    def __init__(self, settings: SessionSettings) -> None:
        self.overwhelmed = False
        self._settings = settings
        self._held: list[tuple[bytes, int, bytes]] = []
        self._held_size = 0
        self._missed: dict[bytes, int] = {}
        self._states: dict[tuple[bytes, ...], bytes] = {}

    def __bool__(self) -> bool:
        """Whether something must be read from the timeline."""
        return bool(self._missed)

    def hold(self, dialog: bytes, seq: int, frame: bytes) -> None:
        """Hold an event of a timeline, or remember its number."""
        settings = self._settings
        if dialog in self._missed:
            self.miss(dialog, seq)
        elif len(self._held) < settings.held_frames_max and self._held_size < settings.outbox_bytes_max:
            self._held.append((dialog, seq, frame))
            self._held_size += len(frame)
        else:
            for held_dialog, held_seq, _ in self.take_held():
                self.miss(held_dialog, held_seq)
            self.miss(dialog, seq)

    def hold_state(self, key: tuple[bytes, ...], frame: bytes) -> None:
        """Hold how something is now; of one key only the newest counts."""
        if key not in self._states and len(self._states) >= self._settings.missed_dialogs_max:
            self.overwhelmed = True
        else:
            self._states[key] = frame

    def miss(self, dialog: bytes, seq: int) -> None:
        """Remember that `dialog` is to be read from `seq` on, and all that is held of it too."""
        known = self._missed.get(dialog)
        if known is None:
            if len(self._missed) >= self._settings.missed_dialogs_max:
                self.overwhelmed = True
                return
            known = self._drop_held(dialog)
        self._missed[dialog] = seq if known is None else min(seq, known)

    def take_missed(self, dialogs_max: int) -> dict[bytes, int]:
        """What is to be read from the timeline now, first number by dialog; what else was missed remains so."""
        return {dialog: self._missed.pop(dialog) for dialog in list(itertools.islice(self._missed, dialogs_max))}

    def take_held(self) -> list[tuple[bytes, int, bytes]]:
        """The events held: dialog, number, frame."""
        held, self._held = self._held, []
        self._held_size = 0
        return held

    def take_states(self) -> list[bytes]:
        """The frames of the states held."""
        states, self._states = self._states, {}
        return list(states.values())

    def _drop_held(self, dialog: bytes) -> int | None:
        """The first number held of a dialog. The reading that replaces it would otherwise begin after it."""
        first = next((seq for held, seq, _ in self._held if held == dialog), None)
        if first is not None:
            self._held = [held for held in self._held if held[0] != dialog]
            self._held_size = sum(len(frame) for _, _, frame in self._held)
        return first
