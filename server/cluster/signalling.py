"""Signals between nodes, which may be lost: typing, receipts, connections of devices, messages to them, presence.

Sent to the nodes where those are whom it concerns, one lookup for all that waits; when that fails, nothing is sent.
Who came or went, and for which devices messages were stored, is told to all nodes. Receipts are stored, so a client
has them again at its next sync; messages to devices, too, and each second `DeviceMessageDelivery` reads for whom.

Of a device's connections the one with the highest stamp stays. A stamp is drawn from the database when a sync begins,
after its session is registered. A node that hears of a lower stamp than its own answers with that.

Bounds: `_WAITING_MAX` signals wait to be sent, `_RECEIVED_MAX` messages to be delivered; what is above that is
dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from protocol.close_codes import CloseCode
from protocol.events import ReceiptChanged, TypingChanged
from server.cluster.followed import Followed
from server.cluster.links import Links
from server.cluster.messages import (
    DeviceMessagesStored,
    DeviceTaken,
    NodeSignals,
    PresenceNoted,
    ReceiptRaised,
    Signal,
    TypingShown,
)
from server.cluster.whereabouts import Whereabouts
from server.delivery.device_messages import DeviceMessageDelivery
from server.delivery.prepared_message import PreparedMessage
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from server.delivery.subscriber import Subscriber
from storage.bus import PresenceStore

_WAITING_MAX = 5_000
_RECEIVED_MAX = 100


class Signalling:
    """Sends and receives the signals of one node. `spawn` runs something beside everything else."""

    def __init__(
        self,
        store: PresenceStore,
        links: Links,
        whereabouts: Whereabouts,
        *,
        rooms: Rooms,
        device_messages: DeviceMessageDelivery,
        registry: Registry,
        presence: Presence,
        get_epoch: Callable[[], int],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.followed = Followed(store, links, presence, registry, tell=self._tell_everybody, spawn=spawn)
        self._dropped = 0
        self._store = store
        self._links = links
        self._whereabouts = whereabouts
        self._rooms = rooms
        self._device_messages = device_messages
        self._registry = registry
        self._get_epoch = get_epoch
        self._spawn = spawn
        self._waiting: list[tuple[int, frozenset[bytes], Signal]] = []
        """What waits, with the epoch in which it was given and whom it concerns."""
        self._received = 0

    @property
    def dropped(self) -> int:
        """Signals that were not sent or not delivered, because too many waited."""
        return self._dropped + self.followed.dropped

    def take_device(self, subscriber: Subscriber) -> None:
        """Tell other nodes that this is the connection of its device now."""
        self.followed.note_arrival(subscriber.principal)
        stamp = self._whereabouts.stamp_of(subscriber)
        if stamp is not None:
            taken = DeviceTaken(subscriber.principal, subscriber.device, stamp)
            self._send([subscriber.principal], taken)

    def show_typing(self, members: Iterable[bytes], shown: TypingChanged) -> None:
        """Show the members at other nodes who is writing."""
        self._send(members, TypingShown(shown.dialog, shown.principal, shown.active))

    def raise_receipt(self, principals: Iterable[bytes], receipt: ReceiptChanged, *, shared: bool) -> None:
        """Tell others how far one has received and read: their own devices and, if it is `shared`, the members."""
        it = receipt
        raised = ReceiptRaised(it.dialog, it.principal, it.delivered, it.read, it.read_messages, shared)
        self._send(principals, raised)

    def note_messages(self, devices: list[bytes]) -> None:
        """Tell the other nodes that messages are stored for devices that are not here."""
        self._tell_everybody([DeviceMessagesStored(devices)])

    def receive(self, message: NodeSignals) -> None:
        """Deliver the signals of another node."""
        if self._received >= _RECEIVED_MAX:
            self._dropped += len(message.signals)
            return
        self._received += 1
        self._spawn(self._deliver_all(message))

    def _send(self, principals: Iterable[bytes], signal: Signal) -> None:
        if not len(self._links):
            return
        if len(self._waiting) >= _WAITING_MAX:
            self._dropped += 1
            return
        self._waiting.append((self._get_epoch(), frozenset(principals), signal))
        if len(self._waiting) == 1:
            self._spawn(self._send_waiting())

    async def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        asked = list({who for _, principals, _ in waiting for who in principals})
        located = await self._store.locate(asked)
        nodes_of = dict(zip(asked, located.nodes, strict=True))
        epoch = self._get_epoch()
        signals: dict[int, list[Signal]] = {}
        for given_in, principals, signal in waiting:
            if given_in != epoch:
                continue
            for node in {node for who in principals for node in nodes_of[who]}:
                signals.setdefault(node, []).append(signal)
        for node, each in signals.items():
            self._links.signal(node, epoch, each)

    def _tell_everybody(self, signals: Sequence[Signal]) -> None:
        for node in list(self._links):
            self._links.signal(node, self._get_epoch(), list(signals))

    async def _deliver_all(self, message: NodeSignals) -> None:
        try:
            for signal in message.signals:
                if message.epoch != self._get_epoch():
                    return
                match signal:
                    case DeviceTaken():
                        self._give_device_up(message.source, signal)
                    case TypingShown(dialog, principal, active):
                        shown = PreparedMessage(TypingChanged(dialog, principal, active))
                        await self._rooms.open(dialog)
                        self._rooms.deliver_ephemeral(dialog, shown, but=principal)
                    case PresenceNoted(principal):
                        self.followed.hear(principal)
                    case DeviceMessagesStored(devices):
                        self._device_messages.push_to(devices)
                    case ReceiptRaised():
                        await self._deliver_receipt(signal, message.epoch)
        finally:
            self._received -= 1

    def _give_device_up(self, source: int, taken: DeviceTaken) -> None:
        for subscriber in list(self._registry.subscribers_of(taken.principal)):
            stamp = self._whereabouts.stamp_of(subscriber)
            if subscriber.device != taken.device or stamp is None:
                continue
            if stamp < taken.stamp:
                subscriber.close(CloseCode.REPLACED)
            else:
                mine = DeviceTaken(taken.principal, taken.device, stamp)
                self._links.signal(source, self._get_epoch(), [mine])

    async def _deliver_receipt(self, it: ReceiptRaised, epoch: int) -> None:
        prepared = PreparedMessage(ReceiptChanged(it.dialog, it.principal, it.delivered, it.read, it.read_messages))
        for subscriber in self._registry.subscribers_of(it.principal):
            subscriber.outbox.push_state((it.dialog, it.principal), prepared)
        if it.shared:
            room = await self._rooms.open(it.dialog)
            if epoch == self._get_epoch():
                self._rooms.deliver_receipt(room, it.dialog, it.principal, prepared)
