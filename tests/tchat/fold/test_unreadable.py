"""What a person sees of what was not opened: its place and why; and what was written, once keys have come."""

from __future__ import annotations

import pytest

from protocol.bodies import Edited, Erased, Posted, Reacted
from tchat.actions import Notification
from tchat.crypto.errors import Reason
from tchat.encryption.notices import NowReadable, Unreadable
from tchat.fold.message import Message
from tchat.fold.view import View
from tchat.shell import fold_into
from tests.support.scripted import DIALOG, ME, dialog_state, event_at, posted

WHY = Reason.UNKNOWN_SESSION


def tell(view: View, *notices: Notification) -> Message | None:
    """The message that is shown after these."""
    for notice in notices:
        fold_into(view, notice)
    return view.dialogs[DIALOG].message(1)


@pytest.fixture
def view() -> View:
    shown = View(ME)
    shown.apply(dialog_state())
    return shown


def test_a_message_that_was_not_opened_has_its_place_and_says_why(view: View) -> None:
    message = tell(view, Unreadable(event_at(1, posted(b"sealed")), WHY))
    assert message is not None
    assert (message.payload, message.unreadable, message.n) == (b"", WHY, 1001)
    assert view.dialogs[DIALOG].seq == 1


def test_it_is_shown_when_keys_have_come(view: View) -> None:
    message = tell(view, Unreadable(event_at(1, posted(b"sealed")), WHY), NowReadable(event_at(1, posted(b"hello"))))
    assert message is not None
    assert (message.payload, message.unreadable) == (b"hello", None)


def test_an_edit_that_was_not_opened_leaves_the_message_as_it_is_and_is_named(view: View) -> None:
    edit = event_at(2, Edited(1, b"sealed"))
    message = tell(view, event_at(1, posted(b"hello")), Unreadable(edit, WHY))
    assert message is not None
    assert (message.payload, message.unreadable, message.unreadable_edit) == (b"hello", None, (2, WHY))
    message = tell(view, NowReadable(event_at(2, Edited(1, b"edited"))))
    assert message is not None
    assert (message.payload, message.unreadable_edit) == (b"edited", None)


def test_a_reaction_that_was_not_opened_is_none(view: View) -> None:
    reaction = event_at(2, Reacted(1, b"sealed"))
    message = tell(view, event_at(1, posted(b"hello")), Unreadable(reaction, WHY))
    assert message is not None
    assert message.reactions == {}
    message = tell(view, NowReadable(event_at(2, Reacted(1, b"+"))))
    assert message is not None
    assert message.reactions == {event_at(2).author: b"+"}


def test_what_is_erased_is_not_said_to_be_unreadable(view: View) -> None:
    tell(view, Unreadable(event_at(1, posted(b"sealed")), WHY), event_at(1, Erased()))
    assert view.dialogs[DIALOG].message(1) is None


def test_the_body_of_a_message_says_nothing_of_what_was_sealed(view: View) -> None:
    message = tell(view, Unreadable(event_at(1, posted(b"sealed")), WHY))
    assert message is not None
    assert isinstance(message.posted, Posted)
    assert message.posted.payload == b""
