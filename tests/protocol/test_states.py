"""The table of states names every command, and lets through what each state is for."""

from typing import get_args

from protocol.commands import AnyCommand, Authenticate, Heartbeat, Send, SignOut, Sync
from protocol.states import ALLOWED, SessionState, allowed


def test_every_state_has_a_row() -> None:
    assert set(ALLOWED) == set(SessionState)


def test_every_command_is_allowed_in_some_state() -> None:
    assert frozenset().union(*ALLOWED.values()) == frozenset(get_args(AnyCommand))


def test_a_heartbeat_and_a_newer_token_are_always_allowed() -> None:
    assert all(allowed(state, Heartbeat) and allowed(state, Authenticate) for state in SessionState)


def test_nothing_is_sent_before_sync() -> None:
    assert not allowed(SessionState.CONNECTED, Send)
    assert not allowed(SessionState.AUTHENTICATED, Send)
    assert allowed(SessionState.LIVE, Send)


def test_sync_comes_once_and_sign_out_after_authentication() -> None:
    assert [state for state in SessionState if allowed(state, Sync)] == [SessionState.AUTHENTICATED]
    assert not allowed(SessionState.CONNECTED, SignOut)
