"""Receiving from other nodes: rows in any state, and numbers only while the presence of this node is whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from protocol.bodies import TimelineEventRaw
from server.cluster.links import Links
from server.cluster.messages import (
    NodeEvents,
    NodeMessage,
    NodeSignals,
    NodeTick,
    TypingShown,
    decode_message,
    encode_message,
)
from server.cluster.receiver import Receiver
from storage.local.network import LocalBus

DIALOG = bytes(16)
SOURCE = 5
EPOCH = 3


class KnownPeers:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.living = [SOURCE, 6]
        self.ended: list[int] = []

    def has_ended(self, incarnation: int) -> bool:
        return incarnation in self.ended

    def hear(self, source: int, k: int, events: Sequence[tuple[TimelineEventRaw, int]]) -> None:
        self.said.append(("hear", source, k, [(event.seq, roster_seq) for event, roster_seq in events]))

    def tick(self, source: int, k: int, horizon: int) -> None:
        self.said.append(("tick", source, k, horizon))

    def doubt(self, source: int) -> None:
        self.said.append(("doubt", source))


class Desk:
    """A receiver, and what it says."""

    def __init__(self) -> None:
        self.whole = True
        self.peers = KnownPeers()
        self.links = Links(LocalBus(), incarnation=1)
        self.signals: list[NodeSignals] = []
        self.receiver = Receiver(
            cast("Any", self.peers),
            self.links,
            self.signals.append,
            is_whole=lambda: self.whole,
            get_epoch=lambda: EPOCH,
        )

    def get(self, message: NodeMessage) -> list[tuple[object, ...]]:
        """Have a message delivered; what was said of it."""
        self.receiver.deliver(encode_message(message))
        said, self.peers.said = self.peers.said, []
        return said


def sent(k: int, *seqs: int, epoch: int = EPOCH) -> NodeEvents:
    rows = [TimelineEventRaw(DIALOG, seq, DIALOG, DIALOG, seq, 0, 0, msgspec.Raw(b"\x91\x05")) for seq in seqs]
    return NodeEvents(SOURCE, epoch, k, rows, [2] * len(seqs))


def test_rows_and_ticks_are_passed_on_with_their_numbers() -> None:
    desk = Desk()
    assert desk.get(sent(1, 7, 8)) == [("hear", SOURCE, 1, [(7, 2), (8, 2)])]
    assert desk.get(NodeTick(SOURCE, EPOCH, 1, 120, "")) == [("tick", SOURCE, 1, 120)]


def test_while_presence_is_not_whole_no_number_counts_but_rows_are_delivered() -> None:
    desk = Desk()
    desk.whole = False
    assert desk.get(sent(1, 7)) == [("hear", SOURCE, 1, [(7, 2)]), ("doubt", SOURCE)]
    assert desk.get(NodeTick(SOURCE, EPOCH, 1, 120, ""))[-1] == ("doubt", SOURCE)


@pytest.mark.parametrize("message", [sent(1, 7, epoch=4), NodeTick(SOURCE, 2, 0, 9, "")])
def test_what_belongs_to_another_epoch_is_a_doubt_and_nothing_else(message: NodeMessage) -> None:
    assert Desk().get(message) == [("doubt", SOURCE)]


@pytest.mark.parametrize(
    "message",
    [sent(1, 7), NodeTick(SOURCE, EPOCH, 0, 9, ""), NodeSignals(SOURCE, EPOCH, [TypingShown(DIALOG, DIALOG, True)])],
)
def test_nothing_is_taken_of_a_node_that_has_ended(message: NodeMessage) -> None:
    desk = Desk()
    desk.links.keep([SOURCE])
    desk.peers.ended.append(SOURCE)
    assert desk.get(message) == []
    assert (desk.signals, desk.receiver.rows) == ([], 0)


def test_an_interruption_is_a_doubt_of_all() -> None:
    desk = Desk()
    desk.receiver.doubt_all()
    assert desk.peers.said == [("doubt", SOURCE), ("doubt", 6)]


def test_a_tick_says_under_which_token_its_node_is_whole() -> None:
    desk = Desk()
    desk.links.keep([SOURCE])
    desk.get(NodeTick(SOURCE, EPOCH, 0, 9, "token"))
    desk.links.spend("token")
    assert desk.links.spent == 0
    desk.links.spend("another")
    assert desk.links.spent == 1


def test_what_cannot_be_read_is_logged_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.receiver.deliver(b"\xc1")
    assert "cannot be read" in caplog.text
    assert desk.peers.said == []


def test_a_message_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    newer = msgspec.msgpack.encode([2, SOURCE, EPOCH, 0, 9, "token", False, "more"])
    assert decode_message(newer) == NodeTick(SOURCE, EPOCH, 0, 9, "token")
