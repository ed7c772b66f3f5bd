"""Keys that other devices hand to this one: believed when a log names the device, confirmed when they are stored."""

from __future__ import annotations

import pytest

from protocol.errors import ErrorCode
from protocol.events import KeySlice
from protocol.ids import new_id
from protocol.key_commands import ReadDevices
from protocol.limits import SLICES_PER_COMMAND_MAX
from protocol.replies import DevicesPage, Done, Failed, PersonDevices
from protocol.share_commands import ConfirmSlices
from tchat.crypto.own_identity import new_identity
from tchat.crypto.people import People
from tchat.encryption.device_logs import DeviceLogs
from tchat.encryption.key_inbox import CONFIRM_WITHIN_S, KeyInbox
from tests.support.scripted import DIALOG
from tests.tchat.crypto.devices import NOW_MS, Phone, phone, slices


class Inbox:
    """A device that takes the keys of Ann's."""

    def __init__(self) -> None:
        self.ann, self.me = phone(), phone()
        self.ann.connect(self.me)
        self.people = People(self.me.state, self.me.known.principal)
        self.logs = DeviceLogs(self.me.state, self.people, lambda: NOW_MS)
        self.used = 0
        self.dice = 0.0
        self.inbox = KeyInbox(self.me.machine, self.people, self.logs, self.count, lambda: self.dice)

    def count(self) -> None:
        self.used += 1

    def slices(self, number: int = 1, dialog: bytes = DIALOG) -> list[KeySlice]:
        """Ann's session for this device, as the server gives it."""
        share = self.ann.share(dialog, self.me)
        known = self.ann.known
        bodies = slices(self.ann, share)[self.me.known.device]
        if dialog != DIALOG:  # of many dialogs not all can be under way
            assert share is not None
            self.ann.machine.acked(dialog, 0, share)
        return [KeySlice(number, dialog, known.principal, known.device, 1, body) for body in bodies]

    def read_logs(self, *listed: Phone) -> None:
        """The server answers what is asked of Ann's log, which names these devices."""
        question = self.logs.due()
        assert isinstance(question, ReadDevices)
        principal = self.ann.known.principal
        identity, log, started = new_identity(principal, None, NOW_MS)
        entries = [started]
        for each in listed:
            log, entry = identity.add_device(log, each.known.device, each.known.public, NOW_MS)
            entries.append(entry)
        person = PersonDevices(principal, log.generation, log.length, log.head, entries)
        self.logs.answered(question, DevicesPage(0, DIALOG, [person]))

    def know(self) -> None:
        """Ann's log is known."""
        self.logs.need(DIALOG, self.ann.known.principal)
        self.read_logs(self.ann)

    def confirms(self, now: float = 0.0) -> list[int]:
        """What is confirmed now, which the server takes."""
        numbers: list[int] = []
        for command in self.inbox.due(now):
            assert isinstance(command, ConfirmSlices)
            numbers += command.numbers
            self.inbox.answered(command, Done(0))
        return numbers


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def test_keys_of_a_known_device_are_stored_and_confirmed(inbox: Inbox) -> None:
    inbox.know()
    (keys,) = inbox.inbox.received(inbox.slices(7))
    assert keys.sender == inbox.ann.known
    assert (inbox.confirms(), inbox.confirms(), inbox.used) == ([7], [], 1)


def test_keys_of_an_unknown_device_wait_until_its_log_was_read(inbox: Inbox) -> None:
    assert inbox.inbox.received(inbox.slices(7)) == []
    assert inbox.confirms() == []
    inbox.read_logs(inbox.ann)
    assert len(inbox.inbox.logs_were_read()) == 1
    assert inbox.confirms() == [7]


def test_keys_of_a_device_that_no_log_names_are_neither_believed_nor_confirmed(inbox: Inbox) -> None:
    inbox.inbox.received(inbox.slices(7))
    inbox.read_logs(phone(inbox.ann.known.principal))
    assert inbox.inbox.logs_were_read() == []
    assert inbox.confirms() == []


def test_keys_that_cannot_be_opened_are_confirmed_all_the_same(inbox: Inbox) -> None:
    inbox.know()
    (made,) = inbox.slices(7)
    spoilt = KeySlice(8, made.dialog, made.author, made.device, 1, b"spoilt")
    assert inbox.inbox.received([spoilt]) == []
    assert inbox.confirms() == [8]


def test_a_confirmation_without_an_answer_is_not_needed_again(inbox: Inbox) -> None:
    """The server gives what is not confirmed again, and then it is confirmed again."""
    inbox.know()
    given = inbox.slices(7)
    inbox.inbox.received(given)
    assert len(inbox.inbox.due(0.0)) == 1
    inbox.inbox.disconnected()
    assert inbox.inbox.due(0.0) == []
    assert inbox.inbox.received(given) == []
    assert inbox.confirms() == [7]


def test_many_are_confirmed_in_several_commands(inbox: Inbox) -> None:
    inbox.know()
    (made,) = inbox.slices()
    count = SLICES_PER_COMMAND_MAX + 1
    inbox.inbox.received(
        [KeySlice(n, made.dialog, made.author, made.device, 1, b"%d" % n) for n in range(1, count + 1)]
    )
    assert [len(inbox.confirms()), len(inbox.confirms()), len(inbox.confirms())] == [SLICES_PER_COMMAND_MAX, 1, 0]


def test_keys_are_confirmed_after_a_random_while_with_what_has_come_meanwhile(inbox: Inbox) -> None:
    inbox.know()
    inbox.dice = 0.5
    inbox.inbox.received(inbox.slices(7))
    assert (inbox.confirms(now=10.0), inbox.inbox.next_due()) == ([], 10.0 + CONFIRM_WITHIN_S / 2)
    inbox.inbox.received(inbox.slices(8))
    assert inbox.confirms(now=10.5) == []
    assert inbox.confirms(now=11.0) == [7, 8]
    assert inbox.inbox.next_due() is None


def test_what_comes_again_before_it_is_confirmed_is_opened_once(inbox: Inbox) -> None:
    inbox.know()
    broken: list[bytes] = []
    inbox.inbox.broken = lambda dialog, _devices: broken.append(dialog)
    given = [one for number in range(1, 71) for one in inbox.slices(number, new_id())]
    assert len(inbox.inbox.received(given)) == 70
    assert inbox.inbox.received(given[:3]) == []
    assert broken == []
    assert [number for _ in range(4) for number in inbox.confirms()] == list(range(1, 71))


def test_what_waits_for_a_log_waits_once(inbox: Inbox) -> None:
    given = inbox.slices(7)
    for _ in range(2):
        inbox.inbox.received(given)
    inbox.read_logs(inbox.ann)
    inbox.inbox.logs_were_read()
    assert inbox.confirms() == [7]


def test_a_confirmation_that_is_refused_for_good_is_not_repeated(inbox: Inbox) -> None:
    inbox.know()
    inbox.inbox.received(inbox.slices(7))
    (command,) = inbox.inbox.due(0.0)
    inbox.inbox.answered(command, Failed(0, ErrorCode.INVALID_ARGUMENT, ""))
    assert (inbox.inbox.due(0.0), inbox.inbox.next_due()) == ([], None)


def test_on_a_new_connection_the_while_begins_anew(inbox: Inbox) -> None:
    inbox.know()
    inbox.dice = 0.5
    given = inbox.slices(7)
    inbox.inbox.received(given)
    inbox.confirms(now=10.0)
    inbox.inbox.disconnected()
    assert inbox.inbox.next_due() is None
    inbox.inbox.received(given)
    assert (inbox.confirms(now=11.0), inbox.inbox.next_due()) == ([], 11.0 + CONFIRM_WITHIN_S / 2)


def test_while_a_confirmation_is_under_way_nothing_is_due(inbox: Inbox) -> None:
    inbox.know()
    inbox.inbox.received(inbox.slices(7))
    assert len(inbox.inbox.due(10.0)) == 1
    assert (inbox.inbox.due(10.0), inbox.inbox.next_due()) == ([], None)
