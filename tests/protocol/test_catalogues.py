"""The catalogues are complete, and say what to do."""

from __future__ import annotations

import pytest

from protocol.close_codes import Advice, CloseCode, advice_for
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode
from protocol.errors import ErrorCode
from protocol.kinds import KINDS, Kind


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_says_what_to_do(code: ErrorCode) -> None:
    assert code.sentence.endswith(".")
    assert code.value == code.name.lower()


def test_only_these_errors_are_temporary() -> None:
    temporary = {ErrorCode.EARLIER_FIRST, ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE}
    assert {code for code in ErrorCode if code.temporary} == temporary


@pytest.mark.parametrize("code", CloseCode)
def test_every_close_code_has_advice_and_meaning(code: CloseCode) -> None:
    assert isinstance(code.advice, Advice)
    assert code.meaning.endswith(".")
    assert advice_for(code) is code.advice


def test_our_close_codes_are_in_the_private_range() -> None:
    assert all(1000 <= code < 1016 or 4000 <= code < 5000 for code in CloseCode)


@pytest.mark.parametrize("code", [None, 0, 1000, 1006, 3000, 4999])
def test_an_unknown_close_means_reconnect(code: int | None) -> None:
    assert advice_for(code) is Advice.RECONNECT


def test_every_kind_and_type_has_its_rule() -> None:
    assert set(KINDS) == set(Kind)
    assert set(DIALOG_TYPES) == set(DialogType)


def test_members_post_messages_and_signals_only() -> None:
    assert {kind for kind, rule in KINDS.items() if rule.by_members} == {Kind.MESSAGE, Kind.SIGNAL}


def test_the_bounds_of_members_are_those_of_the_domain() -> None:
    bounds = {kind: (rule.members_min, rule.members_max) for kind, rule in DIALOG_TYPES.items()}
    assert bounds[DialogType.DIRECT] == (2, 2)
    assert bounds[DialogType.GROUP] == (3, 1000)


def test_people_talk_sealed_and_channels_are_open_unless_said() -> None:
    modes = {kind: rule.default_mode for kind, rule in DIALOG_TYPES.items()}
    assert modes[DialogType.DIRECT] is modes[DialogType.GROUP] is Mode.SEALED
    assert modes[DialogType.CHANNEL] is Mode.OPEN
