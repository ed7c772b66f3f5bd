"""Who may read is who the members say, by their signatures; the server's word can only make the list shorter."""

from __future__ import annotations

import msgspec
import pytest

from protocol import bodies as b
from protocol.dialog_types import Mode
from protocol.ids import new_id
from protocol.key_commands import ClaimKeys, ReadDevices
from protocol.limits import N_MAX
from protocol.replies import ClaimedKeys, Failed, SlicesUploaded
from protocol.share_commands import UploadSlices
from tchat.crypto.errors import RosterReason
from tchat.crypto.pins import LogVerdict
from tchat.encryption.device_logs import AGAIN_MS
from tchat.encryption.device_sealer import Readers
from tchat.encryption.notices import VIEWS_DIFFER, ChangeNotBelieved, DevicesDoubted, NotReadBy, Standing, ViewsDiffer
from tchat.encryption.readers import KEPT_MS, TRIES_MAX
from tchat.encryption.sealing import Clear, NotYet
from tests.tchat.encryption.ann import Ann, devices, grown, state
from tests.tchat.encryption.people_site import Somebody, Told, direct_dialog, group


def refused(code: str, keys_seq: int | None = None) -> Failed:
    return Failed(0, code, "no", keys_seq=keys_seq)


def upload(told: Told) -> UploadSlices:
    return UploadSlices(0, new_id(), told.dialog, bytes(32), 0, [])


@pytest.fixture
def bob() -> Somebody:
    return Somebody()


@pytest.fixture
def ann(bob: Somebody) -> Ann:
    return Ann(bob)


@pytest.fixture
def told(ann: Ann, bob: Somebody) -> Told:
    """Their direct dialog, which Ann's device has heard of."""
    told = direct_dialog(ann.person, bob)
    ann.hears(state(told), *told.events)
    return told


def test_all_devices_of_all_members_read(ann: Ann, bob: Somebody) -> None:
    ann.person.adds()
    bob.adds()
    told = direct_dialog(ann.person, bob)
    ann.hears(state(told), *told.events)
    assert ann.readers(told) == devices(ann.person, bob)
    assert ann.person.phone.machine.to_claim([one.known for one in bob.phones], ann.now_ms) == []


def test_a_question_that_is_refused_for_one_dialog_holds_up_no_other(ann: Ann, bob: Somebody) -> None:
    logs, one, other = ann.engine.logs, new_id(), new_id()
    for dialog in (one, other):
        logs.need(dialog, bob.principal)
    asked = []
    for _ in range(3):
        (command,) = ann.engine.due()
        assert isinstance(command, ReadDevices)
        asked.append(command.dialog)
        ann.engine.answered(command, refused("internal"))
        ann.now_ms += AGAIN_MS
    assert asked == [one, other, one]


def test_a_dialog_is_open_only_if_it_was_never_sealed(ann: Ann, told: Told, bob: Somebody) -> None:
    other = direct_dialog(bob, ann.person)
    other.dialog = new_id()
    assert ann.found(other) == NotYet()
    ann.hears(msgspec.structs.replace(state(other), mode=Mode.OPEN))
    assert ann.found(other) == Clear()
    ann.hears(msgspec.structs.replace(state(told), mode=Mode.OPEN))
    assert "not encrypted any more" in ann.reason(told)
    ann.start()
    ann.hears(msgspec.structs.replace(state(told), mode=Mode.OPEN))
    assert "not encrypted any more" in ann.reason(told)


def test_who_has_no_identity_has_no_device_that_reads(bob: Somebody) -> None:
    ann = Ann()
    told = direct_dialog(ann.person, bob)
    body = told.events[0].body
    assert isinstance(body, b.DialogCreated)
    created = msgspec.structs.replace(body, logs=[ann.person.head, b.LogHead()])
    ann.site.hidden.add(bob.principal)
    ann.hears(state(told), msgspec.structs.replace(told.events[0], body=created))
    assert ann.readers(told) == devices(ann.person)
    assert ann.engine.take_notices() == [NotReadBy(told.dialog, (bob.principal,))]
    ann.now_ms += KEPT_MS
    assert ann.readers(told) == devices(ann.person)
    assert ann.engine.take_notices() == [], "it is told once"


def test_an_added_device_reads_when_the_dialog_says_so(ann: Ann, told: Told, bob: Somebody) -> None:
    before = ann.readers(told)
    bob.adds()
    assert ann.readers(told) == before
    ann.hears(grown(told, bob))
    assert ann.readers(told) == devices(ann.person, bob) > before


def test_a_removed_device_reads_no_more(ann: Ann, bob: Somebody) -> None:
    laptop = bob.adds()
    told = direct_dialog(ann.person, bob)
    ann.hears(state(told), *told.events)
    assert laptop.known.device in ann.readers(told)
    bob.removes(laptop)
    ann.hears(grown(told, bob))
    assert ann.readers(told) == devices(ann.person, bob)
    found = ann.found(told)
    assert isinstance(found, Readers)
    assert found.removals == {ann.person.principal: (1, 0), bob.principal: (1, 1)}, "sessions of before end"


def test_no_keys_go_to_a_log_that_the_dialog_does_not_name(ann: Ann, told: Told, bob: Somebody) -> None:
    """Else a server could swap the identity of somebody for one member alone, and `view` would not show it."""
    bob.start_over(bob.log)
    ann.engine.logs.need(told.dialog, bob.principal)
    ann.settle()
    assert ann.engine.take_notices() == [DevicesDoubted(bob.principal, LogVerdict.CHANGED)]
    assert ann.reason(told) == ""
    ann.hears(grown(told, bob))
    assert ann.readers(told) == devices(ann.person, bob)


def test_a_verified_person_with_another_identity_is_held(ann: Ann, told: Told, bob: Somebody) -> None:
    ann.readers(told)
    assert ann.people.verified(bob.principal, bob.log.master)
    bob.start_over(bob.log)
    ann.hears(grown(told, bob))
    assert "another identity" in ann.reason(told)
    ann.people.agreed(bob.principal)
    assert ann.readers(told) == devices(ann.person, bob)


def test_a_log_that_is_kept_back_holds_the_dialog(ann: Ann, told: Told, bob: Somebody) -> None:
    """The entry may be a removal."""
    ann.readers(told)
    bob.removes(bob.adds())
    ann.site.hidden.add(bob.principal)
    ann.hears(grown(told, bob))
    assert "keeps back" in ann.reason(told)
    ann.site.hidden.clear()
    ann.engine.disconnected()
    assert ann.readers(told) == devices(ann.person, bob)


def test_a_log_comes_in_pages(ann: Ann, bob: Somebody) -> None:
    for _ in range(7):
        bob.adds()
    told = direct_dialog(ann.person, bob)
    ann.hears(state(told), *told.events)
    assert ann.readers(told) == devices(ann.person, bob)
    assert ann.engine.take_notices() == []


def test_what_comes_after_an_event_waits_for_its_logs(ann: Ann, bob: Somebody) -> None:
    """Removed and added again: the other way round she would be no member."""
    cem, di = Somebody(), Somebody()
    ann = Ann(bob, cem, di, person=ann.person)
    told = group(ann.person, bob, cem)
    events = (told.events[0], told.next(ann.person, b.MemberRemoved(cem.principal), 2))
    for event in (state(told), *events):
        ann.engine.heard(event)
    assert ann.engine.rosters.is_behind(told.dialog)
    assert ann.engine.rosters.view_at(told.dialog, 2) is None
    ann.settle()
    assert not ann.engine.rosters.is_behind(told.dialog)
    assert ann.readers(told) == devices(ann.person, bob)


def test_rosters_outlive_the_process(ann: Ann, told: Told, bob: Somebody) -> None:
    bob.adds()
    ann.hears(grown(told, bob))
    view = ann.engine.rosters.view_at(told.dialog, 2)
    ann.start()
    ann.site.asked.clear()
    assert ann.engine.rosters.view_at(told.dialog, 2) == view is not None
    ann.hears(state(told), *told.events)
    assert ann.readers(told) == devices(ann.person, bob)
    assert [command for command in ann.site.asked if isinstance(command, ReadDevices)] == []


def test_who_came_by_the_servers_word_alone_holds_the_dialog(ann: Ann, bob: Somebody) -> None:
    cem, eve = Somebody(), Somebody()
    ann = Ann(bob, cem, eve, person=ann.person)
    told = group(ann.person, bob, cem)
    ghost = told.next(ann.person, b.MembersAdded([eve.principal], logs=[eve.head]), 2)
    ann.hears(state(told), *told.events)
    assert ann.reason(told) == RosterReason.UNSIGNED.sentence
    assert ann.engine.take_notices() == [
        ChangeNotBelieved(told.dialog, ghost.seq, RosterReason.UNSIGNED, eve.principal)
    ]
    ann.hears(told.next(ann.person, b.MemberRemoved(eve.principal), 3))
    assert ann.readers(told) == devices(ann.person, bob, cem)


def test_a_device_without_keys_is_left_out_until_it_has_some(ann: Ann, bob: Somebody) -> None:
    laptop = bob.adds()
    ann.site.keyless.add(laptop.known.device)
    told = direct_dialog(ann.person, bob)
    ann.hears(state(told), *told.events)
    assert laptop.known.device not in ann.readers(told)
    ann.start()
    ann.hears(state(told), *told.events)
    assert laptop.known.device not in ann.readers(told)
    ann.site.keyless.clear()
    ann.engine.answered(upload(told), SlicesUploaded(0, False, [laptop.known.device]))
    assert ann.readers(told) == devices(ann.person, bob)


def test_what_a_dialog_shows_of_who_has_left_it_takes_nothing_from_them_elsewhere(
    ann: Ann, told: Told, bob: Somebody
) -> None:
    was = bob.head
    bob.adds()
    ann.hears(grown(told, bob))
    ann.site.departed[bob.principal] = was
    ann.engine.logs.need(new_id(), bob.principal)
    ann.settle()
    ann.site.departed.clear()
    assert ann.readers(told) == devices(ann.person, bob)
    assert ann.engine.take_notices() == []


def test_of_who_has_left_a_dialog_the_log_is_believed_and_no_device_counts_as_without_keys(
    ann: Ann, told: Told, bob: Somebody
) -> None:
    bob.adds()
    ann.site.departed[bob.principal] = bob.head
    ann.engine.logs.need(new_id(), bob.principal)
    ann.settle()
    ann.site.asked.clear()
    ann.hears(grown(told, bob))
    assert ann.readers(told) == devices(ann.person, bob)
    assert not any(isinstance(command, ReadDevices) for command in ann.site.asked)


def test_a_damaged_key_of_one_device_holds_nobody_else_back(ann: Ann, bob: Somebody) -> None:
    laptop = bob.adds()
    laptop.keys = [bob.phone.keys[0]] * 3
    told = direct_dialog(ann.person, bob)
    ann.hears(state(told), *told.events)
    assert ann.readers(told) == devices(ann.person, bob) - {laptop.known.device}


def test_a_claim_is_the_same_after_a_crash(ann: Ann, told: Told, bob: Somebody) -> None:
    """Else one-time keys would be burnt, or one would open two channels."""
    ann.engine.readers_of(told.dialog)
    while not isinstance(command := ann.engine.due()[0], ClaimKeys):
        ann.engine.answered(command, ann.site.answer(command))
        ann.engine.readers_of(told.dialog)
    assert ann.engine.due() == []
    ann.start()
    assert ann.engine.due() == [command]
    ann.engine.answered(command, ann.site.answer(command))
    ann.start()
    assert ann.engine.due() == []
    ann.hears(state(told), *told.events)
    assert ann.readers(told) == devices(ann.person, bob)
    assert sum(isinstance(asked, ClaimKeys) for asked in ann.site.asked) == 1


@pytest.mark.parametrize("later_ms", [AGAIN_MS, -1])
def test_a_claim_that_is_refused_is_made_again_later_and_when_the_clock_is_put_back(
    ann: Ann, told: Told, bob: Somebody, later_ms: int
) -> None:
    ann.engine.readers_of(told.dialog)
    while not isinstance(command := ann.engine.due()[0], ClaimKeys):
        ann.engine.answered(command, ann.site.answer(command))
        ann.engine.readers_of(told.dialog)
    ann.engine.answered(command, refused("keys_missing"))
    assert ann.engine.due() == []
    ann.now_ms += later_ms
    assert ann.engine.due() == [command]
    ann.engine.answered(command, refused("number_passed"))
    (again,) = [each for each in ann.engine.due() if isinstance(each, ClaimKeys)]
    assert (again.devices, command.claim < again.claim < N_MAX) == (command.devices, True)
    ann.engine.answered(again, ann.site.answer(again))
    assert ann.readers(told) == devices(ann.person, bob)


def test_stale_waits_for_the_events_that_the_server_names(ann: Ann, told: Told, bob: Somebody) -> None:
    ann.readers(told)
    ann.engine.stale(told.dialog, 0, refused("stale", 2))
    assert ann.engine.readers_of(told.dialog) == NotYet()
    bob.adds()
    ann.hears(grown(told, bob))
    assert ann.readers(told) == devices(ann.person, bob)


def test_what_was_made_before_a_change_is_refused_without_a_doubt(ann: Ann, told: Told, bob: Somebody) -> None:
    bob.adds()
    ann.hears(grown(told, bob))
    for _ in range(TRIES_MAX):
        ann.engine.stale(told.dialog, 0, refused("stale", 2))
        ann.engine.answered(upload(told), refused("stale", 2))
    assert ann.readers(told) == devices(ann.person, bob)


def test_a_server_that_refuses_for_ever_is_shown(ann: Ann, told: Told, bob: Somebody) -> None:
    for _ in range(TRIES_MAX):
        ann.readers(told)
        ann.engine.stale(told.dialog, 0, refused("stale", 0))
    assert "refuses what you write" in ann.reason(told)
    bob.adds()
    ann.hears(grown(told, bob))
    assert ann.readers(told) == devices(ann.person, bob)
    for _ in range(TRIES_MAX):
        ann.engine.answered(upload(told), SlicesUploaded(0, False, [new_id()]))
        ann.settle()
    assert "refuses what you write" in ann.reason(told)
    assert ann.engine.due() == []


def test_nothing_is_sent_into_a_dialog_that_is_not_there_any_more(ann: Ann, told: Told) -> None:
    ann.readers(told)
    ann.engine.answered(upload(told), refused("dialog_not_found"))
    found = ann.found(told)
    assert isinstance(found, Failed)
    assert found.code == "dialog_not_found"


def test_who_was_removed_sends_nothing(ann: Ann, bob: Somebody) -> None:
    cem = Somebody()
    ann = Ann(bob, cem, person=ann.person)
    told = group(bob, ann.person, cem)
    told.next(bob, b.MemberRemoved(ann.person.principal), 2)
    ann.hears(state(told), *told.events)
    assert isinstance(ann.found(told), Failed)


def test_a_member_who_sees_other_members_stops_the_dialog(ann: Ann, told: Told, bob: Somebody) -> None:
    event = told.next(bob, b.Deleted(1), 1)
    ann.engine.rosters.dispute(event)
    assert ann.engine.take_notices() == [ViewsDiffer(told.dialog, bob.principal)]
    ann.start()
    ann.hears(state(told), *told.events)
    assert ann.reason(told) == VIEWS_DIFFER
    ann.engine.rosters.agree(told.dialog)
    assert ann.readers(told) == devices(ann.person, bob)


def test_a_device_that_its_log_does_not_list_sends_nothing(ann: Ann, bob: Somebody) -> None:
    old, new = ann.person.phone, ann.person.adds()
    ann.person.removes(old)
    told = direct_dialog(ann.person, bob)
    ann.person.phones = [old, new]
    ann.start()
    ann.hears(state(told), *told.events)
    assert ann.reason(told) == Standing.UNVERIFIED.sentence


def test_the_device_that_wrote_is_one_of_the_log_at_that_time(ann: Ann, told: Told, bob: Somebody) -> None:
    laptop = bob.adds()
    ann.hears(grown(told, bob))
    early = msgspec.structs.replace(told.next(bob, b.Deleted(1), 1), device=laptop.known.device)
    writer = ann.engine.rosters.writer
    assert writer(early) == laptop.known
    bob.removes(laptop)
    ann.hears(told.events[-1], grown(told, bob))
    assert writer(early) == laptop.known
    late = msgspec.structs.replace(told.next(bob, b.Deleted(1), 2), device=laptop.known.device)
    assert writer(late) is None
    assert writer(msgspec.structs.replace(late, device=new_id())) is None


def test_who_was_removed_or_came_by_the_servers_word_has_written_nothing(ann: Ann, bob: Somebody) -> None:
    cem, eve = Somebody(), Somebody()
    ann = Ann(bob, cem, eve, person=ann.person)
    told = group(ann.person, bob, cem)
    ann.hears(state(told), *told.events)
    writer = ann.engine.rosters.writer
    assert writer(told.next(cem, b.Deleted(1), 1)) == cem.phone.known
    ann.hears(told.next(ann.person, b.MemberRemoved(cem.principal), 2))
    ann.hears(told.next(ann.person, b.MembersAdded([eve.principal], logs=[eve.head]), 3))
    for author in (cem, eve):
        assert writer(told.next(author, b.Deleted(1), 4)) is None


def test_a_claim_without_any_key_is_not_made_again_at_once(ann: Ann, bob: Somebody) -> None:
    told = direct_dialog(ann.person, bob)
    ann.hears(state(told), *told.events)
    bob.phone.keys.clear()
    ann.engine.readers_of(told.dialog)
    while commands := ann.engine.due():
        for command in commands:
            claims = isinstance(command, ClaimKeys)
            ann.engine.answered(command, ClaimedKeys(0, []) if claims else ann.site.answer(command))
        ann.engine.readers_of(told.dialog)
    assert ann.readers(told) == devices(ann.person)
