"""When a command is sealed, how often, and what leaves: whatever the connection, the server and the sealer do."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.bodies import Header
from protocol.codec import MSGPACK
from protocol.commands import Add, AnyCommand, Edit, Invite, Remove, Roster, Send, Skip
from protocol.replies import Done, Failed
from tchat.actions import Refused, Renumbered, Withheld
from tchat.encryption.sealing import Clear, First, NotYet
from tchat.sending import ROUNDS_MAX
from tchat.store import MemoryOutbox, OutboxStore, SqliteOutbox, Stored
from tests.support.scripted import (
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
from tests.support.sealers import PlainSealer, ScriptedSealer

NEEDED = [Roster(0, DIALOG, limit=number) for number in range(1, 4)]
"""What a sealer asks for first; any command without a number does."""


class Sealing(Script):
    """A script whose client seals; a new one on the same store is a new process."""

    def __init__(self, store: OutboxStore | None = None) -> None:
        self.store = store or MemoryOutbox(first_n=1)
        self.sealer = ScriptedSealer(self.store)
        super().__init__(self.store, encryption=self.sealer)

    def say_text(self, text: bytes, dialog: bytes = DIALOG) -> int:
        return self.core.submit(Send(0, dialog, 0, text), self.now)

    def texts(self) -> list[tuple[int, bytes]]:
        return [(command.n, command.payload) for command in self.heard() if isinstance(command, Send)]

    def needed(self) -> list[Roster]:
        return [command for command in self.heard() if isinstance(command, Roster)]

    def wait_over(self) -> float:
        """Let the time pass until the client acts; how long it was."""
        deadline = self.core.deadline()
        assert deadline is not None
        waited = deadline - self.now
        self.pass_time(waited)
        return waited


@pytest.fixture
def script() -> Sealing:
    live = Sealing()
    live.live(dialog_state(), dialog_state(dialog=SECOND))
    live.heard()
    live.notified()
    return live


def stale(command: AnyCommand, keys_seq: int | None) -> Failed:
    return failed(command, "stale", keys_seq=keys_seq)


# when, and how often


def test_nothing_is_sealed_before_it_leaves() -> None:
    script = Sealing()
    script.say_text(b"a")
    script.authenticate()
    assert script.sealer.asked == []
    script.cut()
    script.sync()
    assert script.texts() == [(1, b"0:a")]


def test_no_more_is_sealed_than_may_be_under_way(script: Sealing) -> None:
    for number in range(IN_FLIGHT_MAX + 1):
        script.say_text(b"%d" % number)
    assert len(script.sealer.sealed) == IN_FLIGHT_MAX


def test_the_same_bytes_leave_again_after_an_unknown_fate(script: Sealing) -> None:
    script.say_text(b"a")
    assert script.texts() == [(1, b"0:a")]
    script.cut()
    script.sync()
    assert script.texts() == [(1, b"0:a")]


@pytest.mark.parametrize("code", ["unavailable", "rate_limited", "earlier_first", "token_expired"])
def test_the_same_bytes_leave_again_after_a_refusal_that_is_about_something_else(script: Sealing, code: str) -> None:
    script.say_text(b"a")
    script.say(failed(script.heard()[-1], code, awaited_n=1))
    script.cut()
    script.sync()
    assert script.texts() == [(1, b"0:a")]


def test_a_new_process_sends_the_same_bytes(tmp_path: Path) -> None:
    first = Sealing(SqliteOutbox(tmp_path / "outbox", first_n=1))
    first.sync()
    first.say_text(b"a")
    first.store.close()
    second = Sealing(SqliteOutbox(tmp_path / "outbox"))
    assert second.core.pending() == [Send(0, DIALOG, 1, b"a")]
    second.sync()
    assert second.texts() == [(1, b"0:a")]
    assert second.sealer.asked == []
    second.store.close()


def test_what_was_not_sealed_yet_is_sealed_by_the_new_process() -> None:
    store = MemoryOutbox(first_n=1)
    Sealing(store).say_text(b"a")
    script = Sealing(store)
    script.sync()
    assert script.texts() == [(1, b"0:a")]


def test_an_outbox_of_before_is_one_of_intents() -> None:
    store = MemoryOutbox(first_n=1)
    store.append(Stored(1, MSGPACK.encode(Edit(0, DIALOG, 1, 7, b"a", Header(keys_seq=3)))))
    script = Sealing(store)
    script.sync()
    assert script.heard()[-1] == Edit(3, DIALOG, 1, 7, b"a", Header(keys_seq=3))
    assert script.sealer.asked == [1]


def test_what_the_sealer_leaves_clear_goes_as_the_app_made_it(script: Sealing) -> None:
    script.sealer.before = [Clear()]
    script.say_text(b"a")
    (command,) = script.heard()
    assert isinstance(command, Send)
    assert command.payload == b"a"
    script.ack(command)
    assert script.sealer.settled == []


def test_the_app_sees_what_it_made(script: Sealing) -> None:
    script.say_text(b"a")
    (command,) = script.heard()
    assert script.core.pending() == [Send(0, DIALOG, 1, b"a")]
    script.say(failed(command, "blocked"))
    (refused,) = script.notified()
    assert isinstance(refused, Refused)
    assert refused.command == Send(0, DIALOG, 1, b"a")


# definite refusals


def test_a_stale_send_is_sealed_anew_under_the_same_number(script: Sealing) -> None:
    script.say_text(b"a")
    script.say_text(b"b")
    a, b = script.heard()
    script.say(stale(a, 9), failed(b, "earlier_first", awaited_n=1))
    assert script.texts() == [(1, b"2:a"), (2, b"1:b")]
    assert script.sealer.refused == [(1, 9)]
    assert script.sealer.sealed[-1] == Send(0, DIALOG, 1, b"2:a", Header(keys_seq=9))


def test_what_a_stale_send_was_sealed_as_never_leaves_again() -> None:
    store = MemoryOutbox(first_n=1)
    script = Sealing(store)
    script.sync()
    script.say_text(b"a")
    script.say(stale(script.heard()[-1], 9))
    assert script.texts() == [(1, b"1:a")]
    again = Sealing(store)
    again.sync()
    assert again.texts() == [(1, b"1:a")]


def test_a_refusal_without_newer_keys_is_not_answered_at_once(script: Sealing) -> None:
    """So a server that always says `stale` is not flooded."""
    script.say_text(b"a")
    waits = []
    for keys_seq in (9, 9, 9, None, 3, 9, 9):
        script.say(stale(script.heard()[-1], keys_seq))
        waits.append(0.0 if script.written else script.wait_over())
    assert waits[0] == 0.0
    assert all(waits[1:])
    assert max(waits) > 4.0


def test_a_new_number_is_sealed_anew(script: Sealing) -> None:
    """The number is inside what is sealed."""
    script.say_text(b"a")
    script.say(failed(script.heard()[-1], "number_passed"))
    assert Renumbered(1, 2) in script.notified()
    assert script.texts() == [(2, b"1:a")]
    assert script.sealer.asked == [1, 2]


def test_a_new_process_seals_a_new_number_anew() -> None:
    store = MemoryOutbox(first_n=1)
    script = Sealing(store)
    script.sync()
    script.say_text(b"a")
    script.say(failed(script.heard()[-1], "number_passed"))
    again = Sealing(store)
    assert again.core.pending() == [Send(0, DIALOG, 2, b"a")]


def test_what_is_sealed_cannot_be_given_up(script: Sealing) -> None:
    """It may have left, and who may read it may have its keys; only an answer ends it."""
    n = script.say_text(b"a")
    (command,) = script.heard()
    script.say(failed(command, "unavailable", retry_after_s=3.0))
    assert not script.core.give_up(n)
    script.wait_over()
    script.say(stale(script.heard()[-1], None))
    assert script.core.give_up(n)


def test_the_sealer_learns_what_is_durable_from_an_ack_and_from_an_own_event(script: Sealing) -> None:
    n = script.say_text(b"a")
    script.ack(script.heard()[-1])
    later = script.say_text(b"b")
    script.say(event_at(1, author=ME, device=DEVICE, n=later))
    assert script.sealer.settled == [n, later]


# what the sealer needs first


def test_a_send_leaves_after_all_that_the_sealer_needs_is_answered(script: Sealing) -> None:
    script.sealer.before = [First(NEEDED)]
    script.say_text(b"a")
    script.say_text(b"b")
    script.say_text(b"elsewhere", SECOND)
    commands = script.heard()
    needed = [command for command in commands if isinstance(command, Roster)]
    assert [command.limit for command in needed] == [1, 2, 3]
    assert [command.dialog for command in commands if isinstance(command, Send)] == [SECOND]
    script.say(Done(needed[0].id), Done(needed[2].id))
    script.pass_time(1.0)
    assert script.texts() == []
    script.say(failed(needed[1], "stale", keys_seq=4))
    assert script.texts() == [(1, b"1:a"), (2, b"2:b")]
    assert [(command, type(reply)) for command, reply in script.sealer.answers] == [
        (NEEDED[0], Done),
        (NEEDED[2], Done),
        (NEEDED[1], Failed),
    ]


def test_what_the_sealer_needs_is_pipelined_within_what_may_be_under_way(script: Sealing) -> None:
    script.sealer.before = [First([Roster(0, DIALOG, limit=1 + number) for number in range(IN_FLIGHT_MAX + 2)])]
    script.say_text(b"a")
    first = script.needed()
    assert len(first) == IN_FLIGHT_MAX
    script.say(*(Done(command.id) for command in first))
    assert [command.limit for command in script.needed()] == [IN_FLIGHT_MAX + 1, IN_FLIGHT_MAX + 2]


def test_after_a_cut_the_sealer_is_asked_again_for_what_it_still_needs(script: Sealing) -> None:
    script.sealer.before = [First(NEEDED), First(NEEDED[1:])]
    script.say_text(b"a")
    script.say(Done(script.needed()[0].id))
    script.cut()
    script.sync()
    assert [command.limit for command in script.needed()] == [2, 3]
    assert script.sealer.asked == [1, 1]


def test_a_late_answer_of_the_connection_before_is_nothing(script: Sealing) -> None:
    script.sealer.before = [First(NEEDED), NotYet()]
    script.say_text(b"a")
    needed = script.needed()
    script.cut()
    script.sync()
    script.say(*(Done(command.id) for command in needed))
    assert script.sealer.answers == []


def test_what_is_under_way_in_the_dialog_does_not_ask_the_sealer_twice(script: Sealing) -> None:
    script.say_text(b"a")
    script.sealer.before = [First(NEEDED)]
    script.say_text(b"b")
    a, *_ = script.heard()
    script.ack(a)
    assert script.heard() == []
    assert script.sealer.asked == [1, 2]


@pytest.mark.parametrize("code", ["rate_limited", "not_allowed"])
def test_after_a_refusal_of_what_it_needs_the_sealer_is_asked_later(script: Sealing, code: str) -> None:
    script.sealer.before = [First(NEEDED[:1])]
    script.say_text(b"a")
    script.say(failed(script.needed()[0], code, retry_after_s=2.0))
    assert script.texts() == []
    assert script.wait_over() == pytest.approx(2.0)
    assert script.texts() == [(1, b"0:a")]


def test_an_invitation_waits_for_events_of_the_dialog_into_which_it_invites() -> None:
    """It is in the timeline of the invited: no event of that one comes here."""
    script = Sealing()
    script.live(dialog_state())
    script.sealer.before = [NotYet()]
    script.core.submit(Invite(0, DIALOG, 0, BOB), script.now)
    assert script.heard() == []
    script.say(event_at(1))
    assert [type(command) for command in script.heard()] == [Invite]


def test_a_sealer_that_always_needs_more_pauses(script: Sealing) -> None:
    script.sealer.before = [First(NEEDED[:1])] * (ROUNDS_MAX + 1)
    script.say_text(b"a")
    rounds = 0
    while needed := script.needed():
        rounds += 1
        script.say(Done(needed[0].id))
        if not script.written:
            break
    assert rounds == ROUNDS_MAX
    assert script.wait_over() > 0
    assert script.texts() == [(1, b"0:a")]


# what has to wait


def test_what_waits_for_the_roster_is_sealed_after_the_next_event_of_its_dialog(script: Sealing) -> None:
    script.sealer.before = [NotYet()]
    script.say_text(b"a")
    script.say_text(b"b")
    script.say(event_at(1, dialog=SECOND))
    script.pass_time(5.0)
    assert script.texts() == []
    script.say(event_at(1))
    assert script.texts() == [(1, b"0:a"), (2, b"1:b")]


def test_a_change_waits_with_what_is_before_it(script: Sealing) -> None:
    script.sealer.before = [NotYet()]
    script.say_text(b"a")
    script.core.submit(Add(0, DIALOG, 0, [BOB]), script.now)
    assert script.heard() == []
    script.say(dialog_state())
    (send,) = script.heard()
    script.ack(send)
    assert [type(command) for command in script.heard()] == [Add]


def test_what_waits_for_a_person_is_shown_once_and_goes_when_they_have_agreed(script: Sealing) -> None:
    script.sealer.before = [NotYet("Ann has another identity"), NotYet("Ann has another identity")]
    n = script.say_text(b"a")
    script.say(event_at(1))
    assert [event for event in script.notified() if isinstance(event, Withheld)] == [
        Withheld(n, "Ann has another identity")
    ]
    script.core.seal_again(script.now)
    assert script.texts() == [(n, b"0:a")]


def test_an_ack_of_something_sealed_lets_what_waits_elsewhere_try_again(script: Sealing) -> None:
    """It may have waited because too many shares are under way."""
    script.say_text(b"a")
    script.sealer.before = [NotYet()]
    script.say_text(b"b", SECOND)
    script.ack(script.heard()[-1])
    assert script.texts() == [(2, b"1:b")]


def test_a_removal_passes_what_waits_for_it(script: Sealing) -> None:
    """A dialog is held while somebody is in it whom nobody has added: an admin who has written there removes them."""
    script.sealer.before = [NotYet("an admin removes them")]
    script.say_text(b"a")
    removal = script.core.submit(Remove(0, DIALOG, 0, BOB), script.now)
    (left,) = script.heard()
    assert isinstance(left, Remove)
    script.sealer.before = [NotYet("an admin removes them")]
    script.say(failed(left, "earlier_first", awaited_n=1))
    skip, again = script.heard()
    assert isinstance(skip, Skip)
    assert isinstance(again, Remove)
    assert again.n == removal
    script.ack(again)
    (message,) = script.heard()
    assert isinstance(message, Send)
    assert (message.n, message.payload) == (1, b"0:a")
    script.say(failed(message, "number_passed"))
    assert script.texts() == [(3, b"1:a")]


def test_what_was_withheld_can_be_given_up_and_the_rest_goes_on(script: Sealing) -> None:
    script.sealer.before = [NotYet("ask Ann")]
    script.say_text(b"a")
    script.say_text(b"b")
    assert script.core.give_up(1)
    script.core.seal_again(script.now)
    assert script.texts() == [(2, b"0:b")]


def test_what_the_sealer_refuses_is_reported_and_does_not_stop_the_rest(script: Sealing) -> None:
    refusal = Failed(0, "too_large", "too long")
    script.sealer.before = [refusal]
    n = script.say_text(b"a")
    assert script.notified() == [Refused(n, Send(0, DIALOG, n, b"a"), refusal)]
    assert script.core.pending() == []
    script.say_text(b"b")
    assert script.texts() == [(2, b"0:b")]


# the sealer of clients that do not encrypt


def test_plain_bytes_go_again_under_the_newest_keys() -> None:
    store = MemoryOutbox(first_n=1)
    script = Script(store, encryption=PlainSealer(store))
    script.live(dialog_state())
    script.core.submit(Send(0, DIALOG, 0, b"a", Header(keys_seq=3)), script.now)
    script.core.submit(Edit(0, DIALOG, 0, 1, b"b"), script.now)
    script.say(*(stale(command, 9) for command in script.heard()))
    assert [(one.n, one.header.keys_seq) for one in script.heard() if isinstance(one, Send | Edit)] == [(1, 9), (2, 9)]
