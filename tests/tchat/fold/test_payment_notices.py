"""Of each payment of a dialog a view has the newest state, in whatever order its events come."""

from __future__ import annotations

import itertools
from uuid import UUID

import pytest

from protocol import bodies as b
from protocol.commerce.payment_notice import CONTENT_TYPE, REF_TYPE, PaymentNotice, encode_notice
from protocol.events import DialogState
from protocol.ids import new_id
from protocol.kinds import Kind
from protocol.replies import HistoryPage
from tchat.fold.view import View
from tests.support.scripted import DIALOG, ME, dialog_state, event_at

ONE, OTHER = new_id(), new_id()


def state_of(seq: int, payment: bytes, version: int, state: str | None = None) -> b.TimelineEvent:
    """An event that shows one version of a payment."""
    notice = PaymentNotice(payment=UUID(bytes=payment), version=version, state=state)
    return event_at(seq, b.Posted(Kind.PAYMENT, header_of(payment), encode_notice(notice)))


def header_of(payment: bytes) -> b.Header:
    """The header of an event of this payment."""
    return b.Header(content_type=CONTENT_TYPE, ref=b.Ref(REF_TYPE, str(UUID(bytes=payment))))


def shown(*messages: b.TimelineEvent | DialogState | HistoryPage) -> dict[bytes, tuple[int, str | None]]:
    """What a view has of payments after these messages."""
    view = View(ME)
    for message in (dialog_state(), *messages):
        view.apply(message)
    return {payment: (each.version, each.state) for payment, each in view.dialogs[DIALOG].payments.items()}


EVENTS = [
    state_of(1, ONE, 1, "requested"),
    state_of(2, OTHER, 1),
    state_of(3, ONE, 3, "paid"),
    state_of(4, ONE, 2, "held"),
]


@pytest.mark.parametrize("events", list(itertools.permutations(EVENTS)))
def test_the_highest_version_counts_in_any_order(events: tuple[b.TimelineEvent, ...]) -> None:
    assert shown(*events) == shown(*events, *events) == {ONE: (3, "paid"), OTHER: (1, None)}


def test_a_page_of_history_brings_no_older_state_back() -> None:
    page = HistoryPage(1, DIALOG, EVENTS[:2])
    assert shown(*EVENTS[2:], page) == {ONE: (3, "paid"), OTHER: (1, None)}


def test_only_events_of_services_in_the_right_form_are_states() -> None:
    text = encode_notice(PaymentNotice(payment=UUID(bytes=ONE), version=9))
    header, other = header_of(ONE), header_of(OTHER)
    assert (
        shown(
            event_at(1, b.Posted(Kind.MESSAGE, header, text)),
            event_at(2, b.Posted(Kind.PAYMENT, b.Header(ref=header.ref), text)),
            event_at(3, b.Posted(Kind.PAYMENT, header, b'{"payment":1}')),
            event_at(4, b.Posted(Kind.PAYMENT, header, b"\xff")),
            event_at(5, b.Posted(Kind.PAYMENT, other, text)),
            event_at(6, b.Posted(Kind.PAYMENT, b.Header(content_type=CONTENT_TYPE), text)),
            event_at(7, b.Posted(Kind.PAYMENT, header, text.replace(b":9", b":%d" % 2**31))),
        )
        == {}
    )
    assert shown(event_at(1, b.Posted(Kind.PAYMENT, header, text))) == {ONE: (9, None)}
