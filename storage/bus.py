"""The contracts of what stands between the nodes of a deployment: messages, and who is connected where.

All of it is a hint that makes delivery fast. The journal is the truth: whatever is lost here is read from there. So
no method raises when the store is away, and none waits longer than `ANSWER_S_MAX`: an answer says that it is not whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

ANSWER_S_MAX = 1.0
"""No call of a store takes longer, whatever has happened to it."""

MESSAGE_BYTES_MAX = 16_777_216
"""The largest message of a bus."""

KEPT_S = 86_400
"""What was put into a store of presence and not again for so long may be forgotten: a killed node removes nothing."""


class Bus(Protocol):
    """Messages from one incarnation of a node to another.

    * A message is delivered at most once. It may be lost without a sign, so a reader numbers what it must not miss.
    * Messages of one sender to one target come in the order of their sending. Those that are sent before and after a
      fault of the bus may change places.
    * What waits to be sent is bounded; what is above the bound is dropped.
    """

    def publish(self, target: int, message: bytes) -> bool:
        """Send to an incarnation without waiting; False when it is surely lost."""
        ...

    async def receive(
        self, incarnation: int, deliver: Callable[[bytes], None], interrupted: Callable[[], None]
    ) -> None:
        """Receive what is sent to an incarnation, until cancelled.

        `deliver` gets each message. `interrupted` is called when messages may be lost from now on, as soon as that is
        noticed, and again when it is over, before the next `deliver`: so also when receiving begins.
        """
        ...


class ConnectionKey(msgspec.Struct, frozen=True):
    """One connection of a principal to a node; `stamp` is unique within the incarnation, for that principal.

    Also the room of a large dialog at a node, under the id of the dialog: what is said here of principals holds for it.
    """

    principal: bytes
    incarnation: int
    stamp: int


class Located(msgspec.Struct, frozen=True):
    """Where principals are connected; `nodes` has the incarnations of each, in the order of the question."""

    nodes: list[list[int]]
    token: str


class PresenceStore(Protocol):
    """Which incarnations the connections of a principal are at.

    A token stands for the contents of the store. It changes whenever something that was written may be gone: after a
    restart, empty or from a dump, a failover, a wipe. Every method reads it last. So what a writer puts is there if it
    knew the token before and gets the same one again; and a reader who gets that token sees all of it, until it is
    removed. An empty token says that some of the store did not answer, or was empty: nothing is known of that part.

    What an old dump brings back is nowhere, until it is put again.
    """

    async def put(self, keys: Sequence[ConnectionKey]) -> str:
        """Write connections, and return the token of the store. What is there already is written again."""
        ...

    def remove(self, keys: Sequence[ConnectionKey]) -> None:
        """Forget connections, without waiting. It is done if a token that is read right after it is not empty."""
        ...

    async def locate(self, principals: Sequence[bytes]) -> Located:
        """Where these are connected now, and the token of the store."""
        ...

    async def read_token(self) -> str:
        """The token of the store."""
        ...
