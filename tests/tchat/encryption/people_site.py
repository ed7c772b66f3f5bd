"""People with devices and logs, and a server that answers what a client asks of them, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol import bodies as b
from protocol.bodies import TimelineEvent
from protocol.command_rules import Command
from protocol.device_log import LogState, hash_of_entry
from protocol.dialog_types import DialogType, Mode, Role
from protocol.errors import ErrorCode
from protocol.ids import created_dialog_id, direct_dialog_id, new_id
from protocol.key_commands import ClaimKeys, KnownLog, ReadDevices, ReadRosterAt
from protocol.replies import (
    ClaimedKey,
    ClaimedKeys,
    DeviceKeys,
    DevicesPage,
    Failed,
    MemberThen,
    PersonDevices,
    Reply,
    RosterSnapshot,
)
from protocol.roster import ChangePlace, creation_input
from tchat.crypto.own_identity import OwnIdentity, new_identity
from tchat.crypto.pins import PinnedLog
from tchat.crypto.sealed_roster import SealedRoster
from tchat.crypto.signed_changes import fold_roster
from tests.tchat.crypto.devices import Phone, phone

ENTRIES_PER_PAGE = 3
EVENTS_PER_PAGE = 2


@dataclass
class Somebody:
    """A person with an identity, and the devices that their log lists."""

    principal: bytes = field(default_factory=new_id)
    phones: list[Phone] = field(default_factory=list)
    identity: OwnIdentity = field(init=False)
    log: LogState = field(init=False)
    entries: list[bytes] = field(init=False)
    former: dict[int, list[bytes]] = field(default_factory=dict)
    """The logs of identities before, by generation."""

    def __post_init__(self) -> None:
        self.start_over(None)

    def start_over(self, before: LogState | None) -> None:
        """Begin an identity, with the devices that there are."""
        if before is not None:
            self.former[before.generation] = self.entries
        self.identity, self.log, first = new_identity(self.principal, before, 0)
        self.entries = [first]
        phones, self.phones = self.phones, []
        for each in phones or [phone(self.principal)]:
            self.adds(each)

    def adds(self, other: Phone | None = None) -> Phone:
        """The log gets another device."""
        added = other or phone(self.principal)
        self.log, entry = self.identity.add_device(self.log, added.known.device, added.known.public, 0)
        self.entries.append(entry)
        self.phones.append(added)
        return added

    def removes(self, gone: Phone) -> None:
        """The log loses a device."""
        self.log, entry = self.identity.remove_device(self.log, gone.known.device, 0)
        self.entries.append(entry)
        self.phones.remove(gone)

    @property
    def phone(self) -> Phone:
        return self.phones[0]

    @property
    def head(self) -> b.LogHead:
        return b.LogHead(self.log.generation, self.log.length, self.log.head)


class Site:
    """What a server has of people, and of what is asked of it."""

    def __init__(self, *people: Somebody) -> None:
        self.people = {person.principal: person for person in people}
        self.keyless: set[bytes] = set()
        self.asked: list[Command] = []
        self.hidden: set[bytes] = set()
        """People whose logs are not given."""
        self.departed: dict[bytes, b.LogHead] = {}
        """Who is not in the dialog of the question any more, and how their log was."""
        self.swapped: dict[bytes, Somebody] = {}
        """Other identities that are given for people."""
        self.unnamed: set[bytes] = set()
        """Members who are left out of what a newcomer is told."""
        self.dialogs: dict[bytes, Told] = {}
        """What is told to who reads a roster."""
        self.left: set[bytes] = set()
        """Dialogs of which who asks is no member."""

    def answer(self, command: Command) -> Reply:
        """What a truthful server says."""
        self.asked.append(command)
        if isinstance(command, ReadDevices | ReadRosterAt) and command.dialog in self.left:
            return Failed(0, ErrorCode.DIALOG_NOT_FOUND, "no")
        if isinstance(command, ReadDevices):
            known = [each for each in command.people if each.principal not in self.hidden]
            return DevicesPage(0, command.dialog, [self._person(each) for each in known])
        if isinstance(command, ReadRosterAt):
            return self._roster(command, self.dialogs[command.dialog])
        assert isinstance(command, ClaimKeys), command
        by_device = {one.known.device: one for person in self.people.values() for one in person.phones}
        phones = [by_device[device] for device in command.devices if device not in self.keyless]
        return ClaimedKeys(0, [ClaimedKey(one.known.device, "A" * 11, one.keys.pop()) for one in phones])

    def _roster(self, command: ReadRosterAt, told: Told) -> RosterSnapshot:
        if command.since is not None:
            events = [event for event in told.events if event.seq >= max(command.since, told.seen_from)]
            changes = [event for event in events if not isinstance(event.body, b.Deleted)]
            page = changes[:EVENTS_PER_PAGE]
            return RosterSnapshot(0, told.dialog, events=page, more=len(page) < len(changes))
        brought = next(event for event in told.events if event.seq == told.seen_from)
        if not isinstance(brought.body, b.MembersAdded):
            return RosterSnapshot(0, told.dialog)
        signed = brought.body.signed or (brought.body.invitation and brought.body.invitation.signed)
        assert signed, "somebody has signed it"
        then = SealedRoster(told.dialog)
        pins = {person.principal: PinnedLog(person.log) for person in self.people.values()}
        for event in told.events[: max(signed.keys_seq, 1)]:
            then = fold_roster(then, event, pins.get).roster
        shown = {who: each for who, each in then.members.items() if who not in self.unnamed}
        members = [MemberThen(who, each.role, each.joined, each.log) for who, each in shown.items()]
        first = max(signed.keys_seq, 1) if command.after is None else command.after
        left = [event for event in told.events[: brought.seq] if event.seq > first]
        page = left[:EVENTS_PER_PAGE]
        listed = members if command.after is None else []
        return RosterSnapshot(0, told.dialog, signed.keys_seq, listed, page, len(page) < len(left))

    def _person(self, known: KnownLog) -> PersonDevices:
        person = self.swapped.get(known.principal) or self.people[known.principal]
        former = person.former.get(known.generation, [])
        if known.length < len(former):
            page = former[known.length :][:ENTRIES_PER_PAGE]
            return PersonDevices(known.principal, known.generation, len(former), hash_of_entry(former[-1]), page)
        entries = person.entries[known.length if known.generation == person.log.generation else 0 :]
        keys = [
            DeviceKeys(one.known.device, 1, one.machine.device_keys)
            for one in person.phones
            if one.known.device not in self.keyless
        ]
        head = person.head
        if (last := self.departed.get(known.principal)) is not None:
            page = entries[: max(0, last.length - known.length)]
            return PersonDevices(known.principal, last.generation, last.length, last.head, page, former=True)
        return PersonDevices(
            known.principal, head.generation, head.length, head.head, entries[:ENTRIES_PER_PAGE], devices=keys
        )


@dataclass
class Told:
    """The events of a dialog as a server numbers them; who asks sees them from `seen_from` on."""

    dialog: bytes
    events: list[TimelineEvent] = field(default_factory=list)
    seen_from: int = 1

    def next(self, author: Somebody, body: b.AnyBody, n: int = 0) -> TimelineEvent:
        event = TimelineEvent(
            self.dialog, len(self.events) + 1, author.principal, author.phone.known.device, n, 0, 0, body
        )
        self.events.append(event)
        return event


def direct_dialog(author: Somebody, other: Somebody) -> Told:
    """A new direct dialog."""
    told = Told(direct_dialog_id(author.principal, other.principal))
    members = [b.MemberRole(each.principal, Role.MEMBER) for each in (author, other)]
    logs = [author.head, other.head]
    told.next(author, b.DialogCreated(DialogType.DIRECT, Mode.SEALED, "", "", "", b.Settings(), members, None, logs), 1)
    return told


def group(author: Somebody, *others: Somebody, n: int = 1, signed: bool = True) -> Told:
    """A new group, which the author's device has signed."""
    dialog = created_dialog_id(author.phone.known.device, n)
    members = [b.MemberRole(author.principal, Role.ADMIN)]
    members += [b.MemberRole(each.principal, Role.MEMBER) for each in others]
    at = ChangePlace(dialog, author.principal, author.phone.known.device, n)
    message = creation_input(at, DialogType.GROUP, Mode.SEALED, members)
    signature = author.phone.machine.sign(message) if signed else None
    logs = [each.head for each in (author, *others)]
    body = b.DialogCreated(DialogType.GROUP, Mode.SEALED, "Team", "", "", b.Settings(), members, signature, logs)
    told = Told(dialog)
    told.next(author, body, n)
    return told
