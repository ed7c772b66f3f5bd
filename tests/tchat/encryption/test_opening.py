"""What the app gets of events in sealed dialogs: what was written, at once or later, or why not; what is missing."""

from __future__ import annotations

import msgspec
import pytest

from protocol.bodies import Deleted, Edited, Header, MembersAdded, Posted, Reacted, TimelineEvent, tag_of
from protocol.ids import new_id
from protocol.kinds import Kind
from tchat.crypto.envelope import Place
from tchat.crypto.errors import Reason
from tchat.crypto.olm import KnownDevice
from tchat.crypto.state import Table
from tchat.encryption.contents import Content
from tchat.encryption.notices import MessagesMissing, NowReadable, Unreadable
from tchat.encryption.opening import WAITING_MAX, Opening
from tests.support.scripted import DIALOG, SECOND, dialog_state, event_at, posted
from tests.tchat.crypto.devices import VIEW, Phone, phone, slices


class KnownMembers:
    """What a test says of the members of `DIALOG`; `SECOND` is not sealed."""

    def __init__(self, *phones: Phone) -> None:
        self.devices = {phone.known.device: phone.known for phone in phones}
        self.views: dict[int, bytes] = {1: VIEW}
        self.behind = False
        self.disputed: list[int] = []

    def is_sealed(self, dialog: bytes) -> bool:
        return dialog == DIALOG

    def awaits(self, event: TimelineEvent) -> bool:  # noqa: ARG002
        return self.behind

    def want(self, dialog: bytes) -> None:
        pass

    def view_at(self, dialog: bytes, keys_seq: int) -> bytes | None:  # noqa: ARG002
        return self.views.get(keys_seq)

    def keys_seq_at(self, event: TimelineEvent) -> int | None:
        return max((keys_seq for keys_seq in self.views if keys_seq < event.seq), default=None)

    def writer(self, event: TimelineEvent) -> KnownDevice | None:
        return self.devices.get(event.device)

    def dispute(self, event: TimelineEvent) -> None:
        self.disputed.append(event.seq)


class Reading:
    """A device that reads what Ann's writes, and the events of a server."""

    def __init__(self) -> None:
        self.ann, self.me = phone(), phone()
        self.ann.connect(self.me)
        self.share = self.ann.share(DIALOG, self.me)
        self.members = KnownMembers(self.ann, self.me)
        self.opening = Opening(self.me.state, self.me.machine, self.members)

    def keys(self) -> list[bytes]:
        """The slices of Ann's session come."""
        self.me.take(self.ann, *slices(self.ann, self.share)[self.me.known.device])
        return [key[:32] for key in self.me.state.keys(Table.INBOUND, b"")]

    def said(self, text: bytes, seq: int, *, tag: type[Content] = Posted, target: int | None = None) -> TimelineEvent:
        """What the server gives of what Ann has written as her number `seq`."""
        known = self.ann.known
        kind = int(Kind.MESSAGE) if tag is Posted else None
        place = Place(DIALOG, known.principal, known.device, seq, tag_of(tag), kind, 1, target)
        sealed = self.ann.seal(place, text)
        header = Header(keys_seq=1, session=sealed.session, share=sealed.share, commitment=sealed.commitment)
        body: Content = Posted(Kind.MESSAGE, header, sealed.payload)
        if target is not None:
            body = Edited(target, sealed.payload, header) if tag is Edited else Reacted(target, sealed.payload, header)
        return event_at(seq, body, author=known.principal, device=known.device, n=seq)

    def open(self, event: TimelineEvent) -> bytes | Reason:
        """What the app gets."""
        outcome = self.opening.open(event)
        return outcome.reason if isinstance(outcome, Unreadable) else payload_of(outcome)


def payload_of(event: TimelineEvent) -> bytes:
    assert isinstance(event.body, Posted | Edited | Reacted)
    return event.body.payload


@pytest.fixture
def reading() -> Reading:
    return Reading()


def test_the_app_gets_what_was_written(reading: Reading) -> None:
    reading.keys()
    events = [
        reading.said(b"one", 1),
        reading.said(b"two", 2, tag=Edited, target=1),
        reading.said(b"+", 3, tag=Reacted, target=1),
    ]
    assert [reading.open(event) for event in events] == [b"one", b"two", b"+"]


def test_what_is_not_sealed_is_refused_where_all_is(reading: Reading) -> None:
    bodies: tuple[Content, ...] = (posted(b"hi"), Edited(1, b"hi"), Reacted(1, b""))
    outcomes = [reading.open(event_at(seq, body)) for seq, body in enumerate(bodies, 1)]
    assert outcomes == [Reason.UNSEALED] * 3


@pytest.mark.parametrize("keys_seq", [4, 6])
def test_a_message_names_the_members_of_its_place_and_no_others(reading: Reading, keys_seq: int) -> None:
    """Else the server could show what somebody wrote who had been removed."""
    reading.keys()
    event = reading.said(b"late", 5)
    reading.members.views = {1: VIEW, keys_seq: VIEW}
    assert reading.open(event) == (Reason.WRONG_KEYS_SEQ if keys_seq < 5 else b"late")
    assert reading.members.disputed == ([5] if keys_seq < 5 else [])


def test_what_services_post_and_all_that_is_in_open_dialogs_is_shown_as_it_is(reading: Reading) -> None:
    for event in (event_at(1, posted(b"paid", Kind.PAYMENT)), event_at(2, Deleted(1)), event_at(1, dialog=SECOND)):
        assert reading.opening.open(event) is event


def test_a_message_with_a_content_type_or_a_sender_behind_it_was_changed_by_the_server(reading: Reading) -> None:
    reading.keys()
    event = reading.said(b"one", 1)
    body = event.body
    assert isinstance(body, Posted)
    typed = msgspec.structs.replace(body, header=msgspec.structs.replace(body.header, content_type="text/html"))
    replace = msgspec.structs.replace
    for changed in (typed, replace(body, acting_for=new_id()), replace(body, requester=new_id())):
        assert reading.open(replace(event, body=changed)) is Reason.UNSEALED


def test_a_message_without_keys_is_shown_when_they_come(reading: Reading) -> None:
    event = reading.said(b"one", 1)
    assert reading.open(event) is Reason.UNKNOWN_SESSION
    reading.opening.try_again([new_id() * 2])
    assert reading.opening.take_notices() == []
    reading.opening.try_again(reading.keys())
    (notice,) = reading.opening.take_notices()
    assert isinstance(notice, NowReadable)
    assert payload_of(notice.event) == b"one"


def test_a_lie_is_not_tried_again(reading: Reading) -> None:
    keys = reading.keys()
    event = reading.said(b"one", 1)
    assert reading.open(msgspec.structs.replace(event, n=2)) is Reason.WRONG_N
    reading.opening.try_again(keys)
    reading.opening.try_again()
    assert reading.opening.take_notices() == []


def test_while_members_are_not_known_a_message_waits(reading: Reading) -> None:
    """Else a server could show it before the view of its author could be compared."""
    reading.keys()
    reading.members.behind, reading.members.views = True, {}
    assert reading.open(reading.said(b"one", 1)) is Reason.UNKNOWN_MEMBERS
    reading.members.behind, reading.members.views = False, {1: bytes(32)}
    reading.opening.try_again()
    (notice,) = reading.opening.take_notices()
    assert isinstance(notice, Unreadable)
    assert notice.reason is Reason.WRONG_VIEW
    assert reading.members.disputed == [1]


def test_a_device_that_its_author_did_not_have_is_not_believed(reading: Reading) -> None:
    reading.keys()
    del reading.members.devices[reading.ann.known.device]
    assert reading.open(reading.said(b"one", 1)) is Reason.UNKNOWN_DEVICE


def test_what_waits_is_bounded_and_the_oldest_gives_way(reading: Reading) -> None:
    events = [reading.said(b"%d" % seq, seq) for seq in (1, 2)]
    assert reading.open(events[0]) is Reason.UNKNOWN_SESSION
    for seq in range(2, WAITING_MAX + 2):
        reading.open(msgspec.structs.replace(events[1], seq=seq))
    reading.opening.try_again(reading.keys())
    seqs = [notice.event.seq for notice in reading.opening.take_notices() if isinstance(notice, NowReadable)]
    assert seqs == [2]


def test_pages_are_opened_and_blank_where_they_cannot_be(reading: Reading) -> None:
    events = [reading.said(b"one", 1), reading.said(b"two", 2, tag=Edited, target=1)]
    blank = reading.opening.open_all(events)
    assert [type(event.body).__name__ for event in blank] == ["Posted", "Erased"]
    assert payload_of(blank[0]) == b""
    assert [notice.event for notice in reading.opening.take_notices() if isinstance(notice, Unreadable)] == events
    reading.keys()
    assert [payload_of(event) for event in reading.opening.open_all(events)] == [b"one", b"two"]


def test_the_same_event_opens_again_and_another_place_is_a_replay(reading: Reading) -> None:
    reading.keys()
    event = reading.said(b"one", 1)
    assert [reading.open(event) for _ in range(2)] == [b"one", b"one"]
    assert reading.open(msgspec.structs.replace(event, seq=2)) is Reason.REPLAYED


def test_after_the_server_has_lost_events_they_may_come_at_another_place_once(reading: Reading) -> None:
    reading.keys()
    event = reading.said(b"one", 5)
    assert reading.open(event) == b"one"
    reading.opening.reset()
    reading.opening.heard(dialog_state(2))
    again = Opening(reading.me.state, reading.me.machine, reading.members)  # another process knows it, too
    moved = msgspec.structs.replace(event, seq=3)
    assert again.open(moved) != Unreadable(moved, Reason.REPLAYED)
    twice = msgspec.structs.replace(event, seq=4)
    assert again.open(twice) == Unreadable(twice, Reason.REPLAYED)


def missing(reading: Reading, *events: TimelineEvent) -> list[int]:
    """The events before which something is missing."""
    for event in events:
        reading.opening.open(event)
    return [notice.seq for notice in reading.opening.take_notices() if isinstance(notice, MessagesMissing)]


def three(reading: Reading) -> list[TimelineEvent]:
    """Three messages, each sent after the ack of the one before."""
    reading.keys()
    events = []
    for seq in (1, 2, 3):
        events.append(reading.said(b"%d" % seq, seq))
        reading.ann.machine.acked(DIALOG, seq, None)
    return events


def test_nothing_is_missing_in_a_whole_dialog(reading: Reading) -> None:
    assert missing(reading, *three(reading)) == []


def test_a_message_that_the_server_leaves_out_is_noticed(reading: Reading) -> None:
    first, _, third = three(reading)
    assert missing(reading, first, third) == [3]


def test_what_is_not_visible_here_is_not_missing(reading: Reading) -> None:
    first, _, third = three(reading)
    reading.open(first)
    reading.opening.heard(dialog_state(3, 3))
    assert missing(reading, third) == []
    reading.opening.reset()
    back = event_at(2, MembersAdded([reading.me.known.principal]))
    assert missing(reading, first, back, third) == []


def test_what_opens_an_event_is_named_when_it_is_not_here() -> None:
    reading = Reading()
    lacking: list[tuple[bytes, bytes]] = []
    reading.opening.lacking = lambda session, device: lacking.append((session, device))
    event = reading.said(b"hello", 2)
    assert reading.open(event) is Reason.UNKNOWN_SESSION
    assert isinstance(event.body, Posted)
    assert lacking == [(event.body.header.session, event.device)]
    reading.keys()
    assert reading.open(event) == b"hello"
    assert len(lacking) == 1
