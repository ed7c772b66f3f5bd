"""Which device logs this device still has to read, and what the answers make of its pins.

Invariants:

- One question is under way at a time: answers are judged in the order in which they were asked for, and an old one
  after a new one would look like a log that was made shorter.
- A log that comes in pages is judged when it is whole.
- What is refused for now is asked for again, after a pause.
- Of a former member of a dialog the server shows the log as it was then, and no keys. That says nothing about now:
  neither that the log is shorter nor that a device has no keys.
- The log of an identity before the newest is asked for when a roster names it, one before the other: each is believed
  because the one after it has signed its head.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import msgspec

from protocol.cross_signing import KeysRefusedError, read_device_keys
from protocol.errors import ErrorCode
from protocol.key_commands import KnownLog, ReadDevices
from protocol.limits import DEVICE_LOG_ENTRIES_MAX, FORMER_IDENTITIES_MAX, PEOPLE_PER_COMMAND_MAX
from protocol.public_keys import DevicePublic
from protocol.replies import DeviceKeys, DevicesPage, Failed, PersonDevices, Reply
from tchat.crypto.people import People
from tchat.crypto.pins import GivenLog
from tchat.crypto.state import CryptoState, Step, Table
from tchat.encryption.notices import DevicesDoubted

AGAIN_MS = 5_000
"""After a refusal that may pass, the server is asked again so much later."""


def waits_since(refused_ms: int, now_ms: int) -> bool:
    """Whether a question that was refused then is not to be asked again yet; a clock put back holds nothing up."""
    return 0 <= now_ms - refused_ms < AGAIN_MS


@dataclass(frozen=True, slots=True)
class _Part:
    """What has come of a log that is not whole yet: its entries after those of the pin `base`."""

    base: tuple[int, int]
    generation: int = 0
    entries: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Former:
    """The log of an identity before those that are known, as far as it has come; none before `until` is needed."""

    generation: int
    until: int
    entries: tuple[bytes, ...] = ()


class DeviceLogs:
    """The device logs that are needed, by the dialog in which the server gives them."""

    def __init__(self, state: CryptoState, people: People, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._people = people
        self._now_ms = now_ms
        self._needed: dict[bytes, dict[bytes, None]] = {}
        self._asked: ReadDevices | None = None
        self._refused_ms = 0
        self._parts: dict[bytes, _Part] = {}
        self._former: dict[bytes, _Former] = {}
        self._answered: set[tuple[bytes, bytes]] = set()
        self._closed: set[bytes] = set()
        self._notices: list[DevicesDoubted] = []
        self.own_keys: dict[bytes, DevicePublic] = {}
        """Of the own person's devices that have keys here, as the server says: a new one is in no log yet."""
        self._keyless_changes = 0

    @property
    def changes(self) -> int:
        """Grows whenever what is believed of somebody's devices, or which of them have keys, is something else."""
        return self._people.changes + self._keyless_changes

    def need(self, dialog: bytes, principal: bytes, generation: int = 0) -> None:
        """Read what the log of a member of this dialog has beyond what is pinned.

        With the `generation` of an identity before all that are known: the log before these instead.
        """
        self._needed.setdefault(dialog, {})[principal] = None
        pin = self._people.pin_of(principal)
        oldest = 0 if pin is None else pin.logs[-1].generation
        if 0 < generation < oldest:
            until = max(generation, oldest - FORMER_IDENTITIES_MAX)
            self._former.setdefault(principal, _Former(oldest - 1, until))

    def awaits(self, dialog: bytes) -> bool:
        """Whether logs are still to be read for this dialog."""
        return dialog in self._needed

    def is_closed(self, dialog: bytes) -> bool:
        """Whether the server has shown nothing of this dialog, of which this person was no member when it was asked."""
        return dialog in self._closed

    def reopen(self, dialog: bytes) -> None:
        """This person is a member of this dialog."""
        self._closed.discard(dialog)

    def was_answered(self, dialog: bytes, principal: bytes) -> bool:
        """Whether the server has said on this connection what it has of this log."""
        return (dialog, principal) in self._answered

    def keyless(self, principal: bytes) -> frozenset[bytes]:
        """Devices that are in the log, and of which the server has no keys: they are signed out, or not ready."""
        data = self._state.read(Table.KEYLESS, principal)
        return frozenset() if data is None else msgspec.msgpack.decode(data, type=frozenset[bytes])

    def has_no_key(self, principal: bytes, device: bytes) -> None:
        """The server gives no key of this device that could be used."""
        self._keep_keyless(principal, self.keyless(principal) | {device})

    def due(self) -> ReadDevices | None:
        """The next question, once."""
        if self._asked is not None or not self._needed or waits_since(self._refused_ms, self._now_ms()):
            return None
        dialog, people = next(iter(self._needed.items()))
        self._asked = ReadDevices(0, dialog, [self._known(each) for each in list(people)[:PEOPLE_PER_COMMAND_MAX]])
        return self._asked

    def answered(self, command: ReadDevices, reply: Reply) -> None:
        """The answer to a question: `take_notices` has what a person should see of it."""
        self._asked = None
        if isinstance(reply, DevicesPage):
            self._page(command, reply)
        elif isinstance(reply, Failed) and reply.code == ErrorCode.DIALOG_NOT_FOUND:
            self._needed.pop(command.dialog, None)
            self._closed.add(command.dialog)
        else:
            self._refused_ms = self._now_ms()
            if command.dialog in self._needed:  # what is refused for one dialog holds up no other
                self._needed[command.dialog] = self._needed.pop(command.dialog)

    def disconnected(self) -> None:
        """What was asked is asked again."""
        self._asked, self._refused_ms = None, 0
        self._parts.clear()
        self._former.clear()
        self._answered.clear()
        self._closed.clear()

    def take_notices(self) -> list[DevicesDoubted]:
        """What a person is to be shown, since the last call."""
        taken, self._notices = self._notices, []
        return taken

    def _known(self, principal: bytes) -> KnownLog:
        if (former := self._former.get(principal)) is not None:
            return KnownLog(principal, former.generation, len(former.entries))
        base = self._people.newest_of(principal)
        part = self._parts.get(principal)
        if part is None or part.base != base:
            self._parts[principal] = part = _Part(base)
        if not part.entries:
            return KnownLog(principal, *base)
        length = len(part.entries) + (base[1] if part.generation == base[0] else 0)
        return KnownLog(principal, part.generation, length)

    def _page(self, command: ReadDevices, page: DevicesPage) -> None:
        needed = self._needed.get(command.dialog, {})
        given = {person.principal: person for person in page.people}
        for known in command.people:
            person = given.get(known.principal)
            if person is None and page.more and given:
                continue  # asked again
            if known.principal in self._former:
                if self._take_former(known, person):
                    needed.pop(known.principal, None)
                continue
            if person is None or person.generation == 0 or self._take(known, person):
                self._parts.pop(known.principal, None)
                self._answered.add((command.dialog, known.principal))
                needed.pop(known.principal, None)
        if not needed:
            self._needed.pop(command.dialog, None)

    def _take_former(self, known: KnownLog, person: PersonDevices | None) -> bool:
        """Keep what came of a log before; False if it is asked for again: pages are missing, or it is an older one."""
        former = self._former[known.principal]
        if (known.generation, known.length) != (former.generation, len(former.entries)):
            return False  # it was needed after the question
        if person is not None and person.generation == former.generation:
            entries = (*former.entries, *person.entries)
            if person.entries and len(entries) < min(person.length, DEVICE_LOG_ENTRIES_MAX):
                self._former[known.principal] = replace(former, entries=entries)
                return False
            self._people.take_former(known.principal, entries)
        elif person is not None and former.generation > former.until:
            self._former[known.principal] = _Former(former.generation - 1, former.until)
            return False
        del self._former[known.principal]
        return True

    def _take(self, known: KnownLog, person: PersonDevices) -> bool:
        """Judge a log; False if it is asked for again: pages of it are missing, or the pin is another one by now."""
        base = self._people.newest_of(person.principal)
        if person.former and (person.generation, person.length) <= base:
            return True  # it ends before what was seen elsewhere
        part = self._parts[person.principal]
        if part.base != base:
            return False
        goes_on = known.generation == person.generation
        entries = (*(part.entries if goes_on else ()), *person.entries)
        length = len(entries) + (base[1] if person.generation == base[0] else 0)
        if person.entries and length < min(person.length, DEVICE_LOG_ENTRIES_MAX):
            self._parts[person.principal] = _Part(base, person.generation, entries)
            return False
        self._judge(person, GivenLog(person.generation, person.length, person.head, entries))
        return True

    def _judge(self, person: PersonDevices, given: GivenLog) -> None:
        principal = person.principal
        before = self._people.pin_of(principal)
        judgement = self._people.take_log(principal, given)
        pin = self._people.pin_of(principal)
        own = principal == self._people.principal
        ours = own and pin is not None and pin.held is None and not pin.refused and self._people.identity is not None
        if judgement.verdict.sentence and (pin is None or pin != before) and not ours:
            self._notices.append(DevicesDoubted(principal, judgement.verdict, own))
        if pin is not None and not pin.refused and not person.former:
            keys = {each.device: _public(principal, each) for each in person.devices}
            listed = pin.newest.devices
            self._keep_keyless(principal, {device for device, public in listed.items() if keys.get(device) != public})
            if principal == self._people.principal:
                self.own_keys = {device: public for device, public in keys.items() if public is not None}

    def _keep_keyless(self, principal: bytes, devices: AbstractSet[bytes]) -> None:
        if devices != self.keyless(principal):
            step = Step(self._state)
            step.write(Table.KEYLESS, principal, msgspec.msgpack.encode(sorted(devices)) if devices else None)
            step.commit()
            self._keyless_changes += 1


def _public(principal: bytes, given: DeviceKeys) -> DevicePublic | None:
    try:
        return read_device_keys(given.keys, principal, given.device)
    except KeysRefusedError:
        return None
