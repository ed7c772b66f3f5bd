"""The port by which the outbox has its commands sealed, as late as possible.

The outbox keeps what the app wants to say. Before the bytes leave for the first time, the sealer makes of it what
leaves: who may read it is decided then. What it decides about each command:

- `Clear`: it goes as the app made it (the dialog is open, or nothing in the command is sealed). It says so again
  whenever it is asked again: the outbox does not keep that the command left, and the server may have it.
- `Ready`: it goes as this command. Ratchet step and command became durable together, so the same bytes can go again.
- `First`: these commands are answered first (device logs, claims, slices of a share); then the sealer is asked again.
- `NotYet`: not now; ask again after an event of the dialog, when a command has left the outbox, or by `seal_again`.
- `Failed`: never; it is removed from the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from protocol.bodies import TimelineEvent
from protocol.command_rules import Command
from protocol.commands import Numbered
from protocol.events import DialogState
from protocol.replies import Failed, Reply


@dataclass(frozen=True, slots=True)
class Clear:
    """The command goes as the app made it."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The command goes as this one, with the same number."""

    command: Numbered


@dataclass(frozen=True, slots=True)
class First:
    """Commands without a number that are answered before the sealer is asked again; in any order, at least one."""

    commands: Sequence[Command]


@dataclass(frozen=True, slots=True)
class NotYet:
    """The command waits. `reason` is for a person; empty if nobody has to do anything."""

    reason: str = ""


Outcome = Clear | Ready | First | NotYet | Failed


class Sealer(Protocol):
    """Seals the commands of one device. All calls are short and block until what they change is durable."""

    def seal(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:
        """Decide how a command leaves that has not left yet, or that was refused as `stale`.

        Before it returns `Ready`, what `row` makes of the command is in the outbox under its number, in one commit
        with the step of the ratchet.
        """

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to a command of `First`. If the connection is lost before it, `seal` asks for it again."""

    def stale(self, sealed: Numbered, failed: Failed) -> None:
        """The server refused what was sealed: others may read now. It is sealed again under the same number."""

    def acked(self, sealed: Numbered) -> None:
        """What was sealed is durable at the server. May be called again for the same command after a crash."""

    def dropped(self, command: Numbered) -> None:
        """A command leaves the outbox, and is not stored: it was refused for good, or its person gave it up."""

    def heard(self, event: TimelineEvent | DialogState) -> None:
        """An event of the server, in order."""

    def reset(self) -> None:
        """All that is known of dialogs comes again."""
