"""The port by which the client's core has everything of encryption done, and what stands there without encryption.

The core passes on what it hears, in order, and shows the app what comes back. Commands that encryption itself wants
answered (`due`) have no number, and are asked again after a cut until they are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from protocol.bodies import TimelineEvent
from protocol.command_rules import Command
from protocol.commands import Numbered
from protocol.dialog_types import Mode
from protocol.errors import ErrorCode
from protocol.events import DialogState, Event
from protocol.replies import Failed, Reply, Synced
from tchat.crypto.errors import Reason
from tchat.encryption.contents import content_of, is_content, shown
from tchat.encryption.notices import Notice, Unreadable
from tchat.encryption.sealing import Clear, Outcome, Sealer

_NO_KEYS = "This dialog is encrypted, and the store of this client keeps no keys: open another one (`SealedStore`)."


class EndToEnd(Sealer, Protocol):
    """One device's part in sealed conversations. All calls are short.

    What they change is durable when they return, or with the commit of the client that they are part of.
    """

    def signed_in(self, principal: bytes, device: bytes, synced: Synced) -> None:
        """Catch-up begins; what the store refuses is raised (`tchat/crypto/store_errors.py`)."""

    def caught_up(self) -> None:
        """Everything that waited at the server has been heard."""

    def disconnected(self) -> None:
        """What was asked is asked again."""

    def received(self, message: Event) -> None:
        """What other devices hand to this one."""

    def open(self, event: TimelineEvent) -> TimelineEvent | Unreadable:
        """What the app gets of an event, after `heard`: the payload that was written."""

    def open_all(self, events: Sequence[TimelineEvent]) -> list[TimelineEvent]:
        """What the app gets of events that it reads again; what is not readable is blank, and a notice names it."""

    def due(self, now: float) -> Sequence[Command]:
        """What to ask the server now; `now` only grows, in seconds."""

    def next_due(self) -> float | None:
        """When there is more to ask though nothing happens; None: never."""

    def replied(self, command: Command, reply: Reply, now: float) -> None:
        """The answer to a command of `due`."""

    def take_notices(self) -> Sequence[Notice]:
        """What the app is to be told since the last call, in order."""


class Unencrypted:
    """The part of a device without keys: it uses open dialogs, and sends and shows nothing in sealed ones."""

    def __init__(self) -> None:
        self._sealed: set[bytes] = set()
        self._notices: list[Notice] = []

    def seal(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:  # noqa: ARG002
        if is_content(intent) and intent.dialog in self._sealed:
            return Failed(0, ErrorCode.NOT_ALLOWED, _NO_KEYS)
        return Clear()

    def answered(self, command: Command, reply: Reply) -> None:
        pass

    def stale(self, sealed: Numbered, failed: Failed) -> None:
        pass

    def acked(self, sealed: Numbered) -> None:
        pass

    def dropped(self, command: Numbered) -> None:
        pass

    def heard(self, event: TimelineEvent | DialogState) -> None:
        if isinstance(event, DialogState) and event.mode is Mode.SEALED:
            self._sealed.add(event.dialog)

    def reset(self) -> None:
        pass

    def signed_in(self, principal: bytes, device: bytes, synced: Synced) -> None:
        pass

    def caught_up(self) -> None:
        pass

    def disconnected(self) -> None:
        pass

    def received(self, message: Event) -> None:
        pass

    def open(self, event: TimelineEvent) -> TimelineEvent | Unreadable:
        if event.dialog in self._sealed and content_of(event) is not None:
            return Unreadable(event, Reason.NO_KEYS_KEPT)
        return event

    def open_all(self, events: Sequence[TimelineEvent]) -> list[TimelineEvent]:
        outcomes = [self.open(event) for event in events]
        self._notices += (outcome for outcome in outcomes if isinstance(outcome, Unreadable))
        return shown(outcomes)

    def due(self, now: float) -> Sequence[Command]:  # noqa: ARG002
        return ()

    def next_due(self) -> float | None:
        return None

    def replied(self, command: Command, reply: Reply, now: float) -> None:
        pass

    def take_notices(self) -> Sequence[Notice]:
        taken, self._notices = self._notices, []
        return taken
