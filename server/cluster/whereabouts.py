"""This node's connections and rooms of large dialogs in the presence store, so that others find whom to send a row to.

Invariant: while `token` is not empty, every connection that has arrived here, and every room that has been registered,
is in the store under that token. A connection arrives before its snapshot is taken: a row that commits after the
snapshot finds it. When that cannot be confirmed, `lost` is called first, and this node reads from the journal what it
may not be told.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence

from server.clock import Clock, Sleep
from storage.bus import KEPT_S, ConnectionKey, PresenceStore

_log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
_PUT_AT_ONCE = 500
_GONE_MAX = 100_000


class Whereabouts:
    """The connections of one incarnation; `run` keeps them in the store until it is cancelled.

    Those that have left are removed until that is confirmed; at most `_GONE_MAX` such wait.
    """

    def __init__(
        self,
        store: PresenceStore,
        clock: Clock,
        lost: Callable[[], None],
        *,
        draw_stamp: Callable[[], Awaitable[int]],
        incarnation: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.token = ""
        """Under which all connections are in the store; empty: they may not be."""
        self._store = store
        self._clock = clock
        self._lost = lost
        self._incarnation = incarnation
        self._sleep = sleep
        self._draw_stamp = draw_stamp
        self._keys: dict[object, ConnectionKey] = {}
        self._gone: dict[ConnectionKey, None] = {}
        """Those that have left and may still be in the store, in the order of leaving."""
        self._arriving: set[object] = set()
        self._rooms: dict[object, ConnectionKey] = {}
        self._registered: set[bytes] = set()
        """Of `_rooms` those whose first writing has been answered."""
        self._room_stamps = itertools.count(1)
        self._writing = ""
        """The token that was read before all connections are written, while they are."""
        self._failures = 0
        self._whole_at = 0.0

    def __len__(self) -> int:
        return len(self._keys)

    async def arrive(self, who: object, principal: bytes) -> None:
        """Write a connection, and return when it is confirmed or this node knows that it is not; soon in any case.

        Raises StorageUnavailableError when no stamp can be drawn.
        """
        self._arriving.add(who)
        try:
            key = ConnectionKey(principal, self._incarnation, await self._draw_stamp())
            if who not in self._arriving:
                return  # it left meanwhile
        finally:
            self._arriving.discard(who)
        before = self._keys.get(who)
        self._keys[who] = key
        if before is not None:
            self._remove(before)
        known = self.token or self._writing
        if await self._store.put([key]) != known or not known:
            self._fail()
        if self._keys.get(who) is not key:  # it left meanwhile
            self._remove(key)

    def stamp_of(self, who: object) -> int | None:
        """The stamp of a connection; None before it is drawn. Of two of a device the later one has the higher stamp."""
        key = self._keys.get(who)
        return None if key is None else key.stamp

    def is_here(self, who: object) -> bool:
        """Whether a connection arrives, or has arrived, and has not left."""
        return who in self._keys or who in self._arriving

    async def register(self, dialogs: Sequence[bytes]) -> None:
        """Write rooms of large dialogs, and return when they are confirmed or this node knows that they are not."""
        new = [dialog for dialog in dialogs if dialog not in self._registered]
        for first in range(0, len(new), _PUT_AT_ONCE):
            some = new[first : first + _PUT_AT_ONCE]
            keys = [self._rooms.get(dialog) or self._name_room(dialog) for dialog in some]
            known = self.token or self._writing
            if await self._store.put(keys) != known or not known:
                self._fail()
            for key in keys:
                if self._rooms.get(key.principal) is key:
                    self._registered.add(key.principal)
                else:  # it was unregistered meanwhile
                    self._remove(key)

    def unregister(self, dialogs: Sequence[bytes]) -> None:
        """Forget rooms."""
        self._registered.difference_update(dialogs)
        for dialog in dialogs:
            key = self._rooms.pop(dialog, None)
            if key is not None:
                self._remove(key)

    def leave(self, who: object) -> None:
        """Forget a connection; nothing happens if it never arrived."""
        self._arriving.discard(who)
        key = self._keys.pop(who, None)
        if key is not None:
            self._remove(key)

    async def check(self) -> None:
        """Look whether the store still has everything and nothing else, and write all again if it may not."""
        token = await self._remove_gone()
        if token != self.token:
            self._fail()
        if token and (not self.token or self._clock.monotonic() - self._whole_at > KEPT_S / 4):
            await self._put_all(token)

    async def run(self) -> None:
        """Check each second."""
        while True:
            await self.check()
            await self._sleep(CHECK_EVERY_S)

    def _remove(self, key: ConnectionKey) -> None:
        self._store.remove([key])
        self._gone[key] = None
        if len(self._gone) > _GONE_MAX:
            del self._gone[next(iter(self._gone))]

    async def _remove_gone(self) -> str:
        """Remove again what has left, until it is confirmed; the token of the store."""
        while True:
            some = list(itertools.islice(self._gone, _PUT_AT_ONCE))
            self._store.remove(some)
            token = await self._store.read_token()
            for key in some if token else ():
                self._gone.pop(key, None)
            if not token or len(some) < _PUT_AT_ONCE:
                return token

    async def _put_all(self, token: str) -> None:
        failures, self._writing = self._failures, token
        for keys in (self._keys, self._rooms):
            everybody: list[object] = list(keys)
            for first in range(0, len(everybody), _PUT_AT_ONCE):
                some = [key for who in everybody[first : first + _PUT_AT_ONCE] if (key := keys.get(who)) is not None]
                if await self._store.put(some) != token:
                    self._fail()
        self._writing = ""
        if failures == self._failures and not self.token:
            _log.info("all %d connections are in the presence store", len(self._keys))
        if failures == self._failures:
            self.token, self._whole_at = token, self._clock.monotonic()

    def _name_room(self, dialog: bytes) -> ConnectionKey:
        """A new name each time: what removes an old one, and comes late, removes nothing else."""
        key = self._rooms[dialog] = ConnectionKey(dialog, self._incarnation, next(self._room_stamps))
        return key

    def _fail(self) -> None:
        """What is in the store is not known to be whole."""
        self._failures += 1
        if self.token:
            self.token = ""
            _log.warning("connections of this node may be missing in Redis: other nodes are read from the journal")
        self._lost()
