"""A sender's order over refusals."""

from protocol.commands import Block, Create, Leave, Send
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from server.session.sender_order import SenderOrder

ME, HERE, THERE = new_id(), new_id(), new_id()


def send(n: int, dialog: bytes = HERE) -> Send:
    return Send(1, dialog, n, b"")


def test_later_numbers_wait_until_the_refused_one_is_sent_again() -> None:
    order = SenderOrder()
    order.hold_back(send(5), ME)
    assert order.first_refused(send(6), ME) == 5
    assert order.first_refused(Leave(1, HERE, 7), ME) == 5
    assert order.first_refused(send(5), ME) is None
    assert order.first_refused(send(6), ME) is None
    assert len(order) == 0


def test_an_older_number_ends_no_waiting() -> None:
    order = SenderOrder()
    order.hold_back(send(5), ME)
    assert order.first_refused(send(4), ME) is None
    assert order.first_refused(send(6), ME) == 5


def test_other_timelines_go_on() -> None:
    order = SenderOrder()
    order.hold_back(send(5), ME)
    assert order.first_refused(send(6, THERE), ME) is None
    assert order.first_refused(Block(1, THERE, 7), ME) is None
    assert order.first_refused(Create(1, 8, DialogType.DIRECT, []), ME) is None


def test_the_lowest_of_several_refused_numbers_comes_first() -> None:
    order = SenderOrder()
    for n in (6, 5, 7):
        order.hold_back(send(n), ME)
    assert order.first_refused(send(6), ME) == 5


def test_ones_own_state_has_an_order_of_its_own() -> None:
    order = SenderOrder()
    order.hold_back(Block(1, THERE, 5), ME)
    assert order.first_refused(Block(1, HERE, 6), ME) == 5


def test_what_is_refused_behind_a_refused_number_awaits_it() -> None:
    order = SenderOrder()
    assert order.hold_back(send(5), ME) is None
    assert order.hold_back(send(6), ME) == 5
    assert order.hold_back(send(6, THERE), ME) is None


def test_a_number_that_is_given_up_is_awaited_no_longer() -> None:
    order = SenderOrder()
    order.hold_back(send(5), ME)
    order.give_up(HERE, 6)
    order.give_up(THERE, 5)
    assert order.first_refused(send(7), ME) == 5
    order.give_up(HERE, 5)
    assert order.first_refused(send(7), ME) is None
    assert len(order) == 0
