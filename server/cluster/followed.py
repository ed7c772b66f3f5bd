"""Those whom somebody here follows: whether they are connected to this node or to another one.

What followers are shown is looked up, after whatever may have changed it: a connection that came or left here, a word
of another node, a node that ended. One lookup comes after the other, so what is shown last is the newest. A word is
sent after the store has the change, and may be lost: each second some of the followed are looked up again.

While a lookup may overlook connections, nobody is shown as offline except who has left here.

Bounds: `_WAITING_MAX` changes wait; above that they are dropped. What waits beside is followed here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from itertools import islice
from typing import Any

from server.cluster.links import Links
from server.cluster.messages import PresenceNoted
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from storage.bus import PresenceStore

_WAITING_MAX = 5_000
_AT_ONCE = 500
"""So many are looked up in one round trip; so many are looked up again each second."""


class Followed:
    """Shows followers here who came and went. `tell` sends to the other nodes; `spawn` runs something beside."""

    def __init__(
        self,
        store: PresenceStore,
        links: Links,
        presence: Presence,
        registry: Registry,
        *,
        tell: Callable[[list[PresenceNoted]], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.dropped = 0
        """Changes that were not looked up and told, because too many waited."""
        self._store = store
        self._links = links
        self._presence = presence
        self._registry = registry
        self._tell = tell
        self._spawn = spawn
        self._waiting: dict[bytes, bool] = {}
        """Who is to be looked up, and whether the other nodes are to be told."""
        self._looking = False
        self._again: list[bytes] = []
        """The rest of a round of all who are followed."""
        self._others: set[int] = set()

    def note(self, principal: bytes, online: bool) -> None:
        """Take from the registry that somebody came, or that their last connection here has left."""
        if online:
            self._presence.announce(principal, True)
        else:
            self._note_moved(principal)

    def note_arrival(self, principal: bytes) -> None:
        """Take that a connection of somebody is in the store."""
        if len(self._registry.subscribers_of(principal)) == 1:
            self._note_moved(principal)

    def hear(self, principal: bytes) -> None:
        """Take from another node that somebody came there or left."""
        if self._presence.is_followed(principal):
            self._look([principal])

    def tick(self) -> None:
        """Look again for those who were at nodes that have ended, and for some of the others; call it each second."""
        others = set(self._links)
        if gone := self._others - others:
            self._look(self._presence.find_shown_at(gone))
        self._others = others
        if not self._again:
            self._again = self._presence.followed
        self._look(self._again[-_AT_ONCE:])
        del self._again[-_AT_ONCE:]

    async def find_online(self, principals: Iterable[bytes]) -> dict[bytes, list[int]]:
        """Who of these is connected to other nodes, and to which."""
        asked = list(principals)
        located = await self._store.locate(asked)
        return {who: at for who, nodes in zip(asked, located.nodes, strict=True) if (at := self._living(nodes))}

    def _note_moved(self, principal: bytes) -> None:
        if len(self._waiting) >= _WAITING_MAX:
            self.dropped += 1
            return
        self._waiting[principal] = True
        self._look([])

    def _look(self, principals: Iterable[bytes]) -> None:
        for principal in principals:
            self._waiting.setdefault(principal, False)
        if self._waiting and not self._looking:
            self._looking = True
            self._spawn(self._look_at_waiting())

    async def _look_at_waiting(self) -> None:
        try:
            while self._waiting:
                some = dict(islice(self._waiting.items(), _AT_ONCE))
                for principal in some:
                    del self._waiting[principal]
                await self._look_at(some)
        finally:
            self._looking = False

    async def _look_at(self, some: dict[bytes, bool]) -> None:
        located = await self._store.locate(list(some))
        all_seen = self._links.are_whole(located.token)
        told: list[PresenceNoted] = []
        for (principal, moved), nodes in zip(some.items(), located.nodes, strict=True):
            here, elsewhere = self._registry.is_online(principal), self._living(nodes)
            if here or elsewhere:
                self._presence.announce(principal, True, elsewhere)
            elif all_seen or moved:
                self._presence.announce(principal, False)
            if moved:
                told.append(PresenceNoted(principal, here or bool(elsewhere)))
        if told:
            self._tell(told)

    def _living(self, nodes: Iterable[int]) -> list[int]:
        return [node for node in nodes if node in self._links]
