"""The fold: what a timeline comes to, in whatever order and however often its events arrive."""

from __future__ import annotations

import random
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import bodies as b
from protocol.bodies import AnyBody, TimelineEvent
from protocol.dialog_types import DialogType, Mode, Role
from protocol.events import DialogState, ReceiptChanged
from protocol.ids import self_dialog_id
from protocol.kinds import DAY_MS, Kind
from protocol.replies import HistoryPage, Member, RosterPage
from tchat.fold import dialog as fold_dialog
from tchat.fold.view import DialogView, Message, View
from tests.support.scripted import ANN, BOB, DIALOG, ME, SECOND, dialog_state, event_at, posted

SELF = self_dialog_id(ME)
CEM = bytes([4]) * 16


def folded(*messages: msgspec.Struct) -> View:
    view = View(ME)
    for message in messages:
        view.apply(message)
    return view


def dialog_of(*messages: msgspec.Struct) -> DialogView:
    return folded(dialog_state(), *messages).dialogs[DIALOG]


def message_of(*messages: msgspec.Struct) -> Message:
    message = dialog_of(*messages).message(1)
    assert message is not None
    return message


def own(seq: int, body: AnyBody) -> TimelineEvent:
    return event_at(seq, body, dialog=SELF, author=ME, messages=0)


def test_an_event_of_an_unknown_dialog_is_ignored() -> None:
    assert folded(event_at(1)).dialogs == {}


def test_a_message_is_what_was_posted() -> None:
    message = message_of(event_at(1, posted(b"hi")))
    assert (message.payload, message.author, message.at_ms, message.header) == (
        b"hi",
        ANN,
        1_700_000_000_001,
        b.Header(),
    )


def test_the_edit_with_the_highest_number_wins() -> None:
    edits = [event_at(2, b.Edited(1, b"two")), event_at(3, b.Edited(1, b"three", b.Header(reply_to=9)))]
    message = message_of(event_at(1), *reversed(edits))
    assert (message.payload, message.header.reply_to, message.edit_seq) == (b"three", 9, 3)


def test_a_deleted_message_stays_as_deleted_without_content() -> None:
    message = message_of(
        event_at(1),
        event_at(2, b.Edited(1, b"x")),
        event_at(3, b.Reacted(1, b"+")),
        event_at(4, b.Deleted(1)),
    )
    assert message.deleted
    assert (message.payload, message.header, message.reactions, message.author) == (b"", b.Header(), {}, ANN)


def test_what_comes_late_for_a_deleted_message_does_not_bring_it_back() -> None:
    message = message_of(
        event_at(4, b.Deleted(1)),
        event_at(1),
        event_at(2, b.Edited(1, b"x")),
        event_at(3, b.Reacted(1, b"+")),
    )
    assert (message.deleted, message.payload, message.reactions) == (True, b"", {})


def test_a_persons_newest_reaction_replaces_the_older_and_empty_withdraws() -> None:
    reactions = [
        event_at(2, b.Reacted(1, b"+"), author=ANN),
        event_at(3, b.Reacted(1, b"-"), author=BOB),
        event_at(4, b.Reacted(1, b"!"), author=ANN),
        event_at(5, b.Reacted(1, b""), author=BOB),
    ]
    assert message_of(event_at(1), *reversed(reactions)).reactions == {ANN: b"!"}


def test_an_erased_row_that_nobody_deleted_is_not_shown() -> None:
    dialog = dialog_of(event_at(1), event_at(1, b.Erased()), event_at(2))
    assert [entry.seq for entry in dialog.timeline()] == [2]


def test_notices_stand_between_messages() -> None:
    dialog = dialog_of(event_at(1), event_at(2, b.MembersAdded([CEM])), event_at(3))
    assert [type(entry) for entry in dialog.timeline()] == [Message, TimelineEvent, Message]


def test_membership_follows_the_events_after_the_state() -> None:
    dialog = folded(
        dialog_state(5),
        event_at(6, b.MembersAdded([CEM])),
        event_at(7, b.Promoted(CEM)),
        event_at(8, b.Demoted(ANN)),
        event_at(9, b.MemberRemoved(BOB)),
        event_at(10, b.MemberLeft(), author=ANN),
    ).dialogs[DIALOG]
    assert dialog.members == {ME: Role.MEMBER, CEM: Role.ADMIN}
    assert (dialog.member_count, dialog.keys_seq) == (2, 10)


def test_membership_events_that_the_state_contains_change_nothing() -> None:
    state = dialog_state(5, members=[Member(ME, Role.ADMIN)], member_count=1, role=Role.ADMIN)
    dialog = folded(state, event_at(2, b.MembersAdded([CEM])), event_at(3, b.MemberRemoved(CEM))).dialogs[DIALOG]
    assert dialog.members == {ME: Role.ADMIN}


def test_ones_own_removal_ends_membership_and_keeps_the_messages() -> None:
    dialog = dialog_of(event_at(1), event_at(2, b.MemberRemoved(ME)))
    assert not dialog.member
    assert dialog.message(1) is not None


def test_a_dialog_that_was_left_is_not_in_the_canonical_view() -> None:
    view = folded(dialog_state(), dialog_state(dialog=SECOND), event_at(1, b.MemberLeft(), author=ME))
    assert list(view.canonical()["dialogs"]) == [SECOND.hex()]


def test_a_new_state_replaces_roster_and_settings() -> None:
    dialog = folded(
        dialog_state(1),
        event_at(2, b.MembersAdded([CEM])),
        dialog_state(9, members=[Member(ME, Role.ADMIN)], member_count=1, role=Role.ADMIN, name="New"),
    ).dialogs[DIALOG]
    assert (dialog.members, dialog.name, dialog.role) == ({ME: Role.ADMIN}, "New", Role.ADMIN)


def test_the_roster_of_a_large_dialog_is_not_known_until_asked_for() -> None:
    first = RosterPage(1, DIALOG, [Member(ANN, Role.ADMIN, "Ann", 3, 2)], more=True)
    second = RosterPage(1, DIALOG, [Member(ME, Role.MEMBER, "Me"), Member(BOB, Role.MEMBER, "Bob")])
    state = dialog_state(1, members=[], member_count=3)
    for pages in ([], [first]):
        assert folded(state, *pages).dialogs[DIALOG].members is None
    dialog = folded(state, first, second).dialogs[DIALOG]
    assert dialog.members == {ME: Role.MEMBER, ANN: Role.ADMIN, BOB: Role.MEMBER}
    assert (dialog.name_of(ANN), dialog.receipts[ANN].read) == ("Ann", 2)


def test_settings_follow_their_newest_event() -> None:
    changes = [
        event_at(2, b.SettingsChanged("B", "", "", b.Settings())),
        event_at(3, settings_changed("C")),
    ]
    assert dialog_of(*reversed(changes)).name == "C"


def test_the_pinned_message_follows_its_newest_event() -> None:
    events = [event_at(2, b.Pinned(1)), event_at(3, b.Pinned()), event_at(4, b.Pinned(1))]
    for known, pinned in ((1, 1), (2, None), (3, 1)):
        assert dialog_of(*reversed(events[:known])).pinned == pinned
    assert dialog_of(dialog_state(9, pinned=7), *events).pinned == 7


def settings_changed(name: str) -> b.SettingsChanged:
    return b.SettingsChanged(name, "about", "url", b.Settings(is_public=True))


def test_a_creation_is_a_start_like_any_other() -> None:
    members = [b.MemberRole(ME, Role.ADMIN), b.MemberRole(ANN, Role.MEMBER)]
    created = b.DialogCreated(DialogType.GROUP, Mode.OPEN, "Start", "", "", b.Settings(), members)
    before = dialog_state(0, members=[], member_count=0, member=False)
    dialog = folded(before, event_at(1, created)).dialogs[DIALOG]
    assert (dialog.name, dialog.member_count, dialog.role) == ("Start", 2, Role.ADMIN)


def test_unread_is_a_subtraction() -> None:
    view = folded(dialog_state(10, messages=10, read_messages=4, read=4))
    dialog = view.dialogs[DIALOG]
    assert dialog.unread == 6
    view.apply(event_at(11, messages=11))
    assert dialog.unread == 7
    view.apply(ReceiptChanged(DIALOG, ME, 11, 10, 10))
    assert dialog.unread == 1
    view.apply(event_at(12, author=ME, messages=12))
    assert dialog.unread == 0


def test_ones_own_receipt_counts_at_once() -> None:
    dialog = dialog_of(event_at(1), event_at(2), event_at(3))
    dialog.raise_own_receipt(3, 2)
    assert dialog.unread == 1
    dialog.raise_own_receipt(0, 3)
    assert dialog.unread == 0
    assert (dialog.receipts[ME].delivered, dialog.receipts[ME].read) == (3, 3)


def test_who_joins_has_read_up_to_there() -> None:
    receipt = dialog_of(event_at(1), event_at(2, b.MembersAdded([CEM]))).receipts[CEM]
    assert (receipt.delivered, receipt.read) == (2, 2)


def test_receipts_of_others_only_grow() -> None:
    dialog = dialog_of(ReceiptChanged(DIALOG, ANN, 5, 3), ReceiptChanged(DIALOG, ANN, 4, 2))
    assert (dialog.receipts[ANN].delivered, dialog.receipts[ANN].read) == (5, 3)


def test_a_mute_is_taken_from_the_self_dialog_and_the_state() -> None:
    view = folded(dialog_state(), dialog_state(dialog=SELF), own(1, b.Muted(DIALOG, 7)))
    assert view.dialogs[DIALOG].muted_until_ms == 7
    view.apply(dialog_state(muted_until_ms=9))
    assert view.dialogs[DIALOG].muted_until_ms == 9


def test_an_old_page_of_the_self_dialog_does_not_bring_an_old_mute_back() -> None:
    view = folded(dialog_state(muted_until_ms=9), dialog_state(dialog=SELF))
    view.apply(HistoryPage(1, SELF, [own(1, b.Muted(DIALOG, 7))]))
    assert view.dialogs[DIALOG].muted_until_ms == 9


def test_blocks_follow_their_newest_event_wherever_it_comes_from() -> None:
    view = folded(dialog_state(dialog=SELF), own(3, b.Unblocked(ANN)), own(4, b.Blocked(BOB)))
    view.apply(HistoryPage(1, SELF, [own(1, b.Blocked(ANN)), own(2, b.Blocked(CEM))]))
    assert view.blocked == {BOB, CEM}


def invited(dialog: bytes = DIALOG, name: str = "Team") -> b.Invited:
    return b.Invited(dialog, ANN, DialogType.GROUP, name)


def test_an_invitation_is_open_until_it_is_declined_or_one_is_a_member() -> None:
    view = folded(dialog_state(dialog=SELF, type=DialogType.SELF), own(1, invited()), own(2, invited(SECOND)))
    assert view.invitations == {DIALOG: invited(), SECOND: invited(SECOND)}
    view.apply(own(3, b.Declined(DIALOG)))
    view.apply(dialog_state(dialog=SECOND))
    assert view.invitations == {}
    view.apply(event_at(1, b.MemberLeft(), dialog=SECOND, author=ME))
    view.apply(HistoryPage(1, SELF, [own(1, invited()), own(2, invited(SECOND))]))
    assert view.invitations == {}


def test_the_state_of_the_self_dialog_replaces_the_invitations_up_to_it() -> None:
    view = folded(dialog_state(dialog=SELF, type=DialogType.SELF), own(1, invited()), own(9, invited(SECOND)))
    view.apply(dialog_state(7, dialog=SELF, type=DialogType.SELF, invitations=[invited(CEM)]))
    assert view.invitations == {SECOND: invited(SECOND), CEM: invited(CEM)}
    view.apply(dialog_state(6, dialog=SELF, type=DialogType.SELF, invitations=[invited()]))
    view.apply(own(7, invited()))
    assert view.invitations == {SECOND: invited(SECOND), CEM: invited(CEM)}


def test_an_invitation_into_a_dialog_of_ones_own_is_none() -> None:
    view = folded(dialog_state(dialog=SELF, type=DialogType.SELF), dialog_state(), own(1, invited()))
    assert view.invitations == {}


def test_a_window_says_from_where_on_nothing_is_missing() -> None:
    view = folded(dialog_state(50, first_seq=41), event_at(41), event_at(50))
    dialog = view.dialogs[DIALOG]
    assert (dialog.loaded_from, dialog.complete) == (41, False)
    view.apply(HistoryPage(1, DIALOG, [event_at(3), event_at(9)]))
    assert dialog.loaded_from == 41
    view.apply(HistoryPage(1, DIALOG, [event_at(seq) for seq in range(21, 41)]))
    assert dialog.loaded_from == 21
    view.apply(HistoryPage(1, DIALOG, [event_at(seq) for seq in range(1, 21)]))
    assert dialog.complete


def test_what_was_before_one_joined_is_not_missing() -> None:
    assert folded(dialog_state(9, first_seq=9, visible=[(9, 0)])).dialogs[DIALOG].complete


def test_a_dialog_holds_a_bounded_number_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_dialog, "MESSAGES_KEPT_MAX", 16)
    dialog = dialog_of(*(event_at(seq) for seq in range(1, 100)))
    assert len(dialog.timeline()) <= 16
    assert dialog.message(99) is not None
    assert dialog.loaded_from == dialog.timeline()[0].seq


def test_clear_forgets_everything() -> None:
    view = folded(dialog_state(dialog=SELF), own(1, b.Blocked(ANN)))
    view.clear()
    assert view.canonical() == {"blocked": [], "dialogs": {}, "invitations": {}}


def test_a_role_of_a_direct_dialog_is_member() -> None:
    assert folded(dialog_state(type=DialogType.DIRECT)).dialogs[DIALOG].role is Role.MEMBER


# In whatever order, and however often.

PEOPLE = st.sampled_from([ME, ANN, BOB, CEM])
TARGETS = st.integers(1, 6)
DRAWN: dict[type[b.Body], st.SearchStrategy[AnyBody]] = {
    b.Edited: st.builds(b.Edited, TARGETS, st.binary(max_size=2)),
    b.Deleted: st.builds(b.Deleted, TARGETS),
    b.Reacted: st.builds(b.Reacted, TARGETS, st.sampled_from([b"", b"+", b"-"])),
    b.MembersAdded: st.builds(b.MembersAdded, st.lists(PEOPLE, min_size=1, max_size=1)),
    b.MemberRemoved: st.builds(b.MemberRemoved, PEOPLE),
    b.MemberLeft: st.builds(b.MemberLeft),
    b.Promoted: st.builds(b.Promoted, PEOPLE),
    b.Demoted: st.builds(b.Demoted, PEOPLE),
    b.SettingsChanged: st.builds(settings_changed, st.sampled_from("ABC")),
    b.Pinned: st.builds(b.Pinned, st.none() | TARGETS),
    b.DialogDeleted: st.builds(b.DialogDeleted),
    b.DevicesChanged: st.builds(b.DevicesChanged, PEOPLE, st.just(b.LogHead(1, 2, bytes(32)))),
}
BODIES = st.one_of(*DRAWN.values())
OF_THE_SELF_DIALOG = {b.Muted, b.Blocked, b.Unblocked, b.ProfileChanged, b.Invited, b.Declined}
"""One event replaces another there; their order is tested above."""


@st.composite
def timelines(draw: st.DrawFn) -> list[TimelineEvent]:
    """Six messages, then anything."""
    events = [event_at(seq, posted(b"%d" % seq), author=draw(PEOPLE)) for seq in range(1, 7)]
    for body in draw(st.lists(BODIES, max_size=12)):
        events.append(event_at(len(events) + 1, body, author=draw(PEOPLE), messages=6))
    return events


def test_every_body_is_folded_in_any_order_here() -> None:
    in_every_timeline = {b.Posted, b.Erased, b.DialogCreated}
    assert set(DRAWN) | in_every_timeline | OF_THE_SELF_DIALOG == set(get_args(AnyBody))


def as_read_later(events: list[TimelineEvent]) -> list[TimelineEvent]:
    """The same timeline as it stands after its deletions."""
    deleted = {event.body.target for event in events if isinstance(event.body, b.Deleted)}

    def erased(event: TimelineEvent) -> bool:
        match event.body:
            case b.Posted():
                return event.seq in deleted
            case b.Edited(target=target) | b.Reacted(target=target):
                return target in deleted
            case _:
                return False

    return [msgspec.structs.replace(event, body=b.Erased()) if erased(event) else event for event in events]


def view_of(events: list[TimelineEvent]) -> object:
    return folded(dialog_state(), *events).dialogs[DIALOG].canonical()


@given(timelines(), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(events: list[TimelineEvent], dice: random.Random) -> None:
    mixed = [*events, *dice.choices(events, k=len(events))]
    dice.shuffle(mixed)
    assert view_of(mixed) == view_of(events)


@given(timelines())
def test_replay_equals_live(events: list[TimelineEvent]) -> None:
    assert view_of(as_read_later(events)) == view_of(events)


@given(timelines(), st.integers(0, 18))
def test_a_page_of_history_adds_what_live_did_not_see(events: list[TimelineEvent], cut: int) -> None:
    cut = min(cut, len(events))
    later = as_read_later(events)
    view = folded(dialog_state(first_seq=cut + 1), *events[cut:])
    view.apply(HistoryPage(1, DIALOG, later[:cut], later[cut:]))
    view.apply(HistoryPage(1, DIALOG, later[:cut]))
    whole = folded(dialog_state(), *events)
    content = {"lines", "notices"}
    mine, theirs = (one.dialogs[DIALOG].canonical() for one in (view, whole))
    assert {key: mine[key] for key in content} == {key: theirs[key] for key in content}


@given(timelines(), st.integers(0, 18))
def test_a_state_in_the_middle_changes_nothing(events: list[TimelineEvent], cut: int) -> None:
    cut = min(cut, len(events))
    whole = folded(dialog_state(), *events).dialogs[DIALOG]
    half = folded(dialog_state(), *events[:cut]).dialogs[DIALOG]
    roster = [Member(who, role) for who, role in (half.members or {}).items()]
    state = dialog_state(
        cut,
        messages=min(cut, 6),
        members=roster,
        member_count=half.member_count,
        member=half.member,
        role=half.role,
        name=half.name,
        description=half.description,
        avatar_url=half.avatar_url,
        settings=half.settings,
        keys_seq=half.keys_seq,
        pinned=half.pinned,
    )
    if half.members is not None:
        again = folded(dialog_state(), *events[:cut], state, *events[max(0, cut - 3) :]).dialogs[DIALOG]
        assert again.canonical() == whole.canonical()


def test_the_view_keeps_what_a_kind_is() -> None:
    message = message_of(event_at(1, posted(kind=Kind.SIGNAL)))
    assert message.posted is not None
    assert message.posted.kind is Kind.SIGNAL
    assert isinstance(dialog_state(), DialogState)


AT_MS = 1_700_000_000_001
"""When `event_at(1)` happened."""


@pytest.mark.parametrize(
    ("kind", "expires_at_ms", "retention_days", "ends_at_ms"),
    [
        (Kind.MESSAGE, None, 0, None),
        (Kind.MESSAGE, AT_MS + 5, 0, AT_MS + 5),
        (Kind.MESSAGE, None, 3, AT_MS + 3 * DAY_MS),
        (Kind.MESSAGE, AT_MS + 5, 3, AT_MS + 5),
        (Kind.SYSTEM, None, 0, AT_MS + 90 * DAY_MS),
        (Kind.SYSTEM, None, 3, AT_MS + 3 * DAY_MS),
        (Kind.PAYMENT, None, 0, None),
        (Kind.PAYMENT, None, 3, AT_MS + 2555 * DAY_MS),
        (Kind.PAYMENT, AT_MS + 5, 0, AT_MS + 2555 * DAY_MS),
    ],
)
def test_a_message_is_hidden_when_the_server_erases_it_because_of_its_age(
    kind: Kind, expires_at_ms: int | None, retention_days: int, ends_at_ms: int | None
) -> None:
    settings = b.Settings(message_retention_days=retention_days)
    body = b.Posted(kind, b.Header(expires_at_ms=expires_at_ms), b"x")
    later = b.Edited(1, b"y", b.Header(expires_at_ms=AT_MS + 1))
    view = folded(dialog_state(settings=settings), event_at(1, body), event_at(2, later))
    dialog = view.dialogs[DIALOG]
    if ends_at_ms is None:
        assert not dialog.expire(AT_MS + 9999 * DAY_MS)
        return
    assert not dialog.expire(ends_at_ms - 1)
    assert dialog.message(1) is not None
    assert dialog.expire(ends_at_ms)
    assert (dialog.message(1), dialog.expire(ends_at_ms)) == (None, False)
