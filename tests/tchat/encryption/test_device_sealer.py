"""A client that encrypts, with the machines of those who read: what leaves, in which order, and who can open it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable

import msgspec
import pytest

from protocol.bodies import Edited, Header, Posted, Reacted, Ref, TimelineEvent, tag_of
from protocol.command_rules import Command
from protocol.commands import Add, AnyCommand, Edit, Numbered, React, Send
from protocol.events import DialogState
from protocol.ids import new_id
from protocol.kinds import Kind
from protocol.limits import (
    REACTION_BYTES_MAX,
    SEALED_CONTENT_BYTES_MAX,
    SHARES_IN_FLIGHT_MAX,
    SLICES_PER_COMMAND_MAX,
)
from protocol.replies import Failed, Reply, SlicesUploaded
from protocol.share_commands import UploadSlices
from tchat.actions import Refused
from tchat.crypto.envelope import Opened, Place, Received
from tchat.crypto.errors import OpenError
from tchat.crypto.state import Table
from tchat.encryption.device_sealer import SEALED_REACTION_BYTES_MAX, DeviceSealer, Readers
from tchat.encryption.sealing import Clear, First, NotYet, Outcome
from tchat.store import MemoryOutbox
from tests.support.scripted import BOB, DIALOG, ME, SECOND, Script, dialog_state, event_at, failed
from tests.support.sealers import Behind
from tests.tchat.crypto.devices import NOW_MS, Phone, phone

VIEWS = {1: bytes(32), 2: bytes([2]) * 32}


class KnownReaders:
    """Says what a test says about every dialog, and remembers what it was told."""

    def __init__(self) -> None:
        self.readers: Readers | Clear | First | NotYet | Failed = NotYet()
        self.answers: list[Reply] = []
        self.stales: list[int | None] = []

    def are(self, *others: Phone, keys_seq: int = 1) -> None:
        self.readers = Readers(keys_seq, VIEWS[keys_seq], [other.known for other in others])

    def readers_of(self, dialog: bytes) -> Readers | Clear | First | NotYet | Failed:  # noqa: ARG002
        return self.readers

    def sign(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:  # noqa: ARG002
        return Clear()

    def answered(self, command: Command, reply: Reply) -> None:  # noqa: ARG002
        self.answers.append(reply)

    def stale(self, dialog: bytes, made_at: int, failed: Failed) -> None:  # noqa: ARG002
        self.stales.append(failed.keys_seq)

    def heard(self, event: TimelineEvent | DialogState) -> None:
        pass

    def reset(self) -> None:
        pass


class Encrypting(Script):
    """A live client of a device, with the slices that its server got, by the device that they are for."""

    def __init__(self, *others: Phone) -> None:
        self.phone, self.source, self.store = phone(ME), KnownReaders(), MemoryOutbox(first_n=1)
        self.phone.connect(*others)
        self.source.are(*others)
        super().__init__(self.store, encryption=Behind(DeviceSealer(self.phone.machine, self.source, lambda: NOW_MS)))
        self.slices: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self.live(dialog_state(), dialog_state(dialog=SECOND))
        self.heard()

    def say_text(self, text: bytes, dialog: bytes = DIALOG) -> int:
        return self.core.submit(Send(0, dialog, 0, text), self.now)

    def uploads(self) -> list[UploadSlices]:
        """What was uploaded since the last call, which the server keeps."""
        uploads = [command for command in self.heard() if isinstance(command, UploadSlices)]
        for part in itertools.chain.from_iterable(one.slices for one in uploads):
            self.slices[part.device].append(part.body)
        return uploads

    def confirm(self, *uploads: UploadSlices) -> None:
        """All of a share is there."""
        for number, upload in enumerate(uploads, 1):
            self.say(SlicesUploaded(upload.id, number == len(uploads)))

    def left(self) -> list[Send]:
        """The sends that leave after their uploads are confirmed."""
        if uploads := self.uploads_waiting():
            self.confirm(*uploads)
        return [command for command in self.heard() if isinstance(command, Send)]

    def uploads_waiting(self) -> list[UploadSlices]:
        self.settle()
        kept = [command for command in self.written if not isinstance(command, UploadSlices)]
        uploads = self.uploads()
        self.written = [*kept, *self.written]
        return uploads

    def read_by(self, reader: Phone, command: Numbered) -> Opened | OpenError:
        """What a device makes of a command, with the slices that the server has for it."""
        assert isinstance(command, Send | Edit | React)
        reader.take(self.phone, *self.slices.pop(reader.known.device, ()))
        header, me = command.header, self.phone.known
        assert header.session is not None
        assert header.commitment is not None
        body = Posted if isinstance(command, Send) else Edited if isinstance(command, Edit) else Reacted
        place = Place(
            command.dialog,
            me.principal,
            me.device,
            command.n,
            tag_of(body),
            int(command.kind) if isinstance(command, Send) else None,
            header.keys_seq,
            None if isinstance(command, Send) else command.target,
            header.reply_to,
            header.expires_at_ms,
            header.ref,
        )
        view = VIEWS[header.keys_seq]
        return reader.open(Received(place, command.n, command.payload, header.session, header.commitment, view))


def text_of(opened: Opened | OpenError) -> bytes:
    assert isinstance(opened, Opened), opened
    return opened.content


def test_the_slices_are_uploaded_before_the_message_that_names_them() -> None:
    bob = phone(BOB)
    client = Encrypting(bob)
    client.say_text(b"hello")
    (upload,) = client.uploads()
    assert ([one.device for one in upload.slices], upload.keys_seq) == ([bob.known.device], 1)
    client.confirm(upload)
    (message,) = client.left()
    assert (message.header.share, message.header.session) == (upload.share, upload.session)
    assert b"hello" not in message.payload
    assert text_of(client.read_by(bob, message)) == b"hello"


def test_after_the_ack_messages_name_no_share_any_more() -> None:
    bob = phone(BOB)
    client = Encrypting(bob)
    client.say_text(b"one")
    (first,) = client.left()
    client.ack(first)
    client.say_text(b"two")
    (second,) = client.left()
    assert (second.header.share, second.header.session) == (None, first.header.session)
    assert [text_of(client.read_by(bob, one)) for one in (first, second)] == [b"one", b"two"]


def test_only_uploads_without_an_answer_are_repeated_after_a_cut() -> None:
    others = [phone() for _ in range(SLICES_PER_COMMAND_MAX + 1)]
    client = Encrypting(*others)
    client.say_text(b"a")
    first, second = client.uploads()
    assert (first.more, second.more) == (True, False)
    client.say(SlicesUploaded(first.id, False))
    client.cut()
    client.sync()
    (again,) = client.uploads()
    assert msgspec.structs.replace(again, id=0) == msgspec.structs.replace(second, id=0)
    client.confirm(again)
    (message,) = client.left()
    assert text_of(client.read_by(others[-1], message)) == b"a"


def test_the_same_ciphertext_leaves_again_after_a_cut() -> None:
    client = Encrypting(phone(BOB))
    client.say_text(b"a")
    (message,) = client.left()
    client.cut()
    client.sync()
    (again,) = client.left()
    assert msgspec.structs.replace(again, id=0) == msgspec.structs.replace(message, id=0)


def test_after_a_removal_the_removed_device_cannot_read_what_was_stale() -> None:
    bob, carol = phone(BOB), phone()
    client = Encrypting(bob, carol)
    client.say_text(b"before")
    (before,) = client.left()
    client.ack(before)
    n = client.say_text(b"after")
    (stale,) = client.left()
    client.source.are(bob, keys_seq=2)
    client.say(failed(stale, "stale", keys_seq=2))
    (message,) = client.left()
    assert (message.n, message.header.keys_seq) == (n, 2)
    assert text_of(client.read_by(bob, message)) == b"after"
    assert text_of(client.read_by(carol, before)) == b"before"
    assert isinstance(client.read_by(carol, message), OpenError)


def test_an_added_device_costs_one_slice_of_the_same_session() -> None:
    bob, carol = phone(BOB), phone()
    client = Encrypting(bob)
    client.phone.connect(carol)
    client.say_text(b"a")
    (first,) = client.left()
    client.ack(first)
    client.say_text(b"b")
    (stale,) = client.left()
    client.source.are(bob, carol, keys_seq=2)
    client.say(failed(stale, "stale", keys_seq=2))
    (upload,) = client.uploads()
    assert [one.device for one in upload.slices] == [carol.known.device]
    client.confirm(upload)
    (message,) = client.left()
    assert message.header.session == first.header.session
    assert text_of(client.read_by(carol, message)) == b"b"


def test_a_share_that_is_not_for_all_who_read_waits_for_the_next_event() -> None:
    bob = phone(BOB)
    client = Encrypting(bob)
    client.say_text(b"a")
    (upload,) = client.uploads()
    client.say(SlicesUploaded(upload.id, False, missing=[new_id()]))
    assert client.heard() == []
    client.source.are(bob, keys_seq=2)
    client.say(event_at(1))
    (message,) = client.left()
    assert message.header.keys_seq == 2
    assert text_of(client.read_by(bob, message)) == b"a"


def test_when_the_server_has_lost_a_share_a_new_session_is_begun_once() -> None:
    bob = phone(BOB)
    client = Encrypting(bob)
    client.say_text(b"a")
    (first,) = client.left()
    client.ack(first)
    client.say_text(b"b")
    client.say_text(b"c")
    b, c = client.left()
    client.say(failed(b, "stale", keys_seq=1), failed(c, "earlier_first", awaited_n=2))
    client.pass_time(30.0)
    again, c = client.left()
    assert (again.n, c.header.session) == (2, first.header.session)
    client.ack(again)
    client.say(failed(c, "stale", keys_seq=1))
    client.pass_time(30.0)
    (last,) = client.left()
    assert client.source.stales == [1, 1]
    assert last.header.session == again.header.session != first.header.session
    assert [text_of(client.read_by(bob, one)) for one in (again, last)] == [b"b", b"c"]


def test_when_the_server_has_lost_to_whom_a_session_went_a_new_one_is_begun() -> None:
    bob, carol = phone(BOB), phone()
    client = Encrypting(bob)
    client.phone.connect(carol)
    client.say_text(b"a")
    (first,) = client.left()
    client.ack(first)
    client.source.are(bob, carol, keys_seq=2)
    client.say_text(b"b")
    (upload,) = client.uploads()
    client.say(SlicesUploaded(upload.id, False, missing=[bob.known.device]))
    (message,) = client.left()
    assert message.header.session != first.header.session
    assert [text_of(client.read_by(one, message)) for one in (bob, carol)] == [b"b", b"b"]


def test_a_session_that_the_server_takes_for_another_one_is_begun_anew() -> None:
    bob = phone(BOB)
    client = Encrypting(bob)
    client.say_text(b"a")
    (refused,) = client.uploads()
    client.say(failed(refused, "conflict"))
    client.pass_time(30.0)
    (message,) = client.left()
    assert message.header.session != refused.session
    assert text_of(client.read_by(bob, message)) == b"a"


def test_a_dialog_waits_while_too_many_shares_are_under_way_elsewhere() -> None:
    client = Encrypting(phone(BOB))
    client.cut()
    numbers = [client.say_text(b"first", bytes([200, number]) * 8) for number in range(SHARES_IN_FLIGHT_MAX + 1)]
    client.sync()
    assert len(client.phone.state.keys(Table.SLICES, b"")) == SHARES_IN_FLIGHT_MAX
    left: list[int] = []
    while commands := client.heard():
        client.say(*(SlicesUploaded(one.id, True) for one in commands if isinstance(one, UploadSlices)))
        sends = [one for one in commands if isinstance(one, Send)]
        client.say(*(failed(one, "blocked") for one in sends))
        left += [one.n for one in sends]
    assert sorted(left) == numbers


def test_shares_whose_messages_were_refused_or_given_up_keep_nobody_from_writing() -> None:
    client = Encrypting(phone(BOB))
    for number in range(0, SHARES_IN_FLIGHT_MAX, 2):
        client.say_text(b"refused", bytes([200, number]) * 8)
        (one,) = client.left()
        client.say(failed(one, "blocked"))
        given_up = client.say_text(b"given up", bytes([201, number]) * 8)
        (upload,) = client.uploads()
        client.say(SlicesUploaded(upload.id, False))
        assert client.core.give_up(given_up)
    n = client.say_text(b"a")
    assert [one.n for one in client.left()] == [n]


def test_edits_and_reactions_are_sealed_with_what_they_are_about() -> None:
    bob = phone(BOB)
    client = Encrypting(bob)
    reply = Header(reply_to=7, expires_at_ms=9, ref=Ref("order", "1"), content_type="text/plain", keys_seq=99)
    commands = (
        Send(0, DIALOG, 0, b"said", reply),
        Edit(0, DIALOG, 0, 3, b"edited"),
        React(0, DIALOG, 0, 3, b"+"),
        React(0, DIALOG, 0, 4, b""),
    )
    for command in commands:
        client.core.submit(command, client.now)
    client.confirm(*client.uploads())
    sealed = [one for one in client.heard() if isinstance(one, Send | Edit | React)]
    assert [text_of(client.read_by(bob, one)) for one in sealed] == [b"said", b"edited", b"+", b""]
    said = sealed[0].header
    assert (said.reply_to, said.expires_at_ms, said.ref) == (7, 9, Ref("order", "1"))
    assert (said.content_type, said.keys_seq) == ("", 1)


@pytest.mark.parametrize(
    ("command", "fits"),
    [
        (Send(0, DIALOG, 0, bytes(SEALED_CONTENT_BYTES_MAX)), True),
        (Send(0, DIALOG, 0, bytes(SEALED_CONTENT_BYTES_MAX + 1)), False),
        (React(0, DIALOG, 0, 2**53 - 1, bytes(SEALED_REACTION_BYTES_MAX)), True),
        (React(0, DIALOG, 0, 2**53 - 1, bytes(SEALED_REACTION_BYTES_MAX + 1)), False),
    ],
)
def test_what_is_too_long_to_be_sealed_is_refused_here(command: Numbered, fits: bool) -> None:
    """Else the server would close the connection, again and again."""
    client = Encrypting(phone(BOB))
    client.core.submit(command, client.now)
    client.confirm(*client.uploads())
    left: list[AnyCommand] = client.heard()
    refused = [event.failed.code for event in client.notified() if isinstance(event, Refused)]
    assert (len(left), refused) == ((1, []) if fits else (0, ["invalid_argument"]))
    assert all(len(one.payload) <= REACTION_BYTES_MAX for one in left if isinstance(one, React))


def test_what_is_not_content_of_a_member_is_not_sealed() -> None:
    client = Encrypting(phone(BOB))
    commands = (Send(0, DIALOG, 0, b"paid", kind=Kind.PAYMENT), Add(0, SECOND, 0, [BOB]))
    for command in commands:
        client.core.submit(command, client.now)
    assert [type(one) for one in client.heard()] == [Send, Add]


def test_nothing_leaves_while_it_is_not_known_who_reads() -> None:
    client = Encrypting()
    client.source.readers = NotYet()
    client.say_text(b"a")
    assert client.heard() == []
    client.source.readers = Clear()
    client.core.seal_again(client.now)
    assert [one.payload for one in client.left()] == [b"a"]


def test_an_own_device_alone_seals_for_nobody() -> None:
    """A share without slices: the server learns that nobody lacks the session."""
    client = Encrypting()
    client.say_text(b"note")
    (upload,) = client.uploads()
    assert upload.slices == []
    client.confirm(upload)
    assert len(client.left()) == 1
