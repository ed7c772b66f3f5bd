"""What other nodes tell this one: their rows as they happen, and each second that nothing is missing.

`Peers` counts the numbers and knows who is in doubt, and who has ended: such a node may have been paused between a
commit and what it tells of it, and nothing that it says afterwards is taken. While the presence of this node is not
whole, nobody's numbers count: others may have overlooked sessions here, without using a number for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from server.cluster.links import Links
from server.cluster.messages import NodeEvents, NodeSignals, NodeTick, decode_message
from server.cluster.peers import Peers

_log = logging.getLogger(__name__)


class Receiver:
    """Takes the messages of the bus. `is_whole`: whether the presence of this node is. `get_epoch` is the node's."""

    def __init__(
        self,
        peers: Peers,
        links: Links,
        take_signals: Callable[[NodeSignals], None],
        *,
        is_whole: Callable[[], bool],
        get_epoch: Callable[[], int],
    ) -> None:
        self.rows = 0
        """Rows that came."""
        self._peers = peers
        self._links = links
        self._take_signals = take_signals
        self._is_whole = is_whole
        self._get_epoch = get_epoch

    def deliver(self, raw: bytes) -> None:
        """Take one message."""
        try:
            message = decode_message(raw)
        except msgspec.MsgspecError:
            _log.exception("a message of another node cannot be read")
            return
        if self._peers.has_ended(message.source):
            return
        if message.epoch != self._get_epoch():
            self._peers.doubt(message.source)
            return
        match message:
            case NodeSignals():
                self._take_signals(message)
                return
            case NodeEvents():
                self.rows += len(message.events)
                events = list(zip(message.events, message.roster_seqs, strict=True))
                self._peers.hear(message.source, message.k, events)
            case NodeTick():
                self._links.note_presence(message.source, message.token, registers_rooms=message.registers_rooms)
                self._peers.tick(message.source, message.k, message.horizon)
        if not self._is_whole():
            self._peers.doubt(message.source)

    def doubt_all(self) -> None:
        """Something of any node may be missing."""
        for incarnation in self._peers.living:
            self._peers.doubt(incarnation)
