"""What becomes of numbered commands: order, retries, refusals, numbers, whatever happens to the connection."""

from __future__ import annotations

import msgspec
import pytest

from protocol.bodies import Header
from protocol.commands import (
    Add,
    AnyCommand,
    Block,
    Create,
    Edit,
    Leave,
    Mute,
    React,
    Send,
    Skip,
)
from protocol.dialog_types import DialogType
from protocol.ids import created_dialog_id, direct_dialog_id, self_dialog_id
from protocol.replies import Acked
from tchat.actions import Refused, Renumbered, Sent
from tchat.store import MemoryOutbox
from tests.support.scripted import (
    ANN,
    BOB,
    DEVICE,
    DIALOG,
    IN_FLIGHT_MAX,
    ME,
    SECOND,
    Script,
    dialog_state,
    event_at,
    failed,
)


@pytest.fixture
def script() -> Script:
    live = Script()
    live.live(dialog_state(), dialog_state(dialog=SECOND))
    live.heard()
    live.notified()
    return live


def say(script: Script, text: bytes, dialog: bytes = DIALOG, keys_seq: int = 0) -> int:
    return script.core.submit(Send(0, dialog, 0, text, Header(keys_seq=keys_seq)), script.now)


def texts(commands: list[AnyCommand]) -> list[bytes]:
    return [command.payload for command in commands if isinstance(command, Send)]


def numbers(commands: list[AnyCommand]) -> list[int]:
    return [command.n for command in commands if isinstance(command, (Send, Add))]


def test_sends_leave_at_once_under_growing_numbers(script: Script) -> None:
    assert [say(script, b"a"), say(script, b"b", SECOND), say(script, b"c")] == [1, 2, 3]
    assert numbers(script.heard()) == [1, 2, 3]


def test_an_ack_ends_a_send(script: Script) -> None:
    say(script, b"a")
    (command,) = script.heard()
    script.ack(command, seq=7)
    (sent,) = script.notified()
    assert isinstance(sent, Sent)
    assert (sent.n, sent.acked.seq) == (1, 7)
    assert script.core.pending() == []


def test_no_more_sends_are_under_way_than_the_server_allows(script: Script) -> None:
    for number in range(IN_FLIGHT_MAX + 3):
        say(script, b"%d" % number)
    first = script.heard()
    assert len(first) == IN_FLIGHT_MAX
    script.ack(first[0])
    assert texts(script.heard()) == [b"%d" % IN_FLIGHT_MAX]
    assert script.core.statistics().in_flight == IN_FLIGHT_MAX


def test_nothing_is_sent_before_sync_is_accepted() -> None:
    script = Script()
    say(script, b"a")
    script.authenticate()
    assert texts(script.heard()) == []
    script.cut()
    script.sync()
    assert texts(script.heard()) == [b"a"]


def test_what_was_not_acked_is_sent_again_in_order_under_the_same_numbers(script: Script) -> None:
    for text in (b"a", b"b", b"c"):
        say(script, text)
    script.ack(script.heard()[1])
    script.cut()
    script.sync()
    again = script.heard()
    assert texts(again) == [b"a", b"c"]
    assert numbers(again) == [1, 3]


def test_a_new_process_sends_what_the_old_one_left() -> None:
    store = MemoryOutbox(first_n=1)
    say(Script(store), b"a")
    script = Script(store)
    script.sync()
    assert texts(script.heard()) == [b"a"]


def test_an_own_event_settles_a_send_whose_ack_was_lost(script: Script) -> None:
    n = say(script, b"a")
    script.cut()
    script.sync()
    script.say(event_at(1, author=ME, device=DEVICE, n=n))
    assert [event.acked.seq for event in script.notified() if isinstance(event, Sent)] == [1]
    assert script.core.pending() == []
    command = [command for command in script.heard() if isinstance(command, Send)][-1]
    script.ack(command)
    assert script.core.statistics().in_flight == 0


def test_an_event_of_another_device_or_dialog_with_that_number_settles_nothing(script: Script) -> None:
    n = say(script, b"a")
    script.say(event_at(1, author=ME, n=n), event_at(1, dialog=SECOND, author=ME, device=DEVICE, n=n))
    assert len(script.core.pending()) == 1


def test_after_a_temporary_refusal_the_dialog_waits_and_goes_on_from_the_refused_one(script: Script) -> None:
    for text in (b"a", b"b", b"c"):
        say(script, text)
    a, b, c = script.heard()
    script.ack(a)
    script.say(failed(b, "unavailable", retry_after_s=3.0))
    say(script, b"d")
    say(script, b"elsewhere", SECOND)
    assert texts(script.heard()) == [b"elsewhere"]
    script.say(failed(c, "unavailable", retry_after_s=3.0))
    script.pass_time(2.9)
    assert script.heard() == []
    script.pass_time(0.1)
    assert texts(script.heard()) == [b"b", b"c", b"d"]


def test_a_dialog_goes_on_only_when_all_that_was_under_way_is_answered(script: Script) -> None:
    say(script, b"a")
    say(script, b"b")
    a, b = script.heard()
    script.say(failed(a, "rate_limited", retry_after_s=1.0))
    script.pass_time(5.0)
    assert script.heard() == []
    script.say(failed(b, "rate_limited", retry_after_s=0.0))
    assert texts(script.heard()) == [b"a", b"b"]


def test_refusals_without_a_time_wait_longer_and_longer(script: Script) -> None:
    say(script, b"a")
    waits = []
    for _ in range(8):
        (command,) = script.heard()
        script.say(failed(command, "unavailable"))
        deadline = script.core.deadline()
        assert deadline is not None
        waits.append(deadline - script.now)
        script.pass_time(waits[-1])
    assert waits[0] < 1.0
    assert max(waits) > 8.0
    assert max(waits) <= 30.0


def test_a_reconnect_ends_the_wait_after_a_refusal(script: Script) -> None:
    say(script, b"a")
    (command,) = script.heard()
    script.say(failed(command, "unavailable", retry_after_s=1000.0))
    script.cut()
    script.sync()
    assert texts(script.heard()) == [b"a"]


def test_a_final_refusal_is_reported_and_does_not_stop_the_rest(script: Script) -> None:
    say(script, b"a")
    say(script, b"b")
    a, b = script.heard()
    refusal = failed(a, "blocked")
    script.say(refusal)
    (refused,) = script.notified()
    assert isinstance(refused, Refused)
    assert (refused.n, refused.failed) == (1, refusal)
    script.ack(b)
    assert script.core.pending() == []


def test_a_code_that_is_not_known_counts_as_definite(script: Script) -> None:
    say(script, b"a")
    (command,) = script.heard()
    script.say(failed(command, "a_code_of_tomorrow"))
    assert script.core.pending() == []


def test_a_refusal_that_is_about_the_session_keeps_the_send_for_the_next_connection(script: Script) -> None:
    say(script, b"a")
    (command,) = script.heard()
    script.say(failed(command, "token_expired"))
    script.pass_time(10.0)
    assert texts(script.heard()) == []
    script.cut()
    script.sync()
    assert texts(script.heard()) == [b"a"]


def test_without_a_sealer_a_stale_send_is_refused_for_good(script: Script) -> None:
    """Only the app could encrypt it for those who may read it now."""
    say(script, b"a", keys_seq=3)
    script.say(failed(script.heard()[-1], "stale", keys_seq=9))
    (refused,) = script.notified()
    assert isinstance(refused, Refused)
    assert refused.failed.keys_seq == 9
    assert script.core.pending() == []


def test_a_passed_number_continues_under_a_new_one_at_once(script: Script) -> None:
    say(script, b"a")
    say(script, b"later")
    a, later = script.heard()
    script.say(failed(a, "number_passed"))
    assert Renumbered(1, 3) in script.notified()
    assert [(command.n, command.payload) for command in script.heard() if isinstance(command, Send)] == [(3, b"a")]
    script.ack(later)
    assert [command.n for command in script.core.pending()] == [3]


def test_a_passed_number_is_renumbered_in_the_store() -> None:
    store = MemoryOutbox(first_n=1)
    script = Script(store)
    script.sync()
    say(script, b"a")
    script.say(failed(script.heard()[-1], "number_passed"))
    assert [command.n for command in Script(store).core.pending()] == [2]


def test_what_an_earlier_number_holds_back_goes_right_after_it(script: Script) -> None:
    for text in (b"a", b"b", b"c"):
        say(script, text)
    a, b, c = script.heard()
    script.say(failed(a, "unavailable", retry_after_s=3.0))
    script.say(failed(b, "earlier_first", awaited_n=1), failed(c, "earlier_first", awaited_n=1))
    script.pass_time(2.9)
    assert script.heard() == []
    script.pass_time(0.1)
    assert numbers(script.heard()) == [1, 2, 3]


def test_a_number_that_was_given_up_is_skipped_and_the_rest_goes_on(script: Script) -> None:
    say(script, b"a")
    (a,) = script.heard()
    script.say(failed(a, "unavailable", retry_after_s=1.0))
    assert script.core.give_up(1)
    say(script, b"b")
    script.pass_time(1.0)
    (b,) = script.heard()
    script.say(failed(b, "earlier_first", awaited_n=1))
    skip, again = script.heard()
    assert skip == Skip(0, DIALOG, 1)
    assert numbers([again]) == [2]


def test_a_number_that_an_own_event_settled_is_skipped_too(script: Script) -> None:
    say(script, b"a")
    (a,) = script.heard()
    script.say(failed(a, "unavailable", retry_after_s=3.0), event_at(1, author=ME, device=DEVICE, n=1))
    say(script, b"b")
    script.pass_time(3.0)
    script.say(failed(script.heard()[-1], "earlier_first", awaited_n=1))
    assert script.heard()[0] == Skip(0, DIALOG, 1)


def test_only_what_is_not_under_way_can_be_given_up() -> None:
    store = MemoryOutbox(first_n=1)
    script = Script(store)
    script.sync()
    say(script, b"a")
    assert not script.core.give_up(1)
    assert not script.core.give_up(2)
    script.say(failed(script.heard()[-1], "unavailable", retry_after_s=3.0))
    assert script.core.give_up(1)
    script.pass_time(3.0)
    assert script.heard() == []
    assert Script(store).core.pending() == []


def test_a_change_shares_the_wire_with_nothing_of_its_dialog(script: Script) -> None:
    say(script, b"a")
    script.core.submit(Add(0, DIALOG, 0, [BOB]), script.now)
    say(script, b"b")
    say(script, b"elsewhere", SECOND)
    first = script.heard()
    assert texts(first) == [b"a", b"elsewhere"]
    script.ack(first[0])
    (change,) = script.heard()
    assert isinstance(change, Add)
    script.ack(change)
    assert texts(script.heard()) == [b"b"]


def test_every_kind_of_content_is_pipelined(script: Script) -> None:
    script.core.submit(React(0, DIALOG, 0, 1, b"+"), script.now)
    script.core.submit(Edit(0, DIALOG, 0, 1, b"x"), script.now)
    assert len(script.heard()) == 2


def test_the_timeline_of_a_change_of_ones_own_is_the_self_dialog(script: Script) -> None:
    script.core.submit(Block(0, ANN, 0), script.now)
    script.core.submit(Mute(0, DIALOG, 0, 5), script.now)
    assert len(script.heard()) == 1
    script.say(event_at(1, dialog=self_dialog_id(ME), author=ME, device=DEVICE, n=1))
    assert [type(command) for command in script.core.pending()] == [Mute]


@pytest.mark.parametrize("members", [[ANN], [ANN, BOB]], ids=["direct", "group"])
def test_a_created_dialog_is_recognised_by_its_derived_name(script: Script, members: list[bytes]) -> None:
    direct = len(members) == 1
    n = script.core.submit(Create(0, 0, DialogType.DIRECT if direct else DialogType.GROUP, members), script.now)
    dialog = direct_dialog_id(ME, ANN) if direct else created_dialog_id(DEVICE, n)
    script.say(dialog_state(dialog=dialog), event_at(1, dialog=dialog, author=ME, device=DEVICE, n=n))
    assert script.core.pending() == []


def test_a_late_or_foreign_ack_changes_nothing(script: Script) -> None:
    script.say(Acked(999, DIALOG, 5, 1, 0, 1))
    assert script.notified() == []


def test_a_reconnect_frees_the_queue_of_a_timeline(script: Script) -> None:
    script.core.submit(Leave(0, DIALOG, 0), script.now)
    say(script, b"a")
    script.cut()
    script.sync()
    (leave,) = [command for command in script.heard() if isinstance(command, Leave)]
    script.ack(leave)
    assert texts(script.heard()) == [b"a"]


def test_commands_keep_all_their_fields_in_the_store() -> None:
    store = MemoryOutbox(first_n=5)
    send = Send(0, DIALOG, 0, b"a", Header(reply_to=3, commitment=bytes(32)))
    Script(store).core.submit(send, 0.0)
    assert Script(store).core.pending() == [msgspec.structs.replace(send, n=5)]
