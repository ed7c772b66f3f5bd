"""What this device has not heard of a roster is read, checked like what it hears, and never believed for less."""

from __future__ import annotations

import pytest

from protocol import bodies as b
from protocol.errors import ErrorCode
from protocol.key_commands import ReadRosterAt
from protocol.replies import Failed, RosterSnapshot
from tchat.crypto.errors import RosterReason
from tchat.encryption.device_logs import AGAIN_MS
from tchat.encryption.notices import ChangeNotBelieved
from tchat.encryption.rosters import WAITING_MAX
from tchat.encryption.sealing import NotYet
from tests.tchat.encryption.ann import Ann, added, devices, grown, state
from tests.tchat.encryption.people_site import Somebody, group


class Team:
    """A group of Ann, Bob and Cem, without Di. `ann` is the device that hears, or does not hear, what happens."""

    def __init__(self) -> None:
        self.bob, self.cem, self.di = Somebody(), Somebody(), Somebody()
        self.ann = Ann(self.bob, self.cem, self.di)
        self.told = group(self.ann.person, self.bob, self.cem)
        self.ann.site.dialogs[self.told.dialog] = self.told

    def window(self, first_seq: int) -> None:
        """A process begins, and hears the newest events only."""
        self.ann.start()
        self.ann.hears(state(self.told, first_seq), *self.told.events[first_seq - 1 :])

    def talk(self, count: int) -> None:
        """So many events that change nobody's rights."""
        for _ in range(count):
            self.told.next(self.bob, b.Deleted(1), 1)

    def questions(self) -> list[tuple[int | None, int | None]]:
        asked, self.ann.site.asked = self.ann.site.asked, []
        return [(each.after, each.since) for each in asked if isinstance(each, ReadRosterAt)]


@pytest.fixture
def team() -> Team:
    return Team()


def test_who_hears_a_window_reads_what_was_before_when_it_is_needed(team: Team) -> None:
    team.talk(3)
    team.window(4)
    assert team.questions() == []
    assert team.ann.engine.rosters.is_behind(team.told.dialog)
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob, team.cem)
    assert team.questions() == [(None, None), (None, 0)]


def test_the_rest_is_read_after_what_is_known(team: Team) -> None:
    team.window(1)
    team.ann.readers(team.told)
    for n in range(2, 7):
        team.told.next(team.ann.person, b.Promoted(team.bob.principal) if n == 5 else b.Demoted(team.cem.principal), n)
    team.told.next(team.ann.person, b.MemberRemoved(team.cem.principal), 7)
    team.talk(1)
    team.questions()
    team.window(8)
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob)
    assert team.questions() == [(None, 1), (None, 3), (None, 5), (None, 7)]
    (notice,) = team.ann.engine.take_notices()
    assert isinstance(notice, ChangeNotBelieved)
    assert (notice.seq, notice.reason) == (5, RosterReason.UNSIGNED)


def test_nothing_is_read_where_nothing_is_missing(team: Team) -> None:
    team.talk(2)
    team.window(1)
    team.ann.readers(team.told)
    team.told.next(team.ann.person, b.MemberRemoved(team.cem.principal), 7)
    team.talk(2)
    team.window(1)
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob)
    team.window(5)
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob)
    assert team.questions() == []


def test_what_is_heard_meanwhile_comes_after_what_is_read(team: Team) -> None:
    team.talk(1)
    team.window(2)
    engine = team.ann.engine
    engine.readers_of(team.told.dialog)
    (question,) = engine.due()
    engine.answered(question, team.ann.site.answer(question))
    (question,) = engine.due()
    answer = team.ann.site.answer(question)
    engine.heard(team.told.next(team.ann.person, b.MemberRemoved(team.cem.principal), 7))
    engine.answered(question, answer)
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob)
    assert team.ann.engine.rosters.track(team.told.dialog).roster.keys_seq == 3


def test_what_does_not_fit_is_read_again(team: Team) -> None:
    team.talk(1)
    team.window(2)
    for n in range(WAITING_MAX + 1):
        team.ann.engine.heard(team.told.next(team.ann.person, b.Demoted(team.cem.principal), n + 2))
    team.ann.hears(team.told.next(team.ann.person, b.MemberRemoved(team.cem.principal), n + 3))
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob)


@pytest.mark.parametrize(("talked", "first_seq"), [(0, 1), (5, 6), (5, 1), (1, 3)])
def test_a_server_that_lost_events_is_noticed_and_who_was_removed_stays_removed(
    team: Team, talked: int, first_seq: int
) -> None:
    gone = team.told.next(team.ann.person, b.MemberRemoved(team.cem.principal), 2)
    team.window(1)
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob)
    team.told.events.remove(gone)
    team.talk(talked)
    team.window(first_seq)
    assert team.ann.reason(team.told) == RosterReason.STILL_REMOVED.sentence


def test_a_message_in_the_place_of_a_change_tells_that_the_server_lost_events(team: Team) -> None:
    gone = team.told.next(team.ann.person, b.MemberRemoved(team.cem.principal), 2)
    team.window(1)
    team.told.events.remove(gone)
    team.talk(1)
    team.told.next(team.ann.person, b.MemberRemoved(team.bob.principal), 3)
    team.window(1)
    assert team.ann.reason(team.told) == RosterReason.STILL_REMOVED.sentence


def test_a_refusal_that_may_pass_is_asked_again_later(team: Team) -> None:
    team.talk(1)
    team.window(2)
    engine = team.ann.engine
    engine.readers_of(team.told.dialog)
    (question,) = engine.due()
    engine.answered(question, Failed(0, "unavailable", ""))
    assert engine.due() == []
    team.ann.now_ms += AGAIN_MS
    assert engine.due() == [question]
    engine.answered(question, Failed(0, "dialog_not_found", ""))
    assert isinstance(team.ann.found(team.told), Failed)


def test_events_that_the_server_names_and_keeps_back_hold_the_dialog(team: Team) -> None:
    team.window(1)
    team.ann.readers(team.told)
    team.ann.engine.stale(team.told.dialog, 0, Failed(0, "stale", "", keys_seq=9))
    assert "than it shows" in team.ann.reason(team.told)


def test_a_dialog_that_a_catch_up_does_not_name_was_left(team: Team) -> None:
    """Else what waited for this device to be online waits for ever, when others have removed its person meanwhile."""
    team.window(1)
    team.ann.start()
    assert team.ann.found(team.told) == NotYet()
    assert team.questions() == [], "its state may still come"
    team.ann.engine.caught_up()
    team.ann.site.left.add(team.told.dialog)
    found = team.ann.found(team.told)
    assert isinstance(found, Failed)
    assert found.code == ErrorCode.DIALOG_NOT_FOUND
    assert not team.ann.engine.rosters.is_behind(team.told.dialog), "what is read of it again waits for nothing"


def test_a_dialog_that_is_not_known_at_all_is_one_of_others(team: Team) -> None:
    team.ann.engine.caught_up()
    assert team.ann.found(team.told) == NotYet(), "its state is on its way"
    assert team.questions() == [(None, 0)]
    team.ann.hears(state(team.told), *team.told.events)
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob, team.cem)
    team.ann.start()
    other = group(team.bob, team.cem)
    team.ann.engine.caught_up()
    team.ann.site.left.add(other.dialog)
    assert isinstance(team.ann.found(other), Failed)


def test_the_state_of_a_dialog_may_be_told_by_an_answer_alone(team: Team) -> None:
    team.window(1)
    team.ann.start()
    team.ann.engine.caught_up()
    assert team.ann.readers(team.told) == devices(team.ann.person, team.bob, team.cem)


def test_what_was_done_to_a_message_while_its_reader_was_away_is_no_other_view(team: Team) -> None:
    """The server tells it before the rest: of the members at that time nothing is known here."""
    team.window(1)
    team.ann.hears(team.told.next(team.bob, b.MemberRemoved(team.ann.person.principal), 2))
    team.told.next(team.bob, b.MemberRemoved(team.cem.principal), 3)
    edited = team.told.next(team.bob, b.Edited(1, b"sealed"), 4)
    rosters = team.ann.engine.rosters
    team.ann.engine.heard(state(team.told, 1))
    assert rosters.keys_seq_at(edited) is None
    assert rosters.awaits(edited)
    team.ann.engine.heard(edited)
    assert not rosters.awaits(edited)


def test_events_of_another_dialog_are_no_answer(team: Team) -> None:
    team.talk(1)
    team.window(2)
    engine = team.ann.engine
    engine.readers_of(team.told.dialog)
    (question,) = engine.due()
    elsewhere = group(team.bob, team.cem, team.di).events
    engine.answered(question, RosterSnapshot(0, team.told.dialog, events=elsewhere))
    assert "does not show who" in team.ann.reason(team.told)


def joined(team: Team, *changes: b.AnyBody) -> Ann:
    """The device of Di, who was added, after these changes."""
    team.window(1)
    for n, body in enumerate(changes, 2):
        team.ann.hears(team.told.next(team.ann.person, body, n))
    team.told.seen_from = added(team.told, team.ann, 20, team.di).seq
    team.ann.hears(team.told.events[-1])
    return hearing(team)


def hearing(team: Team, di: Ann | None = None) -> Ann:
    """The device of Di, which hears what Di may see."""
    di = di or Ann(team.ann.person, team.bob, team.cem, person=team.di)
    di.site.dialogs[team.told.dialog] = team.told
    di.hears(state(team.told, team.told.seen_from), *team.told.events[team.told.seen_from - 1 :])
    return di


def test_who_joins_believes_what_the_admin_signed(team: Team) -> None:
    di = joined(team, b.Demoted(team.bob.principal), b.MemberRemoved(team.cem.principal), b.Demoted(team.bob.principal))
    assert di.readers(team.told) == devices(team.ann.person, team.bob, team.di)
    keys_seq = team.told.events[-1].seq
    views = [each.engine.rosters.view_at(team.told.dialog, keys_seq) for each in (team.ann, di)]
    assert views[0] == views[1] is not None
    di.start()
    di.hears(state(team.told, team.told.seen_from), *team.told.events[team.told.seen_from - 1 :])
    assert di.readers(team.told) == devices(team.ann.person, team.bob, team.di)


def test_what_changed_since_the_signature_is_read_with_it(team: Team) -> None:
    """An invitation waits; what happens meanwhile is visible to nobody who comes later, but for the roster."""
    team.window(1)
    team.bob.adds()
    di = joined(team)
    di.hears(grown(team.told, team.bob))
    assert di.readers(team.told) == devices(team.ann.person, team.bob, team.cem, team.di)


def test_who_joins_is_shown_nobody_less_and_nobody_else(team: Team) -> None:
    di = joined(team)
    di.site.unnamed.add(team.cem.principal)
    assert di.reason(team.told) in {RosterReason.WRONG_VIEW.sentence, RosterReason.NOT_ENTITLED.sentence}


def test_who_joins_is_not_given_another_identity_of_a_member(team: Team) -> None:
    di = joined(team)
    di.site.swapped[team.bob.principal] = Somebody(team.bob.principal)
    assert di.reason(team.told) == RosterReason.WRONG_LOG.sentence


def test_who_comes_back_is_brought_by_somebody_who_was_there(team: Team) -> None:
    di = joined(team)
    assert di.readers(team.told) >= devices(team.di)
    gone = team.told.next(team.ann.person, b.MemberRemoved(team.di.principal), 30)
    for each in (team.ann, di):
        each.hears(gone)
    assert isinstance(di.found(team.told), Failed)
    team.ann.hears(team.told.next(team.ann.person, b.MemberRemoved(team.cem.principal), 31))
    team.told.seen_from = added(team.told, team.ann, 32, team.di).seq
    hearing(team, di)
    assert di.readers(team.told) == devices(team.ann.person, team.bob, team.di)


def test_who_was_removed_before_the_logs_were_read_and_comes_back_reads_them_then(team: Team) -> None:
    """Else what the server did not show to a former member would count as what it keeps back from a member."""
    team.window(1)
    di = Ann(team.ann.person, team.bob, team.cem, person=team.di)
    di.site.dialogs[team.told.dialog] = team.told
    team.told.seen_from = added(team.told, team.ann, 20, team.di).seq
    for event in (team.told.events[-1], team.told.next(team.ann.person, b.MemberRemoved(team.di.principal), 21)):
        team.ann.hears(event)
    di.site.left.add(team.told.dialog)
    hearing(team, di)
    assert isinstance(di.found(team.told), Failed)
    di.site.left.clear()
    team.told.seen_from = added(team.told, team.ann, 22, team.di).seq
    hearing(team, di)
    assert di.readers(team.told) == devices(team.ann.person, team.bob, team.cem, team.di)
    assert di.engine.take_notices() == []


def test_a_founder_who_was_removed_before_the_logs_were_read_and_comes_back(team: Team) -> None:
    told = group(team.bob, team.ann.person, team.cem)
    bob = Ann(team.ann.person, team.cem, person=team.bob)
    bob.site.dialogs[told.dialog] = team.ann.site.dialogs[told.dialog] = told
    bob.hears(state(told), *told.events)
    gone = told.next(team.bob, b.MemberRemoved(team.ann.person.principal), 2)
    bob.hears(gone)
    team.ann.site.left.add(told.dialog)
    team.ann.hears(state(told), *told.events)
    assert isinstance(team.ann.found(told), Failed)
    team.ann.site.left.clear()
    told.seen_from = added(told, bob, 3, team.ann.person).seq
    team.ann.hears(told.events[-1])
    assert team.ann.readers(told) == devices(team.ann.person, team.bob, team.cem)
    assert team.ann.engine.take_notices() == []


def test_who_comes_back_is_not_brought_among_strangers(team: Team) -> None:
    """Else the server could remove somebody by its word, and add them to people of its own under the same name."""
    di = joined(team)
    di.readers(team.told)
    gone = team.told.next(team.ann.person, b.MemberRemoved(team.di.principal), 30)
    di.hears(gone)
    strangers = Team()
    strangers.told.dialog = team.told.dialog
    stranger = strangers.ann
    message = stranger.person.phone.machine.sign(b"")
    body = b.MembersAdded([team.di.principal], b.Signed(0, bytes(32), message), logs=[team.di.head])
    team.told.seen_from = team.told.next(stranger.person, body, 1).seq
    hearing(team, di)
    assert di.reason(team.told) == RosterReason.NOT_ENTITLED.sentence
    assert di.found(team.told) != NotYet()


@pytest.mark.parametrize("identities", [2, 3])
def test_who_comes_later_believes_what_an_identity_before_has_signed(team: Team, identities: int) -> None:
    """A fresh device learns the newest identity first, and then those before it, page by page."""
    bob = team.bob
    for _ in range(3):
        bob.adds()
    told = group(bob, team.ann.person, team.cem)
    for _ in range(identities - 1):
        bob.start_over(bob.log)
    grown(told, bob)
    team.ann.hears(state(told), *told.events)
    assert team.ann.readers(told) == devices(bob, team.ann.person, team.cem)
    pin = team.ann.people.pin_of(bob.principal)
    assert pin is not None
    assert [log.generation for log in pin.logs] == list(range(identities, 0, -1))


def test_a_log_before_that_the_newest_identity_has_not_signed_is_not_believed(team: Team) -> None:
    """The server makes a log up, whose device founds a group in the name of Bob."""
    bob = team.bob
    false = Somebody(bob.principal)
    told = group(false, team.ann.person, team.cem)
    bob.start_over(bob.log)
    bob.former[1] = false.entries
    grown(told, bob)
    team.ann.hears(state(told), *told.events)
    assert team.ann.reason(told) == RosterReason.UNKNOWN_DEVICE.sentence


def test_a_log_before_that_the_server_has_lost_holds_up_only_what_its_devices_signed(team: Team) -> None:
    bob = team.bob
    told = group(bob, team.ann.person, team.cem)
    bob.start_over(bob.log)
    bob.former.clear()
    grown(told, bob)
    grown(team.told, bob)
    team.ann.hears(state(told), *told.events)
    assert team.ann.reason(told) == RosterReason.UNKNOWN_DEVICE.sentence
    team.window(1)
    assert team.ann.readers(team.told) == devices(team.ann.person, bob, team.cem)
