"""Every command is declared once and completely: the rule agrees with the fields, the states, and the bodies."""

import msgspec
import pytest

from protocol.bodies import AnyBody, Body
from protocol.command_rules import EVERY_COMMAND, Command, Timeline
from protocol.commands import (
    COMMANDS,
    Accept,
    Authenticate,
    Create,
    Heartbeat,
    HighWaterMark,
    Invite,
    Mute,
    Numbered,
    Send,
    SignOut,
    Sync,
)
from protocol.dialog_types import DialogType
from protocol.ids import NIL, created_dialog_id, direct_dialog_id, self_dialog_id
from protocol.json_forms import tag_name
from protocol.limits import RECEIPTS_PER_SYNC_MAX
from protocol.payment_commands import Pay
from protocol.reference import examples
from protocol.share_commands import UploadSlices
from protocol.states import SessionState
from protocol.timeline_of import timeline_of

ME, ANN, DEVICE, DIALOG = (bytes([n]) * 16 for n in range(1, 5))

each_command = pytest.mark.parametrize("command", COMMANDS, ids=tag_name)


def test_the_commands_are_all_there_are() -> None:
    assert set(COMMANDS) == set(Command.__subclasses__())
    assert set(Numbered.__args__) == {command for command in COMMANDS if command.rule.appends}


@each_command
def test_a_command_has_a_number_exactly_when_it_appends(command: type[Command]) -> None:
    if command is not Pay:  # its number is used up by commerce, not by a timeline
        assert ("n" in command.__struct_fields__) == (command.rule.appends is not None)
    assert command.rule.appends is None or command.rule.appends in AnyBody.__args__
    assert not command.rule.pipelined or command.rule.appends is not None


@each_command
def test_a_command_is_allowed_in_some_state_and_costs_something(command: type[Command]) -> None:
    (example,) = (each for each in examples.COMMANDS if type(each) is command)
    assert command.rule.states
    assert command.rule.cost(example) >= 1
    assert command.rule.codes.isdisjoint(EVERY_COMMAND)


@each_command
def test_a_body_is_made_of_the_fields_of_its_command(command: type[Command]) -> None:
    """What a change appends is built from the fields of the same names; only these know more than was said."""
    appends = command.rule.appends
    if appends is None or command in (Create, Invite, Accept):
        return
    required = {field.name for field in msgspec.structs.fields(appends) if field.required}
    assert required <= set(command.__struct_fields__)


def test_every_body_that_a_member_writes_has_its_command() -> None:
    written = {command.rule.appends for command in COMMANDS}
    by_the_server = {body for body in AnyBody.__args__ if body not in written}
    assert {body.__name__ for body in by_the_server} == {"Erased", "DevicesChanged", "ProfileChanged"}
    assert all(issubclass(body, Body) for body in AnyBody.__args__)


def test_a_heartbeat_and_a_newer_token_are_always_allowed() -> None:
    assert Heartbeat.rule.states == Authenticate.rule.states == set(SessionState)


def test_nothing_is_sent_before_sync() -> None:
    assert Send.rule.states == {SessionState.LIVE}


def test_sync_comes_once_and_sign_out_after_authentication() -> None:
    assert Sync.rule.states == {SessionState.AUTHENTICATED}
    assert SessionState.CONNECTED not in SignOut.rule.states


def test_a_command_appends_to_the_dialog_it_names_creates_or_to_ones_self_dialog() -> None:
    direct = Create(0, 5, DialogType.DIRECT, [ANN])
    group = Create(0, 5, DialogType.GROUP, [ANN, ME])
    assert timeline_of(Send(0, DIALOG, 1, b""), ME, DEVICE) == DIALOG
    assert timeline_of(Mute(0, DIALOG, 1, 0), ME, DEVICE) == self_dialog_id(ME)
    assert timeline_of(direct, ME, DEVICE) == direct_dialog_id(ANN, ME)
    assert timeline_of(group, ME, DEVICE) == created_dialog_id(DEVICE, 5)
    for twice in ([ANN, ANN], [ME, ANN]):
        assert timeline_of(Create(0, 5, DialogType.DIRECT, twice), ME, DEVICE) == direct_dialog_id(ANN, ME)
    assert Mute.rule.timeline is Timeline.SELF


def test_a_sync_costs_more_with_many_receipts() -> None:
    marks = [HighWaterMark(NIL)] * RECEIPTS_PER_SYNC_MAX
    assert (Sync.rule.cost(Sync(1)), Sync.rule.cost(Sync(1, "", marks))) == (10, 60)


def test_the_last_slices_of_a_share_cost_more_for_what_the_share_lacks_is_looked_up() -> None:
    costs = [
        UploadSlices.rule.cost(UploadSlices(1, NIL, DIALOG, bytes(32), 1, [], more=more)) for more in (True, False)
    ]
    assert costs == [1, 5]
