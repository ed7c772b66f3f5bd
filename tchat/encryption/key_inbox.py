"""Keys that other devices hand to this one: believed of devices in a log, kept, then confirmed to the server.

Invariants:

- A slice is opened once its author's log has named the device that made it. Until then it is not confirmed: the server
  keeps it, and gives it again at the next connection.
- What is confirmed is stored, or can never be opened: then a broken channel is replaced, so that keys are handed again.
- Slices of one device are opened in the order in which they came, and once: what is not confirmed may come again.

A message to a large group brings keys to all its devices at the same moment. So that they do not confirm them at the
same moment, too, each waits for a random time; what has come meanwhile is confirmed with them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from protocol.command_rules import Command
from protocol.events import KeySlice
from protocol.limits import SLICES_PER_COMMAND_MAX
from protocol.replies import Failed, Reply
from protocol.share_commands import ConfirmSlices
from tchat.crypto.errors import OpenError
from tchat.crypto.machine import CryptoMachine, KeysReceived
from tchat.crypto.olm import KnownDevice
from tchat.crypto.people import People
from tchat.encryption.device_logs import DeviceLogs

CONFIRM_WITHIN_S = 2.0
"""Keys are confirmed at a random moment within this time."""
WAITING_MAX = 1000
"""Slices that wait for a device log; others come again with the next connection."""


class KeyInbox:
    """The slices for this device. `dice` gives numbers from 0 to 1."""

    def __init__(
        self,
        machine: CryptoMachine,
        people: People,
        logs: DeviceLogs,
        key_was_used: Callable[[], None],
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._machine = machine
        self._people = people
        self._logs = logs
        self._key_was_used = key_was_used
        self._waiting: list[KeySlice] = []
        self._to_confirm: list[int] = []
        self._confirming = False
        self._confirm_at: float | None = None
        self._dice = dice
        self.broken: Callable[[bytes, Sequence[KnownDevice]], object] = lambda _dialog, _devices: None
        """Replaces the channels to these devices, by keys that are claimed in a dialog."""

    def received(self, slices: Sequence[KeySlice]) -> list[KeysReceived]:
        """Keep these keys; the sessions that can be read now."""
        known: list[tuple[KeySlice, KnownDevice]] = []
        here = {*self._to_confirm, *(one.number for one in self._waiting)}
        for one in slices:
            if one.number in here:
                continue
            device = self._device_of(one)
            if device is not None:
                known.append((one, device))
            elif len(self._waiting) < WAITING_MAX:
                self._waiting.append(one)
                self._logs.need(one.dialog, one.author)
        outcomes = self._machine.receive([(device, one.body) for one, device in known])
        self._to_confirm += (one.number for one, _ in known)
        for (one, device), outcome in zip(known, outcomes, strict=True):
            if isinstance(outcome, OpenError):
                self.broken(one.dialog, [device])
            elif outcome.opened:
                self._key_was_used()
        return [outcome for outcome in outcomes if isinstance(outcome, KeysReceived)]

    def logs_were_read(self) -> list[KeysReceived]:
        """Look again at what waited for a log; the sessions that can be read now."""
        waiting, self._waiting = self._waiting, []
        known = [one for one in waiting if self._device_of(one) is not None]
        self._waiting = [one for one in waiting if self._device_of(one) is None and self._logs.awaits(one.dialog)]
        return self.received(known) if known else []

    def due(self, now: float) -> list[Command]:
        """The confirmation to send now, once."""
        if self._confirming or not self._to_confirm:
            return []
        if self._confirm_at is None:
            self._confirm_at = now + CONFIRM_WITHIN_S * self._dice()
        if now < self._confirm_at:
            return []
        self._confirming = True
        return [ConfirmSlices(0, self._to_confirm[:SLICES_PER_COMMAND_MAX])]

    def next_due(self) -> float | None:
        """When something will be due, if nothing happens before."""
        return None if self._confirming else self._confirm_at

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to a confirmation."""
        if isinstance(command, ConfirmSlices):
            self._confirming = False
            if not (isinstance(reply, Failed) and reply.temporary):
                self._to_confirm = [number for number in self._to_confirm if number not in command.numbers]
            if not self._to_confirm:
                self._confirm_at = None

    def disconnected(self) -> None:
        """What is not confirmed comes again."""
        self._waiting.clear()
        self._to_confirm.clear()
        self._confirming = False
        self._confirm_at = None

    def _device_of(self, one: KeySlice) -> KnownDevice | None:
        """The device as its person's log has it, or had it before it was removed."""
        pin = self._people.pin_of(one.author)
        for log in () if pin is None else (pin.log, pin.before):
            for listed in reversed(() if log is None else log.listed):
                if listed.device == one.device:
                    return KnownDevice(one.author, one.device, listed.keys)
        return None
