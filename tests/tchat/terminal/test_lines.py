"""What the terminal shows of a view."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from protocol import bodies as b
from protocol.bodies import TimelineEvent
from protocol.commands import Delete, Edit, Leave, React, Send
from protocol.dialog_types import DialogType, Mode, Role
from protocol.events import ReceiptChanged
from protocol.kinds import Kind
from protocol.replies import Member
from tchat.crypto.errors import Reason
from tchat.fold.view import DialogView, View
from tchat.terminal.lines import (
    Line,
    Viewer,
    about,
    clean,
    clean_line,
    dialog_line,
    message_line,
    notice_line,
    pending_line,
    ticks,
    title,
    transcript,
)
from tests.support.scripted import ANN, BOB, DIALOG, ME, dialog_state, event_at, posted

NAMES = {ME: "Me", ANN: "Ann", BOB: "Bob"}
VIEWER = Viewer(ME, lambda who: NAMES.get(who, "?"), 10_000)
PAIR: dict[str, Any] = {
    "type": DialogType.DIRECT,
    "members": [Member(ME, Role.MEMBER), Member(ANN, Role.MEMBER)],
    "member_count": 2,
}


def folded(*events: object, **state: Any) -> DialogView:
    view = View(ME)
    view.apply(dialog_state(**state))
    for event in events:
        view.apply(event)
    return view.dialogs[DIALOG]


def plain(line: Line) -> str:
    return "".join(text for text, _ in line)


def shown(*events: TimelineEvent, **state: Any) -> str:
    dialog = folded(*events, **state)
    message = dialog.message(1)
    assert message is not None
    return plain(message_line(dialog, message, VIEWER))


def test_what_could_command_the_terminal_is_not_shown() -> None:
    assert clean("a\x1b[31mb\x07\r\u202ec\nd") == "a\ufffd[31mb\ufffd\ufffd\ufffdc\nd"


def test_a_name_cannot_forge_a_line() -> None:
    assert clean_line("Bob\n12 Ann: yes\x1b[2J") == "Bob\ufffd12 Ann: yes\ufffd[2J"


def test_a_direct_dialog_is_called_after_the_other() -> None:
    assert title(folded(**PAIR), VIEWER) == "Ann"


@pytest.mark.parametrize(("kind", "called"), [(DialogType.SELF, "Notes to self"), (DialogType.GROUP, "Team")])
def test_others_have_a_name(kind: DialogType, called: str) -> None:
    assert title(folded(type=kind), VIEWER) == called


def test_the_list_says_what_is_unread_and_who_writes() -> None:
    dialog = folded(event_at(1), event_at(2), muted_until_ms=20_000)
    assert plain(dialog_line(dialog, VIEWER, typing=True)) == "Team  muted  …  2"


def test_a_left_dialog_says_so() -> None:
    assert "(left)" in plain(dialog_line(folded(event_at(1, b.MemberRemoved(ME))), VIEWER, typing=False))


def test_a_message_shows_who_said_what() -> None:
    assert shown(event_at(1, posted(b"hello"))).endswith("Ann  hello")


def test_an_edit_and_reactions_are_shown() -> None:
    line = shown(
        event_at(1),
        event_at(2, b.Edited(1, b"better")),
        event_at(3, b.Reacted(1, "👍".encode()), author=BOB),
        event_at(4, b.Reacted(1, "👍".encode()), author=ANN),
        event_at(5, b.Reacted(1, b"!"), author=ME),
    )
    assert line.endswith("better (edited)  ! 👍2")


def test_a_reply_names_what_it_answers() -> None:
    assert "↩ 7 hello" in shown(event_at(1, b.Posted(Kind.MESSAGE, b.Header(reply_to=7), b"hello")))


def test_deleted_and_expired_messages_show_no_content() -> None:
    assert shown(event_at(1, posted(b"secret")), event_at(2, b.Deleted(1))).endswith("Ann  deleted")
    expired = b.Posted(Kind.MESSAGE, b.Header(expires_at_ms=9_999), b"secret")
    assert shown(event_at(1, expired)).endswith("Ann  expired")


def test_ticks_show_the_progress_of_an_own_message() -> None:
    mine = event_at(1, author=ME)

    def of(*receipts: ReceiptChanged, **state: Any) -> str:
        dialog = folded(mine, *receipts, **state)
        message = dialog.message(1)
        assert message is not None
        return ticks(dialog, message, ME)

    received, read = ReceiptChanged(DIALOG, ANN, 1, 0), ReceiptChanged(DIALOG, ANN, 1, 1)
    assert of(**PAIR) == "✓"
    assert of(received, **PAIR) == "✓✓"
    assert of(read, **PAIR) == "✓✓ read"
    assert of(read) == "✓"
    assert of(read, ReceiptChanged(DIALOG, BOB, 1, 1)) == "✓✓ read"
    assert of(read, type=DialogType.CHANNEL) == "✓"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b.DialogCreated(DialogType.GROUP, Mode.OPEN, "T", "", "", b.Settings(), []), "Ann created this dialog"),
        (b.MembersAdded([BOB, ME]), "Ann added Bob, Me"),
        (b.MembersAdded([ANN]), "Ann joined"),
        (b.MemberRemoved(BOB), "Ann removed Bob"),
        (b.MemberLeft(), "Ann left"),
        (b.Promoted(BOB), "Bob is an admin now"),
        (b.Demoted(BOB), "Bob is not an admin any more"),
        (b.SettingsChanged("New\x1b", "", "", b.Settings()), "the name is New\ufffd"),
        (b.Pinned(7), "Ann pinned 7"),
        (b.Pinned(), "Ann unpinned the message"),
        (b.Muted(DIALOG, 0), "muted"),
        (b.Blocked(BOB), "Ann blocked Bob"),
        (b.Unblocked(BOB), "Ann unblocked Bob"),
        (b.ProfileChanged(), "Ann changed the profile"),
        (b.Invited(DIALOG, ANN, DialogType.GROUP, "T\x1b"), "Ann invites you into the group T\ufffd (/accept"),
        (b.Declined(DIALOG), "Ann declined an invitation"),
    ],
)
def test_a_change_is_a_sentence(body: b.AnyBody, said: str) -> None:
    assert said in plain(notice_line(event_at(1, body), VIEWER))


class Rescheduled(msgspec.Struct):
    """A body that has no sentence of its own."""

    target: int
    by: bytes
    note: str


class Reopened(msgspec.Struct):
    """A body without fields and without a sentence of its own."""


def test_a_change_without_a_sentence_of_its_own_shows_its_name_and_fields() -> None:
    bodies: list[Any] = [Rescheduled(7, BOB, "soon\x1b"), Reopened()]
    lines = [plain(notice_line(event_at(1, body), VIEWER)) for body in bodies]
    assert "Ann: rescheduled (target 7, by Bob, note soon\ufffd)" in lines[0]
    assert "— Ann: reopened —" in lines[1]


def test_what_is_not_sent_yet_says_so() -> None:
    line = pending_line(Send(0, DIALOG, 1, b"soon"), VIEWER)
    assert line is not None
    assert "soon" in plain(line)
    assert "not sent yet" in plain(line)
    assert pending_line(Leave(0, DIALOG, 1), VIEWER) is None


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (Edit(0, DIALOG, 1, 7, b"better"), "7 becomes: better"),
        (Delete(0, DIALOG, 1, 7), "deletes 7"),
        (React(0, DIALOG, 1, 7, b"+1"), "reacts to 7: +1"),
        (React(0, DIALOG, 1, 7, b""), "takes the reaction to 7 back"),
    ],
)
def test_a_change_of_a_message_that_waits_is_shown_too(command: Edit | Delete | React, said: str) -> None:
    line = pending_line(command, VIEWER)
    assert line is not None
    assert f"{said}  not sent yet" in plain(line)


def test_a_dialog_says_whether_it_is_encrypted() -> None:
    assert about(folded(mode=Mode.SEALED)) == "group, 3 members, encrypted"
    assert about(folded(mode=Mode.OPEN)) == "group, 3 members, not encrypted"


def test_what_was_not_opened_says_why_and_shows_nothing_else() -> None:
    dialog = folded(event_at(1, posted(b"")), event_at(2, posted(b"hello")))
    dialog.mark_unreadable(1, posted(b"sealed"), Reason.UNKNOWN_SESSION)
    dialog.mark_unreadable(3, b.Edited(2, b"sealed"), Reason.WRONG_N)
    first, second = (plain(line) for line in transcript(dialog, [], VIEWER, 10))
    assert Reason.UNKNOWN_SESSION.sentence in first
    assert "hello (edited; " + Reason.WRONG_N.sentence in second


def test_messages_without_keys_are_one_line_until_they_come() -> None:
    dialog = folded(*(event_at(seq, posted(b"")) for seq in (1, 2, 3, 4)), event_at(5, b.MemberLeft()))
    for seq in (1, 2, 3):
        dialog.mark_unreadable(seq, posted(b"sealed"), Reason.UNKNOWN_SESSION)
    dialog.mark_unreadable(4, posted(b"sealed"), Reason.WRONG_N)
    shown = [plain(line) for line in transcript(dialog, [], VIEWER, 10)]
    assert len(shown) == 3
    assert f"3 messages, up to 3: {Reason.UNKNOWN_SESSION.sentence}" in shown[0]
    for seq in (1, 2, 3):
        dialog.apply_event(event_at(seq, posted(b"came")))
    assert len(transcript(dialog, [], VIEWER, 10)) == 5


def test_a_pinned_message_is_shown_until_it_is_deleted() -> None:
    events = [event_at(1, posted(b"read the rules")), event_at(2, b.Pinned(1))]
    assert about(folded(*events)).endswith(", pinned 1: read the rules")
    assert "pinned" not in about(folded(*events, event_at(3, b.Deleted(1))))
    assert "pinned" not in about(folded(*events, event_at(3, b.Pinned())))


def test_a_transcript_shows_the_newest_without_a_hole() -> None:
    events = [event_at(seq, posted(b"%d" % seq)) for seq in (1, 2, 11, 12, 13)]
    dialog = folded(*events, seq=13, first_seq=11)
    lines = [plain(line) for line in transcript(dialog, [Send(0, DIALOG, 1, b"next")], VIEWER, 2)]
    assert [line.split("  ")[-1] for line in lines[:2]] == ["12", "13"]
    assert len(lines) == 3
    assert len(transcript(dialog, [], VIEWER, 100)) == 3
