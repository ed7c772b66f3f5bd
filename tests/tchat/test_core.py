"""What the client core does with connections, positions, events and requests, on a script and a clock of ours."""

from __future__ import annotations

import pytest

from protocol.bodies import TimelineEvent
from protocol.close_codes import CloseCode
from protocol.codec import CODECS, Codec
from protocol.commands import (
    Authenticate,
    Heartbeat,
    HighWaterMark,
    History,
    PresenceSubscribe,
    Receipt,
    Roster,
    SignOut,
    Sync,
    Typing,
)
from protocol.events import CaughtUp, Draining, HeartbeatReply, TypingChanged
from protocol.replies import Done, HistoryPage, RosterPage
from tchat.actions import (
    Answered,
    ClientFaultError,
    ConnectionState,
    IdentityKnown,
    ReplacedError,
    Reset,
    SignInRequiredError,
    StateChanged,
    Stop,
    TooManyRequestsError,
)
from tchat.core import HANDSHAKE_S_MAX
from tchat.reconnecting import REPLACED_SOON_MAX, REPLACED_SOON_S, TOKEN_REFUSALS_MAX
from tchat.requests import REQUESTS_MAX
from tchat.store import MemoryOutbox
from tests.support.scripted import (
    ANN,
    DEVICE,
    DIALOG,
    HEARTBEAT_S,
    ME,
    OTHER_DEVICE,
    SECOND,
    Script,
    dialog_state,
    event_at,
    failed,
)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
def test_a_client_authenticates_then_syncs_then_is_live(codec: Codec) -> None:
    script = Script(codec=codec)
    script.core.start()
    script.live()
    assert [event for event in script.notified() if isinstance(event, (IdentityKnown, StateChanged))] == [
        StateChanged(ConnectionState.CONNECTING),
        IdentityKnown(ME, DEVICE),
        StateChanged(ConnectionState.CATCHING_UP),
        StateChanged(ConnectionState.LIVE),
    ]


def test_the_first_sync_starts_from_nothing_and_the_next_from_the_position(script: Script) -> None:
    assert script.live(position="p1").position == ""
    script.cut()
    assert script.live(position="p2").position == "p1"


def test_a_heartbeat_reply_with_a_position_replaces_it_and_one_without_does_not(script: Script) -> None:
    script.live(position="p1")
    script.say(HeartbeatReply("p2"), HeartbeatReply())
    assert script.core.position == "p2"


def test_events_are_delivered_once_and_in_order(script: Script) -> None:
    script.live(dialog_state(2), event_at(1), event_at(2))
    script.say(event_at(2), event_at(3), event_at(1))
    assert script.seqs() == [1, 2, 3]


def test_overlapping_catch_up_after_a_reconnect_is_dropped(script: Script) -> None:
    script.live(dialog_state(2), event_at(1), event_at(2))
    script.cut()
    script.live(dialog_state(3), event_at(1), event_at(2), event_at(3))
    assert script.seqs() == [1, 2, 3]


def test_what_a_state_named_and_a_cut_left_out_is_fetched_after_the_next_catch_up(script: Script) -> None:
    script.live(position="p1")
    script.say(dialog_state(3), event_at(1))
    script.cut()
    script.live(position="p2")
    (history,) = [command for command in script.heard() if isinstance(command, History)]
    assert (history.dialog, history.from_seq, history.to_seq) == (DIALOG, 2, 3)
    assert script.core.position == "p1"
    script.say(HistoryPage(history.id, DIALOG, [event_at(2), event_at(3)]))
    assert script.seqs() == [1, 2, 3]
    assert script.core.position == "p2"


def test_a_window_that_cut_events_is_taken_as_it_is(script: Script) -> None:
    script.live(dialog_state(2), event_at(1), event_at(2))
    script.cut()
    script.live(dialog_state(52, first_seq=51), event_at(51), event_at(52))
    assert script.seqs() == [1, 2, 51, 52]
    assert not [command for command in script.heard() if isinstance(command, History)]


def test_a_gap_is_fetched_and_events_wait_for_it(script: Script) -> None:
    script.live(dialog_state(1), event_at(1))
    script.heard()
    script.say(event_at(4), event_at(5))
    (history,) = script.heard()
    assert isinstance(history, History)
    assert (history.from_seq, history.to_seq, history.newest_first) == (2, 3, False)
    assert script.seqs() == [1]
    script.say(HistoryPage(history.id, DIALOG, [event_at(2), event_at(3)]))
    assert script.seqs() == [2, 3, 4, 5]


def test_a_gap_is_fetched_page_by_page(script: Script) -> None:
    script.live(dialog_state(1), event_at(1))
    script.say(event_at(6))
    (first,) = [command for command in script.heard() if isinstance(command, History)]
    script.say(HistoryPage(first.id, DIALOG, [event_at(2), event_at(3)], more=True))
    (second,) = script.heard()
    assert isinstance(second, History)
    assert (second.from_seq, second.to_seq) == (4, 5)
    script.say(HistoryPage(second.id, DIALOG, [event_at(4), event_at(5)]))
    assert script.seqs() == [1, 2, 3, 4, 5, 6]


def test_the_position_is_not_taken_over_while_something_is_missing(script: Script) -> None:
    script.live(dialog_state(1), event_at(1), position="p1")
    script.say(event_at(3), HeartbeatReply("p2"))
    assert script.core.position == "p1"
    (history,) = [command for command in script.heard() if isinstance(command, History)]
    script.say(HistoryPage(history.id, DIALOG, [event_at(2)]))
    assert script.core.position == "p2"


def test_a_gap_that_may_not_be_read_is_given_up_and_one_that_cannot_be_read_now_is_tried_again(script: Script) -> None:
    script.live(dialog_state(1), event_at(1))
    script.say(event_at(3))
    (history,) = [command for command in script.heard() if isinstance(command, History)]
    script.say(failed(history, "unavailable", retry_after_s=2.0))
    assert script.heard() == []
    script.pass_time(2.0)
    (again,) = script.heard()
    script.say(failed(again, "dialog_not_found"))
    assert script.seqs() == [1, 3]


def test_a_gap_is_asked_for_again_after_a_reconnect(script: Script) -> None:
    script.live(dialog_state(1), event_at(1))
    script.say(event_at(3))
    script.heard()
    script.cut()
    script.sync()
    assert [command for command in script.heard() if isinstance(command, History)]


def test_what_is_held_is_forgotten_when_the_server_could_not_continue(script: Script) -> None:
    script.live(dialog_state(1), event_at(1))
    script.cut()
    script.sync(recovered=False)
    assert Reset() in script.notified()
    assert script.core.position == ""
    script.say(dialog_state(1), event_at(1), CaughtUp("p9"))
    assert script.seqs() == [1]
    assert script.core.position == "p9"


def test_ephemeral_events_are_passed_on(script: Script) -> None:
    script.live(dialog_state())
    script.say(TypingChanged(DIALOG, ANN, True))
    assert TypingChanged(DIALOG, ANN, True) in script.notified()


def test_an_unknown_tag_is_skipped_and_nonsense_closes(script: Script) -> None:
    script.live()
    script.core.received(b"\x92\xcc\xfa\x01", script.now)
    script.settle()
    assert script.closes == []
    script.core.received(b"\xc1", script.now)
    script.settle()
    assert [close.code for close in script.closes] == [CloseCode.PROTOCOL_ERROR]


def test_a_heartbeat_goes_out_only_when_nothing_else_did(script: Script) -> None:
    script.live()
    script.heard()
    script.pass_time(0.5 * HEARTBEAT_S)
    assert script.heard() == []
    script.pass_time(0.3 * HEARTBEAT_S)
    assert [type(command) for command in script.heard()] == [Heartbeat]


def test_a_silent_server_is_left(script: Script) -> None:
    script.live()
    script.pass_time(1.9 * HEARTBEAT_S)
    assert script.closes == []
    script.pass_time(0.2 * HEARTBEAT_S)
    assert len(script.closes) == 1


def test_silence_means_nothing_while_the_app_does_not_read(script: Script) -> None:
    script.live()
    script.core.pause_reading()
    script.pass_time(5 * HEARTBEAT_S)
    assert script.closes == []
    script.core.resume_reading(script.now)
    script.pass_time(1.9 * HEARTBEAT_S)
    assert script.closes == []


def test_an_unanswered_handshake_is_left(script: Script) -> None:
    script.core.connected("token", script.now)
    script.pass_time(HANDSHAKE_S_MAX)
    script.settle()
    assert len(script.closes) == 1


def test_the_deadline_names_the_next_moment_that_matters(script: Script) -> None:
    assert script.core.deadline() is None
    script.live()
    assert script.core.deadline() == script.now + 0.8 * HEARTBEAT_S
    script.core.send_receipt(DIALOG, 1, 0, script.now)
    script.core.send_receipt(DIALOG, 2, 0, script.now)
    assert script.core.deadline() == script.now + 0.5


def test_back_off_grows_to_a_bound_and_starts_again_after_live(script: Script) -> None:
    for _ in range(40):
        script.core.connect_failed()
    script.settle()
    delays = [connect.delay_s for connect in script.connects]
    assert max(delays) <= 30.0
    assert max(delays[10:]) > max(delays[:3])
    script.live()
    script.cut()
    assert script.connects[-1].delay_s <= 0.5


def test_draining_spreads_the_reconnect(script: Script) -> None:
    script.live()
    script.say(Draining(10.0))
    script.cut(CloseCode.DRAINING)
    assert 0.0 < script.connects[-1].delay_s <= 10.0


def test_a_client_leaves_a_draining_node_by_itself_when_its_time_comes(script: Script) -> None:
    script.live()
    script.say(Draining(10.0))
    script.pass_time(10.0)
    assert len(script.closes) == 1
    script.cut(1001)
    assert script.connects[-1].delay_s == 0.0


def test_a_refused_token_is_replaced_by_a_fresh_one_a_few_times(script: Script) -> None:
    for _ in range(TOKEN_REFUSALS_MAX):
        script.core.connected("token", script.now)
        script.cut(CloseCode.AUTH_FAILED)
        assert script.connects[-1].fresh_token
    script.core.connected("token", script.now)
    script.cut(CloseCode.AUTH_FAILED)
    (stop,) = script.others
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, SignInRequiredError)


def test_a_refused_authenticate_asks_for_a_fresh_token(script: Script) -> None:
    script.core.connected("token", script.now)
    (command,) = script.heard()
    script.say(failed(command, "token_expired"))
    assert len(script.closes) == 1
    script.cut(1001)
    assert script.connects[-1].fresh_token


def test_a_busy_server_is_asked_again_when_it_says(script: Script) -> None:
    script.authenticate()
    (sync,) = script.heard()
    script.say(failed(sync, "unavailable", retry_after_s=25.0))
    script.cut(1001)
    assert script.connects[-1].delay_s >= 25.0


def test_a_refused_position_is_given_up(script: Script) -> None:
    script.live(position="p1")
    script.cut()
    script.authenticate()
    (sync,) = [command for command in script.heard() if isinstance(command, Sync)]
    script.say(failed(sync, "invalid_argument"))
    script.cut(1001)
    assert script.sync().position == ""


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (CloseCode.REPLACED, ReplacedError),
        (CloseCode.SIGNED_OUT, SignInRequiredError),
        (CloseCode.SUSPENDED, SignInRequiredError),
        (CloseCode.BAD_MESSAGE, ClientFaultError),
    ],
)
def test_some_closes_stop_the_client(script: Script, code: CloseCode, error: type[Exception]) -> None:
    script.live()
    script.now += REPLACED_SOON_S
    script.cut(code)
    (stop,) = script.others
    assert isinstance(stop, Stop)
    assert type(stop.error) is error
    assert script.connects == []
    assert script.core.state is ConnectionState.STOPPED


def test_a_client_that_is_replaced_soon_after_its_connect_takes_its_device_back(script: Script) -> None:
    for _ in range(REPLACED_SOON_MAX):
        script.connects.clear()
        script.live()
        script.now += REPLACED_SOON_S - 1.0
        script.cut(CloseCode.REPLACED)
        assert len(script.connects) == 1
    assert script.others == []
    script.live()
    script.cut(CloseCode.REPLACED)
    assert [type(each) for each in script.others] == [Stop]


def test_a_connection_that_stays_lets_the_device_be_taken_back_again(script: Script) -> None:
    for age_s in [1.0] * REPLACED_SOON_MAX + [REPLACED_SOON_S] + [1.0] * REPLACED_SOON_MAX:
        script.connects.clear()
        script.live()
        script.now += age_s
        script.cut(CloseCode.REPLACED if age_s < REPLACED_SOON_S else None)
        assert len(script.connects) == 1


@pytest.mark.parametrize("code", [None, 1000, 1006, 4999, CloseCode.SLOW_CONSUMER, CloseCode.INTERNAL_ERROR])
def test_other_closes_mean_reconnect(script: Script, code: int | None) -> None:
    script.live()
    script.cut(code)
    assert len(script.connects) == 1
    assert not script.connects[0].fresh_token


def test_another_devices_outbox_is_not_used() -> None:
    store = MemoryOutbox(first_n=1)
    store.bind(OTHER_DEVICE)
    script = Script(store)
    script.authenticate()
    (stop,) = script.others
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, ClientFaultError)
    script.core.received(b"", script.now)
    script.core.disconnected(None, script.now)
    assert script.connects == []


def test_a_request_is_answered_under_its_handle(script: Script) -> None:
    script.live()
    handle = script.core.request(Roster(0, DIALOG), script.now)
    roster = script.heard()[-1]
    page = RosterPage(roster.id, DIALOG, [])
    script.say(page)
    assert Answered(handle, page) in script.notified()


def test_a_request_waits_for_a_connection_and_is_asked_again(script: Script) -> None:
    handle = script.core.request(Roster(0, DIALOG), script.now)
    script.live()
    assert [command for command in script.heard() if isinstance(command, Roster)]
    script.cut()
    script.live()
    (roster,) = [command for command in script.heard() if isinstance(command, Roster)]
    refusal = failed(roster, "dialog_not_found")
    script.say(refusal)
    assert Answered(handle, refusal) in script.notified()


def test_a_sign_out_is_not_repeated_when_the_connection_goes(script: Script) -> None:
    script.live()
    handle = script.core.request(SignOut(0), script.now)
    script.cut()
    assert Answered(handle, None) in script.notified()
    script.live()
    assert not [command for command in script.heard() if isinstance(command, SignOut)]


def test_a_newer_token_is_a_request_like_others(script: Script) -> None:
    script.live()
    handle = script.core.request(Authenticate(0, "newer"), script.now)
    command = script.heard()[-1]
    assert isinstance(command, Authenticate)
    done = Done(command.id)
    script.say(done)
    assert Answered(handle, done) in script.notified()


def test_requests_are_bounded(script: Script) -> None:
    for _ in range(REQUESTS_MAX):
        script.core.request(Roster(0, DIALOG), script.now)
    with pytest.raises(TooManyRequestsError):
        script.core.request(Roster(0, DIALOG), script.now)


def test_followed_presence_is_followed_again_after_a_reconnect(script: Script) -> None:
    script.live()
    script.core.request(PresenceSubscribe(0, [ANN]), script.now)
    script.say(Done(script.heard()[-1].id))
    script.cut()
    script.sync()
    assert script.heard() == [PresenceSubscribe(0, [ANN])]


def test_receipts_are_coalesced_and_repeated_at_sync(script: Script) -> None:
    script.live()
    for read in range(1, 10):
        script.core.send_receipt(DIALOG, 0, read, script.now)
    script.core.send_receipt(SECOND, 4, 0, script.now)
    script.pass_time(0.5)
    receipts = [command.high_water for command in script.heard() if isinstance(command, Receipt)]
    assert [(receipt.dialog, receipt.delivered, receipt.read) for receipt in receipts] == [
        (DIALOG, 1, 1),
        (DIALOG, 9, 9),
        (SECOND, 4, 0),
    ]
    script.cut()
    assert {receipt.dialog: receipt.read for receipt in script.live().receipts} == {DIALOG: 9, SECOND: 0}


def test_receipts_of_what_must_be_read_anew_are_forgotten(script: Script) -> None:
    script.live()
    for read in (8, 9):
        script.core.send_receipt(DIALOG, read, read, script.now)
    script.cut()
    assert script.live(recovered=False).receipts == [HighWaterMark(DIALOG, 9, 9)]
    script.core.send_receipt(DIALOG, 4, 4, script.now)
    script.pass_time(0.5)
    sent = [command.high_water for command in script.heard() if isinstance(command, Receipt)]
    assert sent == [HighWaterMark(DIALOG, 4, 4)]
    script.cut()
    assert script.live().receipts == [HighWaterMark(DIALOG, 4, 4)]


def test_who_writes_has_read(script: Script) -> None:
    script.live(dialog_state())
    script.say(event_at(1), event_at(2, author=ME, device=DEVICE), event_at(3))
    script.pass_time(0.5)
    assert [command.high_water.read for command in script.heard() if isinstance(command, Receipt)] == [2]


def test_typing_is_reported_only_when_live(script: Script) -> None:
    script.core.send_typing(DIALOG, True, script.now)
    script.live()
    assert script.heard() == []
    script.core.send_typing(DIALOG, True, script.now)
    assert script.heard() == [Typing(0, DIALOG, True)]


def test_a_refused_receipt_is_only_counted(script: Script) -> None:
    script.live()
    script.say(failed(Heartbeat(0), "rate_limited"))
    assert script.core.statistics().refused_unnumbered == 1


def test_an_event_of_a_dialog_without_a_state_is_still_delivered(script: Script) -> None:
    script.live()
    script.say(event_at(7, dialog=SECOND))
    assert script.seqs(SECOND) == [7]


def test_nothing_is_heard_after_the_connection_is_gone(script: Script) -> None:
    script.live(dialog_state())
    script.cut()
    script.notified()
    script.say(event_at(1))
    assert not [event for event in script.notified() if isinstance(event, TimelineEvent)]
