"""Messages to devices, pushed to the connections that are here: at their sync, and as they are stored.

What is pushed is read from the store, in order. At most a page is unconfirmed in one connection: the next messages
follow when the device confirms; one that does not gets them again at its next sync. A node tells the others for whom it
stored something, which may be lost. So nodes that share a database also read each second for whom it was, from the
horizon of a reading some seconds back: a crash of PostgreSQL gives ids of unfinished transactions out again.

Invariant: for one connection at most one page is being read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from protocol.close_codes import CloseCode
from protocol.events import FromDevice
from server.clock import Sleep
from server.delivery.registry import Registry
from server.delivery.subscriber import Subscriber
from storage.device_messages import DeviceMessageStore
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

INTERVAL_S = 1.0
_READINGS_BACK = 10
_PAGE = 50


class DeviceMessageDelivery:
    """The messages to the devices that are connected to this node. `spawn` runs something beside everything else."""

    def __init__(
        self,
        store: DeviceMessageStore,
        registry: Registry,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.store = store
        self.tell: Callable[[list[bytes]], None] | None = None
        """Tells other nodes for which devices, not connected here, something is stored."""
        self._registry = registry
        self._spawn = spawn
        self._sleep = sleep
        self._pushed: WeakKeyDictionary[Subscriber, int] = WeakKeyDictionary()
        """The highest number that was pushed, of connections that got any."""
        self._due: WeakKeyDictionary[Subscriber, bool] = WeakKeyDictionary()
        """Connections that are being read for; True: look once more."""
        self._horizons: deque[int] = deque(maxlen=_READINGS_BACK)

    def note_stored(self, devices: Iterable[bytes]) -> None:
        """Push what was stored for these devices here, or have other nodes do it."""
        elsewhere = self.push_to(devices)
        if self.tell is not None and elsewhere:
            self.tell(elsewhere)

    def push_to(self, devices: Iterable[bytes]) -> list[bytes]:
        """Push what waits for these devices, as far as they are connected here; those that are not."""
        elsewhere = []
        for device in devices:
            subscriber = self._registry.find_device(device)
            if subscriber is None:
                elsewhere.append(device)
            else:
                self.push(subscriber)
        return elsewhere

    def push(self, subscriber: Subscriber) -> None:
        """Push what waits for the device of this connection and was not pushed in it."""
        running = subscriber in self._due
        self._due[subscriber] = True
        if not running:
            self._spawn(self._push(subscriber))

    async def begin(self) -> None:
        """Read where to begin, before the first session is here."""
        self._horizons.append((await self.store.read_new(None)).horizon)

    async def run(self) -> None:
        """Follow what other nodes store until cancelled, after `begin`."""
        while True:
            try:
                await self.follow()
            except StorageUnavailableError as error:
                _log.warning("for whom messages came cannot be read, trying again: %s", error)
            await self._sleep(INTERVAL_S)

    async def follow(self) -> None:
        """Push what was stored since the last reading."""
        reading = await self.store.read_new(self._horizons[0])
        self._horizons.append(reading.horizon)
        self.push_to(set(reading.devices))

    async def _push(self, subscriber: Subscriber) -> None:
        try:
            while self._due[subscriber]:
                self._due[subscriber] = False
                await self._push_page(subscriber)
        except StorageUnavailableError as error:
            _log.warning("the messages to a device cannot be read, and its session is closed: %s", error)
            subscriber.close(CloseCode.UNAVAILABLE)
        finally:
            del self._due[subscriber]

    async def _push_page(self, subscriber: Subscriber) -> None:
        pushed = self._pushed.get(subscriber, 0)
        for row in await self.store.read(subscriber.device, limit=_PAGE):
            if row.number > pushed:
                subscriber.outbox.push(FromDevice(row.number, row.dialog, row.author, row.device, row.body))
                self._pushed[subscriber] = row.number
