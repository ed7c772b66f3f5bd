"""One device's part in sealed conversations, put together: the one object that the client's core has for it.

What a person does goes through the methods below `seal`: each takes effect at once, and calls `wake`.

Invariants:

- A store that is an older copy gets new keys at once if no command waits in it; else its person decides what is lost.
- Nothing is sealed, opened or asked before the server has said at a sign-in how far this device is.
- What the app gets of a dialog that was sealed once was opened here, or is named as unreadable.
- After a temporary refusal nothing is asked in the background for a while, which grows with each in a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from protocol.bodies import TimelineEvent
from protocol.command_rules import Command
from protocol.commands import Numbered
from protocol.events import DialogState, Event, FromDevice, KeySlices
from protocol.key_commands import ReadDevices
from protocol.replies import Failed, Reply, Synced
from protocol.report_commands import Report
from tchat.crypto.machine import CryptoMachine, KeysReceived
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.people import People
from tchat.crypto.recovery import write_recovery_key
from tchat.crypto.state import CryptoState
from tchat.crypto.store_errors import StoreBehindError
from tchat.encryption.backing_up import BackingUp
from tchat.encryption.contents import is_content
from tchat.encryption.device_messages import DeviceMessages
from tchat.encryption.device_sealer import DeviceSealer
from tchat.encryption.handing_identity import HandingIdentity
from tchat.encryption.key_inbox import KeyInbox
from tchat.encryption.key_uploads import KeyUploads
from tchat.encryption.notices import Notice, Standing, Unreadable
from tchat.encryption.opening import Opening
from tchat.encryption.own_devices import OwnDevices
from tchat.encryption.readers import ReaderEngine
from tchat.encryption.sealing import Outcome
from tchat.encryption.shared_trust import SharedTrust
from tchat.encryption.verifying import Verifying

PAUSE_S_MAX = 60.0


@runtime_checkable
class KeyStore(CryptoState, Protocol):
    """What keeps the keys of a device, in one commit with its outbox."""

    def signed_in(self, n_max: int, generation: int) -> int:
        """The generation of this device's keys, after a sign-in; `StoreBehindError` if this is an older copy."""

    def retire(self, n_max: int, generation: int) -> Sequence[object]:
        """Begin new keys; the commands that are given up, since the newer store may have sent them."""

    def renew(self) -> int:
        """Begin new keys, and keep the commands: the keys before are believed by nobody. Their generation."""

    def pending(self) -> Sequence[object]:
        """The commands that await an answer."""


@dataclass(slots=True)
class _Parts:
    """What a device has once the server has said how far it is."""

    machine: CryptoMachine
    people: People
    readers: ReaderEngine
    sealer: DeviceSealer
    uploads: KeyUploads
    own: OwnDevices
    inbox: KeyInbox
    messages: DeviceMessages
    opening: Opening
    handing: HandingIdentity
    verifying: Verifying
    backup: BackingUp
    trust: SharedTrust


class Encryption:
    """An `EndToEnd` of a device that keeps its keys in a store. `now_ms` is the time since 1970."""

    def __init__(self, store: KeyStore, now_ms: Callable[[], int] | None = None) -> None:
        self._store = store
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._made: _Parts | None = None
        self._pause_s, self._resume_at = 0.0, 0.0
        self.wake: Callable[[], None] = lambda: None
        """Called when a person has done something here: what waited may leave, and there may be more to ask."""

    # what a person does and sees

    @property
    def standing(self) -> Standing:
        """What this device is to others."""
        return Standing.UNKNOWN if self._made is None else self._made.own.standing

    @property
    def device(self) -> bytes:
        """This device."""
        return self._parts.machine.device

    @property
    def people(self) -> People:
        """What this device believes of people's devices."""
        return self._parts.people

    @property
    def recovery_key(self) -> str | None:
        """What the person writes down; None on a device without the private keys of the identity."""
        key = self._parts.people.recovery_key
        return None if key is None else write_recovery_key(key)

    def keep_identity(self, identity: OwnIdentity, recovery_key: bytes) -> bool:
        """Private keys that were recovered; False, and nothing is signed, if the server shows another identity."""
        ours = self._parts.people.keep_identity(identity, recovery_key)
        self._parts.own.look_again()
        self.wake()
        return ours

    @property
    def verifying(self) -> Verifying:
        """The verifications of this device with others."""
        return self._parts.verifying

    def recover(self, recovery_key: str) -> None:
        """Bring the identity and older messages back; `RecoveryError` if this cannot be a recovery key."""
        self._parts.backup.recover(recovery_key)
        self.wake()

    def sign(self, text: bytes) -> bytes | None:
        """The signature of this device, 64 bytes; None before its first connection."""
        return None if self._made is None else self._made.machine.sign(text)

    def start_new_identity(self) -> None:
        """Begin anew as this person, when no other device and no recovery key is left; contacts see it."""
        self._parts.own.start_new_identity()
        self.wake()

    def remove_device(self, device: bytes) -> bool:
        """Take a device of this person out of their log; False here without the private keys of the identity."""
        removed = self._parts.own.remove(device)
        self.wake()
        return removed

    def agree_to_members(self, dialog: bytes) -> None:
        """The person has compared who is in this dialog with the others, and goes on."""
        self._parts.readers.rosters.agree(dialog)
        self.wake()

    def agree_to_identity(self, principal: bytes) -> None:
        """The person takes the new identity of somebody whom they had verified, without verifying it."""
        self._parts.people.agreed(principal)
        self.wake()

    # sealing

    def seal(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:
        return self._parts.sealer.seal(intent, row)

    def answered(self, command: Command, reply: Reply) -> None:
        self._parts.sealer.answered(command, reply)

    def stale(self, sealed: Numbered, failed: Failed) -> None:
        self._parts.sealer.stale(sealed, failed)

    def acked(self, sealed: Numbered) -> None:
        self._parts.sealer.acked(sealed)
        if is_content(sealed) and sealed.header.session is not None:
            self._parts.backup.keys_came([sealed.header.session])

    def dropped(self, command: Numbered) -> None:
        if self._made is not None:
            self._made.sealer.dropped(command)

    # connections

    def signed_in(self, principal: bytes, device: bytes, synced: Synced) -> None:
        try:
            generation = self._store.signed_in(synced.n_max, synced.key_generation)
        except StoreBehindError:
            if self._store.pending():
                raise
            self._store.retire(synced.n_max, synced.key_generation)
            generation = self._store.signed_in(synced.n_max, synced.key_generation)
        if self._made is None or self._made.machine.generation != generation:
            self._made = self._make(principal, device, generation)
        self._made.uploads.synced(synced)
        self._made.own.synced()

    def caught_up(self) -> None:
        self._parts.uploads.caught_up()
        self._parts.readers.caught_up()
        self._parts.opening.try_again()

    def disconnected(self) -> None:
        self._pause_s, self._resume_at = 0.0, 0.0
        if self._made is not None:
            made = self._made
            for part in (made.readers, made.uploads, made.own, made.inbox, made.messages, made.backup, made.trust):
                part.disconnected()

    def reset(self) -> None:
        self._parts.sealer.reset()
        self._parts.opening.reset()

    # what arrives

    def heard(self, event: TimelineEvent | DialogState) -> None:
        parts = self._parts
        parts.sealer.heard(event)
        parts.own.heard(event)
        if isinstance(event, DialogState):
            parts.opening.heard(event)

    def received(self, message: Event) -> None:
        parts = self._parts
        if isinstance(message, KeySlices):
            self._keys_came(parts.inbox.received(message.slices))
        elif isinstance(message, FromDevice):
            parts.messages.received(message)
            parts.messages.take()

    def open(self, event: TimelineEvent) -> TimelineEvent | Unreadable:
        return self._parts.opening.open(event)

    def open_all(self, events: Sequence[TimelineEvent]) -> list[TimelineEvent]:
        return self._parts.opening.open_all(events)

    def report_of(self, dialog: bytes, seq: int, content: bytes, reason: str) -> Report:
        """The command that shows moderators what an event contained; `LookupError` if it was not opened here."""
        key = self._parts.machine.franking_key(dialog, seq)
        if key is None:
            raise LookupError("this device has not opened such a message")
        return Report(0, dialog, seq, key, content, reason)

    # questions in the background

    def due(self, now: float) -> Sequence[Command]:
        if self._made is None or now < self._resume_at:
            return ()
        self._resume_at = 0.0
        parts = self._made
        parts.verifying.go_on()
        parts.handing.go_on()
        asking = (parts.uploads, parts.own, parts.readers, parts.messages, parts.backup, parts.trust)
        return [*parts.inbox.due(now), *(command for part in asking for command in part.due())]

    def next_due(self) -> float | None:
        if self._resume_at or self._made is None:
            return self._resume_at or None
        return self._made.inbox.next_due()

    def replied(self, command: Command, reply: Reply, now: float) -> None:
        parts = self._parts
        if isinstance(reply, Failed) and reply.temporary:
            self._pause_s = min(PAUSE_S_MAX, 2 * self._pause_s or 0.5)
            self._resume_at = now + max(self._pause_s, reply.retry_after_s or 0.0)
        else:
            self._pause_s, self._resume_at = 0.0, 0.0
        parts.readers.answered(command, reply)
        handing, backup, trust = parts.handing, parts.backup, parts.trust
        for part in (parts.uploads, parts.own, parts.inbox, parts.messages, handing, backup, trust):
            part.answered(command, reply)
        if isinstance(command, ReadDevices):
            self._keys_came(parts.inbox.logs_were_read())
        parts.messages.take()
        parts.opening.try_again()

    def take_notices(self) -> Sequence[Notice]:
        if self._made is None:
            return ()
        made = self._made
        parts = (made.own, made.uploads, made.readers, made.verifying, made.backup, made.trust, made.opening)
        return [notice for part in parts for notice in part.take_notices()]

    def _keys_came(self, keys: Iterable[KeysReceived]) -> None:
        sessions = [one.session for one in keys]
        self._parts.opening.try_again(sessions)
        self._parts.backup.keys_came(sessions)

    def _renew(self) -> None:
        self._parts.machine.renew(self._store.renew())
        self._parts.uploads.renewed()

    def _wake(self) -> None:
        self.wake()

    @property
    def _parts(self) -> _Parts:
        assert self._made is not None, "nothing happens before the first sign-in"
        return self._made

    def _make(self, principal: bytes, device: bytes, generation: int) -> _Parts:
        machine = CryptoMachine(self._store, principal, device, generation)
        people = People(self._store, principal, self._now_ms)
        readers = ReaderEngine(self._store, machine, people, self._now_ms)
        uploads = KeyUploads(machine, people, self._now_ms)
        own = OwnDevices(machine, people, readers.logs, uploads, self._now_ms)
        inbox = KeyInbox(machine, people, readers.logs, uploads.key_was_used)
        opening = Opening(self._store, machine, readers.rosters)
        sealer = DeviceSealer(machine, readers, self._now_ms)
        messages = DeviceMessages(machine, people, readers.logs, uploads.key_was_used)
        handing = HandingIdentity(machine, people, messages, has_channel=readers.has_channel, taken=own.look_again)
        verifying = Verifying(machine, people, messages, handing, self._now_ms, wake=self._wake)
        backup = BackingUp(self._store, machine, people, recovered=self.keep_identity, restored=opening.try_again)
        trust = SharedTrust(machine, people, readers.logs, messages)
        readers.channels.tell = messages.tell
        inbox.broken = readers.channels.want
        opening.lacking = backup.want
        own.renew = self._renew
        return _Parts(
            machine, people, readers, sealer, uploads, own, inbox, messages, opening, handing, verifying, backup, trust
        )
