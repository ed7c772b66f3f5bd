"""The device that tests of readers are about, with a server that answers what it asks."""

from __future__ import annotations

from protocol import bodies as b
from protocol.bodies import TimelineEvent
from protocol.codec import MSGPACK
from protocol.commands import Add, Numbered
from protocol.dialog_types import Mode
from protocol.events import DialogState
from protocol.replies import Failed
from tchat.crypto.people import People
from tchat.encryption.device_sealer import Readers
from tchat.encryption.readers import ReaderEngine
from tchat.encryption.sealing import Clear, NotYet, Outcome, Ready
from tests.support.scripted import dialog_state
from tests.tchat.crypto.devices import NOW_MS
from tests.tchat.encryption.people_site import Site, Somebody, Told

_OF_KEYS = (b.MembersAdded, b.MemberRemoved, b.MemberLeft, b.DevicesChanged)


class Ann:
    """A device with its rosters, logs and channels. `site` is its server."""

    def __init__(self, *others: Somebody, person: Somebody | None = None) -> None:
        self.person = person or Somebody()
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
        while self.answer_once():
            pass

    def answer_once(self) -> bool:
        """Have answered what is asked now; whether anything is."""
        commands = self.engine.due()
        for command in commands:
            self.engine.answered(command, self.site.answer(command))
        return bool(commands)

    def hears(self, *events: TimelineEvent | DialogState) -> None:
        for event in events:
            self.engine.heard(event)
        self.settle()

    def found(self, told: Told) -> Readers | Clear | NotYet | Failed:
        """What the sealer gets when everything that it takes is answered."""
        self.site.dialogs[told.dialog] = told
        while isinstance(found := self.engine.readers_of(told.dialog), NotYet) and self.answer_once():
            pass
        return found

    def readers(self, told: Told) -> set[bytes]:
        """The devices that may read."""
        found = self.found(told)
        assert isinstance(found, Readers), found
        return {known.device for known in found.devices}

    def reason(self, told: Told) -> str:
        """Why nobody may."""
        found = self.found(told)
        assert isinstance(found, NotYet), found
        return found.reason

    def signs(self, intent: Numbered) -> Outcome:
        """What leaves for a change, when everything that it takes is answered."""
        while isinstance(found := self.engine.sign(intent, MSGPACK.encode), NotYet) and self.answer_once():
            pass
        return found


def devices(*people: Somebody) -> set[bytes]:
    """The devices that their logs list."""
    return {one.known.device for person in people for one in person.phones}


def state(told: Told, first_seq: int = 1) -> DialogState:
    """The state of a dialog, of which the events from `first_seq` on follow."""
    keys_seq = max((one.seq for one in told.events if isinstance(one.body, _OF_KEYS)), default=0)
    return dialog_state(len(told.events), first_seq, dialog=told.dialog, mode=Mode.SEALED, keys_seq=keys_seq)


def grown(told: Told, whose: Somebody) -> TimelineEvent:
    """The event with which the server says that somebody's log has grown."""
    return told.next(whose, b.DevicesChanged(whose.principal, whose.head))


def left(device: Ann, intent: Numbered) -> Numbered:
    """What leaves, which is in the outbox, too."""
    found = device.signs(intent)
    assert isinstance(found, Ready), found
    outbox = device.person.phone.state.outbox  # type: ignore[attr-defined]
    assert outbox[intent.n] == MSGPACK.encode(found.command)
    return found.command


def added(told: Told, by: Ann, n: int, *members: Somebody) -> TimelineEvent:
    """The event of an addition that a device signs, which has heard the dialog up to there."""
    signed = left(by, Add(0, told.dialog, n, [each.principal for each in members]))
    assert isinstance(signed, Add)
    body = b.MembersAdded(signed.members, signed.signed, logs=[each.head for each in members])
    return told.next(by.person, body, n)
