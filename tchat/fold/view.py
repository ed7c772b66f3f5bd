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

import msgspec

from protocol.bodies import Blocked, Declined, Edited, Invited, Muted, Posted, TimelineEvent, Unblocked
from protocol.dialog_types import DialogType
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
        self.device = NIL
        self.dialogs: dict[bytes, DialogView] = {}
        self._blocks: dict[bytes, tuple[int, bool]] = {}
        self._invited: dict[bytes, tuple[int, Invited | None]] = {}
        self._invited_as_of = 0

    @property
    def blocked(self) -> frozenset[bytes]:
        """The principals that are blocked, as far as the loaded part of the `self` dialog shows."""
        return frozenset(who for who, (_, blocked) in self._blocks.items() if blocked)

    @property
    def invitations(self) -> dict[bytes, Invited]:
        """The open invitations, by the dialog they are into."""
        return {dialog: invited for dialog, (_, invited) in self._invited.items() if invited is not None}

    def clear(self) -> None:
        """Drop everything: the server cannot resume from the position."""
        self.dialogs.clear()
        self._blocks.clear()
        self._invited.clear()
        self._invited_as_of = 0

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

    def mark_unreadable(self, event: TimelineEvent, reason: str) -> None:
        """Say of a message, or of its edit, why it is not shown; `apply` has had the event without its payload."""
        dialog = self.dialogs.get(event.dialog)
        if dialog is not None and isinstance(event.body, Posted | Edited):
            dialog.mark_unreadable(event.seq, event.body, reason)

    def canonical(self) -> dict[str, Any]:
        """Comparable plain data of everything durable.

        Without the dialogs that the person left: a sync from nothing does not bring them. Each has its own `canonical`.
        """
        mine = {key.hex(): dialog.canonical() for key, dialog in sorted(self.dialogs.items()) if dialog.member}
        invitations = {key.hex(): msgspec.to_builtins(each) for key, each in sorted(self.invitations.items())}
        return {"blocked": sorted(who.hex() for who in self.blocked), "dialogs": mine, "invitations": invitations}

    def _apply_state(self, state: DialogState) -> None:
        dialog = self.dialogs.get(state.dialog)
        if dialog is None:
            dialog = DialogView(state.dialog, self.me, state.type, state.mode)
            self.dialogs[state.dialog] = dialog
        dialog.apply_state(state)
        if state.type is DialogType.SELF and state.seq >= self._invited_as_of:
            self._invited_as_of = state.seq
            self._invited = {dialog: entry for dialog, entry in self._invited.items() if entry[0] > state.seq}
            for invited in state.invitations:
                self._invited.setdefault(invited.dialog, (state.seq, invited))
        if state.member and state.dialog in self._invited:
            self._invited[state.dialog] = (self._invited[state.dialog][0], None)

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
                case Invited(dialog=into) as invited:
                    into_mine = self.dialogs.get(into)
                    self._invite(event.seq, into, None if into_mine is not None and into_mine.member else invited)
                case Declined(dialog=into):
                    self._invite(event.seq, into, None)
                case _:
                    pass
            if live and (dialog := self.dialogs.get(event.dialog)) is not None:
                dialog.apply_event(event)

    def _block(self, seq: int, who: bytes, *, blocked: bool) -> None:
        if seq > self._blocks.get(who, (0, False))[0]:
            self._blocks[who] = (seq, blocked)

    def _invite(self, seq: int, into: bytes, invited: Invited | None) -> None:
        """An event of the `self` dialog that its state did not contain."""
        if seq > max(self._invited_as_of, self._invited.get(into, (0, None))[0]):
            self._invited[into] = (seq, invited)
