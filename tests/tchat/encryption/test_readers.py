"""Who may read is who the members say, by their signatures; the server's word can only make the list shorter."""

from __future__ import annotations

from protocol import bodies as b
from protocol.bodies import TimelineEvent
from protocol.events import DialogState
from tchat.crypto.people import People
from tchat.encryption.device_sealer import Readers
from tchat.encryption.readers import ReaderEngine
from tests.support.scripted import dialog_state
from tests.tchat.crypto.devices import NOW_MS
from tests.tchat.encryption.people_site import Site, Somebody, Told, direct_dialog


class Ann:
    """The device that the tests are about, with its server."""

    def __init__(self, *others: Somebody) -> None:
        self.person = Somebody()
        self.site = Site(self.person, *others)
        self.now_ms = NOW_MS
        self.start()

    def start(self) -> None:
        """A process begins, with what the one before has kept."""
        phone = self.person.phone
        self.people = People(phone.state, self.person.principal)
        self.engine = ReaderEngine(phone.state, phone.machine, self.people, lambda: self.now_ms)

    def settle(self) -> None:
        """Have everything answered that is asked."""
        while commands := self.engine.due():
            for command in commands:
                self.engine.answered(command, self.site.answer(command))

    def hears(self, *events: TimelineEvent | DialogState) -> None:
        for event in events:
            self.engine.heard(event)
        self.settle()

    def readers(self, told: Told) -> object:
        """What comes of it after all questions: the devices, or why there are none."""
        found: object = None
        for _ in range(9):
            found = self.engine.readers_of(told.dialog)
            if not self.engine_asks():
                break
        return {known.device for known in found.devices} if isinstance(found, Readers) else found

    def engine_asks(self) -> bool:
        commands = self.engine.due()
        for command in commands:
            self.engine.answered(command, self.site.answer(command))
        return bool(commands)


def devices(*people: Somebody) -> set[bytes]:
    return {one.known.device for person in people for one in person.phones}


def state(told: Told, first_seq: int = 1, **changes: object) -> DialogState:
    return dialog_state(len(told.events), first_seq, dialog=told.dialog, **changes)


def grown(told: Told, whose: Somebody) -> TimelineEvent:
    return told.next(whose, b.DevicesChanged(whose.principal, whose.head))


def test_all_devices_of_all_members_read() -> None:
    bob = Somebody()
    ann = Ann(bob)
    ann.person.adds()
    bob.adds()
    told = direct_dialog(ann.person, bob)
    ann.hears(state(told), *told.events)
    assert ann.readers(told) == devices(ann.person, bob)
    assert ann.person.phone.machine.to_claim([one.known for one in bob.phones], NOW_MS) == []
