"""Sealers without cryptography: one for clients that send plain bytes, one that a test drives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import msgspec

from protocol.bodies import Signed, TimelineEvent
from protocol.command_rules import Command
from protocol.commands import Add, Edit, Numbered, Promote, React, Send
from protocol.events import DialogState
from protocol.replies import Failed, Reply
from tchat.encryption.end_to_end import Unencrypted
from tchat.encryption.sealing import Clear, Outcome, Ready, Sealer
from tchat.store import OutboxStore, Stored
from tests.support.world import UNCHECKED


class Behind(Unencrypted):
    """Nothing of encryption but a sealer, which decides what leaves; what arrives is shown as it is."""

    def __init__(self, sealer: Sealer) -> None:
        super().__init__()
        self._sealer = sealer

    def seal(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:
        return self._sealer.seal(intent, row)

    def answered(self, command: Command, reply: Reply) -> None:
        self._sealer.answered(command, reply)

    def stale(self, sealed: Numbered, failed: Failed) -> None:
        self._sealer.stale(sealed, failed)

    def acked(self, sealed: Numbered) -> None:
        self._sealer.acked(sealed)

    def dropped(self, command: Numbered) -> None:
        self._sealer.dropped(command)

    def heard(self, event: TimelineEvent | DialogState) -> None:
        self._sealer.heard(event)

    def reset(self) -> None:
        self._sealer.reset()

    def open(self, event: TimelineEvent) -> TimelineEvent:
        return event


class PlainSealer(Unencrypted):
    """Seals and signs nothing, and says under the newest `keys_seq` that a refusal named that it did."""

    def __init__(self, store: OutboxStore) -> None:
        super().__init__()
        self._store = store
        self._newest: defaultdict[bytes, int] = defaultdict(int)

    def seal(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:
        if isinstance(intent, Add | Promote):
            signed = Signed(self._newest[intent.dialog], bytes(32), UNCHECKED)
            command: Numbered = msgspec.structs.replace(intent, signed=signed)
        elif isinstance(intent, Send | Edit | React):
            newest = max(intent.header.keys_seq, self._newest[intent.dialog])
            command = msgspec.structs.replace(intent, header=msgspec.structs.replace(intent.header, keys_seq=newest))
        else:
            return Clear()
        self._store.replace(Stored(command.n, row(command)))
        return Ready(command)

    def answered(self, command: Command, reply: Reply) -> None:
        raise AssertionError(f"{command} was not asked for, {reply}")

    def stale(self, sealed: Numbered, failed: Failed) -> None:
        dialog = _dialog_of(sealed)
        self._newest[dialog] = max(self._newest[dialog], failed.keys_seq or 0)

    def acked(self, sealed: Numbered) -> None:
        pass

    def heard(self, event: TimelineEvent | DialogState) -> None:
        pass

    def reset(self) -> None:
        self._newest.clear()


class ScriptedSealer(PlainSealer):
    """Numbers what it seals, answers what the test says before it seals, and remembers all that it was told."""

    def __init__(self, store: OutboxStore) -> None:
        super().__init__(store)
        self.before: list[Outcome] = []
        """What it says to the next calls, before it seals again."""
        self.asked: list[int] = []
        self.sealed: list[Numbered] = []
        self.answers: list[tuple[Command, Reply]] = []
        self.refused: list[tuple[int, int | None]] = []
        self.settled: list[int] = []

    def seal(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:
        self.asked.append(intent.n)
        if self.before:
            return self.before.pop(0)
        if not isinstance(intent, Send):
            return super().seal(intent, row)
        payload = b"%d:" % len(self.sealed) + intent.payload
        outcome = super().seal(msgspec.structs.replace(intent, payload=payload), row)
        assert isinstance(outcome, Ready)
        self.sealed.append(outcome.command)
        return outcome

    def answered(self, command: Command, reply: Reply) -> None:
        self.answers.append((command, reply))

    def stale(self, sealed: Numbered, failed: Failed) -> None:
        super().stale(sealed, failed)
        self.refused.append((sealed.n, failed.keys_seq))

    def acked(self, sealed: Numbered) -> None:
        self.settled.append(sealed.n)


def _dialog_of(command: Numbered) -> bytes:
    dialog: bytes = getattr(command, "dialog")  # noqa: B009 - only some commands have it
    return dialog
