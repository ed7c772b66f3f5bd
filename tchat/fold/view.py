"""Folds the messages of the server into a `View`: the dialogs of a person and their content.

Invariants:

- The fold is idempotent and independent of order: every fact is a register with the `seq` that set it (the
  highest wins), a set that only grows, or a number that only grows. Catch-up, live events, history pages and their
  `later` may therefore overlap and mix.
- Replay equals live: a timeline read later, where a deleted message and its edits and reactions are `Erased`,
  folds to the same `canonical()` as the live events.
- A dialog is known from its first `DialogState`, which the server sends first; events of unknown dialogs are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from protocol.bodies import Blocked, Muted, TimelineEvent, Unblocked
from protocol.events import DialogState, MissedChanges, ReceiptChanged
from protocol.ids import NIL
from protocol.replies import HistoryPage, RosterPage
from tchat.fold.dialog import DialogView, MemberReceipt
from tchat.fold.message import Message

__all__ = ["DialogView", "MemberReceipt", "Message", "View"]


class View:
    """All dialogs of one person, folded. `apply` takes every message of the server."""

    def __init__(self, me: bytes = NIL) -> None:
        self.me = me
        self.dialogs: dict[bytes, DialogView] = {}
        self._blocks: dict[bytes, tuple[int, bool]] = {}

    @property
    def blocked(self) -> frozenset[bytes]:
        """The principals that are blocked, as far as the loaded part of the `self` dialog shows."""
        return frozenset(who for who, (_, blocked) in self._blocks.items() if blocked)

    def clear(self) -> None:
        """Drop everything: the server cannot resume from the position."""
        self.dialogs.clear()
        self._blocks.clear()

    def apply(self, message: object) -> None:
        """Fold one message of the server; ephemeral ones are ignored."""
        match message:
            case DialogState():
                self._apply_state(message)
            case TimelineEvent():
                self._apply_events([message], live=True)
            case HistoryPage():
                if (dialog := self.dialogs.get(message.dialog)) is not None:
                    dialog.apply_page(message)
                    self._apply_events(message.events, live=False)
            case RosterPage() | ReceiptChanged() | MissedChanges():
                if (dialog := self.dialogs.get(message.dialog)) is not None:
                    dialog.apply(message)
            case _:
                pass

    def canonical(self) -> dict[str, Any]:
        """Comparable plain data of everything durable.

        Without the dialogs that the person left: a sync from nothing does not bring them. Each has its own `canonical`.
        """
        mine = {key.hex(): dialog.canonical() for key, dialog in sorted(self.dialogs.items()) if dialog.member}
        return {"blocked": sorted(who.hex() for who in self.blocked), "dialogs": mine}

    def _apply_state(self, state: DialogState) -> None:
        dialog = self.dialogs.get(state.dialog)
        if dialog is None:
            dialog = DialogView(state.dialog, self.me, state.type, state.mode)
            self.dialogs[state.dialog] = dialog
        dialog.apply_state(state)

    def _apply_events(self, events: Iterable[TimelineEvent], *, live: bool) -> None:
        for event in events:
            match event.body:
                case Muted(dialog=target, until_ms=until_ms) if live:
                    if (muted := self.dialogs.get(target)) is not None:
                        muted.mute(event.seq, until_ms)
                case Blocked(principal=who):
                    self._block(event.seq, who, blocked=True)
                case Unblocked(principal=who):
                    self._block(event.seq, who, blocked=False)
                case _:
                    pass
            if live and (dialog := self.dialogs.get(event.dialog)) is not None:
                dialog.apply_event(event)

    def _block(self, seq: int, who: bytes, *, blocked: bool) -> None:
        if seq > self._blocks.get(who, (0, False))[0]:
            self._blocks[who] = (seq, blocked)
